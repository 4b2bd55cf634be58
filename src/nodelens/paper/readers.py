"""Every number of the paper with ours: read from the tables that the studies wrote."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean, stdev

from nodelens.paper import values
from nodelens.paper.enforced import HEADS
from nodelens.paper.numbers import SPREADS, Number, unit
from nodelens.report.stored import stored_rows
from nodelens.report.tables import Row
from nodelens.runs import RunDirectory

KEEPS_ACCURACY = -0.005
"""What "without affecting the accuracy" is taken to allow: the spread that the paper states."""


def numbers_of(part: str, run: RunDirectory) -> list[Number]:
    """The numbers of a finished part, from the tables in the run directory.

    Raises:
        InputError: a table is damaged or missing.
    """
    return list(READERS[part](run)) if part in READERS else []


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """The lines of the paper and of ours that belong together."""
    for paper, ours in pairwise(rows):
        if paper["of"] == "paper" and ours["of"] == "ours":
            yield paper, ours


def _compared(
    part: str, paper: Row, ours: Row, names: Mapping[str, str], units: Mapping[str, float], where: str = ""
) -> Iterator[Number]:
    """A number for each column of two lines that the paper has."""
    for name, heading in names.items():
        if paper.get(name, "") == "":
            continue
        spread = ours.get(f"{name}_std", 0.0)
        what = f"{where}, {heading}" if where else heading
        yield Number(part, what, paper[name], _known(ours[name]), _known(spread, 0.0), units[name])


def _known(value: float | str, otherwise: float = math.nan) -> float:
    return otherwise if isinstance(value, str) or math.isnan(value) else value


def _units(published: Iterable[Mapping[str, float | int]], truncated: bool = False) -> dict[str, float]:
    """The rounding of every column."""
    columns: dict[str, list[float | int]] = {}
    for row in published:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return {name: unit(column, truncated) for name, column in columns.items()}


def _rows(run: RunDirectory, table: str) -> list[Row]:
    return stored_rows(run.path / "tables" / f"{table}.csv")


def _block(value: float | str) -> str:
    return f"block {value:g}" if isinstance(value, float) else f"blocks 6 and 7, {value}"


NODE_COLUMNS = {"accuracy": "Acc", "n_clusters": "N_c", "cluster_size": "C_s", "diagonal": "diag", "noise": "n"}
SNR_COLUMNS = {"signal": "signal", "noise_internal": "noise_I", "noise_external": "noise_E", "snr": "SNR"}


def _network(run: RunDirectory, published: float = values.NETWORK_ACCURACY) -> Iterator[Number]:
    (row,) = _rows(run, "network")
    yield Number(
        "network", f"test accuracy of {row['network']}", published, row["accuracy"], rounding=unit([published])
    )


def _table1(run: RunDirectory) -> Iterator[Number]:
    rows = _rows(run, "table1.test")
    units = _units(values.TABLE1.values())
    for paper, ours in _pairs(rows):
        yield from _compared("table1", paper, ours, NODE_COLUMNS, units, _block(ours["block"]))
    accuracies = [row["accuracy"] for row in rows if row["of"] == "ours"]  # the last block first
    rises = [upper - lower for upper, lower in pairwise(accuracies)]
    if rises:
        yield Number("table1", "least rise of Acc from block to block", 0.0, min(rises), rule="≥")


def _table2(run: RunDirectory) -> Iterator[Number]:
    rows = _rows(run, "table2.test")
    units = _units(values.TABLE2.values(), truncated=True)
    for paper, ours in _pairs(rows):
        yield from _compared("table2", paper, ours, SNR_COLUMNS, units, _block(ours["block"]))
    last, *others = [row["snr"] for row in rows if row["of"] == "ours"]
    if others:
        yield Number("table2", "SNR of the last block less the largest other", 0.0, last - max(others), rule="≥")


def _figure3(run: RunDirectory) -> Iterator[Number]:
    for paper, ours in _pairs(_rows(run, "figure3.test")):
        units = _units([values.FIGURE3[ours["site"]]])
        yield from _compared("figure3", paper, ours, NODE_COLUMNS, units, f"last block's {ours['site']}")


def _figure5(run: RunDirectory) -> Iterator[Number]:
    rows = [row for row in _rows(run, "figure5.test") if row["of"] == "network"]
    last = list(dict.fromkeys(row["site"] for row in rows))[-2:][::-1]
    for site, (block, published) in zip(last, values.FIGURE5_BEST_THRESHOLD.items(), strict=False):
        best = max((row for row in rows if row["site"] == site), key=lambda row: row["snr_min"])
        # "About": a step of the sweep.
        yield Number("figure5", f"block {block}, best threshold", published, best["threshold"], rounding=0.05)
    low, high = values.ROBUST_THRESHOLDS
    ratios: dict[float, list[float]] = {}  # at each threshold along the blocks
    for row in rows:
        if low <= row["threshold"] <= high:
            ratios.setdefault(row["threshold"], []).append(row["snr"])
    leads = [along[-1] - max(along[:-1]) for along in ratios.values() if len(along) > 1]
    if leads:
        what = f"SNR of the last block less the largest other, least at thresholds {low:g} to {high:g}"
        yield Number("figure5", what, 0.0, min(leads), rule="≥")


def _table3(run: RunDirectory) -> Iterator[Number]:
    study = RunDirectory(run.path / "prune" / "table3")
    columns = {**NODE_COLUMNS, "dilution": "removed"}
    units = _units(values.TABLE3.values())
    for paper, ours in _pairs(_rows(study, "table3")):
        yield from _compared("table3", paper, ours, columns, units, f"{ours['layer']} {ours['role']}")
    rows = _rows(study, "prune")
    if (study.path / "tables" / "prune.layers.csv").exists():
        yield from _weights(_rows(study, "prune.layers"), rows)
    kept = _kept(rows, "andc")
    yield Number("table3", "Acc after pruning and retraining less before", KEEPS_ACCURACY, *kept, rule="≥")


def _weights(layers: Sequence[Row], rows: Sequence[Row]) -> Iterator[Number]:
    """Weights of the pruned layers before and after pruning."""
    nodes = {(row["layer"], row["role"]): row["nodes"] for row in layers}
    before = sum(nodes[layer, "input"] * nodes[layer, "output"] for layer in {layer for layer, _ in nodes})
    kept = [before * (1 - row["dilution"]) for row in rows if row["method"] == "andc" and row["epoch"] == 0]
    published = values.TABLE3_WEIGHTS
    # "About", in thousands.
    yield Number("table3", "weights of the four layers before pruning", published["before"], before, rounding=500.0)
    yield Number("table3", "weights of the four layers after pruning", published["after"], *_over_seeds(kept), 500.0)


def _kept(rows: Sequence[Row], method: str) -> tuple[float, float]:
    """Test accuracy of the retrained network less that of the network as it was; mean and spread over the seeds."""
    last = max(row["epoch"] for row in rows)
    before = {row["seed"]: row["test"] for row in rows if row["method"] == "dense" and row["epoch"] == 0}
    before = before or dict.fromkeys((row["seed"] for row in rows), math.nan)
    after = [row for row in rows if row["method"] == method and row["epoch"] == last]
    return _over_seeds([row["test"] - before[row["seed"]] for row in after])


def _gain_over_random(rows: Sequence[Row]) -> tuple[float, float]:
    """Test accuracy of ANDC's retrained network less that of random pruning; mean and spread over the seeds."""
    last = max(row["epoch"] for row in rows)
    andc, by_chance = (
        {row["seed"]: row["test"] for row in rows if row["method"] == method and row["epoch"] == last}
        for method in ("andc", "random")
    )
    return _over_seeds([andc[seed] - by_chance[seed] for seed in andc])


