"""Figures in the paper's form. Each function takes measurements and axes, and draws."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from nodelens.errors import InputError
from nodelens.files import write_atomically
from nodelens.measures import NodalMatrices, SiteStatistics
from nodelens.report.palette import BLUE, GREY, GROUND, INK, ORANGE, YELLOW, in_both_themes

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "nodelens",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor"), GROUND),
}
LOOKS = {"network": (BLUE, "-"), "untrained": (GREY, "--"), "permuted": (ORANGE, ":")}
NAMED_LABELS = 20
"""Up to so many labels of a matrix are all named on its axes; of more, the `PROMINENT` most prominent."""
PROMINENT = 12
NAMED_BARS = 130
"""Up to so many labels stand side by side with their names."""

NAMED_SIZES = 5
"""Up to so many clusters are named with their sizes."""
LEGEND_ENTRY = 1.5
"""Inches of a legend's column."""


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as SVG, in light or dark as the reader's theme is, and as PNG; `path` has neither suffix."""
    pixels = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(pixels, format="png", dpi=150)
    written = [path.with_name(path.name + suffix) for suffix in (".svg", ".png")]
    for one, content in zip(written, (svg_of(figure), pixels.getvalue()), strict=True):
        write_atomically(one, content)
    return written


def svg_of(figure: Figure) -> bytes:
    """A figure as SVG, in light or dark as the reader's theme is; the same bytes whenever it is drawn."""
    vectors = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(vectors, format="svg", metadata={"Date": None})
    return in_both_themes(vectors.getvalue())


Panels = Axes | Sequence[Axes] | np.ndarray | None
"""Where a figure is drawn: into axes of the caller's, one per panel in reading order, or a figure of its own."""


def legend_below(
    figure: Figure, panels: np.ndarray, into: Panels = None, columns: int = 0, called: Mapping[str, str] | None = None
) -> None:
    """What the panels' lines are, told once below all of them; in the caller's axes within the last one.

    Args:
        columns: entries beside each other; by default as many as there is room for.
        called: other names for some of the lines.
    """
    told = {name: line for axes in panels.flat for line, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    names = [(called or {}).get(name, name) for name in told]
    if into is None:
        beside = columns or max(1, int(figure.get_figwidth() / LEGEND_ENTRY))
        figure.legend(told.values(), names, loc="outside lower center", ncols=beside, frameon=False)
    else:
        panels.flat[-1].legend(told.values(), names, frameon=False, fontsize=7.5)


def panels_of(
    into: Panels, down: int, across: int, size: tuple[float, float], *, sharex: bool = False, sharey: bool = False
) -> tuple[Figure, np.ndarray]:
    """The figure and its panels, (down, across): new ones of this size in inches, or the caller's axes.

    Args:
        sharex: whether new panels share their axes; the caller's stay as they are.

    Raises:
        InputError: the caller's axes are fewer or more than the panels, or of different figures.

    >>> figure, panels = panels_of(None, 1, 2, (4.0, 2.0))
    >>> same, again = panels_of(panels, 1, 2, (4.0, 2.0))
    >>> same is figure, again.shape
    (True, (1, 2))
    """
    if into is None:
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots(down, across, squeeze=False, sharex=sharex, sharey=sharey)
    panels = np.asarray(into, dtype=object).reshape(-1)
    owners = {axes.get_figure(root=True) for axes in panels}
    if len(panels) != down * across or len(owners) != 1:
        raise InputError(
            f"this figure has {down} x {across} panels; give as many axes of one figure, not {len(panels)}"
        )
    return owners.pop(), panels.reshape(down, across)


def head_line(figure: Figure, title: str, into: Panels) -> None:
    """A title above all panels; a figure that the caller made keeps its own."""
    if title and into is None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=10)


def threshold_figure(
    rows: Sequence[Mapping[str, Any]], sites: Sequence[str], title: str = "", into: Panels = None
) -> Figure:
    """Fig. 5: SNR (left) and SNR_min (right) of each site against the threshold.

    Args:
        into: two axes per site to draw into; a new figure by default.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, len(sites), 2, (7.2, 2.6 * len(sites)))
        for site, (left, right) in zip(sites, panels, strict=True):
            of_site = [row for row in rows if row["site"] == site]
            draw_sweep(left, of_site, "snr", f"{site}: SNR")
            draw_sweep(right, of_site, "snr_min", f"{site}: SNR of the rarest label")
        panels[0][0].legend(frameon=False)
        head_line(figure, title, into)
    return figure


def line_name(who: str) -> str:
    """What a legend calls the line of a table's `of`."""
    return "labels permuted" if who == "permuted" else who


