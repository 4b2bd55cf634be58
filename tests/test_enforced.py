"""Labels given to heads before training, and blocks with different numbers of heads."""

from __future__ import annotations

import copy
import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nodelens as nl
from nodelens.data import ImageSet, load_images
from nodelens.errors import InputError
from nodelens.networks import CCT, build_network, load_network, sites, stored
from nodelens.paper import scales
from nodelens.paper.enforced import enforced
from nodelens.probing import load_measurements
from nodelens.runs import RunDirectory
from nodelens.training import Recipe, TrainSettings, enforced_heads, train
from nodelens.training.batches import ASSIGNMENT, seed_of
from nodelens.training.enforced import EnforcedHeads, HeadTerm, labels_of_heads, own_label_loss
from nodelens.training.settings import new_network

RECIPE = Recipe(epochs=2, batch_size=32, learning_rate=2e-3, attention_dropout=0.0, stochastic_depth=0.0)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits", "train").take(np.arange(128), "train")


@pytest.fixture
def grouped(digits: ImageSet) -> ImageSet:
    """The digits in five super-classes of two labels."""
    return replace(digits, superclass_names=tuple("abcde"), superclass_of_label=(0, 1, 2, 3, 4, 0, 1, 2, 3, 4))


def test_labels_are_dealt_evenly_one_head_each(digits: ImageSet) -> None:
    given = labels_of_heads(EnforcedHeads("random"), 4, digits)
    assert given.sum(dim=0).tolist() == [1] * 10
    assert sorted(given.sum(dim=1).tolist()) == [2, 2, 3, 3]
    assert torch.equal(given, labels_of_heads(EnforcedHeads("random"), 4, digits))
    assert not torch.equal(given, labels_of_heads(EnforcedHeads("random"), 4, digits, seed=1))


def test_super_classes_stay_together(grouped: ImageSet) -> None:
    given = labels_of_heads(EnforcedHeads("superclass"), 4, grouped)
    assert torch.equal(given[:, :5], given[:, 5:])
    assert given.sum(dim=0).tolist() == [1] * 10
    assert sorted(given.sum(dim=1).tolist()) == [2, 2, 2, 4]


def test_a_file_names_the_labels_of_each_head(digits: ImageSet, tmp_path: Path) -> None:
    names = digits.label_names
    path = tmp_path / "heads.json"
    path.write_text(json.dumps([[names[0], names[3]], [names[3]]]))
    enforced = enforced_heads(str(path), weight=3.0, blocks=[2])
    assert (enforced.weight, enforced.blocks) == (3.0, (2,))
    given = labels_of_heads(enforced, 2, digits)
    assert given.nonzero().tolist() == [[0, 0], [0, 3], [1, 3]]
    with pytest.raises(InputError, match="gives labels to 2 heads, but a block has 4"):
        labels_of_heads(enforced, 4, digits)
    path.write_text(json.dumps([["cat"], []]))
    with pytest.raises(InputError, match="gives 'cat' to a head, which is no label of digits"):
        labels_of_heads(enforced_heads(str(path)), 2, digits)
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="neither superclass nor random nor a JSON file"):
        enforced_heads(str(path))


def test_the_loss_of_own_labels_image_by_image() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(5, 3, 4, generator=generator, requires_grad=True)
    directions = torch.randn(3, 6, 4, generator=generator)
    directions /= directions.norm(dim=2, keepdim=True)
    # Label 5 is nobody's, label 0 has two heads, and the last head has no label.
    given = torch.tensor([[1, 1, 1, 0, 0, 0], [1, 0, 0, 1, 1, 0], [0] * 6], dtype=torch.bool)
    targets = torch.tensor(
        [[1.0, 0, 0, 0, 0, 0], [0, 0.3, 0, 0.7, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 1, 0], [0] * 6]
    )
    expected = 0.0
    for image in range(5):
        for head in range(2):
            own = [label for label in range(6) if given[head, label]]
            z = outputs[image, head].detach()
            exponents = {label: float(torch.exp(10 * (z / z.norm()) @ directions[head, label])) for label in own}
            for label in own:
                share = exponents[label] / sum(exponents.values())
                expected -= float(targets[image, label]) * math.log(share) / 5
    found = own_label_loss(outputs, targets, directions, given)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert torch.isfinite(outputs.grad).all()
    assert outputs.grad[:, 2].abs().max() == outputs.grad[2].abs().max() == 0
    assert (outputs.grad[1, :2].abs().amax(dim=1) > 0).all()


def test_the_term_is_that_of_the_heads_outputs(cct: CCT, digits: ImageSet) -> None:
    free, images = copy.deepcopy(cct), torch.randn(6, 1, 8, 8)
    targets = torch.eye(10)[torch.arange(6)]
    enforced = EnforcedHeads("random", weight=3.0, blocks=(2,))
    term = HeadTerm(cct, enforced, digits, seed=0)
    cct.eval()
    assert torch.equal(cct(images), free.eval()(images))
    seen: list[torch.Tensor] = []
    proj = cct.classifier.blocks[1].self_attn.proj  # type: ignore[union-attr]
    hook = proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))  # type: ignore[union-attr, operator]
    cct.train()
    with term.attached():
        cct(images)
        found = term(targets)
    hook.remove()
    given = labels_of_heads(enforced, 4, digits)
    generator = torch.Generator().manual_seed(seed_of(0, ASSIGNMENT, 2))
    directions = nn.functional.normalize(torch.randn(4, 10, 4, generator=generator), dim=2)
    expected = 3.0 * own_label_loss(seen[0].mean(dim=1).reshape(6, 4, 4), targets, directions, given)
    torch.testing.assert_close(found, expected)
    assert not any(module._forward_pre_hooks for module in cct.modules())


