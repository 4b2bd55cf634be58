"""The page about a run: what it holds, what it says of empty and damaged runs, that it asks nothing of anyone."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from command_line import nodelens
from nodelens.data import load_images, normalise
from nodelens.data.normalisation import normalisation_from
from nodelens.errors import InputError
from nodelens.files import write_tensors
from nodelens.measures import NodalMatrices, site_statistics
from nodelens.networks import build_network, load_network, reading, select_sites, stored
from nodelens.probing import load_measurements, load_probes
from nodelens.report.compared import compared_table
from nodelens.report.explored import describe_networks, explored_networks
from nodelens.report.factors import Factors
from nodelens.report.figures import STYLE, label_figure, name_bars, node_figure, save_figure
from nodelens.report.growth import growth_figure
from nodelens.report.measurement import with_other_sites
from nodelens.report.page import HERE, write_report
from nodelens.report.palette import IN_THE_DARK
from nodelens.report.places import place_of
from nodelens.report.stored import digits_of, stored_rows
from nodelens.report.tables import TextTable, statistics_rows
from nodelens.runs import RunDirectory
from synthetic_runs import HOSTILE, LABELS, QUOTED, SITES, site, write_run

SOURCES = Path(__file__).parent.parent / "src" / "nodelens" / "report" / "explorer"


class Scripts(HTMLParser):
    """The content of every script element by its id."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: dict[str, str] = {}
        self.opened: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened = (dict(attrs).get("id") or "code") if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self.opened = None

    def handle_data(self, data: str) -> None:
        if self.opened:
            self.found[self.opened] = self.found.get(self.opened, "") + data


def page_of(run: RunDirectory) -> tuple[str, dict[str, str], dict[str, Any]]:
    """The page, its scripts, and the data of its explorer."""
    html = write_report([run]).read_text()
    scripts = Scripts(html).found
    return html, scripts, json.loads(scripts["explorer-data"])


