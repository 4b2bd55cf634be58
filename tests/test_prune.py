"""Decisions and retraining of pruned networks."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from nodelens.cli.pruning import prune
from nodelens.data import load_images, normalisation_of
from nodelens.data.augment import Augmentation, normalise
from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Examples
from nodelens.data.normalisation import AsTheyAre
from nodelens.errors import InputError
from nodelens.measures import andc_mask, dilution
from nodelens.networks import CCT, apply_masks, build_network, layer_weight, layers, select_layers, sites
from nodelens.probing import Measurement, SiteMeasurement
from nodelens.pruning.chance import kept_rows, permuted_masks
from nodelens.pruning.decide import (
    Decision,
    LayerThresholds,
    andc_masks,
    baseline_masks,
    input_norms,
    reachable_thresholds,
    removed_counts,
    thresholds_by_dilution,
    thresholds_by_site,
)
from nodelens.pruning.retrain import RetrainSettings, accuracies, recorded_augmentation, retrain, retraining
from nodelens.pruning.settings import PruneSettings
from nodelens.runs import RunDirectory
from nodelens.training.recipe import Recipe

SHORT = RetrainSettings(Recipe(epochs=2, batch_size=50, learning_rate=1e-3), rest_learning_rate=0.0)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    images = load_images("digits", "train")
    return images.take(np.arange(150), "train")


@pytest.fixture
def measurement(cct: CCT) -> Measurement:
    """Sites with random factors: decisions are checked against their definition, not for what they mean."""
    generator = torch.Generator().manual_seed(7)

    def measured(site):  # type: ignore[no-untyped-def]
        factors = (torch.randn(10, site.nodes, generator=generator) for _ in range(2))
        return SiteMeasurement(site, "train-held-out", 0, *factors, 0.5, torch.ones(10, dtype=torch.int64))

    return Measurement({s.name: measured(s) for s in sites(cct)}, "train-held-out", 0, tuple("abcdefghij"))


def test_andc_keeps_a_weight_iff_the_nodes_share_a_label(cct: CCT, measurement: Measurement) -> None:
    chosen = layers(cct)
    thresholds = thresholds_by_site(chosen, 0.3, {"block.2.linear1": 0.5})
    masks = andc_masks(cct, measurement, chosen, thresholds)
    for layer in chosen:
        at = thresholds[layer.name]
        source = measurement[layer.source].matrices
        into = [{k for k in range(10) if source.clipped(n, at.source)[k, k]} for n in range(source.nodes)]
        if layer.target is None or at.target is None:
            out = [{k} for k in range(10)]
        else:
            target = measurement[layer.target].matrices
            out = [{k for k in range(10) if target.clipped(n, at.target)[k, k]} for n in range(target.nodes)]
        assert masks[layer.module].tolist() == [[bool(o & i) for i in into] for o in out]
        assert masks[layer.module].shape == layer_weight(cct, layer).shape


def test_thresholds_are_found_for_a_wanted_dilution(cct: CCT, measurement: Measurement) -> None:
    chosen = layers(cct)
    thresholds = thresholds_by_dilution(measurement, chosen, 0.8)
    masks = andc_masks(cct, measurement, chosen, thresholds)
    slightly_less = {
        name: LayerThresholds(at.source * (1 - 1e-9), at.target and at.target * (1 - 1e-9))
        for name, at in thresholds.items()
    }
    looser = andc_masks(cct, measurement, chosen, slightly_less)
    for layer in chosen:
        assert dilution(looser[layer.module]) < 0.8 <= dilution(masks[layer.module])
    with pytest.raises(InputError, match=r"block\.1\.qkv: a dilution of 0\.01 cannot be reached"):
        thresholds_by_dilution(measurement, chosen, 0.01)
    for layer in chosen:
        found = reachable_thresholds(measurement, layer, (0.01, 0.8, 0.9))
        assert list(found) == [0.8, 0.9]
        for share, at in found.items():
            assert at == thresholds_by_dilution(measurement, [layer], share)[layer.name]


def test_all_baselines_remove_the_same_number_in_every_layer(
    cct: CCT, measurement: Measurement, digits: ImageSet
) -> None:
    chosen = layers(cct)
    masks = andc_masks(cct, measurement, chosen, thresholds_by_site(chosen, 0.4))
    removed = removed_counts(masks)
    norms = input_norms(cct, chosen, digits, normalisation_of(digits))
    for method in ("random", "magnitude", "wanda"):
        assert removed_counts(baseline_masks(cct, chosen, removed, method, input_norms=norms)) == removed
    first, again, other = (baseline_masks(cct, chosen, removed, "random", seed=s) for s in (0, 0, 1))
    assert all(torch.equal(first[m], again[m]) for m in removed)
    assert not all(torch.equal(first[m], other[m]) for m in removed)
    thresholds = thresholds_by_site(chosen, 0.4)
    permuted = permuted_masks(cct, measurement, chosen, thresholds)
    assert removed_counts(baseline_masks(cct, chosen, removed, "permuted", permuted=permuted)) == removed
    branch = baseline_masks(cct, chosen, removed, "branch")
    assert not any(mask.any() for mask in branch.values())
    with pytest.raises(InputError, match="unknown method 'best'"):
        baseline_masks(cct, chosen, removed, "best")


def test_permuted_labels_are_those_of_what_a_layer_enters(
    cct: CCT, measurement: Measurement, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = layers(cct)
    thresholds = thresholds_by_site(chosen, 0.4)
    andc = andc_masks(cct, measurement, chosen, thresholds)
    drawn = permuted_masks(cct, measurement, chosen, thresholds)
    assert all(torch.equal(mask, drawn[m]) for m, mask in permuted_masks(cct, measurement, chosen, thresholds).items())
    other = permuted_masks(cct, measurement, chosen, thresholds, seed=1)
    assert not any(torch.equal(drawn[m], mask) or torch.equal(drawn[m], other[m]) for m, mask in andc.items())
    to_labels = next(layer for layer in chosen if layer.target is None)
    assert sorted(drawn[to_labels.module].tolist()) == sorted(andc[to_labels.module].tolist())
    # Neighbours change places, in place of a random order.
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n).view(-1, 2).flip(1).flatten())
    for layer in chosen:
        mask = permuted_masks(cct, measurement, [layer], thresholds)[layer.module]
        at = thresholds[layer.name]
        into = measurement[layer.source].matrices.diagonals(at.source)
        out = torch.eye(10, dtype=torch.bool)
        if layer.target is not None and at.target is not None:
            out = measurement[layer.target].matrices.diagonals(at.target)
        by_hand = [[any(o[k] and i[k + 1 - 2 * (k % 2)] for k in range(10)) for i in into] for o in out]
        assert mask.tolist() == by_hand


def test_what_is_kept_by_chance_is_the_mean_over_many_draws(cct: CCT, measurement: Measurement) -> None:
    chosen = [layer for layer in layers(cct) if layer.name in ("block.2.linear1", "output")]
    at = thresholds_by_site(chosen, 0.3)
    andc = andc_masks(cct, measurement, chosen, at)
    generator = torch.Generator().manual_seed(0)

    def drawn(site: str | None) -> torch.Tensor:
        """Every node of a site with other labels, as many; of the outputs each with one."""
        of = torch.eye(10, dtype=torch.bool) if site is None else measurement[site].matrices.diagonals(0.3)
        return of.gather(1, torch.rand(of.shape, generator=generator).argsort(dim=1))

    for layer, row in zip(chosen, kept_rows(cct, chosen, [Decision(measurement, at, andc)]), strict=True):
        weight = layer_weight(cct, layer).detach().double().abs()
        draws = torch.stack([andc_mask(drawn(layer.target), drawn(layer.source)) for _ in range(1000)]).double()
        assert row["kept_by_chance"] == pytest.approx(float(draws.mean()), abs=0.01)
        size = float((draws * weight).sum() / draws.sum() / weight.mean())
        assert row["size_by_chance"] == pytest.approx(size, abs=0.02)
        mask = andc[layer.module]
        assert row["kept"] == pytest.approx(1 - dilution(mask))
        assert row["size"] == pytest.approx(float(weight[mask].mean() / weight.mean()))
        assert row["weights"] == weight.numel()


def test_input_norms_are_those_of_what_enters_the_layer(cct: CCT, digits: ImageSet) -> None:
    images, normalisation = digits.take(np.arange(7), "train"), normalisation_of(digits)
    chosen = select_layers(layers(cct), "block.1.linear1")
    seen = []
    handle = cct.get_submodule(chosen[0].module).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    norms = input_norms(cct, chosen, images, normalisation, batch_size=3)
    handle.remove()
    everything = torch.cat(seen).flatten(0, 1).double()
    torch.testing.assert_close(norms[chosen[0].module], torch.linalg.vector_norm(everything, dim=0).float())


def test_what_fills_up_a_text_adds_nothing_to_the_input_norms() -> None:
    torch.manual_seed(0)
    network = build_network("bert_1_64", 3, 0, 0, vocabulary=30, positions=12, heads=4).eval()
    texts = torch.where(torch.arange(12) < torch.tensor([[3], [6], [5]]), network.example(3), 0)
    norms = [
        input_norms(network, layers(network), Examples(cut, torch.arange(3), ("a", "b", "c")), AsTheyAre())
        for cut in (texts, texts[:, :6])
    ]
    torch.testing.assert_close(*norms)


def test_thresholds_that_make_no_sense_are_refused(cct: CCT, measurement: Measurement) -> None:
    chosen = select_layers(layers(cct), "block.1.*")
    for bad in (0.0, 1.0, -0.3):
        with pytest.raises(InputError, match="out of range"):
            thresholds_by_site(chosen, bad)
    with pytest.raises(InputError, match=r"block\.2\.norm has a threshold"):
        thresholds_by_site(chosen, 0.3, {"block.2.norm": 0.4})
    foreign = Measurement(
        dict.fromkeys(measurement, measurement["block.1.linear1"]), "test", 0, measurement.label_names
    )
    with pytest.raises(InputError, match="measure this network"):
        andc_masks(cct, foreign, chosen, {layer.name: LayerThresholds(0.3, 0.3) for layer in chosen})


def pruned_variants(cct: CCT, measurement: Measurement, patterns: str) -> dict[str, CCT]:
    chosen = select_layers(layers(cct), patterns)
    masks = andc_masks(cct, measurement, chosen, thresholds_by_site(chosen, 0.4))
    removed = removed_counts(masks)
    variants = {"dense": copy.deepcopy(cct), "andc": copy.deepcopy(cct), "random": copy.deepcopy(cct)}
    apply_masks(variants["andc"], masks)
    apply_masks(variants["random"], baseline_masks(cct, chosen, removed, "random"))
    return variants


def weights_of(network: CCT) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in network.state_dict().items()}


@pytest.mark.parametrize("rate", [0.0, 1e-5])
def test_variants_side_by_side_are_as_if_alone(
    cct: CCT, measurement: Measurement, digits: ImageSet, rate: float
) -> None:
    settings = RetrainSettings(SHORT.recipe, rest_learning_rate=rate)
    chosen, normalisation = select_layers(layers(cct), "block.2.*"), normalisation_of(digits)
    together = pruned_variants(cct, measurement, "block.2.*")
    rows = retrain(together, chosen, digits, normalisation, settings, evaluated={"train": digits})
    assert [row["epoch"] for row in rows if row["variant"] == "andc"] == [0, 1, 2]
    alone = {"andc": pruned_variants(cct, measurement, "block.2.*")["andc"]}
    other = retrain(alone, chosen, digits, normalisation, settings, evaluated={"train": digits}, every_epoch=False)
    assert [row for row in rows if row["variant"] == "andc" and row["epoch"] != 1] == other
    for name, weight in weights_of(together["andc"]).items():
        torch.testing.assert_close(weight, weights_of(alone["andc"])[name])
    before, after = weights_of(cct), weights_of(together["dense"])
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    in_block = {name for name in moved if name.startswith("classifier.blocks.1.")}
    assert in_block
    assert (moved == in_block) == (rate == 0.0)
    # A step of Adam moves a weight by about its rate, by four times at the very most.
    most, steps = 4 * SHORT.recipe.epochs * (len(digits) // SHORT.recipe.batch_size), {}
    for name in moved:
        steps[name] = float((after[name] - before[name]).abs().max()) / most
    assert all(step <= rate for name, step in steps.items() if name not in in_block)
    assert rate < 0.1 * max(steps[name] for name in in_block) <= SHORT.recipe.learning_rate
    assert rows[-1]["train"] == pytest.approx(
        accuracies({"x": together["random"]}, digits, normalisation)["x"], abs=1e-5
    )


def test_few_images_are_one_batch(cct: CCT, measurement: Measurement, digits: ImageSet) -> None:
    few, normalisation = digits.take(np.arange(20), "few"), normalisation_of(digits)
    found = [
        retrain(
            pruned_variants(cct, measurement, "block.2.*"),
            select_layers(layers(cct), "block.2.*"),
            few,
            normalisation,
            dataclasses.replace(SHORT, recipe=dataclasses.replace(SHORT.recipe, batch_size=size)),
            evaluated={"train": digits},
        )
        for size in (20, 100)
    ]
    assert found[0] == found[1]
    assert {row["epoch"] for row in found[0]} == {0, 1, 2}


def test_by_default_networks_are_retrained_as_in_the_paper() -> None:
    settings = RetrainSettings()
    assert settings == retraining()
    assert (settings.recipe.learning_rate, settings.rest_learning_rate) == (5e-4, 1e-6)
    assert (settings.recipe.optimizer, settings.recipe.weight_decay) == ("adamw", 1e-2)
    asked = inspect.signature(prune).parameters
    assert (asked["learning_rate"].default, asked["rest_learning_rate"].default) == (5e-4, 1e-6)
    assert asked["epochs"].default == settings.recipe.epochs
    assert (asked["held_out"].default, asked["schedule"].default) == (PruneSettings(layers=()).held_out, "step")


@pytest.mark.parametrize("rate", [0.0, 1e-3])
def test_distilled_variants_learn_what_the_unpruned_network_says_and_see_no_label(
    cct: CCT, measurement: Measurement, digits: ImageSet, rate: float
) -> None:
    network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.0, stochastic_depth=0.0).eval()
    network.load_state_dict(cct.state_dict())
    chosen, normalisation = select_layers(layers(network), "block.2.*"), normalisation_of(digits)
    images = normalise(digits.batch(np.arange(len(digits))), normalisation.mean, normalisation.std)

    def said_by(one: CCT) -> Categorical:
        with torch.no_grad():
            return Categorical(logits=one(images))

    teacher, before = said_by(network), said_by(pruned_variants(network, measurement, "block.2.*")["andc"])
    plain = Augmentation(flip=0.0)
    one_step = Recipe(epochs=1, batch_size=len(digits), learning_rate=1e-3, augmentation=plain)
    settings = RetrainSettings(one_step, rest_learning_rate=rate, distill=True)
    wrong = dataclasses.replace(digits, labels=digits.labels.roll(7))
    networks = []
    for images_seen in (digits, wrong):
        variants = pruned_variants(network, measurement, "block.2.*")
        rows = retrain(variants, chosen, images_seen, normalisation, settings, evaluated={}, teacher=network)
        networks.append(variants["andc"])
    assert all(torch.equal(a, b) for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True))
    # The cross-entropy to the teacher's softmax is the divergence from it and the teacher's own entropy.
    apart = kl_divergence(teacher, before).mean()
    (reached,) = [row["loss"] for row in rows if row["variant"] == "andc" and row["epoch"] == 1]
    assert reached == pytest.approx(float(apart + teacher.entropy().mean()), abs=2e-5)
    assert kl_divergence(teacher, said_by(networks[0].eval())).mean() < apart


def test_a_teacher_and_settings_that_disagree_are_refused(cct: CCT, digits: ImageSet) -> None:
    chosen, normalisation = select_layers(layers(cct), "output"), normalisation_of(digits)
    for distill, teacher, said in ((True, None, "no teacher is given"), (False, cct, "a teacher is given")):
        settings = RetrainSettings(SHORT.recipe, distill=distill)
        with pytest.raises(InputError, match=said):
            retrain({"one": cct}, chosen, digits, normalisation, settings, evaluated={}, teacher=teacher)


def test_retraining_goes_on_after_a_kill(
    cct: CCT, measurement: Measurement, digits: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, normalisation = select_layers(layers(cct), "block.*.linear1"), normalisation_of(digits)
    settings = RetrainSettings(SHORT.recipe)
    whole = pruned_variants(cct, measurement, "block.*.linear1")
    expected = retrain(whole, chosen, digits, normalisation, settings, evaluated={"train": digits})

    from nodelens.pruning import retrain as room

    original, saves = room.save_state, []

    def killed(path: Path, state: dict[str, object]) -> None:
        original(path, state)
        saves.append(path)
        if len(saves) == 4:
            raise KeyboardInterrupt

    arguments = (chosen, digits, normalisation, settings)
    named = {"evaluated": {"train": digits}, "state": tmp_path / "state.pt", "checkpoint_seconds": 0.0}
    with monkeypatch.context() as patch:
        patch.setattr(room, "save_state", killed)
        with pytest.raises(KeyboardInterrupt):
            retrain(pruned_variants(cct, measurement, "block.*.linear1"), *arguments, **named)
    resumed = pruned_variants(cct, measurement, "block.*.linear1")
    assert retrain(resumed, *arguments, **named) == expected
    for name in whole:
        for key, weight in weights_of(whole[name]).items():
            assert torch.equal(weight, weights_of(resumed[name])[key])


@pytest.mark.parametrize("section", ["train", "prune"])
def test_retraining_augments_as_the_run_did_but_neither_mixes_nor_erases(section: str, tmp_path: Path) -> None:
    run, augmentation = RunDirectory(tmp_path), Augmentation(0.25, 0, (0.6, 1.0), erase=0.3, mixup=0.8)
    assert recorded_augmentation(run) is None
    recipe = {"recipe": dataclasses.asdict(Recipe(epochs=1, batch_size=50, augmentation=augmentation))}
    run.configure(section, recipe if section == "train" else {"retraining": recipe})
    assert recorded_augmentation(run) == Augmentation(0.25, 0, (0.6, 1.0))
