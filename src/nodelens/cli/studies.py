"""`nodelens reproduce` and `quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodelens.cli.options import AS_A_RECIPE, Out, ProbeOptimizer, Seed, output, show
from nodelens.errors import InputError


def reproduce(
    study: Annotated[str, typer.Argument(help="all, or one: table1 to table5, figure3 to 11, output, enforced.")],
    scale: Annotated[str, typer.Option(help="smoke (digits, minutes), cpu (hours) or paper (a GPU).")] = "smoke",
    checkpoint: Annotated[Path | None, typer.Option(help="Measure this network instead of training one.")] = None,
    second: Annotated[Path | None, typer.Option(help="Of Table 5: a CCT-7/7x2 trained on Flowers-102.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; by default runs/reproduce-SCALE.")] = None,
    split: Annotated[str | None, typer.Option(help="Splits to measure; by default the paper's.")] = None,
    seed: Seed = 0,
    seeds: Annotated[int | None, typer.Option(help="Probes, masks and enforced networks; by default 3.")] = None,
    networks: Annotated[int | None, typer.Option(help="With all: networks trained, a seed each; default 1.")] = None,
    probe_optimizer: ProbeOptimizer = "adamw",
    probe_images: Annotated[str | None, typer.Option("--probe-augment-as", help=AS_A_RECIPE)] = None,
    parts: Annotated[str | None, typer.Option(help="With all: only these, comma-separated.")] = None,
) -> None:
    """Reproduce a table or figure of the paper, or all: its numbers, ours, the difference, and what chance gives."""
    from nodelens.networks import load_network
    from nodelens.paper.scales import with_second
    from nodelens.paper.studies import SPLIT_STUDIES, scale_of
    from nodelens.paper.studies import reproduce as reproduce_study
    from nodelens.paper.whole import Plan, reproduce_all
    from nodelens.runs import RunDirectory

    if study == "figure6":
        study = "table3"  # whose masks it draws
    if study != "all" and (networks is not None or parts is not None):
        raise InputError("--networks and --parts are for `nodelens reproduce all`; leave them out for one study")
    if second is not None and study not in ("all", "table5"):
        raise InputError(f"{study} is not of the paper's second network; leave out --second")
    if split is not None and study not in SPLIT_STUDIES:
        raise InputError(f"{study} is measured on the paper's split; leave out --split")
    chosen = scale_of(scale, seeds, probe_optimizer, probe_images)
    run = RunDirectory(out or Path(f"runs/reproduce-{scale}"))
    with run.claimed():
        if study == "all":
            only = tuple(parts.split(",")) if parts else None
            plan = Plan(scale, chosen, checkpoint, second, seed, 1 if networks is None else networks, only)
            tables = reproduce_all(plan, run)
        else:
            splits = split.split(",") if split else None
            if second is not None:
                chosen, checkpoint = with_second(chosen, load_network(second)), second
            tables = reproduce_study(study, chosen, run, checkpoint=checkpoint, seed=seed, splits=splits)
    show(tables)
    if study == "all":
        output.print(f"every number, and why where one is not held: {run.path / 'reproduction.md'}")
    output.print(f"run directory {run.path}")


def quickstart(out: Out = Path("runs/quickstart"), seed: Seed = 0) -> None:
    """Train a small transformer on handwritten digits, look at its nodes and heads, prune it; needs no data."""
    from nodelens.paper.studies import quickstart as quickstart_study
    from nodelens.report.page import write_report
    from nodelens.report.training import training_events
    from nodelens.runs import RunDirectory

    run = RunDirectory(out)
    with run.claimed():
        tables = quickstart_study(run, seed)
        reached = training_events(run)[-1]["test_accuracy"]
        page = write_report([run])
    show(tables)
    output.print(f"the network's own test accuracy: {reached:.4f}")
    output.print(f"run directory {run.path}: tables/, figures/, measure/, heads/, prune/quickstart/")
    output.print(f"look at every node: open {page.resolve()} in a browser")