def sites_of(data: dict[str, Any], network: int = 0, view: int = 0) -> list[dict[str, Any]]:
    """The sites of a network at one of its splits and seeds."""
    sites: list[dict[str, Any]] = data["networks"][network]["views"][view]["sites"]
    return sites


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A small network on the digits, trained and measured for a moment."""
    run = str(tmp_path_factory.mktemp("runs") / "tiny")
    assert nodelens("train", "cct_2_3x1_16", "--epochs", "1", "--precision", "fp32", "--out", run) == 0
    assert nodelens("measure", run, "--sites", "block.2.*", "--epochs", "1", "--permutations", "2") == 0
    return RunDirectory(Path(run))


def test_a_run_becomes_one_page(tiny: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    assert nodelens("report", str(tiny.path)) == 0
    assert "report.html" in capsys.readouterr().out
    html = (tiny.path / "report.html").read_text()
    data = json.loads(Scripts(html).found["explorer-data"])
    assert [network["name"] for network in data["networks"]] == ["network", "untrained"]
    assert [one["name"] for one in sites_of(data)][-1] == "block.2.linear2"
    assert {layer["name"] for layer in data["networks"][0]["layers"]} >= {"block.2.linear1", "output"}
    assert set(sites_of(data)[-1]["nulls"]) == {"permuted", "untrained"}
    assert data["thumbnails"]["picture"].startswith("data:image/png;base64,")
    headings = re.findall("<h2>([^<:]+)", html)
    assert headings == ["Training", "Tables 1 and 2", "Figure 3", "Figure 4", "Figure 5"]
    assert html.count('src="data:image/svg+xml;base64,') == 5


def test_figures_wear_the_pages_colours_in_light_and_dark(tmp_path: Path) -> None:
    light, dark = (
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]{6})", re.sub(r"\s+", " ", block)))
        for block in re.findall(r":root[^{]*\{([^}]+)\}", (HERE / "page.css").read_text("utf-8"))[:2]
    )
    names = ("ink", "faint", "surface", "blue", "vermilion", "green", "purple", "sky", "orange")
    assert {light[name].upper(): dark[name].upper() for name in names} == IN_THE_DARK
    with matplotlib.rc_context(STYLE):
        figure = Figure()
        figure.subplots().plot([1, 2], label="a line")
    drawn, _ = save_figure(figure, tmp_path / "figure")
    styles = [element.get("style", "") for element in ElementTree.parse(drawn).iter()]
    inks = {colour for style in styles for colour in re.findall("(?:stroke|fill): (#[0-9a-f]{6})", style)}
    assert "#000000" not in inks, "black would be read on a dark ground"


def test_the_images_that_excite_a_node_are_found(tiny: RunDirectory) -> None:
    _, _, data = page_of(tiny)
    network, images = load_network(tiny.path), load_images("digits", "test")
    pictures, (*_, last) = data["networks"][0]["pictures"], sites_of(data)
    (probe,) = load_probes(tiny, "measure", select_sites(network.sites(), last["name"]))
    scale = normalisation_from(network.checkpoint_metadata)
    assert scale is not None
    pooled: list[torch.Tensor] = []
    with torch.inference_mode(), reading(network, [probe.site], lambda _, x: pooled.append(probe.pool(x)[0])):
        network(normalise(images.batch(np.arange(len(images))), scale.mean, scale.std))
    for key, largest in (("most", True), ("least", False)):
        excitation = data["networks"][0]["excitation"]["0"][last["name"]]
        shown = np.frombuffer(base64.b64decode(excitation[key]), "<u2").reshape(last["nodes"], 4)
        expected = pooled[0].topk(4, dim=0, largest=largest).indices
        assert np.array_equal(np.array(pictures["labels"])[shown].T, images.labels[expected].numpy())


def test_images_of_any_size_show_the_labels_of_a_measured_checkpoint(tmp_path: Path) -> None:
    for position in range(40):
        of_label = tmp_path / "photos" / ("train" if position < 20 else "test") / ("cat", "dog")[position % 2]
        of_label.mkdir(parents=True, exist_ok=True)
        colour = (position, 2 * position, 90 - position)
        Image.new("RGB", (10 + position, 12), colour).save(of_label / f"{position}.png")
    torch.manual_seed(0)
    write_tensors(tmp_path / "own.safetensors", *stored(build_network("cct_2_3x1_16", 2, 8, 3)))
    asked = ("--data", str(tmp_path / "photos"), "--sites", "block.2.linear2", "--epochs", "1", "--no-untrained")
    run = RunDirectory(tmp_path / "run")
    assert nodelens("measure", str(tmp_path / "own.safetensors"), *asked, "--out", str(run.path)) == 0
    assert page_of(run)[2]["thumbnails"]["side"] == 8


def test_images_are_left_out_when_asked(tiny: RunDirectory, tmp_path: Path) -> None:
    html = write_report([tiny], tmp_path / "page.html", images=False).read_text()
    data = json.loads(Scripts(html).found["explorer-data"])
    assert data["thumbnails"] is None
    assert "pictures" not in data["networks"][0]


def factor(scripts: dict[str, str], site: dict[str, Any], part: str) -> np.ndarray:
    """The numbers behind one of a site's texts."""
    text = base64.b64decode(scripts[f"factors-{site['factors'][part]}"])
    return np.frombuffer(text, "<f8" if part == "fields" else "<f4")


def test_factors_are_those_of_the_measurement(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    _, scripts, data = page_of(run)
    measured = load_measurements(run, "test")[0]
    for one in sites_of(data):
        means, weight = (factor(scripts, one, part).reshape(one["nodes"], len(LABELS)) for part in ("means", "weight"))
        assert np.array_equal(means.T, measured[one["name"]].class_means.numpy())
        assert np.array_equal(weight.T, measured[one["name"]].weight.numpy())


def test_statistics_are_pythons(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    _, _, data = page_of(run)
    last = sites_of(data)[-1]
    measured = load_measurements(run, "test")[0][last["name"]]
    for row in last["python"]:
        expected = measured.statistics(row["threshold"]).scalars()
        assert all(row[key] in (value, None) for key, value in expected.items())


def test_the_policy_forbids_every_request_and_names_the_script(tmp_path: Path) -> None:
    html, scripts, _ = page_of(write_run(tmp_path))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].replace("&#39;", "'").split(";"))
    digest = base64.b64encode(hashlib.sha256(scripts["code"].encode()).digest()).decode()
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert rules["img-src"] == "data:"
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert "style=" not in html.split("<script", 1)[0]


