"""`nodelens report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodelens.cli.options import output


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directory; several are put side by side.")],
    out: Annotated[Path | None, typer.Option(help="File to write; by default report.html in the first run.")] = None,
    split: Annotated[str | None, typer.Option(help="Measured images that the explorer shows; by default test.")] = None,
    images: Annotated[bool, typer.Option(help="Show the labels' images where the data set is at hand.")] = True,
) -> None:
    """Write one page that opens from disk: look at a network node by node, with its tables and figures."""
    from nodelens.report.page import write_report
    from nodelens.runs import RunDirectory

    path = write_report([RunDirectory(run) for run in runs], out, split, images)
    output.print(f"page {path}, {path.stat().st_size / 1e6:.1f} MB: open it in a browser")
