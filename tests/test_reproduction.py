"""The page about all numbers of the paper: what is read, what counts as held, that finished parts are not run again."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from command_line import nodelens
from nodelens.errors import InputError
from nodelens.files import read_metadata
from nodelens.networks import build_network, load_network, masks_of, stored
from nodelens.paper import pruning, scales, studies, values, whole
from nodelens.paper.numbers import Number, over_networks
from nodelens.paper.page import page_rows, page_text, reason
from nodelens.paper.readers import READERS, numbers_of
from nodelens.paper.whole import CHEAPEST_FIRST, Plan, reproduce_all
from nodelens.probing import study
from nodelens.report.stored import stored_rows
from nodelens.report.tables import TextTable
from nodelens.runs import RunDirectory
from nodelens.training import RECIPES

RESULTS = Path(__file__).parent.parent / "docs" / "results"
TINY = scales.Scale("cct_2_3x1_16", "digits", "digits", probe_epochs=1, seeds=2)


def verdict(**facts: Any) -> str:
    return Number("table1", "x", **facts).verdict


def test_a_number_is_held_within_rounding_the_paper_s_spread_and_twice_ours() -> None:
    # 0.5 % of 10 is 0.05; the rounding 0.05: 0.1 together.
    assert verdict(paper=10.0, ours=10.1, rounding=0.05) == "held"
    assert verdict(paper=10.0, ours=10.11, rounding=0.05) == "not held"
    assert verdict(paper=10.0, ours=9.89, rounding=0.05) == "not held"
    assert verdict(paper=10.0, ours=9.89, rounding=0.05, spread=0.005) == "held"
    assert verdict(paper=10.0, ours=math.nan, rounding=0.05) == "no number"


def test_a_claim_is_held_where_our_mean_keeps_its_bound() -> None:
    assert verdict(paper=0.0, ours=0.01, rule="≥") == "held"
    assert verdict(paper=0.0, ours=-0.01, spread=1.0, rule="≥") == "not held"
    assert verdict(paper=0.7, ours=0.71, rule="≤") == "not held"
    assert verdict(paper=0.7, ours=0.7, rule="≤") == "held"


def test_several_networks_are_one_number_with_their_spread() -> None:
    one = Number("table1", "N_c", 4.9, 4.0, spread=0.1)
    (mean,) = over_networks([[one], [replace(one, ours=5.0)], [replace(one, ours=math.nan)]])
    assert mean.ours == 4.5
    assert mean.spread == pytest.approx(math.sqrt(0.5))
    assert over_networks([[one]]) == [one]
    assert over_networks([[one], []]) == [one]


def published(table: Mapping[int, Mapping[str, float]], factor: float = 1.0) -> list[dict[str, Any]]:
    """A comparison whose own numbers are the paper's times a factor."""
    rows: list[dict[str, Any]] = []
    for block, line in table.items():
        ours = {name: value * factor for name, value in line.items()}
        rows += [{"block": block, "of": "paper", **line}, {"block": block, "of": "ours", **ours}]
        rows.append({"block": block, "of": "difference"})
    return rows


