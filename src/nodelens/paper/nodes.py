"""Figs. 3 and 4, and what the text says of the last block's nodes: single nodes, and how evenly labels are known."""

from __future__ import annotations

from nodelens.paper import values
from nodelens.paper.comparison import cells, lines_of
from nodelens.probing import Measurement, measurements_of
from nodelens.probing.store import measured_names
from nodelens.report.figures import label_figure, node_figure, save_figure
from nodelens.report.measurement import clearest_node
from nodelens.report.tables import HEADINGS, NETWORK, Row, TextTable, statistics_rows
from nodelens.runs import RunDirectory

COLUMNS = ("n_clusters", "cluster_size", "diagonal", "noise")
NODE_SITES = ("block.*.linear1", "block.*.linear2", "block.*.linear2.no_skip")
"""What Fig. 3 and the text look at."""


def figure3(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Fig. 3: a node behind the last block and one of its Linear1; the text's averages over Linear1 and without skip.

    `nodelens reproduce figure3 --scale cpu`; by the text Linear1 has 1.34 clusters of 1.65 labels, and without the
    skip connection the last block's diagonal falls from 15 to 8.
    """
    found = measurements_of(run, split, _last_sites(run))
    for kind in ("linear2", "linear1"):
        _draw_clearest(run, found[NETWORK][0], kind, split)
    rows = statistics_rows(found, values.THRESHOLD, permutations=0)
    measured = {row["site"]: row for row in rows if row["of"] == NETWORK}
    title = f"Fig. 3 and text: nodes of the last block ({split} images, {len(found[NETWORK])} seeds)"
    table, rows = TextTable(title, ("site", "", *(HEADINGS[name] for name in COLUMNS))), []
    for kind, published in values.FIGURE3.items():
        site = next(name for name in measured if name.endswith(f".{kind}"))
        ours = {name: measured[site][name] for name in (*COLUMNS, *(f"{name}_std" for name in COLUMNS))}
        lines = lines_of(published, ours)
        rows += [{"site": kind, **line} for line in lines]
        table.add_group(*([site, *cells(line)] for line in lines))
    return rows, table


def figure4(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Fig. 4: appearances of every label in the diagonals behind the last block, and its total field.

    `nodelens reproduce figure4 --scale cpu`; the paper finds both "almost equal" for all labels, without a number.
    """
    found = measurements_of(run, split, _last_sites(run))[NETWORK][0]
    site = found[next(name for name in found if name.endswith(".linear2"))]
    statistics = site.statistics(values.THRESHOLD)
    title = f"How evenly {site.site.name} knows the labels ({split} images, threshold {values.THRESHOLD:g})"
    save_figure(label_figure(statistics, found.label_names, title), run.path / "figures" / f"figure4.{split}")
    rows, table = [], TextTable(f"Fig. 4: {title}", ("per label", "least", "mean", "largest"), names=1)
    for name, per_label in (("appearances", statistics.appearances), ("total field", statistics.label_field)):
        least, mean, most = (float(value) for value in (per_label.min(), per_label.double().mean(), per_label.max()))
        rows.append({"per_label": name, "least": least, "mean": mean, "largest": most})
        table.add_group((name, *(f"{value:.3g}" for value in (least, mean, most))))
    return rows, table


def _last_sites(run: RunDirectory) -> list[str]:
    """The sites of the last block that Figs. 3 and 4 look at."""
    last = [name for name in measured_names(run) if name.endswith(".linear2")][-1]
    return [pattern.replace("block.*", last.removesuffix(".linear2")) for pattern in NODE_SITES]


def _draw_clearest(run: RunDirectory, measurement: Measurement, kind: str, split: str) -> None:
    """The clearest node of one of the last block's sites."""
    site = measurement[next(name for name in measurement if name.endswith(f".{kind}"))]
    node = clearest_node(site.matrices, values.THRESHOLD)
    title = f"Node {node} of {site.site.name}: what it stands for ({split} images)"
    picture = node_figure(site.matrices, node, measurement.label_names, values.THRESHOLD, title)
    save_figure(picture, run.path / "figures" / f"figure3.{kind}.{split}")