def _over_seeds(found: Sequence[float]) -> tuple[float, float]:
    """Mean and spread."""
    return fmean(found), stdev(found) if len(found) > 1 else 0.0


def _gain(ours: Row, first: str, second: str) -> tuple[float, float]:
    """A difference of two columns with its spread over the seeds, which older tables lack."""
    if "gain" in ours:
        return _known(ours["gain"]), _known(ours["gain_std"], 0.0)
    return _known(ours[first]) - _known(ours[second]), 0.0


def _output(run: RunDirectory) -> Iterator[Number]:
    study = RunDirectory(run.path / "prune" / "output")
    names = {"diagonal": "diag", "dilution": "removed", "andc": "Acc of ANDC", "random": "Acc of random pruning"}
    rows = _rows(study, "prune")
    for paper, ours in _pairs(_rows(study, "output")):
        units = {name: unit([paper[name]]) for name in names}
        yield from _compared("output", paper, ours, names, units, f"threshold {values.OUTPUT['threshold']:g}")
        gain = _gain_over_random(rows)
        yield Number("output", "Acc of ANDC less that of random pruning", 0.0, *gain, rule="≥")
    dense = [row for row in rows if row["method"] == "dense" and row["epoch"] == 0]
    kept = _kept([*dense, *_rows(study, "prune.curve")], "andc")
    what = f"Acc with {values.OUTPUT_DILUTION:.0%} removed and retrained, less before"
    yield Number("output", what, KEEPS_ACCURACY, *kept, rule="≥")