def draw_sweep(axes: Axes, rows: Sequence[Mapping[str, Any]], statistic: str, title: str) -> None:
    """One statistic against the threshold, for the network, its untrained twin and permuted labels.

    Bands: one standard deviation, over the seeds or the permutations.
    """
    for who, (colour, line) in LOOKS.items():
        points = [row for row in rows if row["of"] == who and np.isfinite(row[statistic])]
        if not points:
            continue
        x = np.array([row["threshold"] for row in points])
        y, spread = (np.array([row[key] for row in points]) for key in (statistic, f"{statistic}_std"))
        axes.plot(x, y, line, color=colour, label=line_name(who), linewidth=1.6)
        axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)
    axes.set_title(title, loc="left", fontsize=9)
    axes.set_xlabel("threshold")
    axes.set_ylim(bottom=0)


def label_figure(
    statistics: SiteStatistics, label_names: Sequence[str], title: str = "", into: Panels = None
) -> Figure:
    """Fig. 4: appearances of each label in the diagonals of a site's nodes, and its total field in their clusters.

    Args:
        into: two axes to draw into; a new figure by default.
    """
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, 2, 1, (max(7.6, bars_width(len(label_names))), 4.2), sharex=True)
        upper, lower = panels[:, 0]
        draw_labels(upper, statistics.appearances.numpy(), "nodes whose diagonal holds the label")
        draw_labels(lower, statistics.label_field.numpy(), "total field in the clusters")
        name_bars(lower, statistics.appearances.numpy(), label_names)
        head_line(figure, title, into)
    return figure


def name_bars(axes: Axes, values: np.ndarray, label_names: Sequence[str], extremes: int = 4) -> None:
    """The labels' names below their bars; where there are too many, those of the highest and the lowest."""
    count, where = len(label_names), "label"
    named: Sequence[int] = range(count)
    if count > NAMED_BARS:
        ranked = np.argsort(values, kind="stable").tolist()
        named = spread_out([*ranked[:extremes], *ranked[: -extremes - 1 : -1]], math.ceil(count / NAMED_BARS))
        where = f"label (of {count} the rarest and the most frequent are named)"
    axes.set_xticks(named, [label_names[label] for label in named], fontsize=name_size(count), rotation=90)
    axes.set_xlabel(where)


def bars_width(labels: int) -> float:
    """Inches that so many labels take side by side."""
    return float(np.clip(1.2 + 0.125 * labels, 6.0, 15.0))


def name_size(labels: int) -> float:
    """Points in which names stand side by side."""
    return 8.0 if labels <= 40 else 6.5


def spread_out(ranked: Sequence[int], gap: int, most: int | None = None) -> list[int]:
    """The first of these that lie no nearer than `gap` to one before them, in ascending order.

    >>> spread_out([7, 8, 2, 5, 0], 2, most=3)
    [2, 5, 7]
    """
    kept: list[int] = []
    for one in ranked:
        if len(kept) != most and all(abs(one - other) >= gap for other in kept):
            kept.append(one)
    return sorted(kept)


def draw_labels(axes: Axes, values: np.ndarray, title: str) -> None:
    """One bar per label, and their mean as a dashed line."""
    axes.bar(range(len(values)), values, color=BLUE, width=0.8)
    axes.axhline(values.mean(), color=ORANGE, linestyle="--", linewidth=1.2)
    axes.set_title(f"{title}, {values.mean():.3g} on average", loc="left", fontsize=9)
    axes.set_xlim(-0.6, len(values) - 0.4)


