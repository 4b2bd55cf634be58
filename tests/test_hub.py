"""Classifiers that transformers saves are loaded as nodelens's own where they compute alike, and measured where not."""

from __future__ import annotations

import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from command_line import nodelens
from nodelens.data.texts import learnt_tokeniser, load_texts, tokeniser_from
from nodelens.errors import InputError
from nodelens.files import write_tensors
from nodelens.networks import (
    FAMILIES,
    Network,
    build_alike,
    load_network,
    longest_text,
    masks_of,
    reading,
    stored,
    warm_start,
)
from nodelens.networks.converted import converted_state
from nodelens.networks.opened import opened
from test_texts import write_texts

TEXTS = ["please send money now", "is there rain today", "the sun is hot today", "please move my money"]


def disturbed(model: nn.Module) -> nn.Module:
    """Every part has a say in the logits."""
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=draw))
    return model.eval()


def save_with_tokeniser(model: transformers.PreTrainedModel, folder: Path) -> Path:
    rules = learnt_tokeniser(TEXTS * 2)
    (folder / "rules.json").write_text(rules.definition)
    known = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "rules.json"), model_max_length=12, **known)
    fast.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48, "num_labels": 4}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    settings = transformers.BertConfig(vocab_size=40, max_position_embeddings=14, **SIZE)
    model = disturbed(transformers.BertForSequenceClassification(settings))
    return save_with_tokeniser(model, tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return distilled_bert(tmp_path_factory.mktemp("distilled"), labels=4)


def distilled_bert(folder: Path, labels: int) -> Path:
    torch.manual_seed(0)
    settings = transformers.DistilBertConfig(
        vocab_size=40, max_position_embeddings=14, dim=32, hidden_dim=48, n_layers=2, n_heads=4, num_labels=labels
    )
    return save_with_tokeniser(disturbed(transformers.DistilBertForSequenceClassification(settings)), folder)


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    model = disturbed(
        transformers.ViTForImageClassification(transformers.ViTConfig(image_size=16, patch_size=4, **SIZE))
    )
    model.save_pretrained(folder)
    described = {
        "image_processor_type": "ViTImageProcessor",
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.2, 0.3, 0.4],
        "size": {"height": 16, "width": 16},
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return folder


def theirs(folder: Path, kind: str, tokens: Tensor) -> Tensor:
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    with torch.no_grad():
        return model(input_ids=tokens, attention_mask=(tokens != 0).long()).logits


def some_tokens() -> Tensor:
    tokens = torch.randint(1, 40, (5, 12), generator=torch.Generator().manual_seed(2))
    for row, length in enumerate((1, 3, 7, 11, 12)):
        tokens[row, length:] = 0
    return tokens


def test_a_bert_becomes_one_of_ours(bert: Path) -> None:
    network = load_network(f"hf:{bert}")
    assert network.family == "bert"
    assert network.config.heads == 4
    with torch.no_grad():
        found = network(some_tokens())
    torch.testing.assert_close(
        found, theirs(bert, "BertForSequenceClassification", some_tokens()), rtol=1e-4, atol=1e-5
    )


def test_the_sites_of_a_bert_are_those_of_transformers(bert: Path) -> None:
    network, tokens = load_network(f"hf:{bert}"), some_tokens()
    model = transformers.BertForSequenceClassification.from_pretrained(bert).eval()
    places = {
        "block.2.norm": ("bert.encoder.layer.1.attention.output.LayerNorm", "output"),
        "block.2.projection": ("bert.encoder.layer.1.attention.output.LayerNorm", "input"),
        "block.2.attention": ("bert.encoder.layer.1.attention.output.dense", "input"),
        "block.2.linear1": ("bert.encoder.layer.1.output.dense", "input"),
        "block.2.linear2": ("bert.encoder.layer.1.output.LayerNorm", "input"),
        "pooler": ("classifier", "input"),
    }
    expected: dict[str, Tensor] = {}
    for name, (path, end) in places.items():
        module = model.get_submodule(path)
        if end == "input":
            module.register_forward_pre_hook(lambda _, inputs, name=name: expected.update({name: inputs[0]}))
        else:
            module.register_forward_hook(lambda _, inputs, output, name=name: expected.update({name: output}))
    found: dict[str, Tensor] = {}
    with torch.no_grad(), reading(network, network.sites(), lambda name, x: found.update({name: x})):
        network(tokens)
        model(input_ids=tokens, attention_mask=(tokens != 0).long())
    there = tokens != 0
    for name, x in expected.items():
        ours, own = (found[name], x) if name == "pooler" else (found[name][there], x[there])
        torch.testing.assert_close(ours, own, rtol=1e-4, atol=1e-5, msg=name)


def test_its_tokens_are_those_of_transformers(bert: Path) -> None:
    rules = tokeniser_from(load_network(f"hf:{bert}").checkpoint_metadata)
    assert rules is not None
    fast = transformers.AutoTokenizer.from_pretrained(bert)
    texts = [*TEXTS, "Money, money, MONEY and more money than all the rain today!"]
    expected = fast(texts, padding="max_length", truncation=True, max_length=12)["input_ids"]
    assert rules.tokens(texts, 12).tolist() == expected


def test_names_of_an_older_transformers_are_known(vit: Path) -> None:
    """As its releases before 5 called the weights of a ViT."""
    network, state = load_network(f"hf:{vit}"), load_file(vit / "model.safetensors")
    older = {}
    for key, tensor in state.items():
        for new, old in (
            (".attention.q_proj.", ".attention.attention.query."),
            (".attention.k_proj.", ".attention.attention.key."),
            (".attention.v_proj.", ".attention.attention.value."),
            (".attention.o_proj.", ".attention.output.dense."),
            (".mlp.fc1.", ".intermediate.dense."),
            (".mlp.fc2.", ".output.dense."),
            ("vit.layers.", "vit.encoder.layer."),
        ):
            key = key.replace(new, old)
        older[key] = tensor
    converted = converted_state("vit", older)
    assert converted is not None
    own = network.state_dict()
    assert converted.keys() == own.keys()
    assert all(converted[key].equal(own[key]) for key in own)


def test_a_vit_becomes_one_of_ours(vit: Path) -> None:
    network = load_network(f"hf:{vit}")
    assert network.family == "vit"
    assert network.config.heads == 4
    assert network.checkpoint_metadata["mean"] == "0.5 0.4 0.3"
    images = torch.randn(3, 3, 16, 16)
    model = transformers.ViTForImageClassification.from_pretrained(vit).eval()
    with torch.no_grad():
        torch.testing.assert_close(network(images), model(images).logits, rtol=1e-4, atol=1e-5)


def test_any_other_is_read_by_its_modules(distilled: Path, tmp_path: Path) -> None:
    network = load_network(f"hf:{distilled}")
    assert network.family == "hub"
    expected = theirs(distilled, "DistilBertForSequenceClassification", some_tokens())
    with torch.no_grad():
        torch.testing.assert_close(network(some_tokens()), expected)
    names = [site.name for site in network.sites()]
    assert "model.distilbert.transformer.layer.1.ffn.lin2" in names
    write_tensors(tmp_path / "kept.safetensors", *stored(network))
    kept = load_network(tmp_path / "kept.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(kept(some_tokens()), expected)
    twin: Network = FAMILIES["hub"].network(network.config)
    with torch.no_grad():
        assert not torch.allclose(twin.eval()(some_tokens()), expected)


def test_an_encoder_of_images_becomes_one_of_ours_and_is_given_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = disturbed(transformers.ViTModel(transformers.ViTConfig(image_size=16, patch_size=4, **SIZE)))
    model.save_pretrained(tmp_path)
    network, images = load_network(f"hf:{tmp_path}"), torch.randn(3, 3, 16, 16)
    assert (network.family, network.config.labels) == ("vit", 0)
    with torch.no_grad():
        expected = model(images).last_hidden_state[:, 0]
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-5)
    labelled = build_alike(network, 7, 32, 3)
    assert warm_start(labelled, network) == ["head.weight", "head.bias"]
    assert labelled(torch.randn(2, 3, 32, 32)).shape == (2, 7)


def test_transposed_layers_of_transformers_become_linear() -> None:
    torch.manual_seed(0)
    first, hooked = Conv1D(6, 4), Conv1D(6, 6)
    hooked.register_forward_hook(lambda _, __, output: 2 * output)
    closed = nn.ModuleDict({"one": nn.Sequential(first, hooked), "again": first}).eval()
    rows = torch.randn(3, 2, 4)
    expected = closed["one"](rows)
    network: Any = opened(closed)
    assert (type(network["one"][0]), type(network["one"][1])) == (nn.Linear, Conv1D)
    assert network["again"] is network["one"][0]  # it stays one layer
    assert not network["again"].training
    torch.testing.assert_close(network["one"](rows), expected)


LANGUAGE_MODELS = {
    "bert": (transformers.BertForMaskedLM, transformers.BertModel, "block.2.linear2"),
    "hub": (transformers.RobertaForMaskedLM, transformers.RobertaModel, "model.encoder.layer.1.output.dense"),
}


def language_model(family: str, folder: Path) -> Path:
    torch.manual_seed(0)
    kind = LANGUAGE_MODELS[family][0]
    settings = kind.config_class(vocab_size=40, max_position_embeddings=14, pad_token_id=0, **SIZE)
    folder.mkdir()
    return save_with_tokeniser(disturbed(kind(settings)), folder)


@pytest.mark.parametrize("family", LANGUAGE_MODELS)
def test_of_a_language_model_its_encoder_is_measured(family: str, tmp_path: Path) -> None:
    folder = language_model(family, tmp_path / "model")
    _, encoder, site = LANGUAGE_MODELS[family]
    network = load_network(f"hf:{folder}")
    assert (network.family, network.config.labels) == (family, 0)
    assert not any("pooler" in site.name for site in network.sites())  # which this training does without
    assert not any(layer.name in ("output", "pooler") for layer in network.layers())
    model = encoder.from_pretrained(folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = model(some_tokens(), attention_mask=(some_tokens() != 0).long()).last_hidden_state
        torch.testing.assert_close(network(some_tokens()), expected[:, 0])
    write_tensors(tmp_path / "kept.safetensors", *stored(network))
    with torch.no_grad():
        torch.testing.assert_close(load_network(tmp_path / "kept.safetensors")(some_tokens()), expected[:, 0])
    texts = write_texts(tmp_path / "texts", {"train": 80, "test": 40})
    asked = ("--data", str(texts), "--epochs", "1", "--permutations", "2", "--sites", site, "--no-untrained")
    assert nodelens("measure", f"hf:{folder}", *asked, "--out", str(tmp_path / "run")) == 2
    assert nodelens("measure", f"hf:{folder}", *asked, "--other-labels", "--out", str(tmp_path / "run")) == 0
    assert (tmp_path / "run" / "measure" / f"{site}.safetensors").exists()


DECODERS = {
    "GPT2": {"n_positions": 14, "n_embd": 32, "n_layer": 2, "n_head": 4},
    "Llama": {**SIZE, "num_key_value_heads": 2},
    "GPTNeoX": SIZE,
    "ModernBert": {**SIZE, "pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3},  # an encoder of the same kind
}


def modern(name: str, ending: str, folder: Path) -> tuple[transformers.PreTrainedModel, Path]:
    torch.manual_seed(0)
    kind = getattr(transformers, name + ending)
    settings = kind.config_class(**{"vocab_size": 40, "bos_token_id": 2, "eos_token_id": 3, **DECODERS[name]})
    settings.num_labels = 4
    model = disturbed(kind(settings))
    return model, save_with_tokeniser(model, folder)


@pytest.mark.parametrize("name", DECODERS)
def test_the_heads_and_layers_of_a_decoder_are_found(name: str, tmp_path: Path) -> None:
    model, folder = modern(name, "ForSequenceClassification", tmp_path)
    network = load_network(f"hf:{folder}")
    model.config.pad_token_id = 0
    with torch.no_grad():
        expected = model(input_ids=some_tokens(), attention_mask=(some_tokens() != 0).long()).logits
        torch.testing.assert_close(network(some_tokens()), expected)
    assert [site.heads for site in network.sites() if site.heads] == [4, 4]
    # Every block has its projections, joined or not, and two or three layers of its feed-forward part.
    assert len(network.layers()) == {"GPT2": 9, "Llama": 15, "GPTNeoX": 9, "ModernBert": 10}[name]
    write_tensors(tmp_path / "kept.safetensors", *stored(network))
    with torch.no_grad():
        torch.testing.assert_close(load_network(tmp_path / "kept.safetensors")(some_tokens()), expected)


def test_a_decoder_without_padding_is_filled_up_by_what_ends_its_texts(tmp_path: Path) -> None:
    model, folder = modern("GPT2", "ForSequenceClassification", tmp_path)
    described = json.loads((folder / "tokenizer_config.json").read_text())
    del described["pad_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(described | {"eos_token": "[SEP]"}))
    network = load_network(f"hf:{folder}")
    ending = learnt_tokeniser(TEXTS * 2)
    last = int(ending.tokens(["rain"], 3)[0, -1])
    assert network.checkpoint_metadata["padding"] == str(last)
    tokens = torch.where(some_tokens() == 0, last, some_tokens().clamp(min=last + 1))
    model.config.pad_token_id = last
    with torch.no_grad():
        expected = model(input_ids=tokens, attention_mask=(tokens != last).long()).logits
        torch.testing.assert_close(network(tokens), expected)


def test_a_decoder_is_trained_studied_and_pruned(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 400, "test": 100})
    (tmp_path / "model").mkdir()
    _, folder = modern("GPT2", "Model", tmp_path / "model")
    run, short = str(tmp_path / "run"), ("--batch-size", "20", "--precision", "fp32")
    asked = ("--data", str(texts), "--recipe", "text", "--epochs", "10", *short, "--out", run)
    assert nodelens("train", "--from", f"hf:{folder}", *asked) == 0
    accuracy = float(load_network(run).checkpoint_metadata["test_accuracy"])
    assert accuracy > 0.4  # by chance a quarter
    assert nodelens("heads", run, "--silence", "--epochs", "2", "--seeds", "1", "--draws", "20") == 0
    table = (tmp_path / "run" / "tables" / "heads.silenced.train.csv").read_text()
    assert len(table.splitlines()) == 1 + 2 * (4 + 1)
    layer = "model.transformer.h.1.mlp.c_fc"
    asked = ("--layers", layer, "--dilution", "0.5", "--epochs", "1", "--probe-epochs", "1", "--seeds", "1")
    assert nodelens("prune", run, *asked, "--out", str(tmp_path / "pruned")) == 0
    masks = masks_of(load_network(tmp_path / "pruned" / layer))
    assert {path: (mask.shape, round(1 - float(mask.float().mean()), 1)) for path, mask in masks.items()} == {
        f"network.{layer}": ((128, 32), 0.5)
    }


def test_the_decoder_of_the_example_can_be_trained_on(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 40, "test": 40})
    example = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "decoder.py"))
    example["save_decoder"](str(texts), tmp_path / "llama")
    network = load_network(f"hf:{tmp_path / 'llama'}")
    assert [site.heads for site in network.sites() if site.heads] == [4] * 4
    assert tokeniser_from(network.checkpoint_metadata) == learnt_tokeniser(load_texts(str(texts), "train").texts)
    with pytest.raises(InputError, match=r"is no CCT, .*; give hf:.*llama for what transformers saved"):
        load_network(tmp_path / "llama")


