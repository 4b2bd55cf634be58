"""What is written and printed after a measurement."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor

from nodelens.measures import Clustering, NodalMatrices
from nodelens.probing import MEASURED, Measurement, measurements_of
from nodelens.probing.store import measured_images
from nodelens.processes import by_first
from nodelens.report.figures import label_figure, node_figure, save_figure, threshold_figure
from nodelens.report.growth import growth_figure
from nodelens.report.stored import stored_rows
from nodelens.report.tables import (
    TABLE1,
    TABLE2,
    Row,
    TextTable,
    counted,
    rounded,
    statistics_rows,
    statistics_table,
    sweep_rows,
)
from nodelens.runs import RunDirectory

SWEEP = tuple(round(0.05 * i, 2) for i in range(1, 19))


@by_first
def report_measurement(
    run: RunDirectory,
    splits: Sequence[str],
    sites: Sequence[str] | None = None,
    threshold: float = 0.3,
    method: str = "greedy",
    permutations: int = 20,
) -> list[TextTable]:
    """Statistics of these sites (all that were measured), in the form of Tables 1 and 2, with their nulls.

    Writes `tables/statistics.<split>.csv` and `tables/sweep.<split>.csv` (`….maximum.csv` for that cluster rule),
    the statistics along the blocks, the sweep of the last two block outputs (Fig. 5), and of the last how evenly
    it knows the labels (Fig. 4) and its clearest node (Fig. 3) as figures.

    Returns:
        For each split a table in the form of Table 1 and one in the form of Table 2.
    """
    run.report("measure", {"threshold": threshold, "clusters": method, "permutations": permutations})
    shown = []
    for split in splits:
        found = measurements_of(run, split, sites)
        rows = statistics_rows(found, threshold, method, permutations)
        sweep = sweep_rows(found, SWEEP, method, min(permutations, 5))
        which = split if method == "greedy" else f"{split}.{method}"
        known = {}
        for name, of_sites in (("statistics", rows), ("sweep", sweep)):
            known[name] = with_other_sites(run, f"{name}.{which}", rounded(of_sites))
            run.write_table(f"{name}.{which}", known[name])
        how = (
            f"{split} split, threshold {threshold:g}, {method} clusters, {counted(len(found['network']), 'probe seed')}"
        )
        shown += [
            statistics_table(rows, TABLE1, f"Accuracy, clusters, diagonal and noise per node ({how})"),
            statistics_table(rows, TABLE2, f"Signal and noise per label ({how})"),
        ]
        figures = _figures(found["network"][0], known["statistics"], sweep, threshold, method)
        for name, figure in figures.items():
            save_figure(figure, run.path / "figures" / f"{name}.{which}")
    return shown


def _figures(
    measured: Measurement, rows: Sequence[Row], sweep: Sequence[Row], threshold: float, method: str
) -> dict[str, Figure]:
    """The statistics along the network; the sweep of the last two block outputs; of the last its labels and a node."""
    outputs = [name for name in measured if name.endswith("linear2")] or list(measured)
    last, how = measured[outputs[-1]], f"{measured.split} split, {method} clusters"
    growth = f"What nodes know along the network ({how}, threshold {threshold:g}; bands: one standard deviation)"
    against = f"SNR against the threshold ({how}; bands: one standard deviation)"
    even = f"How evenly {last.site.name} knows the labels ({how}, threshold {threshold:g})"
    node = clearest_node(last.matrices, threshold, method)
    title = f"Node {node} of {last.site.name}: what it stands for ({how})"
    return {
        "growth": growth_figure(rows, title=growth),
        "sweep": threshold_figure(sweep, outputs[-2:][::-1], against),
        "labels": label_figure(last.statistics(threshold, method), measured.label_names, even),
        "node": node_figure(last.matrices, node, measured.label_names, threshold, title, method=method),
    }


def with_other_sites(run: RunDirectory, name: str, rows: Sequence[Row]) -> list[Row]:
    """Rows of some sites and, from the table of that name, those of other sites that were measured before.

    A table of another threshold is replaced as a whole, for its rows would be compared with these; so are rows of
    sites that were measured on other images of the same name.
    """
    path = run.path / "tables" / f"{name}.csv"
    before = stored_rows(path) if path.exists() else []
    if {row.get("threshold") for row in before} != {row["threshold"] for row in rows}:
        return list(rows)
    split, new = rows[0]["split"], {row["site"] for row in rows}
    images = measured_images(run, MEASURED, rows[0]["site"], split)
    others = {row["site"] for row in before} - new
    alike = {site for site in others if measured_images(run, MEASURED, site, split) == images}
    together = [*rows, *({**row, "seeds": int(row["seeds"])} for row in before if row["site"] in alike)]
    # A run that another version began may not know all sites of today.
    place = {site: i for i, site in enumerate(run.configuration()["measure"]["sites"])}
    return sorted(together, key=lambda row: place.get(row["site"], len(place)))


def clearest_node(matrices: NodalMatrices, threshold: float, method: str = "greedy") -> int:
    """The node with the largest cluster, among those the one with the least noise around it."""
    sizes = torch.cat([_largest_clusters(clustering) for clustering in matrices.clusterings(threshold, method)])
    above = matrices.above(threshold)
    # Of equal nodes the first.
    return int(torch.where(sizes == sizes.max(), above, above.max() + 1).argmin())


def _largest_clusters(clustering: Clustering) -> Int[Tensor, " node"]:
    index = clustering.index()
    return torch.stack([torch.bincount(row[row >= 0], minlength=1).max() for row in index])
