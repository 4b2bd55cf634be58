"""Whole studies of the heads of a small network: tables against direct computation, a kill at any point, figures."""

from __future__ import annotations

import copy
import csv
import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import nodelens as nl
from command_line import nodelens
from nodelens.errors import InputError
from nodelens.heads import study as room
from nodelens.heads.epochs import saved_epochs
from nodelens.heads.store import keep
from nodelens.heads.study import HeadSettings, HeadStudy, load_head_data, pooled
from nodelens.measures import BesideChance, head_appearances, symmetry_breaking
from nodelens.networks import VGG, fingerprint, load_network, stored
from nodelens.probing import ProbeSettings, load_measurements, probe_recipe, recorded_probe
from nodelens.report import heads as report
from nodelens.report.field_figures import clearest_images, leading_heads
from nodelens.report.head_tables import beside_chance, label_order, sharing_rows, sharing_table
from nodelens.runs import RunDirectory

TINY = "cct_2_3x1_16"
SITES = ("block.1.attention", "block.2.attention")
ROUND_OR_NOT = {"round": ["0", "6", "8", "9"], "straight": ["1", "4", "7"], "mixed": ["2", "3", "5"]}


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module's first study draws, the others do not: figures take most of a report's time."""
    monkeypatch.setattr(report, "save_figure", lambda figure, path: [path])


DRAWN = "drawn"
"""The figures of the module's first study: those of later ones, which ask for other things, are not drawn."""


def table(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "tables" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert nodelens("train", TINY, "--epochs", "3", "--precision", "fp32", "--keep-every", "1", "--out", str(run)) == 0
    return run


@pytest.fixture(scope="module")
def superclasses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "shapes.json"
    path.write_text(json.dumps(ROUND_OR_NOT))
    return path


@pytest.fixture(scope="module")
def studied(trained: Path, superclasses: Path) -> Path:
    how = ["--epochs", "2", "--seeds", "2", "--draws", "50", "--precision", "fp32"]
    assert nodelens("heads", str(trained), *how, "--silence", "--superclasses", str(superclasses)) == 0
    shutil.copytree(trained / "figures", trained / DRAWN)
    return trained


@pytest.fixture(scope="module")
def study(studied: Path) -> HeadStudy:
    network, run = load_network(studied), RunDirectory(studied)
    probe = recorded_probe(run)
    assert probe is not None
    return HeadStudy(network, load_head_data(network, "digits"), HeadSettings(probe=probe, draws=50), run)


def test_labels_per_head_and_order_parameters_against_the_measures(studied: Path) -> None:
    found = load_measurements(RunDirectory(studied), "train", SITES)
    for block, row in enumerate(table(studied, "heads.depth.train"), start=1):
        diagonals = [m[f"block.{block}.attention"].matrices.diagonals(0.3) for m in found]
        of_seeds = [nl.head_specialization(d, 4) for d in diagonals]
        for head in range(4):
            mean = sum(float(one.labels_per_head[head]) for one in of_seeds) / 2
            assert float(row[f"head_{head + 1}"]) == pytest.approx(mean)
        assert float(row["owned"]) == pytest.approx(sum(float(one.broken.sum()) for one in of_seeds) / 2)
        broken = [symmetry_breaking(d, 4, [2.0], draws=50, seed=seed) for seed, d in enumerate(diagonals)]
        for name in ("participation", "information"):
            beside = [getattr(one, name) for one in broken]
            assert float(row[name]) == pytest.approx(sum(float(b.observed) for b in beside) / 2, rel=1e-5)
            assert float(row[f"{name}_null"]) == pytest.approx(sum(float(b.mean) for b in beside) / 2, rel=1e-5)
            assert float(row[f"{name}_p"]) == pytest.approx(max(float(b.p_value) for b in beside), rel=1e-5)
        assert (row["split"], row["threshold"], row["ratio"], row["seeds"]) == ("train", "0.3", "2.0", "2")


def test_labels_stand_with_their_appearances_and_accuracies(studied: Path, study: HeadStudy) -> None:
    rows = [row for row in table(studied, "heads.labels.train") if row["block"] == "2"]
    site = study.sites[1]
    appearances = sum(head_appearances(d, 4) for d in study.diagonals(site)) / 2
    exact = study.accuracies[site.name]
    found = nl.head_specialization(pooled(study.diagonals(site), 4), 4)
    assert [int(row["label"]) for row in rows] == label_order(found)
    for row in rows:
        label = int(row["label"])
        owner = int(found.head_of_label[label])
        assert row["head"] == ("nobody" if owner < 0 else str(owner + 1))
        assert row["name"] == str(label)
        assert float(row["network"]) == pytest.approx(float(exact.network[label]), rel=1e-5)
        assert row["name"] in ROUND_OR_NOT[row["superclass"]]
        for head in range(4):
            assert float(row[f"appearances_{head + 1}"]) == float(appearances[head, label])
            mean = float(exact.heads[:, head, label].mean())
            assert float(row[f"accuracy_{head + 1}"]) == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("p_values", "shown"), [((0.01, 0.04), 0.04), ((0.01, math.nan), math.nan), ((math.nan, 0.01), math.nan)]
)
def test_an_unknown_p_of_one_seed_is_not_hidden(p_values: tuple[float, ...], shown: float) -> None:
    one = torch.ones((), dtype=torch.float64)
    found = [BesideChance(one, one, one, one, one, p * one) for p in p_values]
    assert beside_chance("owned", found)["owned_p"] == pytest.approx(shown, nan_ok=True)


