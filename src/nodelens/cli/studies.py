"""`nodelens reproduce` and `quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodelens.cli.options import Out, Seed, output, show


def reproduce(
    study: Annotated[str, typer.Argument(help="table1 to table5, figure5, figure7 to figure11, enforced.")],
    scale: Annotated[str, typer.Option(help="smoke (digits, minutes), cpu (hours) or paper (a GPU).")] = "smoke",
    checkpoint: Annotated[Path | None, typer.Option(help="Measure this network instead of training one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; by default runs/reproduce-SCALE.")] = None,
    split: Annotated[str | None, typer.Option(help="Splits to measure; by default the paper's.")] = None,
    seed: Seed = 0,
) -> None:
    """Reproduce a table or figure of the paper: its numbers, ours, the difference, and what chance gives."""
    from nodelens.paper.studies import reproduce as reproduce_study
    from nodelens.runs import RunDirectory

    run = RunDirectory(out or Path(f"runs/reproduce-{scale}"))
    with run.claimed():
        splits = split.split(",") if split else None
        tables = reproduce_study(study, scale, run, checkpoint=checkpoint, seed=seed, splits=splits)
    show(tables)
    output.print(f"run directory {run.path}")


def quickstart(out: Out = Path("runs/quickstart"), seed: Seed = 0) -> None:
    """Train a small transformer on handwritten digits and measure every node of it; needs no data, no network."""
    from nodelens.paper.studies import quickstart as quickstart_study
    from nodelens.report.page import write_report
    from nodelens.runs import RunDirectory

    run = RunDirectory(out)
    with run.claimed():
        tables = quickstart_study(run, seed)
        reached = run.events("train")[-1]["test_accuracy"]
        page = write_report([run])
    show(tables)
    output.print(f"the network's own test accuracy: {reached:.4f}")
    output.print(f"run directory {run.path}: tables/, figures/, measure/")
    output.print(f"look at every node: open {page.resolve()} in a browser")