def _table4(run: RunDirectory) -> Iterator[Number]:
    names = {"labels": "labels"} | {f"filled_{k}": f"super-classes with {k} of 5" for k in range(1, 6)}
    for paper, ours in _pairs(_rows(run, "table4.train")):
        where = f"{_block(ours['block'])}, head {ours['head']:g} by labels"
        if ours.get("labels", "") != "":
            yield from _compared("table4", paper, {**dict.fromkeys(names, ""), **ours}, names, _whole(names), where)
    for paper, ours in _pairs(_rows(run, "table4.random.train")):
        units = {name: unit([paper[name]]) + _of_samples(ours[name]) for name in names if name != "labels"}
        shares = {name: heading for name, heading in names.items() if name != "labels"}
        yield from _compared("table4", paper, ours, shares, units, f"{ours['labels']:g} random labels")


def _of_samples(expected: float) -> float:
    """Two standard errors of a mean of the paper's samples, whose counts are rare and so nearly Poisson's."""
    return SPREADS * math.sqrt(expected / values.TABLE4_SAMPLES)


def _whole(names: Iterable[str]) -> dict[str, float]:
    return dict.fromkeys(names, 0.5)


def _table5(run: RunDirectory) -> Iterator[Number]:
    of_second = (run.path / "tables" / "network.csv").exists() and _rows(run, "network")[0]["data"]
    if of_second and of_second.startswith("flowers102"):
        yield from (replace(number, part="table5") for number in _network(run, values.FLOWERS_ACCURACY))
    names = {"accuracy": "Acc"} | {f"head_{i}": f"head {i} by labels" for i in range(1, 5)} | {"total": "labels owned"}
    for paper, ours in _pairs(_rows(run, "table5.train")):
        units = _whole(names) | {"accuracy": 0.005}
        yield from _compared("table5", paper, ours, names, units, _block(ours["block"]))


def _figure7(run: RunDirectory) -> Iterator[Number]:
    rows = _rows(run, "figure7.train")
    for paper, ours in _pairs(rows):
        units = {"accuracy": unit([values.PROBE_AT_ATTENTION]), "total": 0.5}
        names = {"accuracy": "Acc of the probe", "total": "labels owned"}
        yield from _compared("figure7", paper, ours, names, units, _block(ours["block"]))
        chance = next(row["total"] for row in rows if row["of"] == "by chance")
        yield Number("figure7", "labels owned less those by chance", 0.0, ours["total"] - chance, rule="≥")


def _figure8(run: RunDirectory) -> Iterator[Number]:
    for _, ours in _pairs(_rows(run, "figure8.train")):
        gain = _gain(ours, "own", "others")
        yield Number("figure8", "Acc of labels in their own head less the others'", 0.0, *gain, rule="≥")


