"""Figures of the heads: whose labels are whose (Figs. 7-9), how many (Fig. 10), along depth and training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodelens.report.figures import (
    NAMED_BARS,
    STYLE,
    Panels,
    bars_width,
    head_line,
    legend_below,
    name_size,
    panels_of,
)
from nodelens.report.head_tables import NOBODY, numbered
from nodelens.report.palette import AMBER, BLUE, FAINT, GREEN, GREY, INK, ORANGE, PURPLE, SKY
from nodelens.report.tables import Row

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY, INK, "#B5A800")
"""Of the heads: Okabe and Ito's palette, its yellow darkened; more heads begin anew."""
PALE = "#BDBDBD"
"""Of labels that no head owns."""
ORDER = {
    # quantity: what stands above its panel, and at its axis
    "owned": ("labels owned by a head", "labels"),
    "participation": ("participation of the leading head", "share, 0 to 1"),
    "information": ("information between label and head", "bits"),
}


def colour_of(head: int | str) -> str:
    """A head's colour, heads counting from 1; pale grey for nobody."""
    return PALE if isinstance(head, str) else COLOURS[(head - 1) % len(COLOURS)]


def head_label_figure(rows: Sequence[Row], quantity: str, title: str, into: Panels = None) -> Figure:
    """Figs. 7 and 8: `appearances` or `accuracy` of every label in every head, a panel per head.

    Args:
        rows: of `label_rows`. Labels stand head by head, in the colour of the head that owns them, or grey.
        into: axes to draw into, one per head; a new figure by default.
    """
    keys = numbered(rows[0], f"{quantity}_")
    with matplotlib.rc_context(STYLE):
        size = (bars_width(len(rows)), 1.15 * len(keys) + 1.7)
        figure, grid = panels_of(into, len(keys), 1, size, sharex=True, sharey=True)
        panels = grid[:, 0]
        colours = [colour_of(row["head"]) for row in rows]
        for head, (axes, key) in enumerate(zip(panels, keys, strict=True), start=1):
            axes.bar(range(len(rows)), [row[key] for row in rows], color=colours, width=0.85)
            own = sum(row["head"] == head for row in rows)
            name = f"head {head}: {own} label{'s' * (own != 1)} of its own"
            axes.set_title(name, loc="left", fontsize=9, color=colour_of(head))
            axes.set_xlim(-0.8, len(rows) - 0.2)
            axes.set_ylabel("appearances" if quantity == "appearances" else "test accuracy", fontsize=8)
            if quantity == "accuracy":
                axes.set_ylim(0, 1)
        name_labels(panels[-1], rows)
        head_line(figure, title, into)
    return figure


def name_labels(axes: Axes, rows: Sequence[Row]) -> None:
    """Names below the axis, in the colour of the owning head; numbers where there are too many."""
    if len(rows) > NAMED_BARS:
        axes.set_xlabel("labels, head by head")
        return
    axes.set_xticks(range(len(rows)), [str(row["name"]) for row in rows], rotation=90, fontsize=name_size(len(rows)))
    for text, row in zip(axes.get_xticklabels(), rows, strict=True):
        text.set_color(FAINT if row["head"] == NOBODY else colour_of(row["head"]))
    axes.set_xlabel("label, in the colour of the head that owns it (grey: nobody's)")


def symmetry_figure(of_blocks: Mapping[int, Sequence[Row]], title: str, into: Panels = None) -> Figure:
    """Fig. 9: the network's accuracy per label, with and without symmetry breaking; the last block first.

    All panels share the labels' order, by accuracy; dashed: the mean of each group.
    """
    first = next(iter(of_blocks.values()))
    order = [row["label"] for row in sorted(first, key=lambda row: row["network"])]
    with matplotlib.rc_context(STYLE):
        size = (bars_width(len(order)), 2.1 * len(of_blocks) + 1.2)
        figure, grid = panels_of(into, len(of_blocks), 1, size, sharex=True, sharey=True)
        panels = grid[:, 0]
        for axes, (block, rows) in zip(panels, sorted(of_blocks.items(), reverse=True), strict=True):
            by_label = {row["label"]: row for row in rows}
            draw_groups(axes, [by_label[label] for label in order])
            axes.set_title(f"block {block}: symmetry breaking", loc="left", fontsize=9)
            axes.set_ylabel("test accuracy")
        if len(order) <= NAMED_BARS:
            names = {row["label"]: str(row["name"]) for row in first}
            points = name_size(len(order))
            panels[-1].set_xticks(range(len(order)), [names[label] for label in order], rotation=90, fontsize=points)
        panels[-1].set_xlabel("label, by its accuracy")
        head_line(figure, title, into)
    return figure


def draw_groups(axes: Axes, rows: Sequence[Row]) -> None:
    """Each label's accuracy, marked by whether a head owns it, and the means of the two groups."""
    for broken, colour, marker, name in ((True, BLUE, "o", "with"), (False, ORANGE, "s", "without")):
        points = [(x, row["network"]) for x, row in enumerate(rows) if (row["head"] != NOBODY) == broken]
        if not points:
            continue
        x, y = np.array(points).T
        label = f"{len(points)} {name}, mean {y.mean():.3f}"
        axes.plot(x, y, marker, color=colour, markersize=4, label=label)
        axes.axhline(y.mean(), color=colour, linestyle="--", linewidth=1.2)
    axes.set_xlim(-0.8, len(rows) - 0.2)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=2, fontsize=8, handletextpad=0)