def test_an_encoder_is_trained_to_tell_labels_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 400, "test": 100})
    folder, run = language_model("bert", tmp_path / "model"), tmp_path / "run"
    short = ("--data", str(texts), "--recipe", "text", "--epochs", "10", "--batch-size", "20", "--precision", "fp32")
    assert nodelens("train", "--from", f"hf:{folder}", *short, "--out", str(run)) == 0
    assert "anew: pooler.weight, pooler.bias, head.weight, head.bias" in " ".join(capsys.readouterr().err.split())
    before, after = load_network(f"hf:{folder}"), load_network(run)
    assert (after.family, after.config.labels) == ("bert", 4)
    assert tokeniser_from(after.checkpoint_metadata) == tokeniser_from(before.checkpoint_metadata)
    assert longest_text(after) == longest_text(before)
    assert (
        float(after.checkpoint_metadata["test_accuracy"]) > 0.4
    )  # by chance a quarter; two labels have words that it knows


def test_so_is_one_that_no_family_of_nodelens_s_computes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 40, "test": 40})
    folder, run = language_model("hub", tmp_path / "model"), tmp_path / "run"
    short = ("--data", str(texts), "--recipe", "text", "--epochs", "1", "--batch-size", "20", "--learning-rate", "1e-9")
    assert nodelens("train", "--from", f"hf:{folder}", *short, "--precision", "fp32", "--out", str(run)) == 0
    assert "anew: network.model.classifier.dense.weight, network.model.classifier.dense.bias," in " ".join(
        capsys.readouterr().err.split()
    )
    trained, encoder = load_network(run), transformers.RobertaModel.from_pretrained(folder, add_pooling_layer=False)
    assert trained.config.labels == 4
    for name, weight in encoder.state_dict().items():
        found = trained.get_parameter(f"network.model.roberta.{name}")
        torch.testing.assert_close(found, weight, rtol=0, atol=1e-6, msg=name)
    # A class that transformers lacks.
    config = replace(load_network(f"hf:{folder}").config, architecture="SomebodysModel", labels=4)
    with pytest.raises(InputError, match="transformers has no SomebodysForSequenceClassification, which could give"):
        FAMILIES["hub"].network(config)


