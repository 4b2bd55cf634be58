"""The command line: what it writes, what it says of bad input, that it goes on after a kill."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from command_line import nodelens
from nodelens.cli import main
from nodelens.cli.options import show
from nodelens.data import load_images
from nodelens.files import read_metadata
from nodelens.networks import build_network, load_network, masks_of
from nodelens.paper import scales, studies
from nodelens.probing import load_measurements
from nodelens.report.tables import TextTable
from nodelens.runs import RunDirectory

TINY = "cct_2_3x1_16"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "tiny"
    assert nodelens("train", TINY, "--epochs", "2", "--precision", "fp32", "--out", str(run)) == 0
    return run


@pytest.fixture(scope="module")
def measured(trained: Path) -> Path:
    arguments = ["--sites", "block.*.linear2", "--epochs", "1", "--seeds", "2", "--split", "test,train"]
    assert nodelens("measure", str(trained), *arguments) == 0
    return trained


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_train_writes_the_run_directory(trained: Path) -> None:
    settings = json.loads((trained / "config.json").read_text())["train"]
    assert settings["settings"]["network"] == TINY
    assert settings["settings"]["data"]["fingerprint"] == load_images("digits", "train").fingerprint
    assert torch.__version__.startswith(settings["versions"]["torch"])
    log = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert [event["epoch"] for event in log] == [1, 2]
    curve = read_csv(trained / "tables" / "training.csv")
    assert [float(row["test_accuracy"]) for row in curve] == [event["test_accuracy"] for event in log]
    assert (trained / "figures" / "training.svg").exists()
    assert not (trained / "checkpoints" / "resume.pt").exists()


def test_train_with_assigned_labels_says_how_much_was_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--epochs", "1", "--precision", "fp32", "--assign-diagonals", "2", "--assign-layers", "block.2.*"]
    assert nodelens("train", TINY, *arguments, "--out", str(tmp_path)) == 0
    masks = masks_of(load_network(tmp_path))
    removed = sum(int((~mask).sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert 0.4 < removed < 0.8
    assert f"{removed:.4f} of the weights of 4 layers were left out from the start\n" in capsys.readouterr().out


def test_measure_writes_statistics_with_both_nulls(measured: Path) -> None:
    for split in ("test", "train"):
        rows = read_csv(measured / "tables" / f"statistics.{split}.csv")
        assert [(row["site"], row["of"]) for row in rows] == [
            (f"block.{block}.linear2", of) for block in (1, 2) for of in ("network", "permuted", "untrained")
        ]
        assert (measured / "figures" / f"node.{split}.svg").exists()


def test_tables_hold_what_the_measurement_gives(measured: Path) -> None:
    found = load_measurements(RunDirectory(measured), "test")
    mine = [m["block.2.linear2"].statistics(0.3) for m in found]
    row = next(
        row
        for row in read_csv(measured / "tables" / "statistics.test.csv")
        if row["site"] == "block.2.linear2" and row["of"] == "network"
    )
    assert float(row["diagonal"]) == pytest.approx(sum(s.diagonal for s in mine) / 2, rel=1e-5)
    assert float(row["snr"]) == pytest.approx(sum(s.snr for s in mine) / 2, rel=1e-5)
    assert row["seeds"] == "2"


def test_measuring_again_trains_nothing_and_another_threshold_is_free(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the probes were trained again")

    monkeypatch.setattr("nodelens.probing.study.train_probes", refuse)
    monkeypatch.setattr("nodelens.probing.study.measure_probes", refuse)
    arguments = ["--sites", "block.*.linear2", "--epochs", "1", "--seeds", "2", "--threshold", "0.5"]
    assert nodelens("measure", str(measured), *arguments, "--clusters", "maximum") == 0
    row = read_csv(measured / "tables" / "statistics.test.maximum.csv")[0]
    assert (row["threshold"], row["method"]) == ("0.5", "maximum")


def test_more_sites_can_be_measured_later(measured: Path) -> None:
    before = (measured / "measure" / "block.2.linear2.safetensors").read_bytes()
    arguments = ["--sites", "block.1.attention", "--epochs", "1", "--seeds", "2", "--no-untrained"]
    assert nodelens("measure", str(measured), *arguments) == 0
    assert (measured / "measure" / "block.1.attention.safetensors").exists()
    assert (measured / "measure" / "block.2.linear2.safetensors").read_bytes() == before


def test_fewer_sites_asked_for_later_leave_the_others_in_the_tables(measured: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(measured, run)

    def rows_of(site: str, name: str = "statistics.test") -> list[dict[str, str]]:
        return [row for row in read_csv(run / "tables" / f"{name}.csv") if row["site"] == site]

    def measure_again(sites: str, *more: str) -> int:
        return nodelens("measure", str(run), "--sites", sites, "--epochs", "1", "--seeds", "2", *more)

    assert measure_again("block.*.linear2") == 0
    before = {name: read_csv(run / "tables" / f"{name}.csv") for name in ("statistics.test", "sweep.test")}
    assert measure_again("block.2.linear2") == 0
    assert {name: read_csv(run / "tables" / f"{name}.csv") for name in before} == before
    assert measure_again("block.2.linear2", "--clusters", "maximum") == 0
    for figure in ("growth", "sweep", "labels", "node"):
        for rule in ("", ".maximum"):
            assert (run / "figures" / f"{figure}.test{rule}.png").exists()
    assert measure_again("block.2.linear2", "--threshold", "0.4") == 0
    assert not rows_of("block.1.linear2")  # at another threshold they would not compare
    assert rows_of("block.2.linear2")
    assert rows_of("block.1.linear2", "sweep.test")


def test_another_probe_training_is_refused(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert nodelens("measure", str(measured), "--sites", "block.*.linear2", "--epochs", "3") == 2
    assert (
        "belongs to another measure configuration (different: probe.recipe.epochs, probe.seeds)"
        in capsys.readouterr().err
    )


def test_every_study_trains_its_probes_as_it_is_told(trained: Path, tmp_path: Path) -> None:
    def recipe_of(run: Path, command: str = "measure") -> dict[str, object]:
        return RunDirectory(run).settings(command)["probe"]["recipe"]

    quick = ("--seeds", "1", "--epochs", "1")
    out = [str(tmp_path / name) for name in ("measured", "heads", "prune")]
    sites = ("--sites", "block.1.linear2", "--no-untrained")
    given = ("--optimizer", "sgd", "--weight-decay", "0.2", "--augment-as", "cct-300")
    assert nodelens("measure", str(trained), *sites, *given, *quick, "--out", out[0]) == 0
    assert nodelens("heads", str(trained), "--block", "2", "--draws", "9", "--out", out[0]) == 0  # as measured before
    assert nodelens("heads", str(trained), "--block", "2", "--draws", "9", *quick, *given[:2], "--out", out[1]) == 0
    pruned = ("--block", "2", "--baseline", "random", "--probe-epochs", "1", "--probe-optimizer", "sgd")
    assert nodelens("prune", str(trained), *pruned, *quick, "--out", out[2], "--name", "last") == 0
    found = [recipe_of(tmp_path / name) for name in ("measured", "heads", "prune")]
    assert [recipe["optimizer"] for recipe in found] == ["sgd"] * 3
    assert [recipe["weight_decay"] for recipe in found] == [0.2, 0.05, 0.05]
    seen = [(recipe["augmentation"]["mixup"], recipe["augmentation"]["flip"]) for recipe in found]
    assert seen == [(0.8, 0.0), (0.0, 0.0), (0.0, 0.0)]  # no digit is mirrored, whatever the recipe does


def test_what_it_can_do_is_said_without_loading_torch() -> None:
    program = "import sys; from nodelens.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True)
    assert "prune" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"


def test_a_network_can_leave_unlearnt_what_pruning_decides_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(tmp_path / "run")
    assert nodelens("train", TINY, "--epochs", "1", "--held-out", "0.2", "--out", run) == 0
    assert nodelens("prune", run, "--block", "2") == 2
    assert "trained without other images than --held-out 0.1 leaves out" in capsys.readouterr().err
    short = ["--seeds", "1", "--epochs", "1", "--probe-epochs", "1", "--baseline", "random", "--name", "last"]
    assert nodelens("prune", run, "--block", "2", "--held-out", "0.2", *short) == 0
    learnt = RunDirectory(tmp_path / "run").configuration()["train"]["settings"]["data"]["fingerprint"]
    data = RunDirectory(tmp_path / "run" / "prune" / "last").configuration()["prune"]["settings"]["data"]
    assert learnt == data["rest"]
    assert learnt != data["held_out"]


def test_a_folder_s_images_and_splits_are_those_of_the_training(tmp_path: Path) -> None:
    digits = load_images("digits", "train")
    for position in range(600):
        of_label = tmp_path / "data" / ("train" if position < 500 else "val") / str(int(digits.labels[position]))
        of_label.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(digits.pixels[position, :, :, 0], np.ones((2, 2), dtype=np.uint8))
        Image.fromarray(pixels).save(of_label / f"{position}.png")
    run, learnt = str(tmp_path / "run"), ["--held-out", "0.2"]
    training = ["--data", str(tmp_path / "data"), "--test-split", "val", "--epochs", "1"]
    assert nodelens("train", TINY, *training, *learnt, "--out", run) == 0
    short = ["--seeds", "1", "--epochs", "1", "--probe-epochs", "1", "--baseline", "random", "--name", "last"]
    assert nodelens("prune", run, "--block", "2", *learnt, *short) == 0
    configured = (RunDirectory(tmp_path / "run" / of).configuration() for of in ("", "prune/last"))
    trained, pruned = (next(iter(one.values()))["settings"]["data"] for one in configured)
    assert pruned["rest"] == trained["fingerprint"]
    assert pruned["test"] == trained["test_fingerprint"]


def test_another_split_can_be_measured_without_the_twin(trained: Path, tmp_path: Path) -> None:
    arguments = ["--sites", "block.2.linear2", "--epochs", "1", "--out", str(tmp_path)]
    assert nodelens("measure", str(trained), *arguments) == 0
    assert nodelens("measure", str(trained), *arguments, "--split", "train", "--no-untrained") == 0
    assert {row["of"] for row in read_csv(tmp_path / "tables" / "statistics.train.csv")} == {"network", "permuted"}
    assert "untrained" in {row["of"] for row in read_csv(tmp_path / "tables" / "statistics.test.csv")}


def test_a_network_is_pruned_weighed_and_exported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--seeds", "1", "--epochs", "1", "--probe-epochs", "1", "--learning-rate", "1e-3"]
    arguments = ["--block", "2", "--threshold", "0.5", "--name", "last", "--out", str(tmp_path), *short]
    assert nodelens("prune", str(trained), *arguments) == 0
    shown = capsys.readouterr().out
    for method in ("dense", "andc", "permuted", "random", "magnitude", "wanda", "branch", "vanished only"):
        assert method in shown
    rows = read_csv(tmp_path / "last" / "tables" / "prune.csv")
    pruned = load_network(tmp_path / "last")
    kept = [row for row in rows if row["method"] == "andc"][-1]
    masks = torch.cat([mask.flatten() for mask in masks_of(pruned).values()])
    assert float(kept["dilution"]) == pytest.approx(1 - float(masks.double().mean()), abs=1e-5)
    assert pruned.checkpoint_metadata["test_accuracy"] == f"{float(kept['test']):.5f}"

    assert nodelens("prune", str(trained), *arguments, "--baseline", "random") == 2
    assert "belongs to another prune configuration (different: methods)" in capsys.readouterr().err

    control = [*arguments, "--name", "control", "--baseline", "random", "--store", "random", "--distill"]
    assert nodelens("prune", str(trained), *control) == 0
    labelled, rows = rows, read_csv(tmp_path / "control" / "tables" / "prune.csv")
    taught, told = ([row for row in of if row["method"] == "dense"][-1]["loss"] for of in (rows, labelled))
    assert taught != told  # the unpruned network's outputs are no labels
    other = load_network(tmp_path / "control")
    assert (
        other.checkpoint_metadata["test_accuracy"]
        == f"{float([r for r in rows if r['method'] == 'random'][-1]['test']):.5f}"
    )
    for module, mask in masks_of(other).items():
        assert mask.sum() == masks_of(pruned)[module].sum()
    assert any(not torch.equal(mask, masks_of(pruned)[module]) for module, mask in masks_of(other).items())

    assert nodelens("gain", str(tmp_path / "last"), "--batch-sizes", "1", "--rounds", "1") == 0
    assert "median of" in capsys.readouterr().out
    assert nodelens("export", str(tmp_path / "last"), "--to", str(tmp_path / "net.safetensors")) == 0
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(load_network(tmp_path / "net.safetensors")(images), pruned(images))


def test_a_refused_study_leaves_the_directory_as_it_was(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("prune"))
    before = sorted(run.rglob("*"))
    how = ("--block", "2", "--seeds", "1", "--probe-epochs", "1", "--epochs", "1")
    assert nodelens("prune", str(run), *how, "--dilution", "0.9999") == 2
    assert sorted(run.rglob("*")) == before
    # Nor do probes of the refused study stand in the way of others.
    assert nodelens("prune", str(run), *how, "--seed", "4", "--dilution", "0.5", "--baseline", "") == 0
    measured = RunDirectory(run / "prune").configuration()["measure"]
    assert nodelens("prune", str(run), *how, "--seed", "4", "--name", "more", "--dilution", "0.9999") == 2
    assert RunDirectory(run / "prune").configuration()["measure"] == measured, "what others share stays"


def test_reproduce_puts_the_paper_beside_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = scales.Scale(TINY, "digits", "digits", probe_epochs=1, seeds=2)
    monkeypatch.setitem(scales.SCALES, "smoke", tiny)
    short = scales.recipe("digits", epochs=1)
    monkeypatch.setattr(scales, "recipe", lambda name: short)
    for study in (*studies.NODE_STUDIES, *studies.PRUNING_STUDIES, "enforced"):
        assert nodelens("reproduce", study, "--out", str(tmp_path / "run")) == 0
    shown = capsys.readouterr().out
    assert "417.2" in shown
    assert "37.4" in shown
    rows = read_csv(tmp_path / "run" / "tables" / "table1.test.csv")
    last = {row["of"]: row for row in rows if row["block"] == "2"}
    assert list(last) == ["paper", "ours", "difference", "permuted", "untrained", "own head"]
    own = float(last["own head"]["accuracy"])
    assert own == pytest.approx(float(read_metadata(tmp_path / "run" / "model.safetensors")["test_accuracy"]), abs=1e-4)
    assert float(last["paper"]["diagonal"]) == 14.6
    assert float(last["difference"]["diagonal"]) == pytest.approx(float(last["ours"]["diagonal"]) - 14.6, abs=1e-4)
    assert (tmp_path / "run" / "figures" / "figure5.test.png").exists()


def test_export_writes_a_network_that_loads(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "dense" / "network.safetensors"
    assert nodelens("export", str(trained), "--to", str(file)) == 0
    assert capsys.readouterr().out == f"{file} written, {file.stat().st_size / 1e6:.1f} MB\n"
    weights = load_file(trained / "model.safetensors")
    assert all(torch.equal(tensor, weights[key]) for key, tensor in load_file(file).items())
    assert load_network(file).checkpoint_metadata == load_network(trained).checkpoint_metadata


def test_a_path_is_said_as_it_is(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a [bold] b[/x]"
    asked = ("--sites", "block.1.ln", "--epochs", "1", "--no-untrained", "--permutations", "0")
    assert nodelens("measure", str(trained), *asked, "--out", str(out)) == 0
    assert f"run directory {out}\n" in capsys.readouterr().out


def save_network(path: Path, **changes: torch.Tensor) -> Path:
    network = build_network(TINY, 10, 8, 1)
    state = {key: tensor.clone().contiguous() for key, tensor in network.state_dict().items()} | changes
    save_file(state, path, {"heads": "4"})
    return path


def nan_weight() -> dict[str, torch.Tensor]:
    return {"classifier.fc.weight": torch.full((10, 16), float("nan"))}


BAD_INPUT = {
    "unknown network": (["train", "alexnet"], "unknown network 'alexnet'"),
    "a network without layers": (["train", "cct_0_3x1_64"], "at least one layer"),
    "a network without tokenizer": (["train", "cct_2_3x0_64"], "at least one layer, a kernel and a convolution"),
    "unknown recipe": (["train", TINY, "--recipe", "none"], "unknown recipe 'none'"),
    "unknown data": (["train", TINY, "--data", "imagenette"], "imagenette"),
    "unknown split": (["train", TINY, "--split", "dev"], "dev"),
    "unknown precision": (["train", TINY, "--precision", "fp8"], "unknown precision 'fp8'"),
    "heads' blocks without labels": (["train", TINY, "--head-blocks", "1"], "--assign-heads"),
    "weights kept every so many epochs": (["train", TINY, "--keep-every", "-1"], "--keep-every -1"),
    "an endless seed": (["train", TINY, "--seed", "9" * 20], "--seed"),
    "less than no permutations": (
        ["measure", "good.safetensors", "--out", "x", "--data", "digits", "--permutations", "-3"],
        "--permutations -3",
    ),
    "a negative seed": (["train", TINY, "--seed", "-1"], "--seed"),
    "no epochs": (["train", TINY, "--epochs", "0"], "epochs must be at least 1"),
    "a batch larger than the data": (["train", TINY, "--batch-size", "5000"], "less than a batch of 5000"),
    "no labels assigned": (["train", TINY, "--assign-diagonals", "0"], "cannot have 0 of 10 labels"),
    "more labels assigned than there are": (["train", TINY, "--assign-diagonals", "11"], "cannot have 11 of 10 labels"),
    "labels assigned nowhere": (
        ["train", TINY, "--assign-diagonals", "2", "--assign-layers", "conv.*"],
        "no layer matches 'conv.*'",
    ),
    "a control of nothing": (["train", TINY, "--assign-control"], "--assign-diagonals"),
    "assigned layers without labels": (["train", TINY, "--assign-layers", "block.1.*"], "--assign-diagonals"),
    "missing checkpoint": (["measure", "nowhere.safetensors", "--out", "x"], "nowhere.safetensors"),
    "no probes": (["measure", "good.safetensors", "--out", "x", "--data", "digits", "--seeds", "0"], "--seeds 0"),
    "no place for the results": (["measure", "good.safetensors"], "--out"),
    "no data named": (["measure", "good.safetensors", "--out", "x"], "--data"),
    "truncated checkpoint": (["measure", "short.safetensors", "--out", "x", "--data", "digits"], "truncated"),
    "NaN weights": (["measure", "nan.safetensors", "--out", "x", "--data", "digits"], "NaN or infinite"),
    "unknown sites": (
        ["measure", "good.safetensors", "--out", "x", "--data", "digits", "--sites", "layer.*"],
        "no site matches 'layer.*'",
    ),
    "threshold": (
        ["measure", "good.safetensors", "--out", "x", "--data", "digits", "--threshold", "1.5"],
        "threshold",
    ),
    "cluster rule": (
        ["measure", "good.safetensors", "--out", "x", "--data", "digits", "--clusters", "best"],
        "best",
    ),
    "metadata that are no numbers": (["measure", "mean.safetensors", "--out", "x", "--data", "digits"], "'0.5, 0.5'"),
    "a checkpoint for other data": (
        ["reproduce", "all", "--checkpoint", "wide.safetensors", "--out", "x"],
        "the network has 7 outputs but digits has 10 labels",
    ),
    "unknown optimizer of a reproduction": (
        ["reproduce", "all", "--probe-optimizer", "adam"],
        "unknown optimizer 'adam'",
    ),
    "a negative penalty": (
        ["measure", "good.safetensors", "--out", "x", "--data", "digits", "--weight-decay", "-1"],
        "the probes' weight decay is -1.0; give 0 or more",
    ),
    "networks of one study": (["reproduce", "table1", "--networks", "3"], "--networks and --parts"),
    "another split of all": (["reproduce", "all", "--split", "train"], "leave out --split"),
    "silent heads along training": (
        ["heads", "good.safetensors", "--out", "x", "--data", "digits", "--along-training", "--silence"],
        "--silence belongs to the study of the trained network",
    ),
    "every epoch of none": (
        ["heads", "good.safetensors", "--out", "x", "--data", "digits", "--every", "2"],
        "--every belongs to the study of kept epochs; add --along-training",
    ),
    "unknown study": (["reproduce", "table9"], "table9"),
    "unknown scale": (["reproduce", "table1", "--scale", "huge"], "huge"),
    "export of nothing": (["export", "nowhere.safetensors", "--to", "net.onnx"], "nowhere.safetensors"),
    "export to an unknown format": (["export", "good.safetensors", "--to", "net.tflite"], "net.tflite"),
    "export onto itself": (["export", "good.safetensors", "--to", "good.safetensors"], "give another file"),
    "export into a file": (["export", "good.safetensors", "--to", "good.safetensors/net.pth"], "cannot be written"),
    "gain of a dense network": (["gain", "good.safetensors", "--out", "x"], "is not pruned"),
    "gain without rounds": (["gain", "good.safetensors", "--out", "x", "--rounds", "0"], "at least 1"),
    "a network that may learn nothing": (["train", TINY, "--held-out", "1"], "1.0 of 1438 images cannot be held out"),
    "heads that do not divide": (["train", TINY, "--heads", "3"], "3 heads do not divide a width of 16"),
    "heads block by block": (
        ["train", "vit_2_patch4_16", "--heads", "4,4"],
        "only the blocks of a CCT can differ in their heads",
    ),
    "heads for other blocks": (["train", TINY, "--heads", "4,4,2"], "2 blocks need one number of heads"),
    "half a head": (["train", TINY, "--heads", "1.5"], "whole numbers"),
    "labels for heads from nowhere": (["train", TINY, "--assign-heads", "none.json"], "--assign-heads none.json"),
    "super-classes that there are not": (["train", TINY, "--assign-heads", "superclass"], "no super-classes"),
    "heads that gain nothing": (["train", TINY, "--assign-heads", "random", "--head-weight", "0"], "a weight of 0"),
    "heads of a block that there is not": (
        ["train", TINY, "--assign-heads", "random", "--head-blocks", "9"],
        "there is no block 9",
    ),
    "an endless batch": (["gain", "good.safetensors", "--out", "x", "--batch-sizes", "inf"], "--batch-sizes inf"),
    "a batch size that is no number": (["gain", "good.safetensors", "--out", "x", "--batch-sizes", "a"], "'a'"),
    "an unloadable network": (["measure", "hf:a b", "--out", "x", "--data", "digits"], "the hub has no network 'a b'"),
}


PRUNE = ["prune", "good.safetensors", "--out", "x", "--data", "digits"]
BAD_INPUT |= {
    "pruning a block that there is not": ([*PRUNE, "--block", "9"], "no layer matches 'block.9.*'"),
    "blocks that are no numbers": ([*PRUNE, "--blocks", "last"], "--blocks last"),
    "pruning between sites that no layer joins": ([*PRUNE, "--layers", "block.1.ln"], "no layer matches 'block.1.ln'"),
    "pruning threshold": ([*PRUNE, "--threshold", "1.5"], "threshold"),
    "threshold of a site that is not pruned": ([*PRUNE, "--site-thresholds", "block.1.ln=0.3"], "block.1.ln"),
    "threshold without a value": ([*PRUNE, "--site-thresholds", "block.1.ln"], "names no value"),
    "a dilution that is no share": ([*PRUNE, "--dilution", "1.5"], "1.5"),
    "a curve that is no share": ([*PRUNE, "--curve", "0.5,1"], "dilution of 1 "),
    "an unknown baseline": ([*PRUNE, "--baseline", "best"], "unknown method 'best'"),
    "nothing held out": ([*PRUNE, "--held-out", "0"], "held out"),
    "pruning without seeds": ([*PRUNE, "--seeds", "0"], "--seeds 0"),
    "probes that see images as no recipe does": (
        ["measure", "good.safetensors", "--out", "x", "--data", "digits", "--augment-as", "much"],
        "unknown recipe 'much'",
    ),
    "augmenting as no recipe does": ([*PRUNE, "--augment-as", "much"], "unknown recipe 'much'"),
    "retraining by an unknown schedule": ([*PRUNE, "--schedule", "linear"], "unknown schedule 'linear'"),
    "storing what is not made": ([*PRUNE, "--store", "wander"], "no network pruned by 'wander' is made"),
    "retraining at no rate": ([*PRUNE, "--learning-rate", "0"], "positive learning rate"),
    "blocks without an end": ([*PRUNE, "--blocks", "1-"], "--blocks 1-"),
    "retraining at a rate that is no number": ([*PRUNE, "--learning-rate", "nan"], "positive learning rate"),
    "retraining on less than a batch": ([*PRUNE, "--retraining-images", "-5"], "--retraining-images -5"),
    "thresholds beside a dilution": (
        [*PRUNE, "--dilution", "0.5", "--site-thresholds", "block.2.ln=0.3"],
        "--site-thresholds",
    ),
    "a curve beside a search": ([*PRUNE, "--keep-accuracy", "0.01", "--curve", "0.5"], "leave out --curve"),
    "a dilution beside a search": ([*PRUNE, "--keep-accuracy", "0.01", "--dilution", "0.5"], "leave out --curve"),
    "thresholds beside a search": ([*PRUNE, "--keep-accuracy", "0.01", "--threshold", "0.3"], "leave out --threshold"),
    "a threshold beside a dilution": ([*PRUNE, "--dilution", "0.5", "--threshold", "0.3"], "not both"),
    "a search with the branch": (
        [*PRUNE, "--keep-accuracy", "0.1", "--store", "branch"],
        "no dilution is searched for with branch",
    ),
    "small steps to nowhere": ([*PRUNE, "--gradual"], "--keep-accuracy"),
    "a loss of accuracy that is no share": ([*PRUNE, "--keep-accuracy", "2"], "--keep-accuracy 2"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_sentence_and_exit_code_2(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, culprit = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    good = save_network(tmp_path / "good.safetensors")
    (tmp_path / "short.safetensors").write_bytes(good.read_bytes()[:1000])
    save_network(tmp_path / "nan.safetensors", **nan_weight())
    state = load_file(good)
    save_file(state, tmp_path / "mean.safetensors", {"heads": "4", "mean": "0.5, 0.5", "std": "0.5"})
    seven = {key: state[key][:7].clone() for key in ("classifier.fc.weight", "classifier.fc.bias")}
    save_file(state | seven, tmp_path / "wide.safetensors", {"heads": "4"})
    assert nodelens(*arguments) == 2
    said = capsys.readouterr().err.strip()
    assert culprit in said
    assert said.count("\n") == 0
    assert "Traceback" not in said
    assert not list(tmp_path.glob("**/measure/*.safetensors"))
    assert not list(tmp_path.glob("**/config.json"))


def test_a_label_that_never_occurs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for split, classes in (("train", ("cat", "dog")), ("test", ("cat",))):
        for name in classes:
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for i in range(40):
                Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)).save(folder / f"{i}.png")
    network = build_network(TINY, 2, 8, 3)
    save_file(network.state_dict(), tmp_path / "net.safetensors", {"heads": "4"})
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path / "run"), "--sites", "block.1.ln"]
    assert nodelens("measure", str(tmp_path / "net.safetensors"), *arguments, "--epochs", "1") == 2
    assert "data test ('dog')" in capsys.readouterr().err.replace("\n", " ")
    (tmp_path / "data" / "test").rename(tmp_path / "data" / "whole")
    (tmp_path / "data" / "train").rename(tmp_path / "data" / "test")
    (tmp_path / "data" / "whole").rename(tmp_path / "data" / "train")
    (tmp_path / "data" / "train" / "dog").mkdir()
    for command in (("measure", str(tmp_path / "net.safetensors"), *arguments), ("train", TINY, *arguments[:4])):
        assert nodelens(*command, "--epochs", "1") == 2
        assert "data train ('dog')" in capsys.readouterr().err.replace("\n", " ")


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    from nodelens.errors import InputError

    monkeypatch.setattr(sys, "argv", ["nodelens", "--debug", "train", "alexnet"])
    with pytest.raises(InputError):
        main()


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nodelens", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


@pytest.mark.slow
def test_quickstart_reaches_its_accuracy(tmp_path: Path) -> None:
    done = start("quickstart", "--out", str(tmp_path / "quick"), OMP_NUM_THREADS="2")
    out, error = done.communicate()
    assert done.returncode == 0, error
    assert "Table 1" in out
    assert "Table 2" in out
    assert "Labels of each head" in out
    assert str(tmp_path / "quick" / "report.html") in out
    assert (tmp_path / "quick" / "report.html").stat().st_size > 100_000
    quick = RunDirectory(tmp_path / "quick")
    assert quick.events("train")[-1]["test_accuracy"] >= 0.97
    with (quick.path / "prune" / "quickstart" / "tables" / "prune.csv").open() as file:
        kept = {row["method"]: float(row["test"]) for row in csv.DictReader(file) if row["epoch"] == "3"}
    assert kept["dense"] >= kept["andc"] > kept["branch"]
    # What quickstart has pruned stands in nobody's way.
    assert not (quick.path / "prune" / "config.json").exists()


def test_tensorboard_events_on_request(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    arguments = ["train", TINY, "--epochs", "2", "--precision", "fp32", "--tensorboard", "--out", str(out)]
    done = start(*arguments)
    assert done.wait() == 0, done.communicate()[1]
    done.communicate()
    events = accumulator.EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    log = RunDirectory(out).events("train")
    shown = [event.value for event in events.Scalars("test_accuracy")]
    assert shown == pytest.approx([event["test_accuracy"] for event in log], abs=1e-6)


def test_a_split_whose_images_changed_is_measured_again(tmp_path: Path, trained: Path) -> None:
    from nodelens.probing import MeasureSettings, ProbeSettings, ProbingData, measure_network, probe_recipe
    from nodelens.probing.data import load_probing_data

    network, run = load_network(trained), RunDirectory(tmp_path)
    data = load_probing_data(network, "digits", ["test"])
    fewer = data.measured["test"].take(torch.arange(200), "test")
    settings = MeasureSettings(("block.1.ln",), ("test",), ProbeSettings(probe_recipe(1)), untrained=False)
    measure_network(network, data, settings, run)
    (whole,) = load_measurements(run, "test")
    measure_network(network, ProbingData(data.training, {"test": fewer}, data.normalisation), settings, run)
    (part,) = load_measurements(run, "test")
    assert whole["block.1.ln"].counts.sum() == len(data.measured["test"])
    assert part["block.1.ln"].counts.sum() == 200
    assert torch.equal(whole["block.1.ln"].weight, part["block.1.ln"].weight)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_table_wider_than_the_terminal_leaves_no_column_out(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    table = TextTable("Title", ("part", "number", "paper", "ours", "difference"), names=2)
    cells = ("the discussion of the paper", "accuracy with labels given to heads", "≥ 0.001", "0.002±0.008", "+0.00223")
    table.add_group(cells)
    show([table])
    printed = capsys.readouterr().out
    assert all(cell in printed for cell in cells)
    assert [line for line in printed.splitlines() if cells[0] in line and cells[-1] in line]