def _figure9(run: RunDirectory) -> Iterator[Number]:
    names = {"with": "Acc with symmetry broken", "without": "Acc without"}
    for paper, ours in _pairs(_rows(run, "figure9.train")):
        published = [value for name in names if (value := paper[name]) != ""]
        units = dict.fromkeys(names, unit(published))
        where = _block(ours["block"])
        yield from _compared("figure9", paper, ours, names, units, where)
        gain = _gain(ours, "with", "without")
        yield Number("figure9", f"{where}, Acc with less without", 0.0, *gain, rule="≥")


def _figure10(run: RunDirectory) -> Iterator[Number]:
    rows = _rows(run, "figure10.train")
    low, high = values.FIGURE10_RATIOS
    names = {f"ratio_{ratio:g}": f"share owned at ratio {ratio:g}" for ratio in (low, 2.0, high)}
    last, *others = [row for row in rows if row["of"] == "ours"]
    for paper, ours in _pairs(rows[:2]):
        # "About 70".
        yield from _compared("figure10", paper, ours, names, dict.fromkeys(names, 0.05), _block(last["block"]))
    if others:
        before, labels = others[0], sum(labels for labels, _ in values.TABLE4[values.BLOCKS - 1])
        paper = {"ratio_2": labels / values.LABELS}
        names = {"ratio_2": f"share owned at ratio 2, in the text {labels} labels"}
        yield from _compared(
            "figure10", paper, before, names, {"ratio_2": unit([labels / values.LABELS])}, _block(before["block"])
        )
        most = max(row[f"ratio_{low:g}"] for row in others)
        what = f"largest share owned in another block at ratio {low:g}"
        yield Number("figure10", what, values.FIGURE10_LABELS / values.LABELS, most, rule="≤")


def _figure11(run: RunDirectory) -> Iterator[Number]:
    """Statements in words: a head is clearer for its own labels than the others, and clear fields are infrequent."""
    rows = {row["view"]: row for row in _rows(run, "figure11.train") if row["of"] == "itself"}
    expert, others = (rows.get(view, {}) for view in ("expert head", "other heads"))
    clearer = _known(expert.get("mean", "")) - _known(others.get("mean", ""))
    yield Number("figure11", "overlap with the image, a label's own head less the others", 0.0, clearer, rule="≥")
    at = values.FIGURE11_CLEAR
    what, clear = f"share of images that are clear there, |r| ≥ {at:g}", _known(expert.get(f"from_{at:g}", ""))
    yield Number("figure11", what, values.FIGURE11_INFREQUENT, clear, rule="≤")


def _enforced(run: RunDirectory) -> Iterator[Number]:
    rows = _rows(run, "enforced")
    free, given = ([row for row in rows if row["of"] == kind] for kind in ("free", "enforced"))
    gains = [b["network"] - a["network"] for a, b in zip(free, given, strict=True)]
    yield Number("enforced", "Acc with labels given to heads less without", 0.0, *_over_seeds(gains), rule="≥")
    # Of a network whose heads own no label there is no share.
    matched = [share for row in given if not math.isnan(share := _known(row["matched"]))]
    by_chance, mean = 1 / HEADS, fmean(matched) if matched else math.nan
    yield Number("enforced", "share of owned labels that are as given", by_chance, mean, rule="≥")


READERS: dict[str, Callable[[RunDirectory], Iterator[Number]]] = {
    "network": _network,
    "table1": _table1,
    "table2": _table2,
    "figure3": _figure3,
    "figure5": _figure5,
    "table3": _table3,
    "output": _output,
    "table4": _table4,
    "table5": _table5,
    "figure7": _figure7,
    "figure8": _figure8,
    "figure9": _figure9,
    "figure10": _figure10,
    "figure11": _figure11,
    "enforced": _enforced,
}
"""Parts whose tables hold numbers of the paper; Fig. 4 is a picture without a number."""