def test_labels_are_ordered_head_by_head() -> None:
    diagonals = torch.zeros(8, 5, dtype=torch.bool)
    for label, nodes in enumerate([(4, 5, 6), (0,), (0, 4), (0, 1), (7,)]):
        diagonals[list(nodes), label] = True
    assert label_order(nl.head_specialization(diagonals, heads=2)) == [3, 1, 0, 4, 2]


def test_heads_that_share_keys_and_values_stand_beside_the_others(study: HeadStudy, tmp_path: Path) -> None:
    assert sharing_rows(study) == [], "each head has its own"
    by_pairs = copy.copy(study)
    by_pairs.sites = [dataclasses.replace(site, sharing=2) for site in study.sites]
    rows = sharing_rows(by_pairs)
    assert [row["block"] for row in rows] == [1, 2, "all"]
    for site, row in zip(study.sites, rows, strict=False):
        alike = np.corrcoef(study.specialization(site).appearances.numpy())
        assert row["within"] == pytest.approx((alike[0, 1] + alike[2, 3]) / 2)
        assert row["between"] == pytest.approx(alike[:2, 2:].mean())
    assert 1 / 9 - 0.02 < rows[-1]["p"] <= 1, "two blocks of three groupings each"
    assert [line[0] for (line,) in sharing_table(rows, "alike").groups] == ["2", "1", "all"]


def test_experts_know_their_labels_as_the_table_says(studied: Path, study: HeadStudy) -> None:
    for site in study.sites:
        every = [row for row in table(studied, "heads.experts.train") if row["block"] == str(site.block)][-1]
        found, accuracy = study.specialization(site), study.accuracies[site.name].heads.mean(dim=0)
        own, others, best = [], [], []
        for label, head in enumerate(found.head_of_label.tolist()):
            if head >= 0:
                rest = [float(accuracy[h, label]) for h in range(4) if h != head]
                own.append(float(accuracy[head, label]))
                others.append(sum(rest) / 3)
                best.append(own[-1] > max(rest))
        assert every["head"] == "all"
        assert int(every["labels"]) == len(own)
        for name, expected in (("own", own), ("others", others), ("highest", best)):
            if expected:
                assert float(every[name]) == pytest.approx(sum(expected) / len(expected), rel=1e-5)


def test_superclasses_stand_beside_their_exact_expectation(studied: Path, study: HeadStudy) -> None:
    rows = table(studied, "heads.superclasses.train")
    assert [row["of"] for row in rows] == ["observed", "expected", "p"] * 8
    of_label = [next(i for i, own in enumerate(ROUND_OR_NOT.values()) if str(n) in own) for n in range(10)]
    found = study.specialization(study.sites[0])
    for head in range(4):
        test = nl.occupancy_test(torch.nonzero(found.head_of_label == head).flatten(), torch.tensor(of_label))
        for row, expected in zip(rows[3 * head :], (test.occupancy[1:], test.expected[1:], test.p_value), strict=False):
            shown = [float(row[f"filled_{k}"]) for k in range(1, 5)]
            assert shown == pytest.approx(expected.tolist(), rel=1e-4)