def test_a_classifier_is_trained_on_for_other_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 400, "test": 100})
    short = ("--data", str(texts), "--recipe", "text", "--epochs", "2", "--batch-size", "20", "--precision", "fp32")
    (tmp_path / "model").mkdir()
    seven = distilled_bert(tmp_path / "model", labels=7)
    assert nodelens("train", "--from", f"hf:{seven}", *short, "--out", str(tmp_path / "run")) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "anew: network.model.classifier.weight, network.model.classifier.bias" in said
    network = load_network(tmp_path / "run")
    assert (network.family, network.config.labels) == ("hub", 4)
    assert network(some_tokens()).shape == (5, 4)


def test_an_image_classifier_without_a_size_of_its_own(tmp_path: Path) -> None:
    settings = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=3
    )
    disturbed(transformers.ResNetForImageClassification(settings)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="does not say how large its images are"):
        load_network(f"hf:{tmp_path}")
    described = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(described))
    network = load_network(f"hf:{tmp_path}")
    assert (network.family, network.config.image_size, network.config.channels) == ("hub", 32, 3)
    assert {site.layout for site in network.sites()} >= {"channels"}
    transformers.ResNetModel(settings).save_pretrained(tmp_path)
    network = load_network(f"hf:{tmp_path}")
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 12)


