"""The command line: parses, calls, prints; no logic of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nodelens.errors import InputError

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
SkipUndecodable = Annotated[bool, typer.Option("--skip-undecodable", help="Leave out broken images.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("nodelens"))
        raise typer.Exit


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
) -> None:
    """Train a network; killed at any moment, the same command goes on where it was."""
    from nodelens.data import load_images
    from nodelens.runs import RunDirectory
    from nodelens.training import TrainSettings, resolve_precision
    from nodelens.training import recipe as recipe_by_name
    from nodelens.training import train as train_network
    from nodelens.training.precision import default_device

    chosen = recipe_by_name(recipe, epochs, batch_size)
    images = [load_images(data, s, image_size=image_size, skip_undecodable=skip_undecodable) for s in (split, test_split)]
    run = RunDirectory(out)
    with run.claimed():
        recorded = run.configuration().get("train", {}).get("settings", {}).get("precision")
        resolved = resolve_precision(recorded if precision == "auto" and recorded else precision, default_device())
        settings = TrainSettings(network, chosen, seed, resolved, compile_network, keep_every)
        train_network(settings, *images, run, tensorboard=tensorboard)
        last = run.events("train")[-1]
    output.print(f"test accuracy {last['test_accuracy']:.4f} after {last['epoch']} epochs; run directory {out}")


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