def test_label_names_stay_text(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    run.write_table("further", [{"label": HOSTILE, "value": 1.0}])
    html, _, data = page_of(run)
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert data["networks"][0]["labels"][2:4] == [HOSTILE, QUOTED]


def test_a_run_that_is_only_trained_says_what_is_missing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_json("config.json", {"train": {"settings": {"network": "cct_7_3x1"}}})
    html, _, data = page_of(run)
    assert "No site of this run has been measured yet" in html
    assert "cct_7_3x1" in html
    assert data["networks"] == []


@pytest.mark.parametrize("labels", [1, 1000])
def test_few_and_many_labels(tmp_path: Path, labels: int) -> None:
    _, _, data = page_of(write_run(tmp_path, [f"label {i}" for i in range(labels)]))
    assert len(data["networks"][0]["labels"]) == labels
    assert all(one["factors"] is not None for one in sites_of(data))


def test_what_has_no_room_is_named(tmp_path: Path) -> None:
    factors = Factors(room=3300)
    (network,) = describe_networks(explored_networks([write_run(tmp_path)]), "test", factors)
    kept = [one["name"] for one in network["views"][0]["sites"] if one["factors"] is not None]
    assert kept == ["block.1.linear2", "block.2.linear2"]
    (left_out,) = factors.left_out.values()
    assert len(left_out) == len(SITES) - 2


@pytest.mark.parametrize("positions", [4, 16])
def test_filters_are_explored(tmp_path: Path, positions: int) -> None:
    run = write_run(tmp_path, sites=[site("block.1.conv", 6, positions=positions), *SITES])
    _, scripts, data = page_of(run)
    shown, measured = sites_of(data)[0], load_measurements(run, "test")[0]["block.1.conv"]
    if positions > len(LABELS):  # the matrices are smaller than their factors
        fields = factor(scripts, shown, "fields").reshape(6, len(LABELS), len(LABELS))
        assert all(np.array_equal(fields[node], measured.matrices.raw_field(node)) for node in range(6))
    else:
        means = factor(scripts, shown, "means").reshape(6, len(LABELS), positions)
        assert np.array_equal(means, measured.class_means.transpose(0, 1))
    statistics = measured.statistics(0.3).scalars()
    row = next(row for row in shown["python"] if row["threshold"] == 0.3)
    assert all(row[key] in (value, None) for key, value in statistics.items())


def test_filters_without_room_are_shown_in_part(tmp_path: Path) -> None:
    convolutions = [site(f"block.{k}.conv", 8, positions=4) for k in (1, 2)]
    run, factors = write_run(tmp_path, sites=convolutions), Factors(room=5000)
    (network,) = describe_networks(explored_networks([run]), "test", factors)
    first, second = network["views"][0]["sites"]
    assert abs(first["nodes"] - second["nodes"]) <= 1
    assert 0 < first["nodes"] < first["of"] == 8
    measured = load_measurements(run, "test")[0]["block.1.conv"].matrices.select(range(first["nodes"]))
    row = next(row for row in first["python"] if row["threshold"] == 0.3)
    assert row["noise"] == site_statistics(measured, 0.3).noise
    assert f"block.1.conv with the first {first['nodes']} of 8 nodes" in factors.partly[-1]


def test_every_split_and_seed_is_a_view(tmp_path: Path) -> None:
    run = write_run(tmp_path, split="test,train", seeds=2)
    html, scripts, data = page_of(run)
    views = data["networks"][0]["views"]
    assert [(view["split"], view["seed"]) for view in views] == [("test", 0), ("train", 0), ("test", 1), ("train", 1)]
    assert "have no nodes in the explorer" not in html
    weights = {(view["seed"], view["sites"][0]["factors"]["weight"]) for view in views}
    assert len(weights) == 2  # the probes are the same on every split
    for view in views:
        measured = load_measurements(run, view["split"])[view["seed"]]
        means = factor(scripts, view["sites"][0], "means").reshape(12, len(LABELS))
        assert np.array_equal(means.T, measured["block.1.linear2"].class_means)


def test_views_without_room_are_named(tmp_path: Path) -> None:
    run, factors = write_run(tmp_path, split="test,train"), Factors(room=14_000)
    (network,) = describe_networks(explored_networks([run]), "test", factors)
    assert all(one["factors"] for one in network["views"][0]["sites"])
    assert list(factors.left_out) == ["network, train split, probe seed 0"]


def test_studies_inside_a_run_are_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    inner = RunDirectory(tmp_path / "prune" / "table3")
    inner.write_text(
        "tables/table3.md", "**Table 3: ours**\n\n| layer | | removed |\n|---|---|--:|\n| qkv | paper | 0.85 |\n"
    )
    inner.write_table("table3", [{"layer": "qkv", "of": "paper", "dilution": 0.85}])
    RunDirectory(tmp_path / "heads").write_table("figure9.train", [{"of": "paper", "with": 0.82}])
    html, _, _ = page_of(run)
    assert "prune/table3/tables/table3.csv" in html
    assert "heads/tables/figure9.train.csv" in html
    assert '<a href="#figure-6">Table 3</a>' in html
    assert "Figure 11<span" in html  # named as missing


def test_tables_of_several_studies_name_them(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    table = "**{}**\n\n| method | removed |\n|---|--:|\n| andc | 0.8 |\n"
    for study in ("one", "two"):
        RunDirectory(tmp_path / "prune" / study).write_text("tables/prune.accuracy.md", table.format("Test accuracy"))
    RunDirectory(tmp_path / "prune" / "two").write_text("tables/prune.curve.md", table.format("Only here"))
    html, _, _ = page_of(run)
    titles = re.findall("<figcaption>(.*?)</figcaption>", html)
    assert {"one: Test accuracy", "two: Test accuracy", "two: Only here"} <= set(titles)
    assert "Test accuracy" not in titles


def test_the_file_that_is_named_for_all_digits_is_there(tmp_path: Path) -> None:
    for file in ("prune.csv", "prune.accuracy.md", "prune.curve.csv", "prune.curve.md", "heads.order.train.md"):
        (tmp_path / file).touch()
    named = {name: digits_of(tmp_path, name) for name in ("prune.accuracy", "prune.curve", "heads.order.train")}
    assert named == {
        "prune.accuracy": "prune.csv",
        "prune.curve": "prune.curve.csv",
        "heads.order.train": "heads.order.train.md",
    }


def test_two_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [str(write_run(tmp_path / name, seed=i).path) for i, name in enumerate(("dense", "pruned"))]
    assert nodelens("report", *runs, "--out", str(tmp_path / "both.html")) == 0
    data = json.loads(Scripts((tmp_path / "both.html").read_text()).found["explorer-data"])
    assert [network["name"] for network in data["networks"]] == ["dense", "pruned"]


def test_another_split_is_shown_when_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path, split="train")
    assert page_of(run)[2]["networks"][0]["views"][0]["split"] == "train"
    assert nodelens("report", str(tmp_path), "--split", "test") == 2
    assert "not every network was measured on 'test'; measured are network: train" in capsys.readouterr().err
    other = write_run(tmp_path / "other")
    assert nodelens("report", str(tmp_path), str(other.path)) == 2
    assert "on one split together" in capsys.readouterr().err


def test_images_are_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.delenv("NODELENS_DATA", raising=False)
    for name in ("cifar100", "hf:org/name", "flowers102:cct", "nowhere"):
        run = write_run(tmp_path)
        measure = run.configuration()["measure"]
        run.write_json("config.json", {"measure": measure | {"settings": {"data": {"name": name}}}})
        assert page_of(run)[2]["thumbnails"] is None


def test_stored_rows_are_read_as_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    path = run.write_table("some", [{"site": "a", "snr": 1.25, "accuracy": ""}])
    assert stored_rows(path) == [{"site": "a", "snr": 1.25, "accuracy": ""}]
    path.write_text("site,name,snr\n1,100000,2\n")
    assert stored_rows(path) == [{"site": "1", "name": "100000", "snr": 2.0}]


def cut_measurement(run: RunDirectory) -> None:
    path = run.path / "measure" / "block.2.qkv.safetensors"
    path.write_bytes(path.read_bytes()[:700])


def foreign_measurement(run: RunDirectory) -> None:
    (run.path / "measure" / "block.2.qkv.safetensors").write_bytes(b"no tensors")


def measurement_without_site(run: RunDirectory) -> None:
    tensors = {"class_means.test": torch.ones(1, 3, 4), "accuracy.test": torch.ones(1), "weight": torch.ones(1, 3, 4)}
    run.write_tensors("measure/block.2.qkv.safetensors", tensors, {"images.test": "none"})


DAMAGE = {
    "a measurement cut off": (cut_measurement, "truncated"),
    "a measurement that is none": (foreign_measurement, "not a safetensors file"),
    "a measurement without its site": (measurement_without_site, "is damaged"),
    "a configuration cut off": (lambda run: (run.path / "config.json").write_text('{"measure": '), "config.json"),
    "a table cut off": (lambda run: run.write_text("tables/other.csv", "a,b\n1,2\n3"), "a line is cut off"),
    "statistics of nothing": (lambda run: run.write_text("tables/statistics.test.csv", "a,b\n1,2\n"), "damaged"),
    "a figure cut off": (lambda run: run.write_text("figures/node.test.svg", "<svg><g>"), "cut off"),
    "a table that is none": (lambda run: run.write_text("tables/table1.test.md", "nothing"), "no table"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_one_sentence(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path)
    harm, said = DAMAGE[damage]
    harm(run)
    assert nodelens("report", str(tmp_path)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert error.count("\n") == 0
    assert not (tmp_path / "report.html").exists()


def test_no_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, said in ((tmp_path / "nowhere", "there is no run directory"), (tmp_path, "is no run directory")):
        assert nodelens("report", str(path)) == 2
        assert said in capsys.readouterr().err


def tool(name: str) -> str | None:
    """A development tool of the explorer: installed beside its sources, or anywhere."""
    local = SOURCES / "node_modules" / ".bin" / name
    return str(local) if local.exists() else shutil.which(name)


@pytest.mark.skipif(
    not (SOURCES / "node_modules" / "esbuild").exists(), reason="esbuild is not installed (npm install)"
)
def test_the_product_is_what_the_sources_give(tmp_path: Path) -> None:
    made = tmp_path / "explorer.js"
    subprocess.run(["node", SOURCES / "build.mjs", made], check=True, capture_output=True)
    assert made.read_text() == (HERE / "explorer" / "explorer.js").read_text()


@pytest.mark.skipif(tool("tsc") is None, reason="the TypeScript compiler is not installed (npm install)")
def test_the_modules_types_hold() -> None:
    done = subprocess.run([str(tool("tsc")), "-p", SOURCES / "jsconfig.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_product_cannot_end_its_own_element() -> None:
    product = (HERE / "explorer" / "explorer.js").read_text()
    assert "</script" not in product
    assert "innerHTML" not in product


def test_figures_are_drawn_into_given_axes(tmp_path: Path) -> None:
    measured = load_measurements(write_run(tmp_path), "test")[0]["block.2.linear2"]
    own = Figure()
    panels = own.subplots(2, 3)
    assert node_figure(measured.matrices, 0, LABELS, into=panels[0]) is own
    assert label_figure(measured.statistics(0.3), LABELS, "a title", into=panels[1, :2]) is own
    assert panels[0, 0].get_title(loc="left") == "average field"
    with pytest.raises(InputError, match="give as many axes of one figure, not 3"):
        label_figure(measured.statistics(0.3), LABELS, into=panels[1])


def test_statistics_are_drawn_site_by_site_with_the_own_head_apart() -> None:
    rows = [
        {"site": "block.1.linear2", "of": "network", "accuracy": 0.5, "snr": 1.5, "snr_std": 0.1},
        {"site": "block.1.linear2", "of": "permuted", "accuracy": "", "snr": 1.0, "snr_std": 0.0},
        {"site": "block.1.qkv", "of": "network", "accuracy": 0.1, "snr": 9.0, "snr_std": 0.0},
        {"site": "own_head", "of": "network", "accuracy": 0.7, "snr": 3.5, "snr_std": 0.0},
        {"site": "block.2.linear2", "of": "network", "accuracy": 0.6, "snr": float("nan"), "snr_std": 0.0},
        {"site": "block.3.linear2", "of": "network", "accuracy": 0.7, "snr": 2.5, "snr_std": 0.0},
        {"site": "block.3.linear2", "of": "paper", "accuracy": 0.8, "snr": "", "snr_std": ""},
    ]
    figure = growth_figure(rows, ["accuracy", "snr"])
    accuracies, ratios = figure.axes
    lines = [line.get_xydata().tolist() for line in ratios.lines if len(line.get_xdata())]
    assert lines == [[[0, 1.5], [2, 2.5]], [[3, 3.5]], [[0, 1.0]]]  # network, own head, permuted; no infinite ratio
    assert [label.get_text() for label in ratios.get_xticklabels()] == ["1", "2", "3", "own"]
    assert not any(axes.get_legend() for axes in figure.axes)
    told = [[text.get_text() for text in legend.get_texts()] for legend in figure.legends]
    assert told == [["network", "paper", "labels permuted"]]
    own = Figure().subplots(1, 2)
    growth_figure(rows, ["accuracy", "snr"], into=own)
    assert [axes.get_legend() is not None for axes in own] == [False, True]
    assert [0.8] in [list(line.get_ydata()) for line in accuracies.lines]
    with pytest.raises(InputError, match="no site was measured"):
        growth_figure([])


def test_a_large_matrix_names_what_its_node_says_most() -> None:
    names = [f"label {i}" for i in range(60)]
    torch.manual_seed(0)
    matrices = NodalMatrices(torch.rand(60, 4), torch.randn(60, 4))
    axes = node_figure(matrices, 2, names).axes[0]
    diagonal = (matrices.class_means[:, 2] * matrices.weight[:, 2]).tolist()
    named = [int(where) for where in axes.get_yticks()]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == [names[label] for label in named]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [names[label] for label in named]
    assert len(named) == 12
    assert max(range(60), key=diagonal.__getitem__) in named
    assert min(b - a for a, b in itertools.pairwise(named)) >= 3
    # A label between two that are named says no more than one of its neighbours among them.
    for label in set(range(60)) - set(named):
        near = [diagonal[other] for other in named if abs(other - label) < 3]
        assert diagonal[label] <= max([*near, min(diagonal[other] for other in named)])


@pytest.mark.parametrize(("count", "expected"), [(100, list(range(100))), (150, [3, 40, 77, 90])])
def test_bars_are_named_all_or_the_highest_and_the_lowest(count: int, expected: list[int]) -> None:
    values, names = np.linspace(4, 6, count), [f"label {i}" for i in range(count)]
    values[[3, 40]], values[[77, 90]] = (0, 1), (20, 30)
    axes = Figure().subplots()
    name_bars(axes, values, names, extremes=2)
    assert [int(where) for where in axes.get_xticks()] == expected
    assert [tick.get_text() for tick in axes.get_xticklabels()] == [names[label] for label in expected]


def test_every_table_and_figure_has_the_paper_s_place() -> None:
    wanted = {
        "training": "Training",
        "table1.test": "Tables 1 and 2",
        "node.test": "Figure 3",
        "prune.curve": "Figure 6",
        "gain.layers": "Figure 6",
        "heads.appearances.train": "Figure 7",
        "table4.random.train": "Table 4",
        "heads.superclasses.train": "Table 4",
        "figure8.train": "Figure 8",
        "heads.experts.train": "Figure 8",
        "heads.symmetry.train": "Figure 9",
        "figure10.train": "Figure 10",
        "table5.train": "Table 5",
        "heads.depth.train": "Table 5",
        "heads.training.train": "The heads, beyond",
        "enforced": "The heads, beyond",
        "heads.fields.train": "Figure 11",
        "figure11.overlap.train": "Figure 11",
        "table10": "Further",
    }
    assert all(place_of(name).title.startswith(title) for name, title in wanted.items())


def test_a_figure_that_two_commands_drew_alike_is_shown_once(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (tmp_path / "figures").mkdir(exist_ok=True)
    same, other = b"<svg>the same</svg>", b"<svg>other</svg>"
    for name, drawn in (("figure8.test", same), ("heads.accuracies.test", same), ("figure9", other)):
        (tmp_path / "figures" / f"{name}.svg").write_bytes(drawn)
    html = write_report([run]).read_text()
    assert html.count(base64.b64encode(same).decode()) == 1
    assert html.count(base64.b64encode(other).decode()) == 1
    assert "figures/figure8.test" in html


def measured_run(path: Path, seed: int, threshold: float = 0.3) -> RunDirectory:
    run = write_run(path, seed=seed)
    run.write_table("statistics.test", statistics_rows({"network": load_measurements(run, "test")}, threshold))
    return run


def test_two_runs_are_compared_block_by_block(tmp_path: Path) -> None:
    runs = {name: measured_run(tmp_path / name, seed) for seed, name in enumerate(("dense", "pruned"))}
    table = compared_table(runs, "test")
    assert table is not None
    assert [row[1] for row in table.rows] == ["dense", "pruned", "difference"] * 2
    assert [row[0] for row in table.rows if row[0]] == ["block.1.linear2", "block.2.linear2"]
    found = [load_measurements(run, "test")[0]["block.2.linear2"].statistics(0.3) for run in runs.values()]
    diagonal = table.headings.index("diag")
    assert float(table.rows[-1][diagonal]) == pytest.approx(found[1].diagonal - found[0].diagonal, abs=0.01)
    html = write_report(list(runs.values())).read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", html)
    assert titles[0] == "The runs side by side"
    assert [title.split(" · ")[1] for title in titles[1:]] == ["dense", "pruned"]


def test_runs_at_different_thresholds_are_not_compared(tmp_path: Path) -> None:
    runs = {"a": measured_run(tmp_path / "a", 0), "b": measured_run(tmp_path / "b", 1, threshold=0.4)}
    assert compared_table(runs, "test") is None
    assert compared_table({"a": runs["a"], "c": write_run(tmp_path / "c")}, "test") is None


def test_a_run_of_another_version_may_not_know_all_sites(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.configure("measure", {}, sites=["first", "last"])
    run.write_table("statistics.test", [row_of("last")])
    new = [row_of(site) for site in ("first", "first.input")]
    assert [row["site"] for row in with_other_sites(run, "statistics.test", new)] == ["first", "last", "first.input"]


def row_of(site: str) -> dict[str, object]:
    return {"site": site, "split": "test", "of": "network", "threshold": 0.3, "seeds": 1}


def test_rows_of_other_images_of_the_same_name_are_gone(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    sites = {"first": "of today", "second": "of today", "last": "of yesterday"}
    run.configure("measure", {}, sites=list(sites))
    for name, images in sites.items():
        run.write_tensors(f"measure/{name}.safetensors", {"weight": torch.ones(1)}, {"images.test": images})
    run.write_table("statistics.test", [row_of(name) for name in sites])
    assert [row["site"] for row in with_other_sites(run, "statistics.test", [row_of("first")])] == ["first", "second"]


def test_a_title_keeps_to_the_terminal() -> None:
    table = TextTable(" ".join(["word"] * 40), ("site", "of", "n"))
    table.add_group(("block.1", "network", "1"))
    console = Console(width=200, soft_wrap=True, file=io.StringIO(), markup=False)
    console.print(table.rich())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert sum("word" in line for line in lines) > 1
    assert max(map(len, lines)) <= 80
