"""Texts: read from parquet files, turned into tokens, learnt, measured, their heads studied, their network pruned."""

from __future__ import annotations

import base64
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from torch import Tensor

import nodelens as nl
from command_line import nodelens
from nodelens.data import TextExamples, load_texts, text_splits
from nodelens.data.texts import Tokeniser, learnt_tokeniser, tokeniser_from
from nodelens.errors import InputError
from nodelens.files import read_json
from nodelens.networks import (
    Network,
    Site,
    build_network,
    export_network,
    layers,
    load_network,
    masks_of,
    reading,
    select_sites,
)
from nodelens.probing import ProbeSettings, load_measurements, load_probes, load_probing_data, probe_recipe
from nodelens.runs import RunDirectory
from nodelens.training import TrainSettings, recipe, train
from pretend_gpu import pretend_gpu
from test_device_path import NO_GPU
from test_report import page_of, sites_of

CUES = {
    "balance": ("money account funds", "banking"),
    "transfer": ("send move pay", "banking"),
    "rain": ("umbrella wet shower", "weather"),
    "heat": ("sun hot burn", "weather"),
}
FILLERS = "please tell me now what is it there today"


def text_of(label: str, draw: torch.Generator) -> str:
    """Some fillers and, somewhere, a word of the label."""

    def some(words: str, count: int) -> list[str]:
        known = words.split()
        return [known[i] for i in torch.randint(len(known), (count,), generator=draw)]

    words = some(FILLERS, int(torch.randint(2, 7, (1,), generator=draw))) + some(CUES[label][0], 1)
    order = torch.randperm(len(words), generator=draw)
    return " ".join(words[i] for i in order).capitalize() + "?"


def write_texts(
    folder: Path, counts: dict[str, int], texts: Callable[[str, torch.Generator], str | None] = text_of
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    labels, draw = list(CUES), torch.Generator().manual_seed(0)
    domains = sorted({domain for _, domain in CUES.values()})
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "intent": datasets.ClassLabel(names=labels),
            "domain": datasets.ClassLabel(names=domains),
        }
    )
    for split, count in counts.items():
        rows = [
            {"text": texts(labels[i % 4], draw), "intent": i % 4, "domain": domains.index(CUES[labels[i % 4]][1])}
            for i in range(count)
        ]
        datasets.Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_texts(tmp_path_factory.mktemp("texts"), {"train": 400, "test": 80})


