"""Several runs side by side: what the nodes behind each block know, block by block."""

from __future__ import annotations

from collections.abc import Mapping

from nodelens.report.stored import ShownTable, block_outputs, shown_text, stored_rows
from nodelens.report.tables import HEADINGS, NETWORK, Row, TextTable, with_spread
from nodelens.runs import RunDirectory

COLUMNS = ("accuracy", "n_clusters", "cluster_size", "diagonal", "noise", "signal", "snr", "snr_min")


def compared_table(runs: Mapping[str, RunDirectory], split: str) -> ShownTable | None:
    """The statistics of the sites that all runs measured on a split, and of two runs the difference.

    Args:
        runs: by name, in the order in which they stand.

    Returns:
        None where the runs have no site in common, or have them at different thresholds.

    Raises:
        InputError: a table of a run is damaged.
    """
    file = f"tables/statistics.{split}.csv"
    of_runs = {name: _by_site(run, file) for name, run in runs.items()}
    first, *others = of_runs.values()
    common = [site for site in first if all(site in found for found in others)]
    thresholds = {row["threshold"] for found in of_runs.values() for row in found.values()}
    if not common or len(thresholds) > 1:
        return None
    title = f"{' beside '.join(runs)} ({split} split, threshold {thresholds.pop():g})"
    table = TextTable(title, ("site", "run", *(HEADINGS[name] for name in COLUMNS)))
    for site in common:
        lines = [
            (name, *(with_spread(found[site][c], found[site][f"{c}_std"]) for c in COLUMNS))
            for name, found in of_runs.items()
        ]
        if len(others) == 1:
            lines.append(("difference", *(_difference(first[site], others[0][site], c) for c in COLUMNS)))
        table.add_group(*((site, *line) for line in lines))
    return shown_text(table, file)


def _by_site(run: RunDirectory, file: str) -> dict[str, Row]:
    path = run.path / file
    rows = stored_rows(path) if path.exists() else []
    return {row["site"]: row for row in block_outputs([row for row in rows if row["of"] == NETWORK])}


def _difference(first: Row, second: Row, column: str) -> str:
    """The second run's number less the first's."""
    return f"{second[column] - first[column]:+.3g}"