def test_texts_are_measured_from_the_command_line(bert: Path, distilled: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 80, "test": 40})
    asked = ("--data", str(texts), "--epochs", "1", "--permutations", "2")
    for folder, sites in ((bert, "block.2.linear2"), (distilled, "model.distilbert.transformer.layer.1.ffn.lin2")):
        assert nodelens("measure", f"hf:{folder}", *asked, "--sites", sites, "--out", str(tmp_path / folder.name)) == 0
        assert (tmp_path / folder.name / "measure" / f"{sites}.safetensors").exists()
    assert (
        nodelens("heads", f"hf:{bert}", *asked[:4], "--seeds", "1", "--draws", "9", "--out", str(tmp_path / "h")) == 0
    )


def broken(case: str, bert: Path, folder: Path) -> None:
    for file in bert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if case == "a pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    elif case == "an untrained head":
        state = load_file(folder / "model.safetensors")
        del state["classifier.weight"]
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    elif case == "an untrained encoder":
        state = load_file(folder / "model.safetensors")
        described = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(described | {"architectures": ["BertForMaskedLM"]}))
        del state["bert.encoder.layer.0.output.dense.weight"]
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    elif case == "no configuration":
        (folder / "config.json").unlink()
    elif case == "truncated":
        (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:2000])
    elif case == "NaN":
        state = load_file(folder / "model.safetensors")
        state["classifier.weight"][0, 0] = torch.nan
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    elif case == "nothing fills up":
        described = json.loads((folder / "tokenizer_config.json").read_text())
        del described["pad_token"]
        (folder / "tokenizer_config.json").write_text(json.dumps(described))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("a pickle", "has no safetensors, and no pickle is loaded"),
        ("an untrained head", "lacks weights of its BertForSequenceClassification, such as classifier.weight"),
        ("an untrained encoder", r"lacks weights of its BertModel, such as encoder\.layer\.0\.output\.dense\.weight"),
        ("no configuration", "cannot be loaded"),
        ("truncated", "cannot be loaded"),
        ("NaN", "holds NaN or infinite weights"),
        ("nothing fills up", "has no token that ends or fills up short texts"),
    ],
)
def test_what_cannot_be_measured_is_refused(case: str, message: str, bert: Path, tmp_path: Path) -> None:
    broken(case, bert, tmp_path)
    with pytest.raises(InputError, match=message) as raised:
        load_network(f"hf:{tmp_path}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/nothing", "cannot be fetched from the hub"),
        ("a b c", "the hub has no network 'a b c' that you may read, and there is no such folder"),
    ],
)
def test_names_that_the_hub_does_not_give(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=message):
        load_network(f"hf:{name}")


def test_without_transformers_it_is_named(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r'pip install "nodelens\[transformers\]"'):
        load_network(f"hf:{bert}")
