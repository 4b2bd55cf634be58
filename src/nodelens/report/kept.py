"""How many weights ANDC keeps of every layer and how large they are, beside labels drawn at random."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

from nodelens.report.figures import STYLE, Panels, head_line, panels_of
from nodelens.report.palette import BLUE, FAINT, GREY
from nodelens.report.tables import Row, TextTable

COLUMNS = ("kept", "kept_by_chance", "size", "size_by_chance")


def kept_means(rows: Sequence[Row]) -> list[Row]:
    """A row per layer of `pruning.chance.kept_rows`: mean over the probe seeds, NaN where nothing is kept."""
    found = []
    for layer in dict.fromkeys(row["layer"] for row in rows):
        of_layer = [row for row in rows if row["layer"] == layer]
        means = {name: fmean(row[name] for row in of_layer) for name in COLUMNS}
        found.append({"layer": layer, "weights": of_layer[0]["weights"], **means})
    return found


def kept_table(rows: Sequence[Row], title: str) -> TextTable:
    """The share of the weights kept, and their mean absolute value over the layer's.

    Args:
        rows: of `kept_means`.
    """
    table = TextTable(title, ("layer", "weights", "share kept", "by chance", "relative |w|", "by chance"), names=1)
    for row in rows:
        numbers = [row[name] for name in COLUMNS]
        cells = ["" if math.isnan(x) else f"{x:.{places}f}" for x, places in zip(numbers, (3, 3, 2, 2), strict=True)]
        table.add_group((row["layer"], f"{row['weights']:,}", *cells))
    return table


def kept_figure(rows: Sequence[Row], title: str, into: Panels = None) -> Figure:
    """The same as a picture: a line per layer from what chance gives (hollow) to what is kept.

    Args:
        rows: of `kept_means`.
        into: two axes to draw into; a new figure by default.
    """
    places = range(len(rows))
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, 1, 2, (8.4, 1.3 + 0.2 * len(rows)), sharey=True)
        for axes, name, label in (
            (panels[0, 0], "kept", "share of the layer's weights"),
            (panels[0, 1], "size", "their mean |w| over the layer's"),
        ):
            found, chance = [row[name] for row in rows], [row[f"{name}_by_chance"] for row in rows]
            axes.hlines(places, chance, found, color=BLUE, linewidth=1.2)
            axes.scatter(chance, places, s=22, facecolor="none", edgecolor=GREY, linewidth=1.2, zorder=3)
            axes.scatter(found, places, s=16, color=BLUE, zorder=4)
            axes.set_xlabel(label)
            axes.grid(axis="y", color=FAINT, alpha=0.2, linewidth=0.6)
        panels[0, 0].set_xlim(left=0)
        panels[0, 1].axvline(1.0, color=FAINT, linewidth=0.8, zorder=0)
        low, high = panels[0, 1].get_xlim()
        panels[0, 1].set_xlim(min(low, 0.8), max(high, 1.2))  # what is next to nothing is not to fill the panel
        panels[0, 0].set_yticks(places, [row["layer"] for row in rows])
        panels[0, 0].set_ylim(len(rows) - 0.5, -0.5)
        head_line(figure, title, into)
    return figure
