"""`nodelens heads`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodelens.cli.options import (
    Heads,
    PrecisionOption,
    SkipUndecodable,
    Source,
    Threshold,
    TrainedOn,
    chosen_precision,
    data_name,
    output,
    run_directory,
    show,
)
from nodelens.errors import InputError

if TYPE_CHECKING:
    from nodelens.data import Samples
    from nodelens.heads.study import HeadData
    from nodelens.networks import Network, Site
    from nodelens.probing import ProbeSettings
    from nodelens.runs import RunDirectory

SEEDS = 3


def heads(
    source: Source,
    data: TrainedOn = None,
    blocks: Annotated[str | None, typer.Option("--blocks", "--block", help="7 or 1-7; by default all.")] = None,
    ratio: Annotated[float, typer.Option(help="A head's label appears so many times as often as in others.")] = 2.0,
    split: Annotated[str, typer.Option(help="Images of the nodal matrices.")] = "train",
    test_split: Annotated[str, typer.Option(help="Images of the accuracies.")] = "test",
    threshold: Threshold = 0.3,
    seeds: Annotated[int | None, typer.Option(help="Probes per site; by default as measured before, or 3.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the probes; by default as before, or 6, 1000 steps.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="Of the probes: adamw or sgd; by default as before.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; by default the source if it is one.")] = None,
    silence: Annotated[bool, typer.Option("--silence", help="Silence heads in the network itself.")] = False,
    superclasses: Annotated[Path | None, typer.Option(help="JSON: super-classes with their labels.")] = None,
    images: Annotated[str, typer.Option(help="Test images to show, '3,17'; by default the clearest.")] = "",
    pruned: Annotated[str | None, typer.Option(help="The network after pruning, to show beside.")] = None,
    along_training: Annotated[bool, typer.Option("--along-training", help="Study the kept epochs instead.")] = False,
    every: Annotated[int | None, typer.Option(help="Of the kept epochs those it divides, and the last.")] = None,
    training_images: Annotated[int | None, typer.Option(help="At most so many per epoch along training.")] = None,
    draws: Annotated[int, typer.Option(help="Of the null: nodes permuted among heads.")] = 1000,
    attention_heads: Heads = None,
    precision: PrecisionOption = "auto",
    skip_undecodable: SkipUndecodable = False,
) -> None:
    """Show which attention head is the expert for which labels, beside what chance gives."""
    from nodelens.heads.epochs import EPOCHS, fewer_images, saved_epochs, study_epochs
    from nodelens.heads.study import HeadSettings, HeadStudy, chosen_sites
    from nodelens.measures.resampling import check_draws
    from nodelens.networks import load_network
    from nodelens.report.heads import check_shown, report_epochs, report_heads
    from nodelens.runs import RunDirectory

    check_draws(draws)
    _check_along_training(
        along_training,
        study={"--silence": silence, "--images": images, "--pruned": pruned, "--superclasses": superclasses},
        training={"--every": every, "--training-images": training_images},
    )
    every = 1 if every is None else every
    settings = HeadSettings(blocks, split, threshold, ratio, draws=draws)
    run, trained = run_directory(source, out), RunDirectory(Path(source))
    network = load_network(source, heads=attention_heads)
    sites = chosen_sites(network, blocks)
    smaller = _smaller(pruned, network, sites)
    if along_training:
        saved_epochs(trained, every)
    with run.claimed():
        name = data_name(data, trained, run)
        loaded = _data(network, name, split, test_split, superclasses, skip_undecodable)
        shown = [_position(part) for part in images.split(",") if part]
        check_shown(network, loaded.test, shown, smaller)
        loaded = fewer_images(loaded, training_images)
        record = RunDirectory(run.path / EPOCHS) if along_training else run
        probe = _probe(network, record, seeds, epochs, optimizer, precision, loaded.probing.training)
        settings = dataclasses.replace(settings, probe=probe)
        if along_training:
            tables = report_epochs(study_epochs(network, loaded, settings, trained, run, every), settings, run)
        else:
            tables = report_heads(HeadStudy(network, loaded, settings, run), silence, shown, smaller)
    show(tables)
    output.print(f"run directory {run.path}")


def _check_along_training(along_training: bool, study: dict[str, object], training: dict[str, object]) -> None:
    """
    Raises:
        InputError: an option that has no effect on what is asked for.
    """
    for option, value in (study if along_training else training).items():
        if value:
            of, do = ("the trained network", "leave out") if along_training else ("kept epochs", "add")
            raise InputError(f"{option} belongs to the study of {of}; {do} --along-training")


def _smaller(pruned: str | None, network: Network, sites: Sequence[Site]) -> Network | None:
    """The network after pruning, if one is to be shown beside; it has the same sites."""
    from nodelens.heads.study import same_sites
    from nodelens.networks import load_network

    if not pruned:
        return None
    smaller = load_network(pruned, labels=network.config.labels)
    same_sites(smaller, sites)
    return smaller


def _data(
    network: Network, name: str, split: str, test_split: str, superclasses: Path | None, skip_undecodable: bool
) -> HeadData:
    """The images of a study, with the super-classes of a file where one is given."""
    from nodelens.data.superclasses import read_superclasses
    from nodelens.heads.study import load_head_data

    loaded = load_head_data(network, name, split, test_split, skip_undecodable)
    if superclasses is None:
        return loaded
    names, of_label = read_superclasses(superclasses, loaded.label_names)
    return dataclasses.replace(loaded, superclass_names=names, superclass_of_label=of_label)


def _probe(
    network: Network,
    run: RunDirectory,
    seeds: int | None,
    epochs: int | None,
    optimizer: str | None,
    precision: str,
    training: Samples,
) -> ProbeSettings:
    """How the run's probes were trained, or would be; changed where it was asked for."""
    from nodelens.probing import ProbeSettings, learnt_flip, probe_epochs, probe_recipe, recorded_probe

    resolved = chosen_precision(precision, run, "measure")
    found = recorded_probe(run)
    given: dict[str, Any] = {"epochs": epochs, "optimizer": optimizer}
    asked = {name: value for name, value in given.items() if value is not None}
    if found is None:
        recipe = probe_recipe(**{"epochs": probe_epochs(training), "flip": learnt_flip(network), **asked})
        return ProbeSettings(recipe, tuple(range(SEEDS if seeds is None else seeds)), precision=resolved)
    chosen = found.seeds if seeds is None else tuple(range(seeds))
    return dataclasses.replace(
        found, recipe=dataclasses.replace(found.recipe, **asked), seeds=chosen, precision=resolved
    )


def _position(text: str) -> int:
    if not text.strip().isdecimal():
        raise InputError(f"--images: {text!r} is no number of a test image; write 3,17")
    return int(text)
