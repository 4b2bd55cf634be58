"""`nodelens train`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nodelens.cli.options import (
    Data,
    ImageSize,
    Out,
    PrecisionOption,
    Seed,
    SkipUndecodable,
    chosen_precision,
    output,
    whole_numbers,
)
from nodelens.errors import InputError

if TYPE_CHECKING:
    from nodelens.data import Samples
    from nodelens.networks import Network
    from nodelens.runs import RunDirectory
    from nodelens.training import Assignment, EnforcedHeads, Recipe, TrainSettings


def train(
    network: Annotated[
        str | None, typer.Argument(help="Variant: cct_7_3x1, vit_7_patch4, vgg16_bn, bert_4_256, …, or timm:NAME.")
    ] = None,
    data: Data = "digits",
    recipe: Annotated[
        str | None, typer.Option(help="See docs/training.md; by default digits, with --from fine-tune.")
    ] = None,
    initial: Annotated[
        str | None, typer.Option("--from", help="Checkpoint, timm:NAME or hf:NAME whose weights are trained on.")
    ] = None,
    out: Out = Path("runs/train"),
    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Instead of the recipe's.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak, instead of the recipe's.")] = None,
    seed: Seed = 0,
    precision: PrecisionOption = "auto",
    image_size: ImageSize = None,
    split: Annotated[str, typer.Option(help="Images that are learnt.")] = "train",
    held_out: Annotated[float, typer.Option(help="Share of these left out, for prune to decide on.")] = 0.0,
    test_split: Annotated[str, typer.Option(help="Images that are only looked at.")] = "test",
    keep_every: Annotated[int, typer.Option(help="Keep the weights of every that many epochs.")] = 0,
    test_every: Annotated[int, typer.Option(help="Look at the accuracy after every that many epochs.")] = 1,
    compile_network: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")] = False,
    skip_undecodable: SkipUndecodable = False,
    assign_diagonals: Annotated[int | None, typer.Option(help="Labels per node, assigned in advance (A-ANDC).")] = None,
    assign_layers: Annotated[str | None, typer.Option(help="Layers that keep weights by them: 'block.*.*'.")] = None,
    heads: Annotated[str | None, typer.Option(help="Attention heads: 4, or block by block: 2,2,4,4,8,8,8.")] = None,
    assign_control: Annotated[
        bool, typer.Option("--assign-control", help="As many weights at random instead.")
    ] = False,
    assign_heads: Annotated[str | None, typer.Option(help="Labels for heads: superclass, random or a file.")] = None,
    head_weight: Annotated[float, typer.Option(help="Of the heads' own labels beside the network's loss.")] = 0.5,
    head_blocks: Annotated[str | None, typer.Option(help="Blocks whose heads get labels: 5-7; by default all.")] = None,
) -> None:
    """Train a network; killed at any moment, the same command goes on where it was."""
    from nodelens.data import holdout
    from nodelens.networks import load_network
    from nodelens.runs import RunDirectory
    from nodelens.training import TrainSettings

    if network is None and initial is None:
        raise InputError("say what to train: a variant, such as cct_7_3x1, or with --from a trained network")
    trained = None if initial is None else load_network(initial)
    settings = TrainSettings(
        network or str(initial),
        _recipe(recipe, trained, epochs, batch_size, learning_rate),
        seed,
        compile=compile_network,
        keep_every=keep_every,
        assigned=_assignment(assign_diagonals, assign_layers, assign_control),
        enforced=_enforced(assign_heads, head_weight, head_blocks),
        heads=tuple(whole_numbers("--heads", heads)) if heads else None,
        initial=initial,
    )
    training, test = _data(settings, trained, data, (split, test_split), image_size, skip_undecodable)
    if held_out:
        training, _ = holdout(training, held_out)
    run = RunDirectory(out)
    _train(settings, precision, training, test, run, initial=trained, tensorboard=tensorboard, test_every=test_every)


def _recipe(
    name: str | None,
    trained: Network | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
) -> Recipe:
    """The recipe of that name; else `digits`, or to train on `fine-tune`, mirroring as the network has learnt."""
    from nodelens.probing import learnt_flip
    from nodelens.training import recipe

    chosen = recipe(name or ("digits" if trained is None else "fine-tune"), epochs, batch_size, learning_rate)
    if name or trained is None:
        return chosen
    mirrored = dataclasses.replace(chosen.augmentation, flip=learnt_flip(trained))
    return dataclasses.replace(chosen, augmentation=mirrored)


def _data(
    settings: TrainSettings,
    trained: Network | None,
    data: str,
    splits: Sequence[str],
    image_size: int | None,
    skip_undecodable: bool,
) -> Sequence[Samples]:
    """What is learnt and what is looked at: images, or texts for a network that reads them."""
    from nodelens.data import load_images, text_splits, tokeniser_from
    from nodelens.data.texts import check_no_images
    from nodelens.networks import longest_text, reads_texts

    alike = trained if settings.of_its_kind else None
    if reads_texts(settings.network) if alike is None else longest_text(alike):
        check_no_images(image_size, skip_undecodable)
        if trained is None or not longest_text(trained):
            return text_splits(data, splits)
        return text_splits(data, splits, tokeniser_from(trained.checkpoint_metadata), longest_text(trained))
    if alike is not None and image_size is None:
        image_size = alike.config.image_size or None
    return [load_images(data, one, image_size=image_size, skip_undecodable=skip_undecodable) for one in splits]


def _train(
    settings: TrainSettings,
    precision: str,
    training: Samples,
    test: Samples,
    run: RunDirectory,
    *,
    initial: Network | None,
    tensorboard: bool,
    test_every: int,
) -> None:
    """Train in a run directory, and say what was reached."""
    from nodelens.networks import masks_of
    from nodelens.pruning.decide import total_dilution
    from nodelens.report.training import report_training, training_events
    from nodelens.training import train as train_network

    with run.claimed():
        resolved = dataclasses.replace(settings, precision=chosen_precision(precision, run, "train"))
        trained = train_network(
            resolved, training, test, run, initial=initial, tensorboard=tensorboard, test_every=test_every
        )
        masks = masks_of(trained)
        report_training(run)
        last = training_events(run)[-1]
    if masks:
        output.print(f"{total_dilution(masks):.4f} of the weights of {len(masks)} layers were left out from the start")
    output.print(f"test accuracy {last['test_accuracy']:.4f} after {last['epoch']} epochs; run directory {run.path}")


def _enforced(how: str | None, weight: float, blocks: str | None) -> EnforcedHeads | None:
    from nodelens.networks import block_numbers
    from nodelens.training import enforced_heads

    if how is None and blocks is not None:
        raise InputError("--head-blocks says where, say with --assign-heads which labels the heads are given")
    if how is None:
        return None
    return enforced_heads(how, weight, block_numbers(blocks) if blocks else ())


def _assignment(size: int | None, layers: str | None, control: bool) -> Assignment | None:
    from nodelens.training import Assignment

    if size is None and layers is not None:
        raise InputError("--assign-layers says where, say with --assign-diagonals how many labels a node is assigned")
    if size is None and control:
        raise InputError("--assign-control draws as many weights as --assign-diagonals keeps; give that too")
    if size is None:
        return None
    found = Assignment(size, control="random" if control else None)
    return found if layers is None else dataclasses.replace(found, layers=tuple(layers.split(",")))
