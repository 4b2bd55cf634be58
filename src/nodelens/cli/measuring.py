"""`nodelens measure`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nodelens.cli.options import (
    AS_A_RECIPE,
    Heads,
    PrecisionOption,
    ProbeOptimizer,
    Seed,
    Sites,
    SkipUndecodable,
    Source,
    Splits,
    Threshold,
    TrainedOn,
    augmented_as,
    chosen_precision,
    data_name,
    output,
    run_directory,
    show,
)
from nodelens.errors import InputError

RmsScale = Annotated[
    bool | None,
    typer.Option(help="Divide what a probe reads by its root mean square; by default where nodes are filters."),
]
OtherLabels = Annotated[
    bool, typer.Option("--other-labels", help="The network was trained on other labels than those of --data.")
]


def measure(
    source: Source,
    data: TrainedOn = None,
    sites: Sites = "*",
    split: Splits = "test",
    out: Annotated[Path | None, typer.Option(help="Run directory; by default the source if it is one.")] = None,
    threshold: Threshold = 0.3,
    clusters: Annotated[str, typer.Option(help="Cluster rule: greedy (as in the paper) or maximum.")] = "greedy",
    seeds: Annotated[int, typer.Option(help="Probes per site, trained side by side.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Of probe training; by default 6, at least 1000 steps.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of the probes; by default 5e-3, sgd 2e-2.")] = None,
    optimizer: ProbeOptimizer = "adamw",
    weight_decay: Annotated[float, typer.Option(help="Of the probes.")] = 5e-2,
    batch_size: Annotated[int, typer.Option(help="Images per step of probe training.")] = 128,
    augment_as: Annotated[str | None, typer.Option(help=AS_A_RECIPE)] = None,
    layer_norm: Annotated[bool, typer.Option("--layer-norm", help="Normalise tokens before pooling.")] = False,
    rms_scale: RmsScale = None,
    permutations: Annotated[int, typer.Option(help="Draws of the permutation null; 0 for none.")] = 20,
    untrained: Annotated[bool, typer.Option(help="Measure an untrained network of the same kind too.")] = True,
    other_labels: OtherLabels = False,
    heads: Heads = None,
    seed: Seed = 0,
    precision: PrecisionOption = "auto",
    skip_undecodable: SkipUndecodable = False,
) -> None:
    """Measure the nodes of a trained network: clusters, noise and signal-to-noise ratio of every site."""
    from nodelens.measures import check_method, check_threshold
    from nodelens.networks import load_network
    from nodelens.probing import (
        MeasureSettings,
        ProbeSettings,
        learnt_flip,
        load_probing_data,
        measure_network,
        probe_epochs,
        probe_recipe,
    )
    from nodelens.report.measurement import report_measurement
    from nodelens.runs import RunDirectory

    check_threshold(threshold)
    check_method(clusters)
    if permutations < 0:
        raise InputError(f"--permutations {permutations}: give the number of draws, 0 for none")
    run, splits = run_directory(source, out), tuple(split.split(","))
    network = load_network(source, heads=heads)
    with run.claimed():
        name = data_name(data, RunDirectory(Path(source)), run)
        images = load_probing_data(network, name, splits, skip_undecodable=skip_undecodable, other_labels=other_labels)
        length = probe_epochs(images.training, batch_size) if epochs is None else epochs
        augmentation = augmented_as(augment_as, network) if augment_as else None
        how = probe_recipe(
            length, learning_rate, optimizer, batch_size, learnt_flip(network), weight_decay, augmentation
        )
        precise = chosen_precision(precision, run, "measure")
        probe = ProbeSettings(
            how, tuple(range(seeds)), order_seed=seed, layer_norm=layer_norm, precision=precise, rms_scale=rms_scale
        )
        settings = MeasureSettings(tuple(sites.split(",")), splits, probe, untrained, other_labels=other_labels)
        chosen = measure_network(network, images, settings, run)
        tables = report_measurement(run, splits, chosen, threshold, clusters, permutations)
    show(tables)
    output.print(f"run directory {run.path}")


def sites(source: Source, heads: Heads = None) -> None:
    """List the places of a network where nodes can be measured: names for --sites, and what is there."""
    from nodelens.networks import load_network
    from nodelens.networks import sites as sites_of
    from nodelens.report.tables import TextTable

    found = sites_of(load_network(source, heads=heads))
    table = TextTable(f"{len(found)} sites of {source}", ("site", "layout", "nodes", "positions", "heads"))
    for site in found:
        table.add_group([site.name, site.layout, *(str(n or "") for n in (site.nodes, site.positions, site.heads))])
    show([table])
