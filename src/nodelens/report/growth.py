"""How what the nodes know grows along the network: each statistic against the depth, beside both nulls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nodelens.errors import InputError
from nodelens.networks.families import OWN_HEAD
from nodelens.report.figures import LOOKS, STYLE, Panels, head_line, legend_below, line_name, panels_of
from nodelens.report.palette import INK
from nodelens.report.stored import block_outputs

GROWING = ("accuracy", "diagonal", "noise", "snr")
NAMES = {
    "accuracy": "accuracy of the probe",
    "n_clusters": "clusters per node",
    "cluster_size": "labels per cluster",
    "diagonal": "labels per node",
    "noise": "noise elements per node",
    "signal": "signal",
    "noise_internal": "internal noise",
    "noise_external": "external noise",
    "snr": "signal-to-noise ratio",
    "snr_min": "ratio of the rarest label",
}
NAMED = 30
"""Up to so many sites are all named on the axis; of more, one of two, three, …"""
PAPER = "paper"
LINES = {**LOOKS, PAPER: (INK, "-.")}
"""Colour and dashes of the network, its nulls, and the paper's numbers where they stand beside."""


def along(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sites along which the network is followed: its blocks' outputs (all sites where none) and own head.

    >>> along([{"site": name} for name in ("own_head", "block.1.qkv", "block.1.linear2", "block.2.linear2")])
    ['block.1.linear2', 'block.2.linear2', 'own_head']
    """
    body = dict.fromkeys(row["site"] for row in block_outputs(rows) if row["site"] != OWN_HEAD)
    return [*body, *([OWN_HEAD] if any(row["site"] == OWN_HEAD for row in rows) else [])]


def growth_figure(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = GROWING, title: str = "", into: Panels = None
) -> Figure:
    """Each statistic along the network, the network's own head apart (Tables 1 and 2, drawn).

    Args:
        rows: of `statistics_rows`, or of the table that it was written to; those `of` the paper may stand among them.
        columns: statistics, a panel each.
        into: as many axes to draw into; a new figure by default.

    Raises:
        InputError: there is no row to draw.
    """
    sites = along(rows)
    if not sites:
        raise InputError("no site was measured; measure some first")
    ticks, unit = site_ticks(sites)
    with matplotlib.rc_context(STYLE):
        width = np.clip(0.7 + 0.19 * len(sites), 2.3, 5.0)
        height = 2.8 if unit else 2.6 + 0.065 * max(map(len, ticks))
        figure, panels = panels_of(into, 1, len(columns), (float(width) * len(columns), height))
        for axes, name in zip(panels[0], columns, strict=True):
            draw_growth(axes, rows, sites, name)
            axes.set_title(NAMES[name], loc="left", fontsize=9)
            name_sites(axes, sites)
        legend_below(figure, panels, into)
        head_line(figure, title, into)
    return figure


def name_sites(axes: Axes, sites: Sequence[str]) -> None:
    """The sites below the axis, or some of them where there are too many."""
    ticks, unit = site_ticks(sites)
    step = math.ceil(len(sites) / NAMED)
    axes.set_xticks(range(0, len(sites), step), ticks[::step], fontsize=7.5, rotation=0 if unit else 90)
    axes.set_xlabel(unit)


def draw_growth(
    axes: Axes,
    rows: Sequence[Mapping[str, Any]],
    sites: Sequence[str],
    statistic: str,
    lines: Mapping[str, tuple[str, str]] = LINES,
) -> None:
    """One statistic at each of these sites, a line for each `of`; the own head's are points.

    Bands: one standard deviation, over the seeds or the permutations.

    Args:
        lines: colour and dashes of each `of` that is drawn.
    """
    body = [site for site in sites if site != OWN_HEAD]
    for who, (colour, line) in lines.items():
        of_site = {row["site"]: row for row in rows if row["of"] == who and _is_number(row.get(statistic))}
        shown = [site for site in body if site in of_site]
        x = [sites.index(site) for site in shown]
        y = np.array([of_site[site][statistic] for site in shown])
        spread = np.array([float(of_site[site].get(f"{statistic}_std") or 0) for site in shown])
        axes.plot(
            x, y, line, color=colour, label=line_name(who) if shown else None, linewidth=1.6, marker="o", markersize=3
        )
        axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)
        if OWN_HEAD in of_site and OWN_HEAD in sites:
            label = None if shown else line_name(who)
            axes.plot(
                sites.index(OWN_HEAD), of_site[OWN_HEAD][statistic], "D", color=colour, label=label, markersize=4.5
            )
    axes.update_datalim([(0, 0)], updatex=False)  # so that there is room above the highest
    axes.autoscale_view(scalex=False)
    axes.set_ylim(bottom=0)


def _is_number(value: object) -> bool:
    return isinstance(value, float | int) and bool(np.isfinite(value))


def site_ticks(sites: Sequence[str]) -> tuple[list[str], str]:
    """What stands below the axis: the blocks' numbers where nothing else tells the sites apart, or their names.

    Of names that all begin alike only the rest.

    Returns:
        The sites' ticks, and what they count; the latter is empty where they are names.

    >>> site_ticks(["block.1.linear2", "block.2.linear2", "own_head"])
    (['1', '2', 'own'], 'block, own head')
    >>> site_ticks(["conv.1", "linear.1"])
    (['conv.1', 'linear.1'], '')
    >>> site_ticks(["model.layers.0", "model.layers.1", "model.norm", "own_head"])
    (['layers.0', 'layers.1', 'norm', 'own_head'], '')
    >>> site_ticks(["model.layers.0", "model.layers.1"])
    (['0', '1'], 'model.layers')
    """
    parts = [site.split(".") for site in sites if site != OWN_HEAD]
    kinds = {tuple(part[2:]) for part in parts if part[0] == "block" and len(part) > 2 and part[1].isdecimal()}
    if len(kinds) != 1 or any(tuple(part[2:]) not in kinds or part[0] != "block" for part in parts):
        alike = min((len(part) - 1 for part in parts), default=0) if len(parts) > 1 else 0
        while any(part[:alike] != parts[0][:alike] for part in parts):
            alike -= 1
        ticks = [site if site == OWN_HEAD else ".".join(site.split(".")[alike:]) for site in sites]
        return ticks, ".".join(parts[0][:alike]) if all(map(str.isdecimal, ticks)) else ""
    own = OWN_HEAD in sites
    return [*(part[1] for part in parts), *(["own"] if own else [])], "block, own head" if own else "block"
