"""Tables of what pruning gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nodelens.networks import Network
from nodelens.processes import by_first, default_device
from nodelens.pruning.execution import DENSE
from nodelens.pruning.gain import costs, sizes
from nodelens.pruning.retrain import Rows
from nodelens.report.tables import TextTable, rounded
from nodelens.runs import RunDirectory
from nodelens.timing import machine
from nodelens.training.precision import Precision


@by_first
def report_gain(
    network: Network,
    run: RunDirectory,
    batch_sizes: Sequence[int] = (1, 64),
    precision: Precision = "fp32",
    rounds: int = 15,
) -> list[TextTable]:
    """Measure what a pruned network gains here, on noise of the size of its images, or on arbitrary texts.

    Writes `tables/gain.size.csv`, `tables/gain.csv` and `tables/gain.layers.csv`, and what is shown as Markdown.
    """
    images = network.example(max(batch_sizes)).to(default_device())
    on_disk = sizes(network)
    found, tried = costs(network.to(images.device), images, batch_sizes, precision, rounds)
    names = {layer.module: layer.name for layer in network.layers()}
    tried = [{**row, "layer": names.get(row["layer"], row["layer"])} for row in tried]
    run.write_table("gain.size", on_disk)
    run.write_table("gain", rounded(found))
    run.write_table("gain.layers", rounded(tried))
    run.log({"command": "gain", "machine": machine(), "precision": precision, "rounds": rounds})
    shown = [
        size_table(on_disk),
        cost_table(found, f"Cost of one pass ({precision}, {rounds} rounds in turns; {machine()})"),
        executions_table(tried, "Layers, their time as a share of the dense layer's (median), by execution"),
    ]
    for name, table in zip(("gain.size", "gain", "gain.layers"), shown, strict=True):
        run.write_text(f"tables/{name}.md", table.markdown())
    return shown


def size_table(rows: Rows) -> TextTable:
    """Weights and bytes, dense and pruned."""
    table = TextTable(
        "Size (weights in fp32; a pruned file holds one bit per weight and the values that are left)",
        ("network", "all parameters", "in the pruned layers", "on disk, MB"),
        names=1,
    )
    for row in rows:
        table.add_group(
            (row["network"], f"{row['weights']:,}", f"{row['in_pruned_layers']:,}", f"{row['bytes'] / 1e6:.2f}")
        )
    return table


def cost_table(rows: Rows, title: str) -> TextTable:
    """Multiply-adds, memory and time, batch size by batch size."""
    headings = ("batch", "executed", "M multiply-adds per image", "peak MB", "ms", "times dense, median of rounds")
    table = TextTable(title, headings)
    for size in dict.fromkeys(row["batch"] for row in rows):
        table.add_group(*(_cost_cells(row) for row in rows if row["batch"] == size))
    return table


def _cost_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        str(row["batch"]),
        row["executed"],
        f"{row['multiply_adds'] / 1e6:.1f}",
        f"{row['peak_bytes'] / 1e6:.1f}",
        f"{row['milliseconds']:.2f}",
        "1" if row["executed"] == DENSE else f"{row['ratio']:.3f}",
    )


def executions_table(rows: Rows, title: str) -> TextTable:
    """For every layer the time of each execution against the dense layer's, and which one is taken."""
    ways = list(dict.fromkeys(row["execution"] for row in rows))
    table = TextTable(title, ("batch", "layer", *ways, "taken"), names=2)
    for size in dict.fromkeys(row["batch"] for row in rows):
        lines = []
        for layer in dict.fromkeys(row["layer"] for row in rows if row["batch"] == size):
            found = {r["execution"]: r for r in rows if r["batch"] == size and r["layer"] == layer}
            taken = next((way for way in ways if way in found and found[way]["chosen"]), "")
            cells = (f"{found[way]['ratio']:.2f}" if way in found else "" for way in ways)
            lines.append((str(size), layer, *cells, taken))
        if lines:
            table.add_group(*lines)
    return table