def node_figure(
    matrices: NodalMatrices,
    node: int,
    label_names: Sequence[str],
    threshold: float = 0.3,
    title: str = "",
    into: Panels = None,
    method: str = "greedy",
) -> Figure:
    """Fig. 3: a node's matrix of average fields, clipped, and permuted into its clusters.

    The right panel shows the cluster labels first, named; elements outside the clusters' blocks are noise.

    Args:
        into: three axes to draw into; a new figure by default.
    """
    with matplotlib.rc_context(STYLE):
        names = 0.05 * max(0, *(len(name) - 12 for name in label_names))  # inches that long ones take from a panel
        figure, panels = panels_of(into, 1, 3, (10.5 + 3 * names, 3.7 + names))
        left, middle, right = panels[0]
        draw_field(left, matrices, node, label_names)
        draw_clipped(middle, matrices, node, label_names, threshold)
        draw_clusters(right, matrices, node, label_names, threshold, method=method)
        head_line(figure, title, into)
    return figure


def draw_field(axes: Axes, matrices: NodalMatrices, node: int, label_names: Sequence[str]) -> None:
    """The average field on each output for inputs of each label, divided by the largest."""
    image = axes.imshow(matrices.field(node).numpy(), cmap="PuOr_r", vmin=-1, vmax=1, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, shrink=0.75, label="average field / maximum")
    name_axes(axes, matrices, node, label_names)
    axes.set_title("average field", loc="left", fontsize=9)


def name_axes(axes: Axes, matrices: NodalMatrices, node: int, label_names: Sequence[str]) -> None:
    """Input labels downwards, output labels across: of many, those that the node says most when they are shown."""
    axes.set(xlabel="output label", ylabel="input label")
    named, count = list(range(len(label_names))), len(label_names)
    if count > NAMED_LABELS:
        ranked = matrices.field(node).diagonal().argsort(descending=True, stable=True).tolist()
        named = spread_out(ranked, math.ceil(count / NAMED_LABELS), PROMINENT)
    names = [label_names[label] for label in named]
    axes.set_xticks(named, names, fontsize=6.5, rotation=90)
    axes.set_yticks(named, names, fontsize=6.5)


def draw_clipped(axes: Axes, matrices: NodalMatrices, node: int, label_names: Sequence[str], threshold: float) -> None:
    """Which elements are above the threshold."""
    above = matrices.clipped(node, threshold).numpy()
    axes.imshow(above, cmap=ListedColormap(["white", BLUE]), vmin=0, vmax=1, interpolation="nearest")
    name_axes(axes, matrices, node, label_names)
    axes.set_title(f"above {threshold:g} of the maximum", loc="left", fontsize=9)


def draw_clusters(
    axes: Axes,
    matrices: NodalMatrices,
    node: int,
    label_names: Sequence[str],
    threshold: float,
    shown: int = 28,
    method: str = "greedy",
) -> None:
    """The labels of the clusters first, then those with most noise, so that blocks stand on the diagonal."""
    above = matrices.clipped(node, threshold).numpy()
    clusters = matrices.clusters(node, threshold, method)
    order = permuted_order(above, clusters)[:shown]
    cluster_of = {label: k for k, cluster in enumerate(clusters) for label in cluster}
    kinds = np.zeros((len(order), len(order)))
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            inside = i in cluster_of and cluster_of[i] == cluster_of.get(j)
            kinds[row, column] = (1 if inside else 2) if above[i, j] else 0
    axes.imshow(kinds, cmap=ListedColormap(["white", BLUE, YELLOW]), vmin=0, vmax=2, interpolation="nearest")
    named = [row for row, label in enumerate(order) if label in cluster_of]
    axes.set_yticks(named, [label_names[order[row]] for row in named], fontsize=5.7)
    axes.set_xticks([])
    axes.set_xlabel("output label, in the same order\n(blue: clusters, yellow: noise)")
    sizes = [str(size) for size in sorted(map(len, clusters), reverse=True)] or ["none"]
    more = ", …" if len(sizes) > NAMED_SIZES else ""
    axes.set_title(f"labels per cluster: {', '.join(sizes[:NAMED_SIZES])}{more}", loc="left", fontsize=9)


def permuted_order(above: np.ndarray, clusters: Sequence[Sequence[int]]) -> list[int]:
    """Labels cluster by cluster, largest first, then the others by their number of noise elements."""
    inside = [label for cluster in sorted(clusters, key=len, reverse=True) for label in cluster]
    noise = above.sum(axis=0) + above.sum(axis=1)
    others = sorted(set(range(len(above))) - set(inside), key=lambda label: (-int(noise[label]), label))
    return inside + others