def test_silencing_is_told_for_own_labels_and_the_rest(studied: Path, study: HeadStudy) -> None:
    row = table(studied, "heads.silenced.train")[0]
    silenced, own = study.silenced["block.1.attention"], study.specialization(study.sites[0]).head_of_label == 0
    hits = silenced.without[0] * silenced.counts
    assert float(row["without_all"]) == pytest.approx(float(hits.sum() / silenced.counts.sum()), rel=1e-5)
    assert float(row["without_rest"]) == pytest.approx(float(hits[~own].sum() / silenced.counts[~own].sum()), rel=1e-5)
    network = RunDirectory(studied).events("train")[-1]["test_accuracy"]
    assert float(row["network_all"]) == pytest.approx(network, abs=1e-5)
    last = table(studied, "heads.silenced.train")[4]
    owners = study.specialization(study.sites[0]).head_of_label
    pairs = [(silenced.without[h, n], silenced.counts[n]) for n, h in enumerate(owners.tolist()) if h >= 0]
    expected = sum(float(a * c) for a, c in pairs) / sum(int(c) for _, c in pairs)
    assert (last["head"], int(last["labels"]), float(last["without_own"])) == (
        "all",
        len(pairs),
        pytest.approx(expected),
    )
    p = nl.own_head_p_value(silenced.network - silenced.without, owners)
    assert float(last["p_without"]) == pytest.approx(p, rel=1e-5)
    of_label = table(studied, "heads.silenced.labels.train")[13]
    assert (of_label["block"], of_label["name"]) == ("2", "3")
    assert float(of_label["alone_4"]) == pytest.approx(float(study.silenced["block.2.attention"].alone[3, 3]), rel=1e-5)


def test_overlaps_are_counted_over_the_test_set(studied: Path, study: HeadStudy) -> None:
    rows = {(r["block"], r["view"], r["of"]): r for r in table(studied, "heads.overlap.train")}
    for site in study.sites:
        found = study.overlaps()[site.name]
        for of, values_of in (("itself", found.overlap), ("another", found.by_chance)):
            row = rows[str(site.block), "all heads", of]
            assert int(row["fields"]) == len(study.data.test)
            assert float(row["mean"]) == pytest.approx(float(values_of[0].mean()), rel=1e-5)
            assert float(row["from_0.5"]) == pytest.approx(float((values_of[0] >= 0.5).float().mean()), rel=1e-5)


def test_the_clearest_images_are_correct_and_of_different_labels(study: HeadStudy) -> None:
    site, labels = study.sites[-1], study.data.test.labels
    chosen = clearest_images(study, site, 3)
    found, measured = study.specialization(site), study.overlaps()[site.name]
    assert len({int(labels[image]) for image in chosen}) == 3
    assert bool(measured.correct[chosen].all())
    same = torch.nonzero((labels == labels[chosen[0]]) & measured.correct).flatten()
    head = 1 + leading_heads(found)[labels[chosen[0]]]
    assert measured.overlap[head, chosen[0]] == measured.overlap[head, same].max()


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something was measured again")


