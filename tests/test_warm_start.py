"""Training that begins with the weights of a trained network."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

import nodelens as nl
from command_line import nodelens
from nodelens.data import load_images, normalisation_of, tokeniser_from
from nodelens.errors import InputError
from nodelens.files import read_json
from nodelens.networks import (
    CCT,
    Network,
    apply_masks,
    build_alike,
    build_network,
    fingerprint,
    load_network,
    masks_of,
    stored,
    warm_start,
)
from nodelens.networks.vit import ViT
from nodelens.runs import RunDirectory
from nodelens.training import recipe
from test_texts import write_texts

TINY = "cct_2_3x1_16"


def randomised(name: str, *shape: int, seed: int = 0) -> Network:
    torch.manual_seed(seed)
    network = build_network(name, *shape).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_()
    return network


def test_what_fits_is_taken_and_the_rest_stays() -> None:
    trained, network = randomised(TINY, 10, 8, 1), randomised(TINY, 4, 8, 3, seed=1)
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    anew = warm_start(network, trained)
    assert anew == ["tokenizer.conv_layers.0.0.weight", "classifier.fc.weight", "classifier.fc.bias"]
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name] if name in anew else trained.state_dict()[name]), name


@pytest.mark.parametrize(
    ("name", "prefix", "places"), [("vit_2_patch4_16", 1, "pos_embed"), (TINY, 0, "classifier.positional_emb")]
)
@pytest.mark.parametrize("size", [8, 32])
def test_places_on_another_grid_are_timm_s(name: str, prefix: int, places: str, size: int) -> None:
    trained, network = randomised(name, 10, 16, 3), build_network(name, 10, size, 3)
    assert warm_start(network, trained) == []
    grid = (trained.config.image_size // 4, size // 4) if prefix else (8, size // 2)
    weight = trained.get_parameter(places)
    assert weight.shape[1] == grid[0] ** 2 + prefix
    expected = resample_abs_pos_embed(weight, [grid[1]] * 2, num_prefix_tokens=prefix)
    torch.testing.assert_close(network.get_parameter(places), expected)


def test_masked_weights_can_be_trained_again(cct: CCT) -> None:
    layer = "classifier.blocks.0.linear1"
    mask = torch.rand(cct.get_submodule(layer).weight.shape) < 0.5  # type: ignore[arg-type]
    apply_masks(cct, {layer: mask})
    network = build_alike(cct, 10, 8, 1)
    assert warm_start(network, cct) == []
    assert not masks_of(network)
    assert torch.equal(network.get_submodule(layer).weight == 0, ~mask)
    assert fingerprint(network) == fingerprint(cct)


def test_networks_of_different_kinds_are_refused(cct: CCT) -> None:
    with pytest.raises(InputError, match="no matrix of the same name and shape; begin with one of the same kind"):
        warm_start(build_network("vit_2_patch4_16", 10, 8, 1), cct)
    # Another number of tokens before the grid: their places are no square that could be brought to another.
    other = build_network("vit_2_patch4_16", 10, 32, 1)
    assert isinstance(other, ViT)
    without = ViT(replace(other.config, class_token=False, pool="mean"))
    assert warm_start(other, without) == ["cls_token", "pos_embed"]
    anybody_s = nl.adapt(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="a network of the kind 'adapted' cannot be built again"):
        build_alike(anybody_s, 10, 8, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert nodelens("train", TINY, "--epochs", "3", "--precision", "fp32", "--out", str(run)) == 0
    return run


def test_a_trained_network_is_trained_on(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--recipe", "digits", "--epochs", "1", "--precision", "fp32"]
    assert nodelens("train", "--from", str(trained), *short, "--out", str(tmp_path)) == 0
    said = capsys.readouterr()
    assert f"begins with the weights of {trained}; anew: none" in said.out + said.err
    before, after = (load_network(run) for run in (trained, tmp_path))
    accuracies = [float(network.checkpoint_metadata["test_accuracy"]) for network in (before, after)]
    assert accuracies[1] > accuracies[0] + 0.02
    assert {key: after.checkpoint_metadata[key] for key in ("mean", "std", "config")} == {
        key: before.checkpoint_metadata[key] for key in ("mean", "std", "config")
    }
    recorded = read_json(tmp_path / "config.json")["train"]["settings"]
    assert recorded["initial"] == recorded["network"] == str(trained)
    assert recorded["initial_fingerprint"] == fingerprint(before)
    # It is one configuration with these weights, another with others.
    assert nodelens("train", "--from", str(trained), *short, "--out", str(tmp_path)) == 0
    assert nodelens("train", TINY, *short, "--out", str(tmp_path)) == 2
    assert "another train configuration" in capsys.readouterr().err


def test_images_of_another_size_are_scaled_as_those_that_it_has_learnt(trained: Path, tmp_path: Path) -> None:
    arguments = ["--image-size", "6", "--epochs", "1", "--precision", "fp32", "--out", str(tmp_path)]
    assert nodelens("train", TINY, "--from", str(trained), *arguments) == 0
    network = load_network(tmp_path)
    recorded = read_json(tmp_path / "config.json")["train"]["settings"]["recipe"]
    assert recorded["learning_rate"] == recipe("fine-tune").learning_rate
    # Mirrored digits are none: it has learnt no such images.
    assert recorded["augmentation"]["flip"] == recipe("digits").augmentation.flip == 0.0
    assert network.config.image_size == 6
    assert network.checkpoint_metadata["mean"] == load_network(trained).checkpoint_metadata["mean"]
    assert load_images("digits", "train", image_size=6).image_shape == (6, 6, 1)


def test_images_of_other_channels_are_scaled_as_they_want_it(tmp_path: Path) -> None:
    colour = RunDirectory(tmp_path / "colour")
    tensors, metadata = stored(randomised(TINY, 10, 8, 3))
    colour.write_tensors("model.safetensors", tensors, metadata | {"mean": "0.1 0.2 0.3", "std": "1 1 1"})
    arguments = ["--from", str(colour.path), "--epochs", "1", "--precision", "fp32", "--out", str(tmp_path / "grey")]
    assert nodelens("train", *arguments) == 0
    network = load_network(tmp_path / "grey")
    assert network.config.channels == 1
    recorded = read_json(tmp_path / "grey" / "config.json")["train"]["settings"]["recipe"]
    assert recorded == asdict(recipe("fine-tune", epochs=1)) | {"augmentation": recorded["augmentation"]}
    assert recorded["augmentation"]["flip"] == 0.5  # nothing is said of what it has learnt
    expected = normalisation_of(load_images("digits", "train")).metadata()
    assert expected.items() <= network.checkpoint_metadata.items()


def test_texts_keep_the_words_that_it_has_learnt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few, many = (write_texts(tmp_path / str(count), {"train": count, "test": 40}) for count in (40, 200))
    short = ["--recipe", "text", "--epochs", "1", "--batch-size", "20", "--precision", "fp32"]
    runs = [tmp_path / name for name in ("first", "alike", "variant")]
    assert nodelens("train", "bert_2_64", "--data", str(few), *short, "--out", str(runs[0])) == 0
    for network, run in (([], runs[1]), (["bert_2_64"], runs[2])):
        asked = [*network, "--from", str(runs[0]), "--data", str(many), *short]
        assert nodelens("train", *asked, "--out", str(run)) == 0
        assert "anew: none" in " ".join(capsys.readouterr().err.split())
    first, *others = (load_network(run) for run in runs)
    for network in others:
        assert tokeniser_from(network.checkpoint_metadata) == tokeniser_from(first.checkpoint_metadata)


def test_bad_beginnings_are_one_sentence(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = write_texts(tmp_path / "texts", {"train": 80, "test": 40})
    for arguments, sentence in (
        ([], "say what to train: a variant, such as cct_7_3x1, or with --from a trained network"),
        (["--from", str(tmp_path / "none")], "there is no checkpoint"),
        (["vit_2_patch4_16", "--from", str(trained)], "have no matrix of the same name and shape"),
        (["bert_2_64", "--from", str(trained), "--data", str(texts)], "have no matrix of the same name and shape"),
    ):
        assert nodelens("train", *arguments, "--out", str(tmp_path / "run")) == 2
        assert sentence in " ".join(capsys.readouterr().err.split())
