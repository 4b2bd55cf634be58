"""`nodelens prune`, `gain` and `export`: smaller networks, what that gains, networks for other programs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nodelens.cli.options import (
    Heads,
    PrecisionOption,
    ProbeOptimizer,
    Seed,
    SkipUndecodable,
    Source,
    TrainedOn,
    assignments,
    augmented_as,
    chosen_precision,
    data_name,
    number,
    output,
    run_directory,
    show,
    whole_numbers,
)
from nodelens.errors import InputError

if TYPE_CHECKING:
    from nodelens.networks import Network
    from nodelens.pruning.retrain import RetrainSettings
    from nodelens.pruning.settings import PruneSettings, SearchSettings
    from nodelens.pruning.study import PruningData, PruningStudy
    from nodelens.report.tables import TextTable
    from nodelens.runs import RunDirectory
    from nodelens.training.precision import Precision


Baseline = Annotated[
    str, typer.Option(help="By default permuted, random, magnitude, wanda, branch; or field.", show_default=False)
]


def prune(
    source: Source,
    data: TrainedOn = None,
    blocks: Annotated[str | None, typer.Option("--blocks", "--block", help="7 or 1-7; by default the last.")] = None,
    layers: Annotated[str | None, typer.Option(help="Patterns instead of blocks: 'block.*.linear1,output'.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Of all sites but --site-thresholds'; default 0.35.")] = None,
    site_thresholds: Annotated[str, typer.Option(help="'block.7.attention=0.3', comma-separated.")] = "",
    dilution: Annotated[float | None, typer.Option(help="Share to remove of each layer; finds thresholds.")] = None,
    skip: Annotated[bool, typer.Option(help="Measure projection and Linear2 with the skip connection.")] = True,
    own_head: Annotated[bool, typer.Option("--own-head", help="Decide the output layer by itself: no probe.")] = False,
    baseline: Baseline = "permuted,random,magnitude,wanda,branch",
    store: Annotated[str, typer.Option(help="Whose network is kept, or searched: andc or a --baseline.")] = "andc",
    curve: Annotated[str, typer.Option(help="Dilutions to try every method at: '0.5,0.8,0.9'.")] = "",
    keep_accuracy: Annotated[float | None, typer.Option(help="Find the highest dilution that loses no more.")] = None,
    gradual: Annotated[bool, typer.Option("--gradual", help="Search by small steps, not in one shot.")] = False,
    seeds: Annotated[int, typer.Option(help="Probes, random masks and orders of the images.")] = 3,
    epochs: Annotated[int, typer.Option(help="Of retraining; 0 for none.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Of the pruned blocks.")] = 5e-4,
    rest_learning_rate: Annotated[float, typer.Option(help="Of the rest; 0 freezes it: faster.")] = 1e-6,
    schedule: Annotated[str, typer.Option(help="Of the rates: step (the paper's) or cosine, to zero.")] = "step",
    augment_as: Annotated[str | None, typer.Option(help="A recipe of train; by default no mixing.")] = None,
    distill: Annotated[bool, typer.Option("--distill", help="Learn the unpruned network's outputs.")] = False,
    retraining_images: Annotated[int | None, typer.Option(help="At most so many per epoch.")] = None,
    probe_epochs: Annotated[int | None, typer.Option(help="By default 6, at least 1000 steps.")] = None,
    probe_optimizer: ProbeOptimizer = "adamw",
    held_out: Annotated[float, typer.Option(help="Share of the training images that decides.")] = 0.1,
    test_split: Annotated[str | None, typer.Option(help="Images only looked at; by default as in training.")] = None,
    paper_split: Annotated[bool, typer.Option("--paper-split", help="Decide on test images, as the paper.")] = False,
    skip_undecodable: SkipUndecodable = False,
    heads: Heads = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the network's studies; by default SOURCE/prune.")] = None,
    name: Annotated[str | None, typer.Option(help="Of this study, a run directory in that folder.")] = None,
    seed: Seed = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Keep a weight only where its two nodes share a label, retrain, and compare with other ways to prune."""
    from nodelens.networks import load_network
    from nodelens.pruning.settings import PruneSettings
    from nodelens.runs import RunDirectory

    search = _search(keep_accuracy, gradual)
    _check_decided_once(search, threshold, site_thresholds, dilution, curve)
    network, begun = load_network(source, heads=heads), RunDirectory(Path(source))
    measured = RunDirectory(out) if out else RunDirectory(run_directory(source, None).path / "prune")
    patterns = layers.split(",") if layers else _patterns(network, blocks)
    run = RunDirectory(measured.path / (name or _study_name(patterns, search, curve)))
    with measured.claimed():
        resolved = chosen_precision(precision, measured, "measure")
        settings = PruneSettings(
            layers=tuple(patterns),
            threshold=PruneSettings.threshold if threshold is None else threshold,
            site_thresholds=dict(assignments("--site-thresholds", site_thresholds)),
            dilution=dilution,
            skip=skip,
            methods=("andc", *filter(None, baseline.split(","))),
            model_of=store,
            seeds=tuple(range(seed, seed + seeds)),
            dilutions=tuple(number("--curve", part) for part in curve.split(",") if part),
            held_out=held_out,
            paper_split=paper_split,
            retraining_images=retraining_images,
            own_head=own_head,
            retraining=_retraining(
                network, begun, augment_as, epochs, learning_rate, rest_learning_rate, schedule, distill, resolved
            ),
            search=search,
        )
        images = _images(network, begun, data_name(data, begun), test_split, settings, skip_undecodable)
        show(_tables(_study(network, images, settings, probe_epochs, probe_optimizer, seed, run, measured)))
    output.print(f"run directory {run.path}")


