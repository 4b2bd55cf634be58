"""Tables 4 and 5, Figs. 7 to 11: the heads, ours beside the paper's.

Heads have no number that two networks could share: in every comparison they stand by the labels that they own, the
head with most of them first. A block of ours stands beside the paper's at the same distance from the last.

All of them share one network and one measurement, which the first to be reproduced makes: on one core in about a minute
at the smoke scale (training included), and at the cpu scale after training in about half an hour, extrapolated from one
epoch of the probes. Each of the others then takes seconds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nodelens.heads.study import HeadSettings, HeadStudy, load_head_data
from nodelens.measures import HeadSpecialization, expected_occupancy, head_occupancy
from nodelens.networks import Site
from nodelens.paper import values
from nodelens.paper.comparison import cells, lines_of, paired, place, table_of, write_comparison
from nodelens.paper.scales import SECOND, TABLE5_IS_OF, Scale, precision_of, scale_probes, trained_network
from nodelens.report.expert_tables import experts_by_seed, symmetry_by_seed
from nodelens.report.field_figures import overlap_rows
from nodelens.report.figures import save_figure
from nodelens.report.head_tables import depth_rows, ratio_rows
from nodelens.report.heads import (
    figure_of_fields,
    figure_of_labels,
    figure_of_overlaps,
    figure_of_ratios,
    figure_of_symmetry,
    how,
)
from nodelens.report.tables import Row, TextTable, mean_and_spread
from nodelens.runs import RunDirectory

_FILLED = tuple(f"{k} of 5" for k in range(1, 6))


def table4(study: HeadStudy) -> list[TextTable]:
    """Table 4: labels of the heads of the last two blocks, their super-classes, and as many random labels.

    `nodelens reproduce table4 --scale cpu`. The paper's heads own 74
    labels in block 7 and 39 in block 6, and fill super-classes far beyond chance; the random labels must agree.
    """
    title = "Table 4: labels of the heads and their super-classes, means over the seeds"
    table = table_of(study, title, ("block, head", "labels", *_FILLED))
    rows = []
    for block, site in paired(study, values.TABLE4):
        published = sorted(values.TABLE4[block], reverse=True)
        ours = _fillings(study, site)
        for i in range(max(len(published), len(ours))):
            found, by_chance = ours[i] if i < len(ours) else ({}, {})
            paper = {"labels": published[i][0], **_filled(published[i][1])} if i < len(published) else {}
            lines = lines_of(paper, found, by_chance)
            rows += [{"block": site.block, "head": i + 1, **line} for line in lines]
            table.add_group(*([f"{site.block}, {place(i)}", *cells(line)] for line in lines))
    write_comparison(study, "table4", rows, table)
    return [table, random_labels(study)]


def _fillings(study: HeadStudy, site: Site) -> list[tuple[Row, Row]]:
    """For each head its labels and super-classes, beside as many random labels, means over the seeds.

    The head with most labels stands first.
    """
    by_seed = [_of_heads(study, found) for found in study.specializations(site)]
    heads = []
    for of_seeds in zip(*by_seed, strict=True):
        ours, by_chance = zip(*of_seeds, strict=True)
        heads.append((_over_seeds(ours), _over_seeds(by_chance)))
    return sorted(heads, key=lambda head: -head[0]["labels"])


def _of_heads(study: HeadStudy, found: HeadSpecialization) -> list[tuple[Row, Row]]:
    """For each head its labels and its super-classes by their filling, and those of as many random labels."""
    of_label = study.data.superclass_of_label
    if not of_label:
        return [({"labels": labels}, {}) for labels in found.labels_per_head.tolist()]
    return [
        ({"labels": test.labels, **_filled(test.occupancy[1:6].tolist())}, _filled(test.expected[1:6].tolist()))
        for test in head_occupancy(found, of_label)
    ]


def _filled(superclasses: Sequence[float | int]) -> Row:
    return {f"filled_{k}": count for k, count in enumerate(superclasses, start=1)}


def _over_seeds(rows: Sequence[Row]) -> Row:
    """Mean and spread of every column, without seeds that have no number there."""
    found: Row = {}
    for name in rows[0]:
        known = [float(row[name]) for row in rows if not math.isnan(row[name])]
        found |= mean_and_spread(name, known or [math.nan])
    return found


def random_labels(study: HeadStudy) -> TextTable:
    """Table 4, middle: super-classes of random labels, the paper's samples beside the exact expectation.

    For 20 super-classes of 5 labels, whatever was studied.
    """
    of_label = torch.arange(values.LABELS) // 5
    table = TextTable("Table 4: as many random labels, 20 super-classes of 5", ("labels", "", *_FILLED))
    rows = []
    for labels, sampled in values.TABLE4_RANDOM.items():
        exact = expected_occupancy(labels, of_label)[1:].tolist()
        lines = lines_of(*({f"filled_{k}": v for k, v in enumerate(found, start=1)} for found in (sampled, exact)))
        rows += [{"labels": labels, **line} for line in lines]
        table.add_group(*([str(labels), *cells(line)] for line in lines))
    write_comparison(study, "table4.random", rows, table)
    return table


def table5(study: HeadStudy) -> list[TextTable]:
    """Table 5: accuracy of the probe and labels of the heads in the last four blocks, on Flowers-102.

    `nodelens reproduce table5 --scale paper`; a GPU. At the other scales the same table of their own network and data,
    as its title says. Expect the labels owned to grow with the block; by the paper from 7 to 68 of 102.
    """
    of_block = {row["block"]: row for row in depth_rows(study)}
    headings = ("block", "Acc", *(f"{place(i)}" for i in range(4)), "total")
    own_data = not study.data.probing.training.name.startswith("flowers102")
    title = "Table 5: labels of the heads, most first" + f"; {TABLE5_IS_OF}" * own_data
    table, rows = table_of(study, title, headings), []
    for block, site in paired(study, values.TABLE5):
        accuracy, published, total = values.TABLE5[block]
        own = of_block[site.block]
        paper = _heads_row(accuracy, sorted(published, reverse=True), total)
        lines = lines_of(paper, _our_heads(own, site.heads), _null(own))
        rows += [{"block": site.block, **line} for line in lines]
        table.add_group(*([str(site.block), *cells(line)] for line in lines))
    return [write_comparison(study, "table5", rows, table)]


def _heads_row(accuracy: float, heads: Sequence[float | int], total: float | int) -> Row:
    return {"accuracy": accuracy, **{f"head_{i}": labels for i, labels in enumerate(heads, start=1)}, "total": total}


def _our_heads(row: Row, heads: int) -> Row:
    """A row of `depth_rows` as the paper prints it: the heads with most labels first, four at most."""
    order = sorted((f"head_{head}" for head in range(1, heads + 1)), key=lambda head: -row[head])[:4]
    names = ["accuracy", *order, "owned"]
    places = ["accuracy", *(f"head_{i}" for i in range(1, len(order) + 1)), "total"]
    values = {to: row[name] for to, name in zip(places, names, strict=True)}
    return values | {f"{to}_std": row[f"{name}_std"] for to, name in zip(places, names, strict=True)}


def _null(row: Row) -> Row:
    return {"total": row["owned_null"]}


def figure7(study: HeadStudy) -> list[TextTable]:
    """Fig. 7: appearances of every label in every head of the last block, and how many labels are whose.

    `nodelens reproduce figure7 --scale cpu`; the paper's heads own 23, 21, 15 and 15 labels, its probe reaches 0.786.
    """
    save_figure(figure_of_labels(study, "appearances"), _figure(study, "figure7"))
    last, heads = study.sites[-1].block, study.sites[-1].heads
    own = next(row for row in depth_rows(study) if row["block"] == last)
    published = sorted((labels for labels, _ in values.TABLE4[values.BLOCKS]), reverse=True)
    paper = _heads_row(values.PROBE_AT_ATTENTION, published, sum(published))
    lines = lines_of(paper, _our_heads(own, heads), _null(own))
    headings = ("block", "Acc", *(place(i) for i in range(4)), "total")
    table = table_of(study, "Fig. 7: labels of the heads of the last block, most first", headings)
    table.add_group(*([str(last), *cells(line)] for line in lines))
    return [write_comparison(study, "figure7", [{"block": last, **line} for line in lines], table)]


def figure8(study: HeadStudy) -> list[TextTable]:
    """Fig. 8: accuracy of each head's labels in that head and in the others.

    `nodelens reproduce figure8 --scale cpu`; by the paper "consistently higher" in their own head, here the share of
    labels for which that holds, and the rank correlation of appearances and accuracy.
    """
    save_figure(figure_of_labels(study, "accuracy"), _figure(study, "figure8"))
    of_seeds = experts_by_seed(study, study.sites[-1])
    published: Row = {"labels": sum(labels for labels, _ in values.TABLE4[values.BLOCKS])}
    lines = lines_of(published, _over_seeds([{**row, "gain": row["own"] - row["others"]} for row in of_seeds]))
    block = study.sites[-1].block
    headings = ("block", "labels", "Acc own", "others", "own best", "rank corr.", "own less others")
    table = table_of(study, "Fig. 8: labels of the last block in their own head and in the others", headings)
    table.add_group(*([str(block), *cells(line)] for line in lines))
    return [write_comparison(study, "figure8", [{"block": block, **line} for line in lines], table)]


def figure9(study: HeadStudy) -> list[TextTable]:
    """Fig. 9: the network's accuracy for labels with symmetry breaking, and for the others.

    `nodelens reproduce figure9 --scale cpu`; the paper finds 0.82 against 0.78 in block 7, 0.836 against 0.79 in
    block 6 and 0.857 for labels of both. The p-value, the largest of the seeds, says whether labels drawn at random
    would differ as much.
    """
    save_figure(figure_of_symmetry(study), _figure(study, "figure9"))
    of_seeds = symmetry_by_seed(study)
    headings = ("block", "with", "without", "with less without", "p")
    table = table_of(study, "Fig. 9: accuracy with and without symmetry breaking", headings)
    rows = []
    for block, site in paired(study, values.FIGURE9):
        own = [row for found in of_seeds for row in found if row["where"] == f"block {site.block}"]
        lines = lines_of(values.FIGURE9[block], _two_groups(own))
        rows += [{"block": site.block, **line} for line in lines]
        table.add_group(*([str(site.block), *cells(line)] for line in lines))
    both = [row for found in of_seeds for row in found if (row["first"], row["second"]) == ("in both", "in none")]
    if both:
        lines = lines_of({"with": values.FIGURE9_BOTH}, _two_groups(both))
        rows += [{"block": "both", **line} for line in lines]
        table.add_group(*(["both, none", *cells(line)] for line in lines))
    return [write_comparison(study, "figure9", rows, table)]


def _two_groups(of_seeds: Sequence[Row]) -> Row:
    """Accuracies of two groups of labels and their difference, over the seeds, and the largest p-value."""
    names = {"accuracy_first": "with", "accuracy_second": "without", "difference": "gain"}
    found = _over_seeds([{to: row[name] for name, to in names.items()} for row in of_seeds])
    return found | {"p": max((row["p"] for row in of_seeds if row["p"] == row["p"]), default=math.nan)}


def figure10(study: HeadStudy) -> list[TextTable]:
    """Fig. 10: share of the labels that a head owns, for several ratios and every block.

    `nodelens reproduce figure10 --scale cpu`; the paper has about 70 of 100 labels in block 7 for ratios from 1.5 to
    2.5, and as many in lower blocks only below 1.4.
    """
    save_figure(figure_of_ratios(study), _figure(study, "figure10"))
    swept, known = ratio_rows(study), len(study.data.label_names)
    low, high = values.FIGURE10_RATIOS
    shown = (1.0, values.FIGURE10_OTHERS_BELOW, low, 2.0, high, 3.0)
    published = dict.fromkeys((low, 2.0, high), values.FIGURE10_LABELS / values.LABELS)
    headings = ("block", *(f"r = {ratio:g}" for ratio in shown))
    table, rows = table_of(study, "Fig. 10: share of labels that a head owns", headings), []
    for site in reversed(study.sites):
        own = {row["at"]: row for row in swept if row["block"] == site.block}
        ours, null = ({f"ratio_{r:g}": own[r][key] / known for r in shown} for key in ("owned", "owned_null"))
        ours |= {f"ratio_{r:g}_std": own[r]["owned_std"] / known for r in shown}
        paper = {f"ratio_{r:g}": published[r] for r in published if site is study.sites[-1]}
        lines = lines_of(paper, ours, null)
        rows += [{"block": site.block, **line} for line in lines]
        table.add_group(*([str(site.block), *cells(line)] for line in lines))
    return [write_comparison(study, "figure10", rows, table)]


def figure11(study: HeadStudy) -> list[TextTable]:
    """Fig. 11: attention output fields as images, and how often they look like the image.

    `nodelens reproduce figure11 --scale cpu`; the paper shows two and says that such pictures are infrequent, without
    a number: here the share of the test set whose overlap |r| is at least 0.5 and 0.7, beside another image's.
    """
    save_figure(figure_of_fields(study), _figure(study, "figure11"))
    save_figure(figure_of_overlaps(study), _figure(study, "figure11.overlap"))
    headings = ("block", "field", "mean |r|", "≥ 0.5", "≥ 0.7")
    table = TextTable(f"Fig. 11: overlap with the image ({how(study)}); the paper: infrequent", headings)
    rows = []
    for row in overlap_rows(study):
        if row["block"] == study.sites[-1].block and row["fields"]:
            rows.append(row)
            of = row["view"] if row["of"] == "itself" else f"{row['view']}, another image"
            cells = (f"{row[name]:.3f}" for name in ("mean", "from_0.5", "from_0.7"))
            table.add_group((str(row["block"]), of, *cells))
    return [write_comparison(study, "figure11", rows, table)]


HEAD_STUDIES: dict[str, Callable[[HeadStudy], list[TextTable]]] = {
    "table4": table4,
    "table5": table5,
    "figure7": figure7,
    "figure8": figure8,
    "figure9": figure9,
    "figure10": figure10,
    "figure11": figure11,
}
"""Studies of the heads, from the probes at `block.*.attention`."""


def reproduce_heads(
    study: str, scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int, split: str
) -> list[TextTable]:
    """Train the scale's network where there is none, measure its heads, and put the paper's numbers beside."""
    if study == "table5" and scale.second is not None:
        second, within = replace(scale.second, seeds=scale.seeds, second=None), RunDirectory(run.path / SECOND)
        with within.claimed():
            return reproduce_heads(study, second, within, checkpoint, seed, split)
    return HEAD_STUDIES[study](head_study(scale, run, checkpoint, seed, split))


def head_study(scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int, split: str = "train") -> HeadStudy:
    """The heads of a scale's network, which is trained where there is none; the split is that of the nodal matrices."""
    precision = precision_of(run)
    network = trained_network(scale, run, checkpoint, seed, precision)
    probe = scale_probes(scale, network, range(scale.seeds), seed, precision)
    return HeadStudy(network, load_head_data(network, scale.data, split), HeadSettings(split=split, probe=probe), run)


def _figure(study: HeadStudy, name: str) -> Path:
    return study.run.path / "figures" / f"{name}.{study.settings.split}"