def test_a_finished_study_is_only_read_and_other_rules_are_free(studied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("head_accuracies", "silenced_heads", "field_overlaps"):
        monkeypatch.setattr(room, part, refuse)
    monkeypatch.setattr("nodelens.probing.study.train_probes", refuse)
    monkeypatch.setattr("nodelens.probing.study.measure_probes", refuse)
    before = (studied / "tables" / "heads.depth.train.csv").read_text()
    other = ["--ratio", "1.23", "--threshold", "0.5", "--draws", "20", "--images", "3,17", "--blocks", "2"]
    assert nodelens("heads", str(studied), *other) == 0
    assert table(studied, "heads.depth.train")[0]["ratio"] == "1.23"
    assert nodelens("heads", str(studied), "--draws", "50", "--silence") == 0
    assert (studied / "tables" / "heads.depth.train.csv").read_text() == before


def kill_at(part: str, call: int, patch: pytest.MonkeyPatch) -> None:
    """Stop the process, as it seems, at a call of one part of the study."""
    original: Callable[..., object] = getattr(room, part)
    calls = []

    def killed(*arguments: object, **named: object) -> object:
        calls.append(part)
        if len(calls) == call:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    patch.setattr(room, part, killed)


def measure_all(study: HeadStudy) -> None:
    """Everything that a study keeps."""
    assert study.accuracies.keys() == study.overlaps().keys() == study.silenced.keys()


@pytest.mark.parametrize(
    ("part", "call"), [("measure_network", 1), ("head_accuracies", 1), ("field_overlaps", 1), ("silenced_heads", 2)]
)
def test_a_killed_study_goes_on_to_the_same_files(part: str, call: int, study: HeadStudy, tmp_path: Path) -> None:
    def again() -> None:
        measure_all(HeadStudy(study.network, study.data, study.settings, RunDirectory(tmp_path)))

    with pytest.MonkeyPatch.context() as patch:
        kill_at(part, call, patch)
        with pytest.raises(KeyboardInterrupt):
            again()
    again()
    parts = ("measure", "heads/accuracies", "heads/fields", "heads/silenced")
    files = [f"{folder}/{site}.safetensors" for folder in parts for site in SITES]
    for name in files:
        assert (tmp_path / name).read_bytes() == (study.run.path / name).read_bytes(), name


def test_what_other_probes_found_is_not_taken_for_these(study: HeadStudy, tmp_path: Path) -> None:
    (tmp_path / "heads").mkdir()
    for site in SITES:
        keep(RunDirectory(tmp_path), "accuracies", site, study._source(study.sites[0], with_probe=True), {})
    other = dataclasses.replace(study.settings.probe, seeds=(1, 2))
    run = RunDirectory(tmp_path)
    again = HeadStudy(study.network, study.data, dataclasses.replace(study.settings, probe=other), run)
    assert again.accuracies[SITES[0]].heads.shape == (2, 4, 10)
    assert not torch.equal(again.accuracies[SITES[0]].probe, study.accuracies[SITES[0]].probe)


def test_the_run_says_by_which_rule_its_tables_were_made(study: HeadStudy, tmp_path: Path) -> None:
    shutil.copytree(study.run.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    optional = [run.path / "tables" / f"heads.{name}.train.csv" for name in ("silenced", "superclasses")]
    above = {"superclass_names": ("even", "odd"), "superclass_of_label": (0, 1) * 5}
    data = dataclasses.replace(study.data, **above)
    for ratio in (3.0, 1.5):
        again = HeadStudy(study.network, data, dataclasses.replace(study.settings, ratio=ratio), run)
        report.report_heads(again, silence=True)
        assert run.configuration()["heads"]["reported"]["ratio"] == ratio
        assert all(path.exists() for path in optional)
    # By the same rule they stay, by another they would say what no longer holds.
    report.report_heads(again)
    assert all(path.exists() for path in optional)
    report.report_heads(HeadStudy(study.network, study.data, again.settings, run))
    assert not any(path.exists() for path in optional)
    assert (run.path / "tables" / "heads.depth.train.csv").exists()


@pytest.mark.parametrize(
    "figure",
    [
        lambda study: report.figure_of_labels(study, "appearances"),
        lambda study: report.figure_of_labels(study, "accuracy"),
        report.figure_of_symmetry,
        report.figure_of_ratios,
        report.figure_of_overlaps,
    ],
)
def test_axes_are_labelled(figure: Callable[..., object], study: HeadStudy) -> None:
    panels = [axes for axes in figure(study).axes if axes.get_visible()]  # type: ignore[attr-defined]
    assert any(axes.get_xlabel() for axes in panels)
    assert any(axes.get_ylabel() for axes in panels)
    assert all(axes.get_title(loc="left") for axes in panels)


def test_figures_are_written_and_fields_name_their_heads(studied: Path, study: HeadStudy) -> None:
    for name in ("appearances", "accuracies", "symmetry", "ratio", "depth", "fields", "overlap"):
        for suffix in (".svg", ".png"):
            assert (studied / DRAWN / f"heads.{name}.train{suffix}").stat().st_size > 1000
    titles = [axes.get_title() for axes in report.figure_of_fields(study, [5]).axes]
    assert titles[0].endswith("(image 5)")
    assert {title.split("\n")[0].split(",")[0] for title in titles[1:]} == {"all heads", *(f"head {h}" for h in "1234")}


def test_a_pruned_network_is_shown_beside(studied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = load_network(studied)
    quick = ProbeSettings(probe_recipe(1))
    measured = nl.measure(network, "digits", "block.2.*", split="train", settings=quick)
    pruned = nl.prune(network, measured, "block.2.qkv", threshold=0.7)
    RunDirectory(tmp_path / "pruned").write_tensors("model.safetensors", *stored(pruned.network))
    assert nodelens("heads", str(studied), "--pruned", str(tmp_path / "pruned"), "--draws", "20") == 0
    rows = [row for row in table(studied, "heads.overlap.train") if row["of"] == "itself" and row["block"] == "2"]
    by_view = {row["view"]: float(row["mean"]) for row in rows if int(row["fields"])}
    assert by_view["all heads, pruned"] != by_view["all heads"]
    assert nodelens("train", "cct_2_3x1_32", "--epochs", "1", "--precision", "fp32", "--out", str(tmp_path / "w")) == 0
    capsys.readouterr()
    assert nodelens("heads", str(studied), "--pruned", str(tmp_path / "w")) == 2
    assert "the pruned network has no site block.1.attention of 16 nodes and 4 heads" in capsys.readouterr().err


ALONG = ["--along-training", "--epochs", "1", "--seeds", "2", "--training-images", "200", "--draws", "20"]


def test_heads_along_training_are_resumed_epoch_by_epoch(trained: Path, tmp_path: Path) -> None:
    from nodelens.heads import epochs as room_of_epochs

    original, calls = room_of_epochs.measure_network, []

    def killed(*arguments: object, **named: object) -> object:
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments, **named)  # type: ignore[arg-type]

    def out(which: str) -> list[str]:
        return ["heads", str(trained), *ALONG, "--precision", "fp32", "--out", str(tmp_path / which)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room_of_epochs, "measure_network", killed)
        assert nodelens(*out("killed")) != 0
    kept = sorted(path.name for path in (tmp_path / "killed" / "heads" / "epochs").glob("epoch_*"))
    assert kept == ["epoch_0000", "epoch_0001"]
    for which in ("killed", "whole"):
        assert nodelens(*out(which)) == 0
    for path in (tmp_path / "whole").rglob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "killed" / path.relative_to(tmp_path / "whole")).read_bytes()
    rows = table(tmp_path / "whole", "heads.training.train")
    assert rows == table(tmp_path / "killed", "heads.training.train")
    assert [(row["epoch"], row["block"]) for row in rows] == [(e, b) for e in "0123" for b in "12"]
    logged = [event["test_accuracy"] for event in RunDirectory(trained).events("train")]
    assert [row["network"] for row in rows[::2]] == ["", *map(str, logged)]
    found = load_measurements(RunDirectory(tmp_path / "whole" / "heads" / "epochs" / "epoch_0003"), "train", SITES)
    expected = [symmetry_breaking(m[SITES[1]].matrices.diagonals(0.3), 4, [2.0], 20, m.seed).information for m in found]
    assert float(rows[-1]["information"]) == pytest.approx(sum(float(b.observed) for b in expected) / 2, rel=1e-5)
    assert sum(int(count) for count in found[0][SITES[0]].counts) == pytest.approx(200, abs=5)


def test_a_training_that_went_on_from_another_has_no_beginning_of_its_own(trained: Path, tmp_path: Path) -> None:
    run, short = tmp_path / "on", ("--epochs", "1", "--precision", "fp32", "--keep-every", "1")
    assert nodelens("train", "--from", str(trained), *short, "--out", str(run)) == 0
    assert nodelens("heads", str(run), "--along-training", "--seeds", "1", "--epochs", "1", "--draws", "9") == 0
    assert {row["epoch"] for row in table(run, "heads.training.train")} == {"1"}


def test_the_network_before_training_is_the_one_that_training_began_with(trained: Path) -> None:
    from nodelens.heads.epochs import _network_after
    from nodelens.networks import build_network

    torch.manual_seed(0)
    begun = build_network(TINY, 10, 8, 1, attention_dropout=0.0, stochastic_depth=0.0)
    again = _network_after(0, {}, load_network(trained), RunDirectory(trained))
    assert fingerprint(again) == fingerprint(begun)


def test_some_of_the_kept_epochs_and_always_the_last(trained: Path, tmp_path: Path) -> None:
    run = RunDirectory(trained)
    assert list(saved_epochs(run)) == [1, 2, 3]
    assert list(saved_epochs(run, every=2)) == [2, 3]
    with pytest.raises(InputError, match="kept no epochs; train with --keep-every 1"):
        saved_epochs(RunDirectory(tmp_path))


def test_bad_input_is_one_sentence_and_nothing_is_written(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    RunDirectory(tmp_path).write_tensors("cct.safetensors", *stored(load_network(trained)))
    for name, content in BAD_SUPERCLASSES.items():
        Path(f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    for *arguments, culprit in BAD_INPUT:
        capsys.readouterr()
        assert nodelens("heads", "cct.safetensors", "--data", "digits", "--out", "x", *arguments) == 2, arguments
        said = capsys.readouterr().err.strip()
        assert culprit in said
        assert said.count("\n") == 0
        assert not list(tmp_path.glob("x/**/*.safetensors"))
        assert not list(tmp_path.glob("x/**/config.json"))


def test_a_network_without_heads_is_refused(
    vgg: VGG, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nodelens.networks.load_network", lambda *_, **__: vgg)
    assert nodelens("heads", "vgg.safetensors", "--out", str(tmp_path / "x")) == 2
    assert "a network of the family vgg has no attention heads; give a transformer" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


BAD_SUPERCLASSES = {
    "short": {"round": ["0", "6", "8", "9"]},
    "foreign": {**ROUND_OR_NOT, "letters": ["a", "b"]},
    "twice": {**ROUND_OR_NOT, "primes": ["2", "7"]},
    "list": ["0", "1"],
    "flat": {"0": "round"},
    "broken": "{",
}
BAD_INPUT = (
    ("--heads", "5", "5 heads do not divide a width of 16"),
    ("--ratio", "0.9", "ratio=0.9 is out of range"),
    ("--ratio", "nan", "ratio=nan is out of range"),
    ("--threshold", "1.5", "threshold"),
    ("--blocks", "3", "there is no block 3 with attention heads; choose of 1, 2"),
    ("--blocks", "one", "--blocks one is no list of blocks"),
    ("--blocks", "1-99999999999", "is no list of blocks"),
    ("--blocks", "2-1", "--blocks 2-1: 2-1 counts downwards; give 1-2"),
    ("--superclasses", "none.json", "none.json cannot be read"),
    (
        "--superclasses",
        "short.json",
        "short.json leaves out 6 of 10 labels: '1', '2', '3', '4', '5', …",
    ),
    ("--superclasses", "foreign.json", "names labels that the data does not have: 'a', 'b'"),
    ("--superclasses", "twice.json", "names labels more than once: '7', '2'"),
    ("--superclasses", "list.json", "list.json is no map from super-classes"),
    ("--superclasses", "flat.json", "flat.json is no map from super-classes"),
    ("--superclasses", "broken.json", "broken.json is no JSON"),
    ("--along-training", "kept no epochs"),
    ("--images", "359", "--images 359 does not exist"),
    ("--images", "x", "'x' is no number"),
    ("--draws", "0", "draws=0 is too few"),
    ("--seeds", "0", "--seeds 0"),
    ("--split", "dev", "dev"),
    ("--pruned", "nowhere", "nowhere"),
)


def test_blocks_with_different_numbers_of_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "uneven"
    arguments = ["--heads", "2,4", "--epochs", "1", "--precision", "fp32", "--keep-every", "1", "--out", str(run)]
    assert nodelens("train", TINY, *arguments) == 0
    assert nodelens("heads", str(run), "--seeds", "1", "--epochs", "1", "--draws", "9", "--silence") == 0
    capsys.readouterr()
    rows = {row["block"]: row for row in table(run, "heads.depth.train")}
    assert rows["1"]["head_3"] == ""
    assert rows["2"]["head_4"] != ""
    owned = sum(float(rows["2"][f"head_{head}"]) for head in range(1, 5))
    assert owned == float(rows["2"]["owned"])
    assert nodelens("heads", str(run), "--along-training", "--seeds", "1", "--epochs", "1", "--draws", "9") == 0
    assert {row["epoch"] for row in table(run, "heads.training.train")} == {"0", "1"}