def test_the_heads_outputs_of_a_text_are_those_of_its_own_tokens() -> None:
    torch.manual_seed(0)
    network = build_network("bert_1_64", 4, 0, 0, vocabulary=30, positions=12, heads=4)
    tokens, labels = torch.where(torch.arange(12) < torch.tensor([[3], [6]]), network.example(2), 0), torch.arange(2)
    term = HeadTerm(network, EnforcedHeads("random"), nl.Examples(tokens, labels, tuple("abcd")), seed=0)
    found = []
    for cut in (tokens, tokens[:, :6]):
        network.train()
        with term.attached():
            network(cut)
            found.append(term(torch.eye(4)[labels]))
    torch.testing.assert_close(*found)


def test_enforced_training_goes_on_after_a_kill_and_differs_from_free(
    digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = TrainSettings("cct_2_3x1_16", RECIPE)
    settings = replace(free, enforced=EnforcedHeads("random", weight=1.0))
    train(free, digits, digits, RunDirectory(tmp_path / "free"))
    trained = train(settings, digits, digits, RunDirectory(tmp_path / "whole"))
    assert not any(module._forward_pre_hooks for module in trained.modules())
    import sys

    loop = sys.modules["nodelens.training.train"]
    original, saved = loop.save_state, []

    def killed(path: Path, state: dict[str, object]) -> None:
        original(path, state)
        saved.append(path)
        if len(saved) == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            train(settings, digits, digits, RunDirectory(tmp_path / "killed"), checkpoint_seconds=0.0)
    train(settings, digits, digits, RunDirectory(tmp_path / "killed"), checkpoint_seconds=0.0)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("free", "whole", "killed")]
    assert files[1] == files[2]
    assert files[0] != files[1]
    with pytest.raises(InputError, match="another train configuration"):
        train(free, digits, digits, RunDirectory(tmp_path / "whole"))
    with pytest.raises(InputError, match="compiled network"):
        train(replace(settings, compile=True), digits, digits, RunDirectory(tmp_path / "compiled"))
    assert not (tmp_path / "compiled" / "config.json").exists()


def test_blocks_may_have_different_numbers_of_heads(digits: ImageSet, tmp_path: Path) -> None:
    network = new_network(TrainSettings("cct_2_3x1_16", RECIPE, heads=(2, 8)), digits)
    assert isinstance(network, CCT)
    assert [site.heads for site in sites(network) if site.heads] == [2, 8]
    assert [block.self_attn.heads for block in network.classifier.blocks] == [2, 8]  # type: ignore[union-attr]
    run = RunDirectory(tmp_path)
    run.write_tensors("model.safetensors", *stored(network))
    images = torch.randn(2, 1, 8, 8)
    again = load_network(tmp_path)
    assert torch.equal(again(images), network.eval()(images))
    assert again.config == network.config
    single = new_network(TrainSettings("cct_2_3x1_16", RECIPE, heads=(2,)), digits)
    assert single.config.heads == 2  # type: ignore[attr-defined]


def test_a_network_without_heads_gets_none(digits: ImageSet) -> None:
    network = build_network("vgg11", 10, 32, 3)
    with pytest.raises(InputError, match="vgg has no attention heads to give labels to"):
        HeadTerm(network, EnforcedHeads("random"), digits, seed=0)


def test_free_against_enforced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "recipe", lambda name: replace(RECIPE, epochs=1))
    scale = scales.Scale("cct_2_3x1_16", "digits", "digits", probe_epochs=1, seeds=2)
    (table,) = enforced(scale, RunDirectory(tmp_path))
    with (tmp_path / "tables" / "enforced.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["of"], row["seed"]) for row in rows] == [(k, s) for s in "01" for k in ("free", "enforced")]
    assert "as given" in table.markdown()
    for row in rows:
        run = RunDirectory(tmp_path / f"{row['of']}-{row['seed']}")
        (measured,) = load_measurements(run, "train", ("block.2.attention",))
        owner = nl.head_specialization(measured["block.2.attention"].matrices.diagonals(0.3), 4).head_of_label
        given = labels_of_heads(EnforcedHeads("random"), 4, load_images("digits", "train"), int(row["seed"]))
        own = [bool(given[head, label]) for label, head in enumerate(owner.tolist()) if head >= 0]
        assert float(row["owned"]) == len(own)
        if own:
            assert float(row["matched"]) == pytest.approx(sum(own) / len(own), abs=1e-5)
        recorded = json.loads((run.path / "config.json").read_text())["train"]["settings"]["enforced"]
        assert (recorded is not None) == (row["of"] == "enforced")
    with pytest.raises(InputError, match="leave out --checkpoint"):
        enforced(scale, RunDirectory(tmp_path), tmp_path / "x.safetensors")
