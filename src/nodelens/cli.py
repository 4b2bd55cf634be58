"""The command line: parses, calls, prints; no logic of its own."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nodelens.errors import InputError

if TYPE_CHECKING:  # torch takes seconds to import; `--help` and a mistyped option need not wait for it
    from nodelens.report.tables import TextTable
    from nodelens.runs import RunDirectory
    from nodelens.training import Assignment
    from nodelens.training.precision import Precision

app = typer.Typer(
    help="See what every node of a trained network has learned to recognise.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
output = Console(soft_wrap=True)

Data = Annotated[str, typer.Option("--data", help="digits, cifar100, flowers102, a folder, or hf:org/name.")]
Out = Annotated[Path, typer.Option("--out", help="Run directory; a run begun there is continued.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (what is faster here), fp32 or bf16.")]
ImageSize = Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels square.")]
Source = Annotated[str, typer.Argument(help="Run directory, or a .safetensors or .pth checkpoint.")]
TrainedOn = Annotated[str | None, typer.Option("--data", help="The data set that the network was trained on.")]
Heads = Annotated[int | None, typer.Option(help="Attention heads, where the checkpoint does not say.")]
SkipUndecodable = Annotated[bool, typer.Option("--skip-undecodable", help="Leave out broken images.")]


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        print(version("nodelens"))
        raise typer.Exit
    return asked


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, help="Print it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """See what every node of a trained network has learned to recognise."""


@app.command()
def train(
    network: Annotated[str, typer.Argument(help="Variant by name: cct_7_3x1, cct_3_3x1_64, vgg16_bn, …")],
    data: Data = "digits",
    recipe: Annotated[str, typer.Option(help="How to train; see docs/training.md.")] = "digits",
    out: Out = Path("runs/train"),
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    seed: Seed = 0,
    precision: PrecisionOption = "auto",
    image_size: ImageSize = None,
    split: Annotated[str, typer.Option(help="Images that are learnt.")] = "train",
    test_split: Annotated[str, typer.Option(help="Images that are only looked at.")] = "test",
    keep_every: Annotated[int, typer.Option(help="Keep the weights of every that many epochs.")] = 0,
    compile_network: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")] = False,
    skip_undecodable: SkipUndecodable = False,
    assign_diagonals: Annotated[int | None, typer.Option(help="Labels per node, assigned in advance (A-ANDC).")] = None,
    assign_layers: Annotated[str | None, typer.Option(help="Layers that keep weights by them: 'block.*.*'.")] = None,
) -> None:
    """Train a network; killed at any moment, the same command goes on where it was."""
    from nodelens.data import load_images
    from nodelens.networks import masks_of
    from nodelens.pruning.decide import total_dilution
    from nodelens.runs import RunDirectory
    from nodelens.training import TrainSettings
    from nodelens.training import recipe as recipe_by_name
    from nodelens.training import train as train_network

    chosen, assigned = recipe_by_name(recipe, epochs, batch_size), _assignment(assign_diagonals, assign_layers)
    training, test = (
        load_images(data, which, image_size=image_size, skip_undecodable=skip_undecodable)
        for which in (split, test_split)
    )
    run = RunDirectory(out)
    with run.claimed():
        resolved = _precision(precision, run, "train")
        settings = TrainSettings(network, chosen, seed, resolved, compile_network, keep_every, assigned)
        masks = masks_of(train_network(settings, training, test, run, tensorboard=tensorboard))
        last = run.events("train")[-1]
    if masks:
        output.print(f"{total_dilution(masks):.4f} of the weights of {len(masks)} layers were left out from the start")
    output.print(f"test accuracy {last['test_accuracy']:.4f} after {last['epoch']} epochs; run directory {out}")


Sites = Annotated[str, typer.Option(help="Glob patterns, comma-separated: 'block.*.linear2,block.7.*'.")]
Splits = Annotated[str, typer.Option("--split", help="Splits to measure, comma-separated.")]
Threshold = Annotated[float, typer.Option(help="Share of a matrix's maximum above which an element counts.")]


@app.command()
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
    learning_rate: Annotated[float, typer.Option(help="Of the probes.")] = 5e-3,
    optimizer: Annotated[str, typer.Option(help="Of the probes: adamw or sgd.")] = "adamw",
    batch_size: Annotated[int, typer.Option(help="Images per step of probe training.")] = 128,
    layer_norm: Annotated[bool, typer.Option("--layer-norm", help="Normalise tokens before pooling.")] = False,
    permutations: Annotated[int, typer.Option(help="Draws of the permutation null; 0 for none.")] = 20,
    untrained: Annotated[bool, typer.Option(help="Measure an untrained network of the same kind too.")] = True,
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
        load_probing_data,
        measure_network,
        probe_epochs,
        probe_recipe,
    )
    from nodelens.report.measurement import report_measurement

    check_threshold(threshold)
    check_method(clusters)
    run, splits = _run_directory(source, out), tuple(split.split(","))
    network = load_network(source, heads=heads)
    with run.claimed():
        images = load_probing_data(network, _data_name(data, run), splits, skip_undecodable=skip_undecodable)
        length = probe_epochs(images.training, batch_size) if epochs is None else epochs
        how = probe_recipe(length, learning_rate, optimizer, batch_size)
        probe = ProbeSettings(how, tuple(range(seeds)), seed, layer_norm, _precision(precision, run, "measure"))
        settings = MeasureSettings(tuple(sites.split(",")), splits, probe, untrained)
        chosen = measure_network(network, images, settings, run)
        tables = report_measurement(run, splits, chosen, threshold, clusters, permutations)
    _show(tables)
    output.print(f"run directory {run.path}")


@app.command()
def prune(
    source: Source,
    data: TrainedOn = None,
    blocks: Annotated[str | None, typer.Option("--blocks", "--block", help="7 or 1-7; by default the last.")] = None,
    layers: Annotated[str | None, typer.Option(help="Patterns instead of blocks: 'block.*.linear1,output'.")] = None,
    threshold: Annotated[float, typer.Option(help="Of every site that --site-thresholds does not name.")] = 0.35,
    site_thresholds: Annotated[str, typer.Option(help="'block.7.attention=0.3,block.7.projection=0.3'.")] = "",
    dilution: Annotated[float | None, typer.Option(help="Share to remove of each layer; finds thresholds.")] = None,
    skip: Annotated[bool, typer.Option(help="Measure projection and Linear2 with the skip connection.")] = True,
    baseline: Annotated[str, typer.Option(help="What to compare with.")] = "random,magnitude,wanda,branch",
    curve: Annotated[str, typer.Option(help="Dilutions to try every method at: '0.5,0.8,0.9'.")] = "",
    keep_accuracy: Annotated[float | None, typer.Option(help="Find the highest dilution that loses no more.")] = None,
    gradual: Annotated[bool, typer.Option("--gradual", help="Search by small steps, not in one shot.")] = False,
    seeds: Annotated[int, typer.Option(help="Probes, random masks and orders of the images.")] = 3,
    epochs: Annotated[int, typer.Option(help="Of retraining.")] = 3,
    learning_rate: Annotated[float, typer.Option(help="Of the pruned blocks.")] = 5e-4,
    rest_learning_rate: Annotated[float, typer.Option(help="Of the rest; 0 freezes it: faster.")] = 1e-6,
    retraining_images: Annotated[int | None, typer.Option(help="At most so many per epoch.")] = None,
    probe_epochs: Annotated[int | None, typer.Option(help="By default 6, at least 1000 steps.")] = None,
    held_out: Annotated[float, typer.Option(help="Share of the training images that decides.")] = 0.1,
    paper_split: Annotated[bool, typer.Option("--paper-split", help="Decide on test images, as the paper.")] = False,
    heads: Heads = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the network's studies; by default SOURCE/prune.")] = None,
    name: Annotated[str | None, typer.Option(help="Of this study, a run directory in that folder.")] = None,
    seed: Seed = 0,
    precision: PrecisionOption = "auto",
) -> None:
    """Keep a weight only where its two nodes share a label, retrain, and compare with other ways to prune."""
    from nodelens.networks import block_patterns, load_network
    from nodelens.networks import layers as layers_of
    from nodelens.probing import ProbeSettings, probe_recipe
    from nodelens.probing import probe_epochs as default_epochs
    from nodelens.pruning.retrain import recorded_augmentation, retraining
    from nodelens.pruning.study import PruneSettings, PruningStudy, load_pruning_data
    from nodelens.report.pruning import report_pruning, report_search
    from nodelens.runs import RunDirectory

    network = load_network(source, heads=heads)
    begun = RunDirectory(Path(source))
    measured = RunDirectory(out) if out else RunDirectory(_run_directory(source, None).path / "prune")
    patterns = layers.split(",") if layers else block_patterns(layers_of(network), blocks)
    run = RunDirectory(measured.path / (name or "_".join(patterns).replace("*", "all")))
    with measured.claimed():
        resolved = _precision(precision, measured, "measure")
        settings = PruneSettings(
            tuple(patterns),
            threshold,
            dict(_assignments("--site-thresholds", site_thresholds)),
            dilution,
            skip,
            ("andc", *filter(None, baseline.split(","))),
            tuple(range(seed, seed + seeds)),
            tuple(_number("--curve", part) for part in curve.split(",") if part),
            held_out,
            paper_split,
            retraining_images,
            retraining(epochs, learning_rate, rest_learning_rate, resolved, recorded_augmentation(begun)),
        )
        images = load_pruning_data(network, _data_name(data, begun), settings)
        length = default_epochs(images.rest) if probe_epochs is None else probe_epochs
        probe = ProbeSettings(probe_recipe(length), settings.seeds, seed, precision=resolved)
        study = PruningStudy(network, images, dataclasses.replace(settings, probe=probe), run, measured)
        tables = report_pruning(study) if keep_accuracy is None else report_search(study, keep_accuracy, gradual)
    _show(tables)
    output.print(f"run directory {run.path}")


@app.command()
def export(
    source: Source,
    to: Annotated[Path, typer.Option("--to", help="File to write: .safetensors, .pth or .onnx.")],
    heads: Heads = None,
    image_size: Annotated[int | None, typer.Option(help="Of the input, where the checkpoint does not say.")] = None,
) -> None:
    """Write a network for other programs: a dense checkpoint with the published names, or ONNX."""
    from nodelens.networks import export_checkpoint

    written = export_checkpoint(source, to, heads=heads, image_size=image_size)
    output.print(f"{written} written, {written.stat().st_size / 1e6:.1f} MB")


@app.command()
def reproduce(
    study: Annotated[str, typer.Argument(help="table1, table2, table3 or figure5.")],
    scale: Annotated[str, typer.Option(help="smoke (digits, minutes), cpu (hours) or paper (a GPU).")] = "smoke",
    checkpoint: Annotated[Path | None, typer.Option(help="Measure this network instead of training one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; by default runs/reproduce-SCALE.")] = None,
    split: Splits = "test",
    seed: Seed = 0,
) -> None:
    """Reproduce a table or figure of the paper: its numbers, ours, the difference, and what chance gives."""
    from nodelens.paper.studies import reproduce as reproduce_study
    from nodelens.runs import RunDirectory

    run = RunDirectory(out or Path(f"runs/reproduce-{scale}"))
    with run.claimed():
        tables = reproduce_study(study, scale, run, checkpoint=checkpoint, seed=seed, splits=split.split(","))
    _show(tables)
    output.print(f"run directory {run.path}")


@app.command()
def quickstart(out: Out = Path("runs/quickstart"), seed: Seed = 0) -> None:
    """Train a small transformer on handwritten digits and measure every node of it; needs no data, no network."""
    from nodelens.paper.studies import quickstart as quickstart_study
    from nodelens.runs import RunDirectory

    run = RunDirectory(out)
    with run.claimed():
        tables = quickstart_study(run, seed)
        reached = run.events("train")[-1]["test_accuracy"]
    _show(tables)
    output.print(f"the network's own test accuracy: {reached:.4f}")
    output.print(f"run directory {run.path}: tables/, figures/, measure/")


def _assignment(size: int | None, layers: str | None) -> Assignment | None:
    from nodelens.training import Assignment

    if size is None and layers is not None:
        raise InputError("--assign-layers says where, say with --assign-diagonals how many labels a node is assigned")
    if size is None:
        return None
    return Assignment(size) if layers is None else Assignment(size, tuple(layers.split(",")))


def _show(tables: Iterable[TextTable]) -> None:
    for table in tables:
        output.print(table.rich())


def _run_directory(source: str, out: Path | None) -> RunDirectory:
    from nodelens.runs import RunDirectory

    if out is None and not Path(source).is_dir():
        raise InputError(f"say with --out where the measurement of {source} is to be kept, e.g. --out runs/measure")
    return RunDirectory(out or Path(source))


def _data_name(asked: str | None, run: RunDirectory) -> str:
    sections = run.configuration()
    for command in ("train", "measure", "prune"):
        recorded = sections.get(command, {}).get("settings", {}).get("data", {}).get("name")
        if asked or recorded:
            return str(asked or recorded)
    raise InputError("say with --data which data set the network was trained on, e.g. --data cifar100")


def _number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{option}: {text!r} is no number") from error


def _assignments(option: str, text: str) -> Iterable[tuple[str, float]]:
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{option}: {part!r} names no value; write block.7.attention=0.3")
        yield name, _number(option, value)


def _precision(asked: str, run: RunDirectory, command: str) -> Precision:
    """What was asked for; `auto` is decided once per run and then stays."""
    from nodelens.training.precision import default_device, resolve_precision

    settings = run.configuration().get(command, {}).get("settings", {})
    recorded = settings.get("precision") or settings.get("probe", {}).get("precision")
    return resolve_precision(recorded if asked == "auto" and recorded else asked, default_device())


def main() -> None:
    """Entry point: bad input is one sentence and exit code 2, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="nodelens")
    except InputError as error:
        if debug:
            raise
        Console(stderr=True, soft_wrap=True).print(f"nodelens: {error}", style="red", highlight=False, markup=False)
        sys.exit(2)
