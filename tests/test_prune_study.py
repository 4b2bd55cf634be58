"""Whole pruning studies on a small network, from the command line and from Python."""

from __future__ import annotations

import copy
import csv
import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import nodelens as nl
from nodelens.data import ImageSet, holdout, load_images, normalisation_of
from nodelens.errors import InputError
from nodelens.files import read_json, read_tensors
from nodelens.measures import field_mask, shared_label_probability
from nodelens.networks import (
    CCT,
    VGG,
    Layer,
    layer_weight,
    layers,
    load_network,
    masks_of,
    select_layers,
    sites,
    stored,
)
from nodelens.probing import ProbeSettings, SiteMeasurement, probe_recipe
from nodelens.pruning.decide import removal_thresholds, thresholds_by_dilution
from nodelens.pruning.retrain import RetrainSettings, retraining
from nodelens.pruning.search import DilutionSearch, Found, Sensitivity, largest_bearable, monotone
from nodelens.pruning.settings import PruneSettings, SearchSettings
from nodelens.pruning.study import HELD_OUT, TEST, PruningData, PruningStudy
from nodelens.report.pruning import curve_figure, report_pruning
from nodelens.report.search import report_search
from nodelens.runs import RunDirectory
from nodelens.training.recipe import Recipe
from nodelens.training.train import accuracy

SETTINGS = PruneSettings(
    layers=("block.2.*", "output"),
    threshold=0.3,
    seeds=(0, 1),
    dilutions=(0.7,),
    retraining=RetrainSettings(Recipe(epochs=1, batch_size=50), 0.0),
    probe=ProbeSettings(probe_recipe(1, batch_size=50)),
)


@pytest.fixture(scope="module")
def data() -> PruningData:
    images = load_images("digits", "train").take(np.arange(250), "train")
    rest, held_out = holdout(images, 0.2, 0)
    test = load_images("digits", "test").take(np.arange(60), "test")
    return PruningData(rest, held_out, test, normalisation_of(images))