def _patterns(network: Network, blocks: str | None) -> list[str]:
    from nodelens.networks import block_patterns, layers

    return block_patterns(layers(network), blocks)


def _study_name(patterns: list[str], search: SearchSettings | None, curve: str) -> str:
    """Of its layers, and of what is done with them: each has a run directory of its own."""
    return "_".join(patterns).replace("*", "all") + ("_search" if search else "_curve" if curve else "")


def _search(keep_accuracy: float | None, gradual: bool) -> SearchSettings | None:
    from nodelens.pruning.settings import SearchSettings

    if gradual and keep_accuracy is None:
        raise InputError("--gradual is a way to search; say with --keep-accuracy what may be lost, such as 0.005")
    return None if keep_accuracy is None else SearchSettings(keep_accuracy, gradual)


def _check_decided_once(
    search: SearchSettings | None, threshold: float | None, site_thresholds: str, dilution: float | None, curve: str
) -> None:
    """Thresholds are given, or found for a dilution, or searched for."""
    if search and (curve or dilution is not None):
        raise InputError("--keep-accuracy looks for the dilutions itself; leave out --curve and --dilution")
    if search and (site_thresholds or threshold is not None):
        raise InputError("--keep-accuracy looks for the thresholds itself; leave out --threshold and --site-thresholds")
    if dilution is not None and threshold is not None:
        raise InputError("a dilution finds the thresholds of all sites; give --dilution or --threshold, not both")


def _retraining(
    network: Network,
    begun: RunDirectory,
    augment_as: str | None,
    epochs: int,
    learning_rate: float,
    rest_learning_rate: float,
    schedule: str,
    distill: bool,
    precision: Precision,
) -> RetrainSettings:
    from nodelens.pruning.retrain import recorded_augmentation, retraining

    augmentation = augmented_as(augment_as, network) if augment_as else recorded_augmentation(begun)
    return retraining(epochs, learning_rate, rest_learning_rate, precision, augmentation, schedule, distill)


def _images(
    network: Network,
    begun: RunDirectory,
    data: str,
    test_split: str | None,
    settings: PruneSettings,
    skip_undecodable: bool,
) -> PruningData:
    """The splits of these data that the network learnt and was tested on, where its run says so."""
    from nodelens.pruning.study import load_pruning_data

    recorded = begun.settings("train").get("data", {})
    trained = recorded if recorded.get("name") == data else {}
    images = load_pruning_data(
        network,
        data,
        settings,
        skip_undecodable,
        training_split=trained.get("training_split", "train").removesuffix("-rest"),
        test_split=test_split or trained.get("test_split", "test"),
    )
    _check_held_out(recorded, images, settings.held_out)
    return images


def _check_held_out(learnt: Mapping[str, Any], images: PruningData, share: float) -> None:
    """Where the network's training left images out, these must be the ones that decide."""
    if learnt.get("training_split") == images.rest.split and learnt["fingerprint"] != images.rest.fingerprint:
        raise InputError(
            f"the network was trained without other images than --held-out {share:g} leaves out; "
            "give the share that `nodelens train --held-out` was given"
        )


def _study(
    network: Network,
    images: PruningData,
    settings: PruneSettings,
    probe_epochs: int | None,
    probe_optimizer: str,
    seed: int,
    run: RunDirectory,
    measured: RunDirectory,
) -> PruningStudy:
    """The study, its probes trained; they take as long as elsewhere where it is not said how long."""
    from nodelens.probing import ProbeSettings, learnt_flip, probe_recipe
    from nodelens.probing import probe_epochs as default_epochs
    from nodelens.pruning.study import PruningStudy

    length = default_epochs(images.rest) if probe_epochs is None else probe_epochs
    recipe = probe_recipe(length, optimizer=probe_optimizer, flip=learnt_flip(network))
    probe = ProbeSettings(recipe, settings.seeds, seed, precision=settings.retraining.precision)
    return PruningStudy(network, images, dataclasses.replace(settings, probe=probe), run, measured)


def _tables(study: PruningStudy) -> list[TextTable]:
    from nodelens.report.pruning import report_pruning
    from nodelens.report.search import report_search

    return report_search(study) if study.settings.search else report_pruning(study)


def gain(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="Run directory; by default the source if it is one.")] = None,
    batch_sizes: Annotated[str, typer.Option(help="Images per batch.")] = "1,64",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or auto.")] = "fp32",
    rounds: Annotated[int, typer.Option(help="Repetitions, in turns.")] = 15,
) -> None:
    """Measure what a pruned network gains: weights, bytes, multiply-adds, memory, and time against dense."""
    from nodelens.networks import load_network
    from nodelens.processes import default_device
    from nodelens.report.gain import report_gain
    from nodelens.training.precision import resolve_precision

    sizes = whole_numbers("--batch-sizes", batch_sizes)
    if rounds < 1:
        raise InputError(f"--rounds {rounds}: nothing would be timed, give at least 1")
    network, run = load_network(source), run_directory(source, out)
    with run.claimed():
        resolved = resolve_precision(precision, default_device())
        tables = report_gain(network, run, sizes, resolved, rounds)
    show(tables)
    output.print(f"run directory {run.path}")


def export(
    source: Source,
    to: Annotated[Path, typer.Option("--to", help="File to write: .safetensors, .pth or .onnx.")],
    heads: Heads = None,
    image_size: Annotated[int | None, typer.Option(help="Of the input, where the checkpoint does not say.")] = None,
) -> None:
    """Write a network for other programs: a dense checkpoint with the published names, or ONNX."""
    from nodelens.networks import export_checkpoint
    from nodelens.processes import by_first

    @by_first
    def write() -> int:
        return export_checkpoint(source, to, heads=heads, image_size=image_size).stat().st_size

    size = write()
    output.print(f"{to} written, {size / 1e6:.1f} MB")
