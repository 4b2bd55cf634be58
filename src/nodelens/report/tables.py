"""Tables of a measurement: every statistic beside what chance and an untrained network give."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from nodelens.measures import STATISTICS, Null, permutation_nulls, sweep
from nodelens.probing import Measurement

NETWORK, PERMUTED, UNTRAINED = "network", "permuted", "untrained"
TABLE1 = ("accuracy", "n_clusters", "cluster_size", "diagonal", "noise")
TABLE2 = ("signal", "noise_internal", "noise_external", "snr", "snr_min")
HEADINGS = {
    "accuracy": "Acc",
    "n_clusters": "N_c",
    "cluster_size": "C_s",
    "diagonal": "diag",
    "noise": "n",
    "signal": "signal",
    "noise_internal": "noise_I",
    "noise_external": "noise_E",
    "snr": "SNR",
    "snr_min": "SNR_min",
}
Row = dict[str, Any]
TERMINAL = 80
"""Columns of a terminal, after which titles go on in the next line."""


def statistics_rows(
    found: Mapping[str, Sequence[Measurement]],
    threshold: float = 0.3,
    method: str = "greedy",
    permutations: int = 20,
) -> list[Row]:
    """One row per site for the network, for permuted labels and for the untrained network.

    Args:
        found: measurements (one per probe seed) of the `network`, and of its `untrained` twin if there is one.
        permutations: draws of the permutation null, for each seed.

    Returns:
        Rows with `site`, `split`, `of`, `threshold`, `method`, `seeds`, and for the accuracy and every
        statistic its mean over the seeds and, as `<name>_std`, the standard deviation: over the seeds, for
        permuted labels over the draws.
    """
    return sweep_rows(found, [threshold], method, permutations)


def sweep_rows(
    found: Mapping[str, Sequence[Measurement]],
    thresholds: Sequence[float],
    method: str = "greedy",
    permutations: int = 5,
) -> list[Row]:
    """`statistics_rows` at each threshold (Fig. 5), site by site."""
    rows: list[Row] = []
    networks = found["network"]
    for site in networks[0]:
        of_site = {NETWORK: _over_seeds(networks, site, thresholds, method)}
        if permutations:
            of_site[PERMUTED] = _nulls(networks, site, thresholds, method, permutations)
        if "untrained" in found:
            of_site[UNTRAINED] = _over_seeds(found["untrained"], site, thresholds, method)
        for i, threshold in enumerate(thresholds):
            facts = {"site": site, "split": networks[0].split, "threshold": threshold, "method": method}
            rows += [{**facts, "of": of, **values[i]} for of, values in of_site.items()]
    return rows


def _over_seeds(measurements: Sequence[Measurement], site: str, thresholds: Sequence[float], method: str) -> list[Row]:
    """A row for each threshold."""
    swept = [sweep(m[site].matrices, thresholds, method) for m in measurements]
    rows = []
    for of_seeds in zip(*swept, strict=True):
        values = [
            {"accuracy": m[site].accuracy, **statistics.scalars()}
            for m, statistics in zip(measurements, of_seeds, strict=True)
        ]
        row: Row = {"seeds": len(values)}
        for name in ("accuracy", *STATISTICS):
            row |= mean_and_spread(name, [value[name] for value in values])
        rows.append(row)
    return rows


def _nulls(
    measurements: Sequence[Measurement], site: str, thresholds: Sequence[float], method: str, permutations: int
) -> list[Row]:
    """A row for each threshold."""
    drawn = [permutation_nulls(m[site].matrices, thresholds, method, permutations, seed=m.seed) for m in measurements]
    return [_null_row(of_seeds) for of_seeds in zip(*drawn, strict=True)]


def _null_row(nulls: Sequence[Null]) -> Row:
    row: Row = {"seeds": len(nulls), "accuracy": "", "accuracy_std": ""}
    for name in STATISTICS:
        row[name] = fmean(null.mean[name] for null in nulls)
        row[f"{name}_std"] = math.sqrt(fmean(null.std[name] ** 2 for null in nulls))
    return row


def mean_and_spread(name: str, values: Sequence[float]) -> Row:
    """`name` and `<name>_std`, both empty where there is no value."""
    if not values:
        return {name: "", f"{name}_std": ""}
    spread = stdev(values) if len(values) > 1 and all(map(math.isfinite, values)) else 0.0
    return {name: fmean(values), f"{name}_std": spread}


@dataclass
class TextTable:
    """A table to be read: in a terminal of 80 columns or as Markdown. Its first `names` columns are words."""

    title: str
    headings: tuple[str, ...]
    names: int = 2
    groups: list[list[tuple[str, ...]]] = field(default_factory=list)

    def add_group(self, *lines: Sequence[str]) -> None:
        """Lines that belong together: the first cell stands in the first of them only."""
        self.groups.append([tuple(line) if i == 0 else ("", *line[1:]) for i, line in enumerate(lines)])

    def rich(self) -> Table:
        """For a terminal; what chance gives is dimmed."""
        title = textwrap.fill(self.title, TERMINAL)
        table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
        table.padding = (0, 1, 0, 0)
        for i, heading in enumerate(self.headings):
            words = i < self.names
            # Headings may break between words; a table wider than the terminal is better than numbers cut short.
            widest = max(len(cell) for cell in [*heading.split(" "), *self._column(i)])
            table.add_column(heading, no_wrap=words, min_width=widest, justify="left" if words else "right")
        grouped = any(len(group) > 1 for group in self.groups)
        for group in self.groups:
            for line in group:
                table.add_row(*line, style="dim" if line[1] in (PERMUTED, UNTRAINED) else "")
            if grouped:
                table.add_section()
        return table

    def _column(self, index: int) -> list[str]:
        return [line[index] for group in self.groups for line in group]

    def markdown(self) -> str:
        """For a page: the title in bold above a table; bars within a cell are escaped."""
        rules = [":--" if i < self.names else "--:" for i in range(len(self.headings))]
        lines = [self.headings, rules, *(line for group in self.groups for line in group)]
        escaped = ([str(cell).replace("|", r"\|") for cell in line] for line in lines)
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(line)} |" for line in escaped)]) + "\n"


def statistics_table(rows: Sequence[Row], columns: Sequence[str], title: str) -> TextTable:
    """Rows of `statistics_rows`, three lines per site."""
    table = TextTable(title, ("site", "of", *(HEADINGS[name] for name in columns)))
    for site, group in groupby(rows, key=lambda row: str(row["site"])):
        table.add_group(*([site, row["of"], *(shown(row, column) for column in columns)] for row in group))
    return table


def shown(row: Row, column: str) -> str:
    """A cell: the network's with its spread over the seeds, the nulls' without (the CSV has theirs)."""
    return with_spread(row[column], row[f"{column}_std"] if row["of"] == NETWORK else 0.0)


def counted(number: int, of: str) -> str:
    """A number of things.

    >>> counted(1, "seed"), counted(3, "probe seed")
    ('1 seed', '3 probe seeds')
    """
    return f"{number} {of}{'s' * (number != 1)}"


def with_spread(value: float | str, spread: float | str, digits: int | None = None) -> str:
    """A number with as many digits as it deserves (or as told), and its spread when there is one.

    >>> with_spread(14.637, 0.21), with_spread(0.8113, 0.0), with_spread(417.2, 3.0), with_spread("", "")
    ('14.64±0.21', '0.811', '417±3', '')
    """
    if isinstance(value, str) or isinstance(spread, str):
        return ""
    if math.isnan(value):
        return ""
    if not math.isfinite(value):
        return "∞"
    if digits is None:
        digits = 3 if abs(value) < 1 else 2 if abs(value) < 100 else 0
    text = f"{value:.{digits}f}"
    return f"{text}±{spread:.{digits}f}" if 0 < spread < math.inf else text


def averaged(values: Sequence[float], digits: int | None = None) -> str:
    """Mean and spread of values as a cell, empty where there is none.

    >>> averaged([0.5, 0.7]), averaged([0.61]), averaged([])
    ('0.600±0.141', '0.610', '')
    """
    found = mean_and_spread("mean", values)
    return with_spread(found["mean"], found["mean_std"], digits)


def rounded(rows: Sequence[Row], digits: int = 6) -> list[Row]:
    """Rows as they are written to a file: floats to so many significant digits."""
    return [{k: float(f"{v:.{digits}g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