def study_in(folder: Path, network: CCT, data: PruningData, settings: PruneSettings = SETTINGS) -> PruningStudy:
    return PruningStudy(network, data, settings, RunDirectory(folder / "study"), RunDirectory(folder))


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "study" / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_study_compares_all_methods_at_the_same_dilution(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    study = study_in(tmp_path, cct, data)
    report_pruning(study)
    rows = table(tmp_path, "prune")
    assert {row["method"] for row in rows} == {
        "dense",
        "andc",
        "permuted",
        "random",
        "magnitude",
        "wanda",
        "branch",
        "vanished only",
        "all but vanished",
    }
    assert {(row["seed"], row["epoch"]) for row in rows} == {(s, e) for s in "01" for e in "01"}
    for seed in "01":
        dilutions = {row["method"]: float(row["dilution"]) for row in rows if row["seed"] == seed}
        assert {dilutions[method] for method in ("permuted", "random", "magnitude", "wanda")} == {dilutions["andc"]}
        assert dilutions["dense"] == 0
        assert dilutions["branch"] == 1
        assert dilutions["all but vanished"] <= dilutions["andc"]
        assert dilutions["vanished only"] <= dilutions["andc"]
    pruned = load_network(tmp_path / "study")
    assert masks_of(pruned).keys() == {layer.module for layer in study.layers}
    andc = study.andc(0)
    assert all(torch.equal(mask, andc[module]) for module, mask in masks_of(pruned).items())
    of_layers = table(tmp_path, "prune.layers")
    assert [row["role"] for row in of_layers] == ["input", "output"] * 4 + ["input"]
    first = nl.site_statistics(study.measurement(0)["block.2.ln"].matrices, 0.3)
    second = nl.site_statistics(study.measurement(1)["block.2.ln"].matrices, 0.3)
    assert float(of_layers[0]["diagonal"]) == pytest.approx((first.diagonal + second.diagonal) / 2, rel=1e-5)
    kept = table(tmp_path, "prune.kept")
    assert [(row["layer"], row["seed"]) for row in kept] == [(layer.name, s) for layer in study.layers for s in "01"]
    for row, layer in zip(kept[::2], study.layers, strict=True):
        assert float(row["kept"]) == pytest.approx(float(andc[layer.module].double().mean()), abs=1e-5)
        assert 0 < float(row["kept_by_chance"]) < 1
    assert (tmp_path / "study" / "figures" / "prune.curve.png").exists()
    assert {row["wanted"] for row in table(tmp_path, "prune.curve")} == {"0.7"}


def test_without_retraining_it_is_seen_what_pruning_costs_at_once(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, seeds=(0,), retraining=retraining(epochs=0))
    study = study_in(tmp_path, cct, data, settings)
    shown = report_pruning(study)
    rows = study.prune()
    assert {(row["epoch"], row["loss"]) for row in rows} == {(0, "")}
    pruned = load_network(tmp_path / "study")
    expected = nl.prune(cct, study.measurement(0), settings.layers, threshold=settings.threshold)
    for name, weight in expected.network.state_dict().items():
        assert torch.equal(pruned.state_dict()[name], weight), name
    andc = next(row for row in rows if row["method"] == "andc")
    assert andc[TEST] == round(accuracy(pruned, data.test, data.normalisation), 5)
    assert "| method | removed | pruned |\n" in shown[3].markdown()
    (axes,) = curve_figure(study.curve(), rows, "").axes
    assert axes.get_title(loc="left") == "pruned"
    with pytest.raises(InputError, match="at least 1, not -1"):
        retraining(epochs=-1)


def test_a_finished_study_is_only_read_and_a_killed_one_goes_on(
    cct: CCT, data: PruningData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, dilutions=(), methods=("andc", "random"))
    expected = study_in(tmp_path / "whole", cct, data, settings).prune()

    from nodelens.pruning import study as room

    original, calls = room.retrain, []

    def killed(*arguments, **named):  # type: ignore[no-untyped-def]
        calls.append(named["title"])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(room, "retrain", killed)
        with pytest.raises(KeyboardInterrupt):
            study_in(tmp_path / "killed", cct, data, settings).prune()
        assert study_in(tmp_path / "killed", cct, data, settings).prune() == expected
    assert calls == [f"retraining (prune-{seed})" for seed in (0, 1, 1)]
    files = [tmp_path / which / "study" / "model.safetensors" for which in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_masks_come_from_held_out_images_unless_the_paper_s_split_is_asked_for(
    cct: CCT, data: PruningData, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SETTINGS, dilutions=(), methods=("andc",), seeds=(0,))
    held_out = study_in(tmp_path / "a", cct, data, settings)
    on_test = study_in(tmp_path / "b", cct, data, dataclasses.replace(settings, paper_split=True))
    assert held_out.decided_on == HELD_OUT
    assert held_out.measurement(0).split == HELD_OUT
    assert on_test.measurement(0).split == TEST
    assert all(torch.equal(mask, held_out.andc(0)[m]) for m, mask in on_test.andc(0, split=HELD_OUT).items())
    assert any(not torch.equal(mask, held_out.andc(0)[m]) for m, mask in on_test.andc(0).items())
    assert "andc, held-out" in {row["method"] for row in on_test.prune()}


def test_the_layer_to_the_labels_can_decide_on_itself(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS, layers=("output",), dilutions=(), methods=("andc", "field"), own_head=True, seeds=(0,)
    )
    study = study_in(tmp_path, cct, data, settings)
    (layer,) = study.layers
    assert not (tmp_path / "probes").exists() or not list((tmp_path / "probes").iterdir())
    # All that its layer to the labels is given, image by image.
    head, held_out, entered = cct.get_submodule(layer.module), data.held_out, []
    handle = head.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0].double()))
    with torch.inference_mode():
        cct(data.normalisation.applied(held_out.batch(torch.arange(len(held_out))), torch.device("cpu")))
    handle.remove()
    means = torch.stack([entered[0][held_out.labels == label].mean(0) for label in range(10)])
    weight = layer_weight(cct, layer).detach().double()
    fields = torch.einsum("ln,on->nlo", means, weight)  # one node at a time: label shown, label answered
    diagonal = fields.diagonal(dim1=1, dim2=2).T
    mask = study.masks(0)
    assert torch.equal(mask["andc"][layer.module], diagonal > 0.3 * fields.amax(dim=(1, 2)))
    removed = int((~mask["andc"][layer.module]).sum())
    assert torch.equal(mask["field"][layer.module], field_mask(diagonal, removed))
    assert {row["method"] for row in study.prune()} >= {"dense", "andc", "field"}