def ratio_figure(rows: Sequence[Row], labels: int, title: str, into: Panels = None) -> Figure:
    """Fig. 10: labels owned in all heads together against the ratio, block by block, the null as a band.

    The other blocks stand in each panel as thin grey lines.
    """
    blocks = sorted({row["block"] for row in rows})
    across = min(4, len(blocks))
    down = -(-len(blocks) // across)
    with matplotlib.rc_context(STYLE):
        size = (max(4.0, 2.3 * across + 0.4), 2.1 * down + 0.5)
        figure, panels = panels_of(into, down, across, size, sharex=True, sharey=True)
        for i, axes in enumerate(panels.flat):
            if i >= len(blocks):
                axes.axis("off")
                continue
            draw_ratio(axes, rows, blocks[i])
            axes.set_title(f"block {blocks[i]}", loc="left", fontsize=9)
            axes.set_xlabel("ratio r")
            axes.set_xticks([1, 1.5, 2, 2.5, 3])
            axes.tick_params(labelbottom=True)
        for axes in panels[:, 0]:
            axes.set_ylabel(f"labels owned, of {labels}")
        panels[0, 0].set_ylim(bottom=0)
        known = panels[0, 0].get_legend_handles_labels()
        # In an empty panel, if there is one: the last block's curve may stay high.
        spare = min(len(blocks), panels.size - 1)
        panels.flat[spare].legend(*known, frameon=False, fontsize=7, loc="upper right")
        head_line(figure, title, into)
    return figure


def draw_ratio(axes: Axes, rows: Sequence[Row], block: int) -> None:
    """One block's labels owned against the ratio, its null and the other blocks."""
    others = sorted({row["block"] for row in rows} - {block})
    for other in others:
        x, y = _columns([row for row in rows if row["block"] == other], "at", "owned")
        axes.plot(x, y, color=GREY, linewidth=0.5, alpha=0.6, label="other blocks" if other == others[0] else None)
    own = [row for row in rows if row["block"] == block]
    x, y, spread, null, low, high = _columns(own, "at", "owned", "owned_std", "owned_null", "owned_low", "owned_high")
    axes.fill_between(x, low, high, color=ORANGE, alpha=0.25, linewidth=0, label="by chance, 95 %")
    axes.plot(x, null, ":", color=ORANGE, linewidth=1.2, label="by chance, mean")
    axes.fill_between(x, y - spread, y + spread, color=BLUE, alpha=0.25, linewidth=0)
    axes.plot(x, y, color=BLUE, linewidth=1.6, label="network")


def _columns(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[np.ndarray]:
    return [np.array([row[key] for row in rows], dtype=float) for key in keys]


def depth_figure(rows: Sequence[Row], title: str, into: Panels = None) -> Figure:
    """Labels owned and the order parameters block by block, each with its null as a band."""
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, 1, len(ORDER), (9.0, 3.0))
        for axes, (name, (heading, unit)) in zip(panels[0], ORDER.items(), strict=True):
            x, y, spread, null, low, high = _columns(
                rows, "block", name, f"{name}_std", f"{name}_null", f"{name}_low", f"{name}_high"
            )
            axes.fill_between(x, low, high, color=ORANGE, alpha=0.25, linewidth=0, label="by chance, 95 %")
            axes.plot(x, null, ":", color=ORANGE, linewidth=1.2, label="by chance, mean")
            if len(x) == 1:  # a band over one block has no width
                axes.vlines(x, low, high, color=ORANGE, alpha=0.4, linewidth=6)
            axes.errorbar(x, y, yerr=spread, color=BLUE, marker="o", markersize=4, linewidth=1.4, label="network")
            axes.set_xlabel("block")
            axes.set_xticks(x)
            axes.set_title(heading, loc="left", fontsize=9)
            axes.set_ylabel(unit)
            axes.set_ylim(bottom=0)
        legend_below(figure, panels, into)
        head_line(figure, title, into)
    return figure


def training_figure(rows: Sequence[Row], title: str, into: Panels = None) -> Figure:
    """Labels owned and the order parameters against the epoch, a line per block; dotted: what chance gives."""
    blocks = sorted({row["block"] for row in rows})
    shades = matplotlib.colormaps["cividis"](np.linspace(0.0, 0.9, max(2, len(blocks))))
    with matplotlib.rc_context(STYLE):
        figure, grid = panels_of(into, 2, 2, (9.0, 5.2))
        panels = grid.flat
        quantities = {**ORDER, "accuracy": ("accuracy of the probe", "accuracy")}
        for axes, (name, (heading, unit)) in zip(panels, quantities.items(), strict=True):
            for block, colour in zip(blocks, shades, strict=False):
                of_block = [row for row in rows if row["block"] == block and row[name] != ""]
                x, y, spread = _columns(of_block, "epoch", name, f"{name}_std")
                axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)
                axes.plot(x, y, marker="o", markersize=3, color=colour, linewidth=1.4, label=f"block {block}")
                if f"{name}_null" in of_block[0]:
                    axes.plot(x, *_columns(of_block, f"{name}_null"), ":", color=colour, linewidth=1.0)
            axes.set_title(heading, loc="left", fontsize=9)
            axes.set(xlabel="epoch", ylabel=unit)
            axes.set_ylim(bottom=0)
        # The accuracies rise, and leave the lower right of their panel free.
        grid[1, 1].legend(frameon=False, fontsize=7, ncols=2, loc="lower right")
        head_line(figure, title, into)
    return figure
