"""What the commands share: options, and how an option's text is read."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nodelens.errors import InputError

if TYPE_CHECKING:
    from nodelens.data.augment import Augmentation
    from nodelens.networks import Network
    from nodelens.report.tables import TextTable
    from nodelens.runs import RunDirectory
    from nodelens.training.precision import Precision

output = Console(soft_wrap=True, markup=False)


def _seed(seed: int) -> int:
    if not 0 <= seed < 2**63:
        raise InputError(f"--seed {seed} is out of range; give 0 or more, less than 2^63")
    return seed


Data = Annotated[str, typer.Option("--data", help="digits, cifar100, flowers102, clinc150, a folder, or hf:org/name.")]
Out = Annotated[Path, typer.Option("--out", help="Run directory; a run begun there is continued.")]
Seed = Annotated[int, typer.Option(callback=_seed, help="Seed of everything random.")]
PrecisionOption = Annotated[str, typer.Option(help="auto (what is faster here), fp32 or bf16.")]
ImageSize = Annotated[int | None, typer.Option(help="Crop and resize images to this many pixels square.")]
Source = Annotated[str, typer.Argument(help="Run directory, .safetensors or .pth checkpoint, timm:NAME, hf:NAME.")]
TrainedOn = Annotated[str | None, typer.Option("--data", help="The data set, by default that of the run.")]
Heads = Annotated[int | None, typer.Option("--heads", help="Attention heads, where the checkpoint does not say.")]
SkipUndecodable = Annotated[bool, typer.Option("--skip-undecodable", help="Leave out broken images.")]
Sites = Annotated[str, typer.Option(help="Glob patterns, comma-separated, as 'block.*.linear2'.")]
ProbeOptimizer = Annotated[str, typer.Option(help="Of the probes: adamw, or sgd with an L2 penalty.")]
AS_A_RECIPE = "The probes' images, as a recipe of train; by default mirrored."
Splits = Annotated[str, typer.Option("--split", help="Splits to measure, comma-separated.")]
Threshold = Annotated[float, typer.Option(help="Share of a matrix's maximum above which an element counts.")]


def show(tables: Iterable[TextTable]) -> None:
    """Print tables; one that is wider than the terminal runs over its edge, for rich would leave columns out."""
    for table in tables:
        drawn = table.rich()
        least = output.measure(drawn, options=output.options.update(max_width=1000)).minimum
        drawn.width = least if least > output.width else None
        output.print(drawn)


def run_directory(source: str, out: Path | None) -> RunDirectory:
    """Where a command keeps its results; it need exist for the first process only."""
    from nodelens.processes import by_first
    from nodelens.runs import RunDirectory

    @by_first
    def found() -> RunDirectory:
        if out is None and not Path(source).exists() and not source.startswith(("timm:", "hf:")):
            raise InputError(
                f"there is no {source}; give a run directory, a .safetensors or a .pth file, timm:NAME or hf:NAME"
            )
        if out is None and not Path(source).is_dir():
            raise InputError(f"say with --out where the measurement of {source} is to be kept, e.g. --out runs/measure")
        return RunDirectory(out or Path(source))

    return found()


def augmented_as(name: str, network: Network) -> Augmentation:
    """What the recipe of that name does to the images that a network reads."""
    from nodelens.networks import longest_text
    from nodelens.training import recipe

    if longest_text(network):
        raise InputError("texts are not augmented; leave out --augment-as")
    return recipe(name).augmentation


def data_name(asked: str | None, *runs: RunDirectory) -> str:
    """What was asked for, else what the first of the runs that knows it was about."""
    if asked:
        return asked
    for run, command in product(runs, ("train", "measure", "prune")):
        recorded = run.settings(command).get("data", {}).get("name")
        if recorded:
            return str(recorded)
    raise InputError("say with --data which data set the network was trained on, e.g. --data cifar100")


def number(option: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"{option}: {text!r} is no number") from error


def whole_numbers(option: str, text: str) -> list[int]:
    """Positive whole numbers between commas."""
    numbers = [number(option, part) for part in text.split(",")]
    if any(value < 1 or not value.is_integer() for value in numbers):
        raise InputError(f"{option} {text}: give whole numbers of at least 1")
    return [int(value) for value in numbers]


def assignments(option: str, text: str) -> Iterable[tuple[str, float]]:
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"{option}: {part!r} names no value; write block.7.attention=0.3")
        yield name, number(option, value)


def chosen_precision(asked: str, run: RunDirectory, command: str) -> Precision:
    """What was asked for; `auto` is decided once per run and then stays."""
    from nodelens.processes import default_device
    from nodelens.training.precision import resolve_precision

    settings = run.settings(command)
    recorded = settings.get("precision") or settings.get("probe", {}).get("precision")
    return resolve_precision(recorded if asked == "auto" and recorded else asked, default_device())