def test_the_paper_holds_its_own_numbers(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_table("table1.test", published(values.TABLE1))
    run.write_table("table2.test", published(values.TABLE2))
    run.write_table("figure9.train", published(values.FIGURE9))
    heads = {7: {"accuracy": 0.786, "total": 74}}
    run.write_table("figure7.train", [*published(heads), {"block": 7, "of": "by chance", "total": 20.5}])
    for part, count in (("table1", 35), ("table2", 28), ("figure9", 4), ("figure7", 2)):
        found = numbers_of(part, run)
        assert len([number for number in found if number.rule == "="]) == count
        assert [number.what for number in found if number.verdict != "held"] == []
    run.write_table("table1.test", published(values.TABLE1, factor=1.1))
    assert all(number.verdict == "not held" for number in numbers_of("table1", run) if number.rule == "=")


def test_the_second_network_s_accuracy_stands_with_table5(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    lines = {
        block: {"accuracy": accuracy, **{f"head_{i}": n for i, n in enumerate(sorted(heads)[::-1], 1)}, "total": total}
        for block, (accuracy, heads, total) in values.TABLE5.items()
    }
    run.write_table("table5.train", published(lines))
    assert len(numbers_of("table5", run)) == 24
    for data, more in (("cifar100", 0), ("flowers102:cct", 1)):
        run.write_table("network", [{"network": "cct_7_7x2", "data": data, "accuracy": 0.971}])
        assert len(numbers_of("table5", run)) == 24 + more
    first = numbers_of("table5", run)[0]
    assert (first.paper, first.ours, first.verdict) == (0.972, 0.971, "held")
    assert {number.verdict for number in numbers_of("table5", run)} == {"held"}


def test_what_differs_from_seed_to_seed_has_a_spread(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    heads = [
        {"block": 7, "head": 1, "of": "paper", "labels": 23},
        {"block": 7, "head": 1, "of": "ours", "labels": 20.0},
    ]
    # As older versions wrote it, and by the means and spreads over the seeds.
    for spread, verdicts in (({}, ["not held"]), ({"labels_std": 1.5}, ["held"])):
        run.write_table(
            "table4.train",
            [{**row, **dict.fromkeys(spread, "")} | (spread if i else {}) for i, row in enumerate(heads)],
        )
        run.write_table("table4.random.train", [{"of": "paper"}])
        assert [number.verdict for number in numbers_of("table4", run)] == verdicts
    for part, names in (("figure8", ("own", "others")), ("figure9", ("with", "without"))):
        first, second = dict.fromkeys(names, 0.8), dict(zip(names, (0.7, 0.5), strict=True))
        for gain, spread in (({}, 0.0), ({"gain": 0.2, "gain_std": 0.03}, 0.03)):
            paper = {"block": 7, "of": "paper", **first, **dict.fromkeys(gain, "")}
            run.write_table(f"{part}.train", [paper, {"block": 7, "of": "ours", **second, **gain}])
            *_, number = numbers_of(part, run)
            assert (number.ours, number.spread) == (pytest.approx(0.2), spread)


def test_what_andc_gains_over_random_pruning_is_compared_seed_by_seed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "prune" / "output")
    reached = {("dense", 0): (0.8, 0.8), ("andc", 0): (0.1, 0.1), ("andc", 3): (0.75, 0.79), ("random", 3): (0.5, 0.6)}
    rows = [
        {"method": method, "seed": seed, "epoch": epoch, "test": test}
        for (method, epoch), of_seeds in reached.items()
        for seed, test in enumerate(of_seeds)
    ]
    run.write_table("prune", rows)
    run.write_table("prune.curve", [row for row in rows if row["method"] == "andc"])
    lines = {name: value for name, value in values.OUTPUT.items() if name != "threshold"}
    run.write_table("output", [{"of": "paper", **lines}, {"of": "ours", **lines}])
    number = next(
        n for n in numbers_of("output", RunDirectory(tmp_path)) if n.what.endswith("random pruning") and n.rule == "≥"
    )
    assert number.ours == pytest.approx(0.22)
    assert number.spread == pytest.approx(math.sqrt(0.03**2 * 2))


def test_the_rounding_is_that_of_the_column(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_table("table2.test", published(values.TABLE2))
    rounding = {number.what: number.rounding for number in numbers_of("table2", run)}
    # 2.20 is printed with two digits, as 3.28 is; truncation: a whole unit.
    assert rounding["block 4, SNR"] == pytest.approx(0.01)
    assert rounding["block 7, signal"] == pytest.approx(0.1)


def test_the_page_says_what_is_held_and_why_not() -> None:
    scale = replace(TINY, differs="ten digits")
    found = [
        Number("table1", "block 7, N_c", 4.9, 4.91, 0.02, 0.05),
        *(
            Number("table2", f"block {block}, SNR", 3.28, ours, 0.1, 0.01)
            for block, ours in ((7, 2.0), (6, 3.0), (5, 4.1))
        ),
        Number("figure9", "block 7, Acc without", 0.78, math.nan),
    ]
    text = page_text(found, scale, "Scale smoke.", ["enforced"])
    assert "# The paper's numbers and ours: 1 held, 3 not held, 1 no number" in text
    assert "**Table 2: 3 not held; half of the numbers within 25.0 % of the paper's**" in text
    assert "| block 7, N_c | 4.9 | 4.91±0.02 | +0.01 (0.2 %) | held |" in text
    assert "| block 7, SNR | 3.28 | 2.00±0.10 | -1.28 (39.0 %) | not held |" in text
    assert "Why, as far as known: Follows from Table 1: signal from diag, noise_E from n; ten digits." in text
    assert "Not finished: enforced." in text
    why = [row["why"] for row in page_rows(found, scale)]
    assert why[0] == ""
    assert "no label" in why[-1]


def test_table_5_says_whose_the_paper_s_numbers_are() -> None:
    number, other = Number("table5", "block 7, labels owned", 68.0, 23.0), Number("table4", "labels", 23.0, 10.0)
    for name, told in (("smoke", 1), ("cpu", 1), ("paper", 0)):
        scale = scales.SCALES[name]
        title, *_ = page_text([number], scale, "", []).partition("**Table 5")[2].splitlines()
        for text in (title, reason(number, scale)):
            assert text.count("the paper's is CCT-7/7x2 on Flowers-102") == told
        assert "Flowers" not in reason(other, scale)


def reproduce(out: Path, *more: str) -> int:
    return nodelens("reproduce", "all", "--out", str(out), *more)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest network, and no figure is drawn."""
    short = scales.recipe("digits", epochs=1)
    monkeypatch.setitem(scales.SCALES, "smoke", TINY)
    monkeypatch.setattr(scales, "recipe", lambda name: short)
    for module in ("studies", "heads", "nodes"):
        monkeypatch.setattr(f"nodelens.paper.{module}.save_figure", lambda figure, path: [])


@pytest.mark.usefixtures("tiny")
def test_every_part_is_run_once_and_an_interrupted_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original, started = whole.reproduce, []

    def watched(part: str, *arguments: Any, **named: Any) -> list[TextTable]:
        started.append(part)
        if part == "table2" and started.count("table2") == 1:
            raise InputError("interrupted")
        return original(part, *arguments, **named)

    monkeypatch.setattr(whole, "reproduce", watched)
    assert reproduce(tmp_path, "--parts", "table2,table1,figure3") == 2
    assert reproduce(tmp_path, "--parts", "table2,table1,figure3") == 0
    assert started == ["table1", "table2", "table2", "figure3"]
    page = (tmp_path / "reproduction.md").read_text()
    assert "Not finished: network, figure4, figure5" in page
    assert "**Table 1:" in page
    assert "reproduction.md" in capsys.readouterr().out
    with (tmp_path / "tables" / "reproduction.csv").open() as file:
        rows = list(csv.DictReader(file))
    mine = next(row for row in rows if row["number"] == "block 2, N_c")
    with (tmp_path / "tables" / "table1.test.csv").open() as file:
        ours = next(row for row in csv.DictReader(file) if (row["block"], row["of"]) == ("2", "ours"))
    assert (mine["ours"], mine["ours_std"]) == (ours["n_clusters"], ours["n_clusters_std"])
    assert float(mine["paper"]) == 4.9


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("cut", ["train_probes", "measure_probes", "save_measurements"])
def test_a_part_cut_off_in_its_middle_ends_with_the_same_tables(
    cut: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = ("--parts", "table1,figure3")
    assert reproduce(tmp_path / "whole", *parts) == 0
    original, calls = getattr(study, cut), []

    def cut_off(*arguments: Any, **named: Any) -> Any:
        calls.append(cut)
        if len(calls) == 2:  # of the untrained network
            raise InputError("cut off")
        return original(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(study, cut, cut_off)
        assert reproduce(tmp_path / "cut", *parts) == 2
    assert reproduce(tmp_path / "cut", *parts) == 0
    tables = {path.relative_to(tmp_path / "whole"): path.read_bytes() for path in tmp_path.glob("whole/tables/*")}
    assert len(tables) >= 5
    assert all((tmp_path / "cut" / name).read_bytes() == content for name, content in tables.items())


@pytest.mark.usefixtures("tiny")
def test_the_output_layer_is_also_decided_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(scales.SCALES, "smoke", replace(TINY, seeds=1, retraining_images=100))
    assert reproduce(tmp_path, "--parts", "output") == 0
    studies = {"ours": tmp_path / "prune" / "output", "own head": tmp_path / "prune" / "output_own_head"}
    with (studies["ours"] / "tables" / "output.csv").open() as file:
        rows = {row["of"]: row for row in csv.DictReader(file)}
    for of, folder in studies.items():
        with (folder / "tables" / "prune.csv").open() as file:
            (last,) = [row for row in csv.DictReader(file) if row["epoch"] == "3" and row["method"] == "andc"]
        assert float(rows[of]["andc"]) == pytest.approx(float(last["test"]), rel=1e-4)
    masks = {of: masks_of(load_network(folder)) for of, folder in studies.items()}
    removed = {of: 1 - mask["classifier.fc"].float().mean().item() for of, mask in masks.items()}
    assert removed["own head"] != removed["ours"]
    assert float(rows["own head"]["dilution"]) == pytest.approx(removed["own head"], abs=1e-4)
    # What the paper says is compared with the probe's.
    ours = next(number for number in numbers_of("output", RunDirectory(tmp_path)) if number.what.endswith("removed"))
    assert ours.ours == float(rows["ours"]["dilution"])


@pytest.mark.usefixtures("tiny")
def test_further_networks_have_their_own_seeds(tmp_path: Path) -> None:
    assert reproduce(tmp_path, "--parts", "table1", "--networks", "2", "--seed", "4") == 0
    runs = [tmp_path, tmp_path / "seed-5"]
    seeds = [RunDirectory(run).configuration()["train"]["settings"]["seed"] for run in runs]
    assert seeds == [4, 5]
    found = [
        {number.what: number.ours for number in numbers_of("table1", RunDirectory(run))}["block 2, N_c"] for run in runs
    ]
    with (tmp_path / "tables" / "reproduction.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["number"] == "block 2, N_c")
    assert float(row["ours"]) == pytest.approx(sum(found) / 2, rel=1e-5)


@pytest.mark.usefixtures("tiny")
def test_the_page_keeps_the_networks_of_earlier_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reproduce(tmp_path, "--parts", "table1") == 0
    assert reproduce(tmp_path, "--parts", "table1", "--networks", "2") == 0
    both = (tmp_path / "tables" / "reproduction.csv").read_bytes()
    assert reproduce(tmp_path, "--parts", "table1") == 0
    assert (tmp_path / "tables" / "reproduction.csv").read_bytes() == both
    page = (tmp_path / "reproduction.md").read_text()
    assert "2 networks" in page
    assert "table2 of network 1" in page
    assert "table2 of network 2" in page
    assert "enforced of network 2" not in page
    # What was finished before a kill is on the page already.
    original = whole.reproduce

    def interrupted(part: str, *arguments: Any, **named: Any) -> list[TextTable]:
        if part == "figure3":
            raise InputError("interrupted")
        return original(part, *arguments, **named)

    monkeypatch.setattr(whole, "reproduce", interrupted)
    assert reproduce(tmp_path, "--parts", "table2,figure3") == 2
    assert "**Table 2:" in (tmp_path / "reproduction.md").read_text()


@pytest.mark.usefixtures("tiny")
def test_table_5_is_of_the_scale_s_second_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = replace(TINY, network="cct_3_3x1_16")
    monkeypatch.setitem(scales.SCALES, "smoke", replace(TINY, second=second))
    assert reproduce(tmp_path, "--parts", "table1,table5") == 0
    runs = [RunDirectory(tmp_path), RunDirectory(tmp_path / scales.SECOND)]
    assert [run.settings("train")["network"] for run in runs] == [TINY.network, second.network]
    (row,) = stored_rows(runs[1].path / "tables" / "network.csv")
    assert row["network"] == second.network
    assert row["accuracy"] == float(read_metadata(runs[1].model)["test_accuracy"])
    shown = [row for row in stored_rows(tmp_path / "tables" / "reproduction.csv") if row["part"] == "table5"]
    found = {number.what: number.ours for number in numbers_of("table5", runs[1])}
    assert {row["number"] for row in shown} == set(found)
    assert any(what.startswith("block 3") for what in found)


@pytest.mark.usefixtures("tiny")
def test_a_checkpoint_of_the_second_network_is_measured_at_any_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flowers = replace(TINY, network="cct_3_3x1_16", probe_epochs=TINY.probe_epochs + 1)
    monkeypatch.setattr(scales, "FLOWERS", flowers)
    torch.manual_seed(0)
    tensors, metadata = stored(build_network(flowers.network, 10, 8, 1))
    RunDirectory(tmp_path).write_tensors("second.safetensors", tensors, metadata)
    second = ("--second", str(tmp_path / "second.safetensors"), "--probe-optimizer", "sgd")
    assert reproduce(tmp_path / "all", "--parts", "table5", *second) == 0
    page = (tmp_path / "all" / "reproduction.md").read_text()
    assert "Table 5: the checkpoint second.safetensors" in page
    assert f"probes were trained for {TINY.probe_epochs} epochs, not {flowers.probe_epochs}" in page
    assert "block 3, labels owned" in page
    assert f"2 seeds of the probes, {TINY.probe_epochs} epochs of sgd" in page
    of_second = RunDirectory(tmp_path / "all" / scales.SECOND).settings("measure")["probe"]["recipe"]
    assert of_second["optimizer"] == "sgd"
    # The same numbers come of the study alone.
    one = ("reproduce", "table5", "--scale", "smoke", "--out", str(tmp_path / "one"))
    assert nodelens(*one, *second) == 0
    tables = [tmp_path / run / scales.SECOND / "tables" / "table5.train.csv" for run in ("all", "one")]
    assert tables[0].read_bytes() == tables[1].read_bytes()
    assert nodelens("reproduce", "table1", "--out", str(tmp_path / "none"), *second) == 2
    assert "table1 is not of the paper's second network; leave out --second" in capsys.readouterr().err


@pytest.mark.usefixtures("tiny")
def test_a_checkpoint_is_called_by_its_name(tmp_path: Path) -> None:
    trained = RunDirectory(tmp_path / "trained")
    torch.manual_seed(0)
    for name, kind in (("own", TINY.network), ("other", "cct_3_3x1_16")):
        tensors, metadata = stored(build_network(kind, 10, 8, 1))
        trained.write_tensors(f"{name}.safetensors", tensors, metadata)
        out = tmp_path / name
        assert reproduce(out, "--parts", "network", "--checkpoint", str(trained.path / f"{name}.safetensors")) == 0
        page = (out / "reproduction.md").read_text()
        assert f"test accuracy of {name}" in page
        assert ("the checkpoint is no" in page) == (name == "other")


def test_the_paper_s_network_at_another_scale_differs_by_its_probes() -> None:
    network = build_network(scales.SCALES["paper"].network, 10, 8, 1)
    found = scales.of_checkpoint(scales.SCALES["smoke"], network)
    assert found == replace(scales.SCALES["smoke"], differs="probes were trained for 91 epochs, not 50")
    fewer = replace(scales.SCALES["smoke"], retraining_images=1200, rest_learning_rate=0.0)
    assert scales.of_checkpoint(fewer, network).differs == found.differs
    assert fewer.retrains == "pruned networks were retrained on 1,200 images an epoch, the rest frozen"
    pruned, measured = (Number(part, "Acc", 0.8, 0.7) for part in ("output", "table1"))
    assert reason(pruned, fewer).endswith(fewer.retrains)
    assert "retrained" not in reason(measured, fewer)


def test_what_the_cpu_scale_is_said_to_reach_is_what_its_networks_reached() -> None:
    for network, optimizer in (("own", " by AdamW take it"), ("muon", " by Muon")):
        last = stored_rows(RESULTS / f"cct_7_3x2_{network}" / "training" / "tables" / "training.csv")[-1]
        told = f"{last['epoch']:g}{' epochs' * (network == 'own')}{optimizer} to {last['test_accuracy']:.2f}"
        assert told in scales.SCALES["cpu"].differs


def test_both_networks_of_a_scale_are_probed_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "of_checkpoint", lambda scale, network: scale)  # it reads the data
    found = studies.scale_of("paper", probe_optimizer="sgd", probe_images="cct-fast")
    assert found.second is not None
    given = scales.with_second(found, build_network("cct_7_7x2", 102, 32))
    assert given.second is not None
    for scale in (found, found.second, given.second):
        network = build_network(scale.network, 10, 8, 1)
        recipe = scales.scale_probes(scale, network, (0,), 0, "fp32").recipe
        assert (recipe.optimizer, recipe.epochs) == ("sgd", 50)
        assert recipe.augmentation == replace(RECIPES["cct-fast"].augmentation, flip=0.5)


def test_what_cannot_be_planned_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, sentence in (
        (["--parts", "table9"], "'table9' is no part of the paper"),
        (["--networks", "0"], "nothing would be trained with --networks 0"),
        (["--networks", "2", "--checkpoint", "x.safetensors"], "a checkpoint is one network"),
        (["--seeds", "0"], "nothing would be measured with --seeds 0"),
        (["--scale", "huge"], "there is no scale 'huge'"),
        (["--probe-augment-as", "much"], "unknown recipe 'much'"),
    ):
        assert reproduce(tmp_path / "run", *arguments) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run" / "reproduction.json").exists()


@pytest.mark.parametrize(("part", "within"), [("output", "prune"), ("table3", "prune"), ("enforced", "free-0")])
@pytest.mark.usefixtures("tiny")
def test_what_another_command_works_in_is_left_alone(part: str, within: str, tmp_path: Path) -> None:
    with RunDirectory(tmp_path / within).claimed():
        with pytest.raises(InputError, match=f"another process is working in .*{within}"):
            studies.reproduce(part, TINY, RunDirectory(tmp_path))
        assert not list(tmp_path.rglob("config.json"))


@pytest.mark.usefixtures("tiny")
def test_another_seed_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    plan = Plan("smoke", TINY, only=())
    reproduce_all(plan, RunDirectory(tmp_path))
    with pytest.raises(InputError, match="belongs to another reproduce configuration"):
        reproduce_all(replace(plan, seed=1), RunDirectory(tmp_path))


def test_every_part_with_numbers_has_a_title_and_is_run() -> None:
    from nodelens.paper.page import REASONS, TITLES
    from nodelens.paper.studies import STUDIES

    assert set(CHEAPEST_FIRST) == {"network", *STUDIES}
    assert set(TITLES) == set(READERS)
    assert set(REASONS) <= set(TITLES)
    # What has not failed yet anywhere has no reason.
    assert set(TITLES) - set(REASONS) <= {"figure8"}


@pytest.mark.parametrize("table", sorted(RESULTS.rglob("reproduction.csv")), ids=lambda path: path.parts[-3])
def test_no_number_of_the_stored_pages_fails_without_a_reason(table: Path) -> None:
    for row in stored_rows(table):
        number = Number(row["part"], row["number"], row["paper"], row["ours"], rule=row["rule"])
        assert row["verdict"] != "not held" or reason(number, scales.SCALES["paper"])


def test_what_chance_removes_of_the_paper_s_layers_follows_from_its_mean_diagonals() -> None:
    found = {}
    for layer in ("qkv", "projection", "linear1", "linear2"):
        into, out = (
            {math.floor(mean): math.ceil(mean) - mean, math.ceil(mean): mean - math.floor(mean)}
            for mean in (values.TABLE3[layer, role]["diagonal"] for role in ("input", "output"))
        )
        found[layer] = sum(
            p * q * math.comb(100 - a, b) / math.comb(100, b) for a, p in out.items() for b, q in into.items()
        )
        assert pruning.least_by_chance(layer) == pytest.approx(found[layer], abs=1e-9)
    # Three of its four layers: what labels drawn at random give.
    near = {layer: abs(share - values.TABLE3[layer, "input"]["dilution"]) < 0.025 for layer, share in found.items()}
    assert near == {"qkv": True, "projection": False, "linear1": True, "linear2": True}


def test_table_3_stands_beside_chance() -> None:
    layer = {"layer": "block.7.linear1", "seeds": 1}
    numbers = {name: 0.25 for column in pruning.COLUMNS for name in (column, f"{column}_std")}
    layer["dilution_by_chance"] = 0.75
    ours = [{**layer, "role": "input", **numbers}, {**layer, "role": "output", **numbers, "dilution": ""}]
    rows, table = pruning.beside_paper(ours, [{"n_clusters": 1.0}, {"n_clusters": 2.0}], 1, "test")
    assert [row["of"] for row in rows] == ["paper", "ours", "difference", "permuted"] * 2
    by_chance = [row["dilution_by_chance"] for row in rows]
    assert by_chance == [pruning.least_by_chance("linear1"), 0.75, *[""] * 6]
    assert "| linear1 | 0.83 | 0.85 | 0.25 | 0.75 |" in pruning.removed_table(rows).markdown()
    assert "|  | permuted |  |  | 1.00 |" in table.markdown()


def test_statements_of_the_text_are_judged_by_the_tables(tmp_path: Path) -> None:
    run, study = RunDirectory(tmp_path), RunDirectory(tmp_path / "prune" / "table3")

    def judged(part: str, *words: str) -> list[tuple[float, float, str]]:
        of_words = [n for n in numbers_of(part, run) if any(word in n.what for word in words)]
        return [(number.ours, number.spread, number.verdict) for number in of_words]

    # The paper's own dilutions of four layers: 93,061 of 524,288 weights are kept.
    joined = {
        "qkv": (256, 768, 0.85),
        "projection": (256, 256, 0.77),
        "linear1": (256, 512, 0.83),
        "linear2": (512, 256, 0.8),
    }
    layers = [
        {"layer": k, "role": r, "nodes": n}
        for k, v in joined.items()
        for r, n in zip(("input", "output"), v[:2], strict=True)
    ]
    kept = sum(a * b * (1 - removed) for a, b, removed in joined.values())
    facts = {"seed": 0, "test": 0.8}
    andc = [{"method": "andc", **facts, "dilution": 1 - kept / 524_288, "epoch": epoch} for epoch in (0, 3)]
    study.write_table("prune", [{"method": "dense", **facts, "dilution": 0.0, "epoch": 0}, *andc])
    study.write_table("table3", [{"of": "paper"}])
    assert judged("table3", "weights") == []
    study.write_table("prune.layers", layers)
    assert judged("table3", "weights") == [(524_288, 0, "held"), (pytest.approx(kept), 0, "held")]
    assert kept == pytest.approx(93_061, abs=1)

    # The last block's ratio is not the largest at 0.4; beyond the range it does not count.
    ratios = {0.2: (1.5, 2.0, 2.5), 0.4: (2.6, 2.0, 2.5), 0.9: (9.0, 2.0, 2.5)}
    rows = [
        {"site": f"block.{block}.linear2", "of": "network", "threshold": threshold, "snr": snr, "snr_min": snr}
        for block in (1, 2, 3)
        for threshold, along in ratios.items()
        for snr in [along[block - 1]]
    ]
    run.write_table("figure5.test", rows)
    assert judged("figure5", "largest other") == [(pytest.approx(-0.1), 0, "not held")]

    shares = {"ratio_1.5": 0.7, "ratio_2": 0.7, "ratio_2.5": 0.7}
    before = {"block": 6, "of": "ours", **shares, "ratio_2": 0.41, "ratio_2_std": 0.01}
    run.write_table(
        "figure10.train", [{"block": 7, "of": of, **shares, "ratio_2_std": 0.0} for of in ("paper", "ours")] + [before]
    )
    assert judged("figure10", "39 labels") == [(0.41, 0.01, "held")]

    every = {"block": 7, "view": "all heads", "of": "itself", "mean": 0.3, "from_0.5": 0.2}
    views = [every | {"view": "expert head", "mean": 0.4, "from_0.5": 0.6}, every | {"view": "other heads"}]
    run.write_table("figure11.train", [every, *views])
    assert judged("figure11", "") == [(pytest.approx(0.1), 0, "held"), (0.6, 0, "not held")]
    # Where no head owns a label of the test images there is no such field.
    run.write_table("figure11.train", [every])
    assert [number.verdict for number in numbers_of("figure11", run)] == ["no number"] * 2


def test_what_the_reasons_say_was_measured() -> None:
    from nodelens.paper.page import REASONS

    first = [RESULTS / "cct_7_3x1_300" / run for run in ("numbers", "fifty_epochs/tables", "at_rest/tables")]
    found = [
        {(row["part"], row["number"]): row["ours"] for row in stored_rows(run / "reproduction.csv")}
        for run in (*first, RESULTS / "paper" / "tables")
    ]

    def span(part: str, number: str, form: str) -> str:
        of_first = [of_run[part, number] for of_run in found[:3]]
        return " to ".join(format(value, form) for value in (min(of_first), max(of_first)))

    for site in ("linear1", "linear2.no_skip"):
        assert span("figure3", f"last block's {site}, diag", ".1f") in REASONS["figure3"]
    assert span("figure7", "block 7, labels owned", ".0f") in REASONS["figure7"]
    assert f"{found[3]['figure7', 'block 7, labels owned']:.0f} in another" in REASONS["figure7"]
    assert span("figure7", "block 7, Acc of the probe", ".2f") in REASONS["figure7"]


@pytest.mark.slow
def test_the_whole_paper_at_the_smoke_scale(tmp_path: Path) -> None:
    """Some four minutes on one core."""
    assert reproduce(tmp_path) == 0
    with (tmp_path / "tables" / "reproduction.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["part"] for row in rows} == set(READERS)
    assert "Not finished" not in (tmp_path / "reproduction.md").read_text()
    for figure in ("table1", "table2", "figure3.linear2", "figure3.linear1", "figure4", "figure5"):
        assert (tmp_path / "figures" / f"{figure}.test.svg").exists()
    for figure in ("figure7", "figure8", "figure9", "figure10", "figure11"):
        assert (tmp_path / "figures" / f"{figure}.train.svg").exists()
    before = (tmp_path / "tables" / "reproduction.csv").read_bytes()
    assert reproduce(tmp_path) == 0
    assert (tmp_path / "tables" / "reproduction.csv").read_bytes() == before