def test_an_own_head_decides_on_no_other_layer(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    inner = dataclasses.replace(SETTINGS, layers=("block.2.*",))
    with pytest.raises(InputError, match=r"the labels alone, not block\.2\.qkv; give --layers output"):
        study_in(tmp_path, cct, data, dataclasses.replace(inner, methods=("andc", "field")))
    with pytest.raises(InputError, match="only the layer to the labels is a head of the network's own"):
        study_in(tmp_path, cct, data, dataclasses.replace(inner, own_head=True))
    with pytest.raises(InputError, match="only the layer to the labels is a head of the network's own"):
        nl.prune(cct, measurement_of(cct), "block.1.*", own_head=True)
    measured = measurement_of(cct)
    pruned = nl.prune(cct, measured, "output", threshold=0.4, own_head=True)
    (mask,) = masks_of(pruned.network).values()
    assert torch.equal(mask, measured["own_head"].matrices.diagonals(0.4).T)


def test_a_layer_that_is_pruned_to_nothing_is_named(
    cct: CCT, data: PruningData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = dataclasses.replace(SETTINGS, layers=("block.2.linear1", "output"), seeds=(0,), methods=("andc",))
    study = study_in(tmp_path, cct, data, settings)
    first, output = (study.andc(0)[layer.module] for layer in study.layers)
    nothing = {study.layers[0].module: torch.zeros_like(first), study.layers[1].module: output}
    monkeypatch.setattr(study, "andc", lambda *_: nothing)
    study.masks(0)
    warned = " ".join(capsys.readouterr().err.split())
    assert "block.2.linear1 is pruned to nothing: no node of block.2.norm shares a label" in warned
    diagonals = study.measurement(0)["block.2.norm"].matrices.diagonals(0.3)
    unlabelled = [i for i, row in enumerate(diagonals) if not row.any()]
    assert f"without any label: {len(unlabelled)} of {len(diagonals)} nodes of block.2.norm" in warned
    assert ", ".join(map(str, unlabelled[:8])) in warned
    assert "output is pruned" not in warned


def test_a_vgg_s_classifier_is_pruned_and_its_filters_stay(vgg: VGG, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def noise(split: str, count: int) -> ImageSet:
        pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        labels, names = torch.arange(count) % 10, tuple("0123456789")
        return ImageSet("noise", split, pixels, np.arange(count), labels, names, (), (), f"{split}-{count}")

    rest = noise("train-rest", 60)
    data = PruningData(rest, noise("train-held-out", 20), noise("test", 20), normalisation_of(rest))
    settings = PruneSettings(
        layers=("linear.2", "output"),
        seeds=(0,),
        methods=("andc", "random", "wanda"),
        retraining=RetrainSettings(Recipe(epochs=1, batch_size=30), rest_learning_rate=0.0),
        probe=ProbeSettings(probe_recipe(1, batch_size=30)),
    )
    before = {name: weight.clone() for name, weight in stored(vgg)[0].items()}
    study = PruningStudy(vgg, data, settings, RunDirectory(tmp_path / "study"), RunDirectory(tmp_path))
    rows = study.prune()
    assert {row["dilution"] for row in rows if row["method"] in settings.methods} == {
        round(float(torch.cat([~mask.flatten() for mask in study.andc(0).values()]).double().mean()), 5)
    }
    after = read_tensors(tmp_path / "study" / "model.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before if "features" in name)
    for module, mask in study.andc(0).items():
        assert int(after[f"{module}.weight.kept"].numel()) == int(mask.sum())


def test_another_study_in_the_same_directory_is_refused(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    study_in(tmp_path, cct, data)
    with pytest.raises(InputError, match=r"different: threshold\); choose another --name"):
        study_in(tmp_path, cct, data, dataclasses.replace(SETTINGS, threshold=0.5))
    with pytest.raises(InputError, match=r"different: search\)"):
        study_in(tmp_path, cct, data, dataclasses.replace(SETTINGS, search=SearchSettings()))
    with pytest.raises(InputError, match="unknown method 'best'"):
        dataclasses.replace(SETTINGS, methods=("best",))


def test_a_curve_has_the_study_s_own_point_and_its_points_in_order(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, seeds=(0,), methods=("andc", "branch"), dilution=0.7, dilutions=(0.8, 0.6))
    study = study_in(tmp_path, cct, data, settings)
    rows = study.curve()
    assert {(row["method"], row["wanted"]) for row in rows} == {("andc", wanted) for wanted in (0.6, 0.7, 0.8)}
    own = [row for row in study.prune() if row["method"] == "andc"]
    assert [{k: v for k, v in row.items() if k != "wanted"} for row in rows if row["wanted"] == 0.7] == own
    figure = curve_figure(rows, study.prune(), "a title")
    lines = [line for line in figure.axes[0].get_lines() if line.get_label() == "andc"]
    assert [list(line.get_xdata()) for line in lines] == [[0.6, 0.7, 0.8]]


def test_points_can_be_added_to_a_curve(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(SETTINGS, seeds=(0,), methods=("andc",))
    first = study_in(tmp_path, cct, data, settings).curve()
    jobs = {path: path.read_bytes() for path in (tmp_path / "study" / "checkpoints").glob("curve-*")}
    both = study_in(tmp_path, cct, data, dataclasses.replace(settings, dilutions=(0.6, 0.7))).curve()
    assert [row for row in both if row["wanted"] == 0.7] == first
    assert {row["wanted"] for row in both} == {0.6, 0.7}
    assert all(path.read_bytes() == content for path, content in jobs.items())


def test_a_dilution_that_cannot_be_reached_is_refused_before_anything_is_retrained(
    cct: CCT, data: PruningData, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"a dilution of 0\.001 cannot be reached"):
        study_in(tmp_path, cct, data, dataclasses.replace(SETTINGS, dilutions=(0.7, 0.001)))
    study_in(tmp_path, cct, data)  # the name is still free


def test_a_layer_that_is_pruned_already_is_not_pruned_again(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    once = nl.prune(cct, measurement_of(cct), "block.1.*", threshold=0.4).network
    again = nl.prune(once, measurement_of(cct), "block.2.*", threshold=0.4).network
    assert masks_of(again).keys() == {layer.module for layer in select_layers(layers(cct), "block.*.*")}
    with pytest.raises(InputError, match=r"block\.1\.qkv is pruned already"):
        nl.prune(once, measurement_of(cct), "block.*.*", threshold=0.4)
    with pytest.raises(InputError, match=r"block\.1\.qkv is pruned already"):
        study_in(tmp_path, once, data, dataclasses.replace(SETTINGS, layers=("block.1.*",)))


def test_losses_are_made_monotone_and_budgets_give_monotone_dilutions() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = {}
    for name in "abc":
        raw = (torch.rand(6, generator=generator) * 0.1).tolist()
        assert monotone(raw) == sorted(monotone(raw))
        losses[name] = list(zip((0.3, 0.5, 0.6, 0.7, 0.8, 0.9), monotone(raw), strict=True))
    sensitivity = Sensitivity(losses)
    totals = [sum(sensitivity.dilutions(budget).values()) for budget in sensitivity.budgets()]
    assert totals == sorted(totals)
    assert set(sensitivity.dilutions(-1.0).values()) == {0.0}
    assert set(sensitivity.dilutions(1.0).values()) == {0.9}


def test_steps_begin_below_the_least_budget_and_rise() -> None:
    # As on few images: whatever goes of a or b alone, nothing is lost.
    sensitivity = Sensitivity({"a": [(0.1, 0.0), (0.5, 0.0)], "b": [(0.5, 0.0), (0.8, 0.02)]})
    steps = sensitivity.steps()
    assert [sensitivity.dilutions(*step) for step in steps] == [
        {"a": 0.1, "b": 0.0},
        {"a": 0.5, "b": 0.5},
        {"a": 0.5, "b": 0.8},
    ]
    assert [str(step) for step in steps] == ["0.000000@0.1", "0.000000", "0.020000"]
    assert Sensitivity({"a": []}).steps() == []


@pytest.mark.parametrize("limit", [-1, 0, 3, 6, 99])
def test_bisection_finds_the_largest_that_is_borne(limit: int) -> None:
    candidates, asked = [float(i) for i in range(7)], []

    def bears(candidate: float) -> bool:
        asked.append(candidate)
        return candidate <= limit

    expected = max((c for c in candidates if c <= limit), default=None)
    assert largest_bearable(candidates, bears) == expected
    assert len(asked) <= 3
    assert largest_bearable([], bears) is None


def test_bisection_ends_when_nothing_is_monotone() -> None:
    answers = iter([True, False, True, False, True, False])
    assert largest_bearable([float(i) for i in range(20)], lambda _: next(answers)) is not None


@pytest.mark.parametrize(("gradual", "paper_split"), [(False, False), (True, False), (False, True)])
def test_a_search_keeps_what_it_accepted(
    cct: CCT, data: PruningData, tmp_path: Path, gradual: bool, paper_split: bool
) -> None:
    settings = dataclasses.replace(
        SETTINGS,
        layers=("block.*.linear1", "output"),
        seeds=(0,),
        dilutions=(),
        paper_split=paper_split,
        search=SearchSettings(0.05, gradual, levels=(0.5, 0.8)),
    )
    study = study_in(tmp_path, cct, data, settings)
    search = DilutionSearch(study, study.settings.search, seed=0)
    _, found = search.search()
    assert found.trials
    accepted = [row for row in found.trials if row["accepted"]]
    decided_on, images = (TEST, data.test) if paper_split else (HELD_OUT, data.held_out)
    unpruned = accuracy(cct, images, data.normalisation)
    assert search.unpruned == pytest.approx(unpruned)
    # Compared with the dense network after the same retraining, and the network found is the one that was judged.
    dense = copy.deepcopy(cct)
    study._retrain({"dense": dense}, "again", 0)
    assert search.wanted == pytest.approx(accuracy(dense, images, data.normalisation) - 0.05, abs=1e-5)
    if accepted:
        kept = found.accepted()
        assert kept is not None
        assert accuracy(found.network, images, data.normalisation) == pytest.approx(kept[decided_on], abs=1e-5)
    assert all(row["accepted"] == (row[decided_on] >= search.wanted) for row in found.trials)
    assert found.dilution == max((row["dilution"] for row in accepted), default=0.0)
    for layer in study.layers:
        weight = layer_weight(found.network, layer)
        assert int((weight == 0).sum()) >= found.dilutions.get(layer.name, 0) * weight.numel() - 1e-9
    report_search(study)
    assert read_json(tmp_path / "study" / "config.json")["prune"]["settings"]["threshold"] == 0.3
    with pytest.raises(InputError, match="out of range"):
        SearchSettings(keep=1.5)


@pytest.mark.parametrize(("dense", "keep", "reached"), [(0.014, 0.005, 0.009), (0.8, 0.1, 0.7), (0.312, 0.01, 0.302)])
def test_a_loss_of_just_as_much_is_none_too_many(
    cct: CCT, data: PruningData, tmp_path: Path, dense: float, keep: float, reached: float
) -> None:
    study = study_in(tmp_path, cct, data, dataclasses.replace(SETTINGS, seeds=(0,), dilutions=()))
    rows = [{study.decided_on: value, HELD_OUT: value, TEST: value} for value in (dense, reached, reached - 1e-5)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study, "retrain_one", lambda network, *_: (network, rows[:1]))
        search = DilutionSearch(study, SearchSettings(keep))
    assert [search._row([row], 0.5)["accepted"] for row in rows] == [True, True, False]


@pytest.mark.parametrize("limit", [0.0, 0.04, 0.37, 1.0])
def test_a_gradual_search_shortens_its_steps(
    cct: CCT, data: PruningData, tmp_path: Path, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dataclasses.replace(SETTINGS, layers=("output",), seeds=(0,), dilutions=())
    search = DilutionSearch(study_in(tmp_path, cct, data, settings), SearchSettings(0.05))
    budgets = [(i + 1) / 20 for i in range(20)]  # of one layer, which may lose as much as is removed of it
    started_from = []

    def trial(start: CCT, wanted: dict[str, float], budget: float, name: str) -> Found:
        started_from.append(start)
        row = {"trial": name, "budget": budget, "dilution": wanted["output"], "accepted": budget <= limit}
        return Found(copy.copy(cct), wanted, dilution=wanted["output"], trials=[row])

    monkeypatch.setattr(search, "_trial", trial)
    found = search.gradual(Sensitivity({"output": [(budget, budget) for budget in budgets]}), trials=8)
    tried = [row["budget"] for row in found.trials]
    assert len(tried) == len(set(tried)) <= 8
    assert found.dilution == max((budget for budget in budgets if budget <= limit), default=0.0)
    accepted = [row["accepted"] for row in found.trials]
    # Each network tried is kept under a name of its own, which says what it goes on from.
    names = [row["trial"] for row in found.trials]
    assert len(set(names)) == len(names)
    assert [name.count("-") for name in names] == [1 + sum(accepted[:i]) for i in range(len(names))]
    assert started_from[0] is cct
    # Each goes on from the last that was accepted, or from the unpruned network.
    for (before, after), was_accepted in zip(pairwise(started_from), accepted[:-1], strict=True):
        assert (after is not before) == was_accepted


def test_other_methods_remove_as_much_as_a_search_found(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS, layers=("block.*.linear1",), seeds=(0,), dilutions=(), search=SearchSettings(0.99)
    )
    study = study_in(tmp_path, cct, data, settings)
    _, _, compared = report_search(study)
    found = {module: int((~mask).sum()) for module, mask in masks_of(load_network(study.run.path)).items()}
    assert all(found.values())
    controls = table(tmp_path, "search.controls")
    assert [row["method"] for row in controls] == ["andc", "permuted", "random", "magnitude", "wanda"]
    for row in controls[1:]:
        name = next(study.run.checkpoints.glob(f"search-0-{row['method']}-*.safetensors"))
        masks = masks_of(load_network(name))
        assert {module: int((~mask).sum()) for module, mask in masks.items()} == found
        assert row["accepted"] == "True"
    assert f"{float(controls[0][TEST]):.3f}" in compared.markdown()
    alone = (study.run.path / "tables" / "search.sensitivity.md").read_text()
    for row in table(tmp_path, "search.sensitivity"):
        line = next(line for line in alone.splitlines() if line.startswith(f"| {row['layer']} |"))
        assert f" {float(row['loss']):.4f} |" in line


def test_every_seed_and_any_method_is_searched(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS,
        layers=("block.*.linear1",),
        model_of="magnitude",
        methods=("andc", "permuted", "random", "magnitude"),
        dilutions=(),
        search=SearchSettings(0.99, levels=(0.25, 0.5)),
    )
    study = study_in(tmp_path, cct, data, settings)
    tables = report_search(study)
    rows = table(tmp_path, "search")
    assert next(row["trial"] for row in rows if row["seed"] == "1") == "dense"
    assert {row["seed"] for row in rows} == {"0", "1"}
    # All may go, so half of every layer does: the smallest by magnitude.
    of_layers = table(tmp_path, "search.layers")
    assert {(row["dilution"], row["threshold"]) for row in of_layers} == {("0.5", "")}
    for layer in study.layers:
        weight = layer_weight(cct, layer).detach()
        mask = masks_of(load_network(study.run.path))[layer.module]
        assert torch.equal(mask, weight.abs() > weight.abs().flatten().sort().values[weight.numel() // 2 - 1])
    assert [row["method"] for row in table(tmp_path, "search.controls")] == ["magnitude", "random"] * 2
    assert "| magnitude | 0.500 |" in tables[-1].markdown()
    for method in ("branch", "permuted"):
        with pytest.raises(InputError, match=f"no dilution is searched for with {method}"):
            dataclasses.replace(settings, model_of=method, methods=("andc", method))


@pytest.mark.parametrize("gradual", [False, True])
def test_an_interrupted_search_goes_on_to_the_same_tables(
    cct: CCT, data: PruningData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gradual: bool
) -> None:
    from nodelens.pruning import study as room

    settings = dataclasses.replace(
        SETTINGS,
        layers=("block.*.linear1",),
        seeds=(0,),
        dilutions=(),
        methods=("andc", "random"),
        search=SearchSettings(0.99, gradual, levels=(0.3, 0.6)),
    )
    report_search(study_in(tmp_path / "whole", cct, data, settings))
    original, calls = room.retrain, []

    def cut_off(*arguments, **named):  # type: ignore[no-untyped-def]
        calls.append(named["title"])
        if len(calls) % 2 == 0:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(room, "retrain", cut_off)
    for _ in range(20):
        try:
            report_search(study_in(tmp_path / "cut", cct, data, settings))
            break
        except KeyboardInterrupt:
            continue
    assert len(calls) > len(set(calls))  # something was begun twice
    files = {path.relative_to(tmp_path / "whole") for path in tmp_path.glob("whole/study/tables/*")}
    assert len(files) == 8
    for file in [*files, Path("study/model.safetensors")]:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_a_search_that_finds_nothing_says_so(
    cct: CCT, data: PruningData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sensitivity, "budgets", lambda _: [])
    search = SearchSettings(0.0, levels=(0.9,))
    settings = dataclasses.replace(
        SETTINGS, layers=("output",), seeds=(0,), dilutions=(), methods=("andc", "random"), search=search
    )
    study = study_in(tmp_path, cct, data, settings)
    report_search(study)
    assert [row["trial"] for row in table(tmp_path, "search")] == ["dense"]
    (row,) = table(tmp_path, "search.controls")
    assert (row["method"], float(row["dilution"])) == ("andc", 0.0)
    assert [row["dilution"] for row in table(tmp_path, "search.layers")] == ["0.0"]
    assert not masks_of(load_network(study.run.path))


def test_thresholds_found_by_a_search_give_its_network(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    search = SearchSettings(0.99, levels=(0.5, 0.8))
    settings = dataclasses.replace(SETTINGS, layers=("block.2.*",), seeds=(0,), dilutions=(), search=search)
    study = study_in(tmp_path, cct, data, settings)
    report_search(study)
    found = masks_of(load_network(study.run.path))
    for row in table(tmp_path, "search.layers"):
        again = nl.prune(cct, study.measurement(0), row["layer"], threshold=float(row["threshold"])).network
        for module, mask in masks_of(again).items():
            assert torch.equal(mask, found[module])


def test_a_search_finds_once_where_each_weight_of_a_layer_goes(
    cct: CCT, data: PruningData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = SearchSettings(0.99, levels=(0.001, 0.5, 0.6, 0.8))
    settings = dataclasses.replace(SETTINGS, layers=("block.2.linear1", "output"), seeds=(0,), dilutions=())
    study, found_for = study_in(tmp_path, cct, data, settings), []

    def counted(measurement: nl.Measurement, layer: Layer) -> torch.Tensor:
        found_for.append(layer.name)
        return removal_thresholds(measurement, layer)

    monkeypatch.setattr("nodelens.pruning.decide.removal_thresholds", counted)
    search = DilutionSearch(study, asked)
    _, found = search.search()
    assert found.trials
    assert sorted(found_for) == ["block.2.linear1", "output"]
    assert found.thresholds == thresholds_by_dilution(study.measurement(0), study.layers, found.dilutions)


def test_only_the_nodes_without_a_diagonal_can_be_silenced(cct: CCT, data: PruningData, tmp_path: Path) -> None:
    settings = dataclasses.replace(
        SETTINGS, threshold=0.6, seeds=(0,), dilutions=(), methods=("andc",), model_of="vanished only"
    )
    study = study_in(tmp_path, cct, data, settings)
    study.prune()
    kept = load_network(study.run.path)
    for layer in study.layers:
        if layer.target is None:
            continue
        gone = [~study.measurement(0)[site].matrices.diagonals(0.6).any(1) for site in (layer.target, layer.source)]
        assert torch.equal(masks_of(kept)[layer.module], ~(gone[0][:, None] | gone[1][None, :]))


def measurement_of(network: CCT, fingerprint: str = "") -> nl.Measurement:
    generator = torch.Generator().manual_seed(1)
    found = {
        site.name: SiteMeasurement(
            site,
            "test",
            0,
            torch.randn(10, site.nodes, generator=generator),
            torch.randn(10, site.nodes, generator=generator),
            0.5,
            torch.ones(10, dtype=torch.int64),
        )
        for site in sites(network)
    }
    return nl.Measurement(found, "test", 0, tuple("0123456789"), fingerprint)


def test_pruning_from_python_leaves_the_network_as_it_is(cct: CCT, tmp_path: Path) -> None:
    cct.checkpoint_metadata = {"test_accuracy": "0.9", "mean": "[0.5]"}
    pruned = nl.prune(cct, measurement_of(cct), "block.1.*", threshold=0.4)
    assert pruned.network.checkpoint_metadata == {"mean": "[0.5]"}
    assert not masks_of(cct)
    assert pruned.dilution.keys() == {layer.name for layer in select_layers(layers(cct), "block.1.*")}
    assert 0 < pruned.total_dilution < 1
    for layer in select_layers(layers(cct), "block.1.*"):
        zeros = int((layer_weight(pruned.network, layer) == 0).sum())
        assert zeros == round(pruned.dilution[layer.name] * layer_weight(cct, layer).numel())
        at = pruned.thresholds[layer.name]
        assert layer.target is not None
        assert at.target is not None
        out, into = (
            measurement_of(cct)[site].matrices.diagonals(threshold).sum(dim=1)
            for site, threshold in ((layer.target, at.target), (layer.source, at.source))
        )
        apart = 1 - float(shared_label_probability(out, into, 10).mean())
        assert pruned.dilution_by_chance[layer.name] == pytest.approx(apart)
    halves = {layer.name: 0.5 for layer in select_layers(layers(cct), "block.1.*")}
    halved = nl.prune(cct, measurement_of(cct), "block.1.*", dilution=halves)
    assert all(share >= 0.5 for share in halved.dilution.values())
    with pytest.raises(InputError, match=r"no dilution is given for block\.2"):
        nl.prune(cct, measurement_of(cct), dilution=halves)
    with pytest.raises(InputError, match="cannot be reached"):
        nl.prune(cct, measurement_of(cct), "block.1.*", dilution=1.0)
    silent = dict(measurement_of(cct))
    weights = torch.zeros_like(silent["block.1.norm"].weight)
    silent["block.1.norm"] = dataclasses.replace(silent["block.1.norm"], weight=weights)
    nothing = r"block\.1\.linear1 is pruned to nothing: .*: 16 of 16 nodes of block\.1\.norm: 0, 1"
    with pytest.warns(UserWarning, match=nothing):
        nl.prune(cct, nl.Measurement(silent, "test", 0, tuple("0123456789")), "block.1.linear1")
    with pytest.raises(InputError, match="not both"):
        nl.prune(cct, measurement_of(cct), "block.1.*", dilution=0.5, site_thresholds={"block.1.ln": 0.3})
    without = nl.prune(cct, measurement_of(cct), "block.1.projection", threshold=0.4, skip=False)
    diagonals = (
        measurement_of(cct)[f"block.1.{site}"].matrices.diagonals(0.4) for site in ("projection.no_skip", "attention")
    )
    target, source = (diagonal.double() for diagonal in diagonals)
    (mask,) = masks_of(without.network).values()
    assert torch.equal(mask, target @ source.T > 0)
    assert without.dilution != {"block.1.projection": pruned.dilution["block.1.projection"]}
    RunDirectory(tmp_path).write_tensors("model.safetensors", *stored(pruned.network))
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(nl.load_network(tmp_path)(images), pruned.network(images))


def test_a_measurement_of_another_network_is_refused(cct: CCT) -> None:
    with pytest.raises(InputError, match="belongs to another network"):
        nl.prune(cct, measurement_of(cct, fingerprint="0" * 32))