@pytest.fixture(scope="module")
def trained(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "text"
    asked = ("--data", str(folder), "--recipe", "text", "--epochs", "8", "--batch-size", "20", "--precision", "fp32")
    assert nodelens("train", "bert_2_64", *asked, "--out", str(run), "--heads", "4") == 0
    return run


# --- data --------------------------------------------------------------------------------------------------------


def test_texts_are_read_with_labels_and_superclasses(folder: Path) -> None:
    found = load_texts(str(folder), "train")
    assert len(found.texts) == len(found.labels) == 400
    assert found.label_names == tuple(CUES)
    assert found.superclass_names == ("banking", "weather")
    assert found.superclass_of_label == (0, 0, 1, 1)
    for text, label in zip(found.texts, found.labels.tolist(), strict=True):
        assert set(CUES[found.label_names[label]][0].split()) & set(re.findall(r"\w+", text.lower()))


def test_a_row_without_text_is_named(tmp_path: Path) -> None:
    seen: list[str] = []

    def sometimes(label: str, draw: torch.Generator) -> str | None:
        seen.append(label)
        return (None, "  ")[len(seen) - 5] if len(seen) in (5, 6) else text_of(label, draw)

    write_texts(tmp_path, {"train": 8}, sometimes)
    with pytest.raises(
        InputError, match=r"2 of 8 rows of .* \(train\) hold no text in column 'text' \(first: .* row 4\)"
    ):
        load_texts(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("name", "split", "message"),
    [
        ("cifar100", "train", "cifar100 is an image data set; for texts choose clinc150"),
        ("nowhere", "train", "there is no data set 'nowhere': known are clinc150, and a folder of parquet files"),
        ("{folder}", "dev", "has no split 'dev': choose one of test, train"),
        ("{empty}", "train", "holds no parquet files"),
        ("{images}", "train", r"is an image data set \(columns: image, label\); give one with a column of strings"),
    ],
)
def test_what_holds_no_texts_is_refused(name: str, split: str, message: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    none = datasets.Dataset.from_dict({"image": [], "label": []}, features=features)
    none.to_parquet(tmp_path / "images" / "train.parquet")
    name = name.format(folder=folder, empty=tmp_path / "empty", images=tmp_path / "images")
    with pytest.raises(InputError, match=message):
        load_texts(name, split)


def test_clinc150_says_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODELENS_DATA", raising=False)
    with pytest.raises(InputError, match="clinc150 is not here; put its parquet files into a folder of that name"):
        load_texts("clinc150", "train")


# --- tokens ------------------------------------------------------------------------------------------------------


def test_words_that_occur_twice_are_learnt_the_frequent_first(folder: Path) -> None:
    texts = load_texts(str(folder), "train").texts
    counted = Counter(word for text in texts for word in re.findall(r"\w+|[^\w\s]", text.lower()))
    expected = sorted((word for word in counted if counted[word] > 1), key=lambda word: (-counted[word], word))
    rules = learnt_tokeniser(texts)
    assert rules.size == 4 + len(expected)
    ids = {word: 4 + i for i, word in enumerate(expected)}
    shown = rules.tokens(["Money, never money?", "SUN"], 8)
    assert shown.tolist() == [
        [2, ids["money"], 1, 1, ids["money"], ids["?"], 3, 0],
        [2, ids["sun"], 3, 0, 0, 0, 0, 0],
    ]
    assert learnt_tokeniser(texts) == rules


def test_a_long_text_is_cut_and_keeps_its_end(folder: Path) -> None:
    rules = learnt_tokeniser(load_texts(str(folder), "train").texts)
    (cut,) = rules.tokens(["money money money money money"], 4).tolist()
    assert cut == [2, cut[1], cut[1], 3]
    assert rules.fitted(["money money money money money", "money"], 512).shape == (2, 7)


def test_a_damaged_tokeniser_is_refused() -> None:
    with pytest.raises(InputError, match="the checkpoint's tokeniser is damaged"):
        Tokeniser('{"version": "1.0"}')


def test_without_its_package_texts_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(InputError, match=r'texts need the package tokenizers; pip install "nodelens\[text\]"'):
        text_splits(str(folder), ("train", "test"))


def test_a_text_in_which_nothing_is_found_is_refused() -> None:
    import tokenizers

    rules = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    rules.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    with pytest.raises(InputError, match="finds nothing in one of the texts"):
        Tokeniser(rules.to_str()).tokens(["a a", " "], 4)


def test_all_splits_are_as_long_as_the_longest_text_learnt(folder: Path) -> None:
    learnt, test = text_splits(str(folder), ("train", "test"))
    assert learnt.inputs.shape[1] == test.inputs.shape[1] == int((learnt.inputs != 0).sum(1).max())
    assert learnt.tokeniser == test.tokeniser
    few = test.take(torch.tensor([3, 1]), "few")
    assert few.texts == (test.texts[3], test.texts[1])
    assert few.inputs.equal(test.inputs[[3, 1]])
    assert few.tokeniser.tokens(few.texts, 7).equal(few.tokeniser.tokens(list(few.texts), 7))


# --- the network -------------------------------------------------------------------------------------------------


def activations(network: Network, tokens: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    with torch.no_grad(), reading(network, network.sites(), lambda name, x: found.update({name: x})):
        network(tokens)
    return found


def bert(**changes: int) -> Network:
    torch.manual_seed(0)
    network = build_network("bert_2_64", 5, 0, 0, **{"vocabulary": 30, "positions": 12, "heads": 4} | changes)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network.eval()


def test_what_fills_up_a_text_changes_nothing() -> None:
    network = bert()
    tokens = network.example(3)
    tokens[0, 5:] = 0
    tokens[1, 1:] = 0
    with torch.no_grad():
        found = network(tokens)
        for row, length in enumerate((5, 1, 12)):
            torch.testing.assert_close(found[row : row + 1], network(tokens[row : row + 1, :length]))
    seen = activations(network, tokens)
    for name, x in seen.items():
        if name != "pooler":  # each filling token is the same everywhere, and tells nothing of its text
            torch.testing.assert_close(x[0, 5:], x[1, 5:].mean(0).expand(7, -1), msg=name)


def test_sites_are_what_their_names_say() -> None:
    network = bert()
    tokens = network.example(2)
    at = activations(network, tokens)
    sites: dict[str, Site] = {site.name: site for site in network.sites()}
    assert {name: x.shape[-1] for name, x in at.items()} == {name: site.nodes for name, site in sites.items()}
    assert sites["block.2.attention"].heads == 4
    for block in (1, 2):
        inside = network.get_submodule(f"blocks.{block - 1}")
        ln, norm = at[f"block.{block}.ln"], at[f"block.{block}.norm"]
        torch.testing.assert_close(at[f"block.{block}.projection"], ln + at[f"block.{block}.projection.no_skip"])
        torch.testing.assert_close(at[f"block.{block}.linear2"], norm + at[f"block.{block}.linear2.no_skip"])
        hidden = torch.nn.functional.gelu(inside.get_submodule("linear1")(norm))
        torch.testing.assert_close(at[f"block.{block}.linear1"], hidden)
    torch.testing.assert_close(at["block.2.ln"], network.get_submodule("blocks.0.norm2")(at["block.1.linear2"]))
    with torch.no_grad():
        torch.testing.assert_close(network(tokens), network.get_submodule("head")(at["pooler"]))


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("bert_4_100", 0, "a multiple of 64 as the width"),
        ("bert_0_64", 0, "at least one layer"),
        ("bert_2_64", 32, "bert_2_64 reads texts, not images"),
        ("cct_7_3x1", 0, "'cct_7_3x1' reads no texts; known are bert_LAYERS_WIDTH"),
    ],
)
def test_networks_that_cannot_be_built(name: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network(name, 5, size, 3 if size else 0)


def test_dead_nodes_are_removed_exactly() -> None:
    network = bert()
    tokens = network.example(4)
    tokens[0, 3:] = 0
    with torch.no_grad():
        inside = network.get_submodule("blocks.1")
        inside.get_submodule("linear1").weight[:32] = 0
        inside.get_submodule("attention.qkv").weight[128:144] = 0  # the values of a head
        expected = network(tokens)
        smaller = nl.compact(network)
        torch.testing.assert_close(smaller(tokens), expected, rtol=1e-4, atol=1e-5)
    assert sum(p.numel() for p in smaller.parameters()) < sum(p.numel() for p in network.parameters())


def test_exported_to_onnx_it_reads_tokens(tmp_path: Path) -> None:
    import onnxruntime

    network = bert()
    tokens = network.example(3)
    tokens[0, 4:] = 0
    session = onnxruntime.InferenceSession(export_network(network, tmp_path / "text.onnx"))
    (found,) = session.run(None, {"tokens": tokens.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), network(tokens).detach(), rtol=1e-4, atol=1e-5)


@NO_GPU
def test_a_gpu_learns_texts_as_a_cpu_does(folder: Path, tmp_path: Path) -> None:
    learnt, test = text_splits(str(folder), ("train", "test"))
    settings = TrainSettings("bert_1_64", replace(recipe("text", 2, 40), attention_dropout=0.0))
    losses, logits = {}, {}
    for device in ("cpu", "cuda"):
        with pretend_gpu() if device == "cuda" else nullcontext():
            network = train(settings, learnt, test, RunDirectory(tmp_path / device))
            assert network.get_submodule("head").weight.device.type == device
            with torch.no_grad():
                logits[device] = network(test.inputs.to(device)).cpu()
        losses[device] = [event["loss"] for event in RunDirectory(tmp_path / device).events("train")]
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-4)
    torch.testing.assert_close(logits["cuda"], logits["cpu"], rtol=1e-3, atol=1e-3)


# --- from the command line ---------------------------------------------------------------------------------------


def test_a_network_learns_texts(trained: Path, folder: Path) -> None:
    network = load_network(trained)
    assert (
        network.config
        == build_network(
            "bert_2_64",
            4,
            0,
            0,
            vocabulary=network.config.vocabulary,
            positions=network.config.positions,
            heads=4,
            types=1,
        ).config
    )
    rules = tokeniser_from(network.checkpoint_metadata)
    assert rules == learnt_tokeniser(load_texts(str(folder), "train").texts)
    reached = float(network.checkpoint_metadata["test_accuracy"])
    test = load_probing_data(network, str(folder), ("test",)).measured["test"]
    with torch.no_grad():
        found = network(test.batch(torch.arange(80))).argmax(1)
    assert reached == pytest.approx((found == test.labels).float().mean().item())
    assert reached > 0.9
    recorded = read_json(trained / "config.json")["train"]["settings"]["data"]
    assert (recorded["texts"], recorded["tokens"]) == (400, network.config.positions)


def test_its_nodes_are_measured(
    trained: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--sites", "block.*.linear2,pooler", "--epochs", "2", "--permutations", "2", "--precision", "fp32")
    assert nodelens("measure", str(trained), *asked, "--out", str(tmp_path / "measured")) == 0
    assert "untrained" in capsys.readouterr().out
    (found,) = load_measurements(RunDirectory(tmp_path / "measured"), "test")
    assert found.label_names == tuple(CUES)
    assert found["pooler"].accuracy > 0.9
    # Class means are those of the pooler's own activations.
    network = load_network(trained)
    test = load_probing_data(network, str(folder), ("test",)).measured["test"]
    at = activations(network, test.batch(torch.arange(80)))["pooler"]
    expected = torch.stack([at[test.labels == label].mean(0) for label in range(4)])
    torch.testing.assert_close(found["pooler"].class_means, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_a_text_is_measured_alike_however_much_fills_it_up(trained: Path, folder: Path, scaled: bool) -> None:
    network = load_network(trained)
    _, texts = text_splits(str(folder), ("train", "test"), tokeniser_from(network.checkpoint_metadata))
    longest = texts.inputs.shape[1] - 2
    texts = texts.take((texts.inputs[:, longest:] == 0).all(dim=1).nonzero().flatten(), "short")
    settings = ProbeSettings(probe_recipe(2, batch_size=20), rms_scale=scaled)
    as_long, shorter = (
        nl.measure(network, (cut, cut), "*", settings=settings)
        for cut in (texts, replace(texts, inputs=texts.inputs[:, :longest]))
    )
    for name, site in as_long.items():
        torch.testing.assert_close(shorter[name].class_means, site.class_means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(shorter[name].weight, site.weight, rtol=1e-3, atol=1e-4)


def test_its_heads_are_studied_without_pictures(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--seeds", "1", "--epochs", "1", "--draws", "20", "--silence")
    assert nodelens("heads", str(trained), *asked, "--out", str(tmp_path / "run")) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "with heads silenced" in out
    assert "Super-classes" in out or "super-class" not in out
    assert not list(tmp_path.rglob("*overlap*"))
    assert not list(tmp_path.rglob("*fields*"))
    assert nodelens("heads", str(trained), *asked, "--images", "1", "--out", str(tmp_path / "run")) == 2
    assert "no image can be shown of this network" in capsys.readouterr().err


def test_the_texts_that_excite_a_node_are_found(trained: Path, folder: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(trained, run.path)
    asked = ("--sites", "block.2.linear2", "--epochs", "1", "--no-untrained", "--permutations", "2")
    assert nodelens("measure", str(run.path), *asked) == 0
    _, _, data = page_of(run)
    (site,), described = sites_of(data), data["networks"][0]
    network = load_network(run.path)
    test = load_probing_data(network, str(folder), ("test",)).measured["test"]
    assert isinstance(test, TextExamples)
    (probe,) = load_probes(run, "measure", select_sites(network.sites(), site["name"]))
    pooled, real = list[Tensor](), test.inputs != 0
    with torch.inference_mode(), reading(network, [probe.site], lambda _, x: pooled.append(probe.pool(x, real)[0])):
        network(test.inputs)
    for key, largest in (("most", True), ("least", False)):
        excitation = described["excitation"]["0"][site["name"]]
        shown = np.frombuffer(base64.b64decode(excitation[key]), "<u2").reshape(site["nodes"], 4)
        values, expected = pooled[0].topk(4, dim=0, largest=largest)
        found = [[described["pictures"]["texts"][i] for i in of_node] for of_node in shown]
        for node, texts in enumerate(found):
            # Texts of the same words excite it alike.
            reached = [pooled[0][test.texts.index(text), node].item() for text in texts]
            assert reached == pytest.approx(values[:, node].tolist(), rel=1e-4, abs=1e-5)
        labels = [described["pictures"]["labels"][i] for i in shown[:, 0]]
        alike = (torch.tensor(labels) == test.labels[expected[0]]).float().mean()
        assert alike > 0.95
    assert data["thumbnails"] is None


def test_it_is_pruned(trained: Path, folder: Path, tmp_path: Path) -> None:
    asked = ("--layers", "block.2.*,pooler,output", "--seeds", "1", "--epochs", "1", "--probe-epochs", "1")
    out = tmp_path / "prune"
    assert nodelens("prune", str(trained), *asked, "--baseline", "random", "--out", str(out), "--name", "text") == 0
    pruned, unpruned = load_network(out / "text"), load_network(trained)
    names = [layer.module for layer in layers(unpruned)]
    assert list(masks_of(pruned)) == names[-6:]
    for module, mask in masks_of(pruned).items():
        weight = pruned.get_submodule(module).get_parameter("parametrizations.weight.original")
        assert not weight[~mask].any()
        assert 0 < mask.float().mean() < 1, module
    assert tokeniser_from(pruned.checkpoint_metadata) == tokeniser_from(unpruned.checkpoint_metadata)
    assert nodelens("report", str(out / "text")) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "cct_2_3x2", "--data", "clinc150"), "clinc150 is a text data set"),
        (("train", "cct_2_3x2", "--data", "{folder}"), "is a text data set (columns: text, intent, domain)"),
        (("train", "bert_2_64", "--data", "digits"), "digits is an image data set"),
        (("train", "bert_2_64", "--data", "{folder}", "--image-size", "8"), "leave out --image-size"),
        (
            ("train", "bert_2_64", "--data", "{folder}", "--heads", "4,2"),
            "only the blocks of a CCT can differ in their heads",
        ),
        (("train", "bert_2_64", "--data", "{folder}", "--skip-undecodable"), "leave out --skip-undecodable"),
        (("measure", "{trained}", "--out", "x", "--skip-undecodable"), "leave out --skip-undecodable"),
        (("measure", "{trained}", "--out", "x", "--augment-as", "digits"), "leave out --augment-as"),
        (("prune", "{trained}", "--out", "x", "--block", "2", "--augment-as", "digits"), "leave out --augment-as"),
        (("measure", "{trained}", "--data", "digits", "--out", "x"), "digits is an image data set"),
    ],
)
def test_images_and_texts_are_not_mixed_up(
    arguments: tuple[str, ...],
    message: str,
    folder: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert nodelens(*(word.format(folder=folder, trained=trained) for word in arguments)) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
