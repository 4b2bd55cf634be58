"""Retrain pruned networks, many variants side by side.

Variants of one network that are retrained only from some stage on share the frozen stages before it: one pass
feeds them all, and each pays for its own last stages alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nodelens.data.augment import Augmentation
from nodelens.data.examples import Samples
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.files import load_state, save_state
from nodelens.interruption import Checkpoints
from nodelens.networks import Layer, Network
from nodelens.processes import add_up
from nodelens.progress import progress
from nodelens.runs import RunDirectory
from nodelens.shards import device_of
from nodelens.training.batches import Batch, steps_per_epoch, training_batches, with_a_batch
from nodelens.training.learner import Learner
from nodelens.training.precision import Precision, autocast
from nodelens.training.recipe import RECIPES, Recipe, recipe, recorded_recipe


@dataclass(frozen=True)
class RetrainSettings:
    """How pruned networks are retrained.

    Attributes:
        recipe: its learning rate is that of the pruned blocks; by default the paper's, 5e-4 with decay 1e-2.
        rest_learning_rate: of everything else; 1e-6 in the paper. With 0 the rest is frozen, and variants
            share what lies before the first pruned layer.
        precision: of the forward passes.
        distill: whether the unpruned network's softmax outputs are the targets, instead of the labels (Hinton, Vinyals
            and Dean, "Distilling the knowledge in a neural network", 2015; temperature 1). `retrain` is then given it.
    """

    recipe: Recipe = RECIPES["andc-retrain"]
    rest_learning_rate: float = 1e-6
    precision: Precision = "fp32"
    distill: bool = False


def retraining(
    epochs: int = 3,
    learning_rate: float = 5e-4,
    rest_learning_rate: float = 1e-6,
    precision: Precision = "fp32",
    augmentation: Augmentation | None = None,
    schedule: str = "step",
    distill: bool = False,
) -> RetrainSettings:
    """The paper's way to retrain, with other rates or lengths.

    Args:
        epochs: 0 for none: then it is only seen what pruning costs at once.
        augmentation: by default flips and crops.
        schedule: `step`, the paper's, hardly falls in a few epochs; `cosine` falls to zero, as the networks' own
            training did, so that a retrained network ends as settled as it began.

    Raises:
        InputError: fewer epochs than none, a rate that is not positive (the rest's may be 0), or another schedule.
    """
    if schedule not in ("step", "cosine"):
        raise InputError(f"unknown schedule {schedule!r}; choose step or cosine")
    if not (0 < learning_rate < math.inf and 0 <= rest_learning_rate < math.inf):
        raise InputError(
            f"retraining needs a positive learning rate, and 0 or more for the rest, "
            f"not {learning_rate:g} and {rest_learning_rate:g}"
        )
    if epochs < 0:
        raise InputError(f"epochs must be at least 1, not {epochs}, or 0 for no retraining")
    chosen = recipe("andc-retrain", epochs or None)
    chosen = dataclasses.replace(chosen, learning_rate=learning_rate, augmentation=augmentation or chosen.augmentation)
    if epochs == 0:
        chosen = dataclasses.replace(chosen, epochs=0)
    if schedule == "cosine":
        chosen = dataclasses.replace(chosen, schedule="cosine", final_learning_rate=0.0)
    return RetrainSettings(chosen, rest_learning_rate, precision, distill)


def recorded_augmentation(run: RunDirectory) -> Augmentation | None:
    """How the images were augmented when the network of a run was (re)trained, without what a short retraining spares.

    None where the run trained nothing.
    """
    recorded = run.settings("train").get("recipe") or run.settings("prune").get("retraining", {}).get("recipe")
    return None if recorded is None else short_augmentation(recorded_recipe(recorded).augmentation)


def short_augmentation(augmentation: Augmentation) -> Augmentation:
    """Flips and crops only: mixing and erasing belong to long trainings."""
    return Augmentation(augmentation.flip, augmentation.crop_padding, augmentation.resized_crop)


Rows = list[dict[str, Any]]


def retrain(
    variants: Mapping[str, Network],
    layers: Sequence[Layer],
    training: Samples,
    normalisation: Normalisation,
    settings: RetrainSettings,
    *,
    seed: int = 0,
    evaluated: Mapping[str, Samples],
    every_epoch: bool = True,
    teacher: Network | None = None,
    state: Path | None = None,
    title: str = "retraining",
    checkpoint_seconds: float = 300.0,
) -> Rows:
    """Retrain variants of one network side by side, in place, and follow their accuracy.

    All see the same batches and the same dropout; of a split smaller than one, all images are a batch. Killed, the same
    call goes on from `state`.

    Args:
        variants: copies of one network, by name, equal in every stage before the first pruned layer.
        layers: the pruned layers; the blocks that they belong to are retrained at the recipe's rate.
        seed: of the order of the images, the augmentation and the dropout.
        evaluated: image sets on which each variant's accuracy is taken, before retraining and after it.
        every_epoch: whether it is also taken after every epoch between.
        teacher: the unpruned network, equal to the variants before the first pruned layer, whose softmax outputs are
            then the targets; None for the labels. Given if the settings say `distill`, and only then.

    Returns:
        For every variant and epoch so looked at, 0 being before retraining, a row with `variant`, `epoch`, `loss` and
        the accuracy on each evaluated set, by its name.

    Raises:
        InputError: the settings say that a teacher's outputs are learnt and none is given, or the other way round.
    """
    _check_teacher(settings, teacher)
    first = min(layer.stage for layer in layers) if settings.rest_learning_rate == 0 else 0
    look = partial(_accuracies, variants, first, evaluated, normalisation, settings.precision)
    if settings.recipe.epochs == 0:
        return look(0, {})
    learners = {name: _learner(network, layers, settings, seed, first) for name, network in variants.items()}
    settings = dataclasses.replace(settings, recipe=with_a_batch(settings.recipe, training))
    steps = steps_per_epoch(training, settings.recipe)
    rows, step = _resume(state, learners)
    if not rows:
        rows = look(0, {})
    shared = next(iter(variants.values()))
    device = device_of(shared)
    save = None if state is None else lambda: _save(state, rows, learners)
    with (
        progress(title, settings.recipe.epochs * steps) as bar,
        Checkpoints(save, checkpoint_seconds) as checkpoints,
    ):
        bar.start_at(step)
        _train_mode(variants, layers, settings)
        for batch in training_batches(training, settings.recipe, seed, normalisation, device, step):
            _learn(shared, learners, teacher, first, batch, settings.precision)
            if batch.ends_epoch:
                epoch = batch.epoch + 1
                losses = {name: round(learner.mean_loss(epoch, steps), 5) for name, learner in learners.items()}
                if every_epoch or epoch == settings.recipe.epochs:
                    rows += look(epoch, losses)
                    _train_mode(variants, layers, settings)
            bar.reach(batch.step + 1)
            checkpoints.after_step(batch.ends_epoch)
    for network in variants.values():
        network.eval()
    return rows


def _check_teacher(settings: RetrainSettings, teacher: Network | None) -> None:
    if settings.distill != (teacher is not None):
        said = "no teacher is given" if settings.distill else "a teacher is given"
        raise InputError(
            f"the settings say distill={settings.distill}, but {said}; give a teacher if it is to be learnt"
        )


def _learner(network: Network, layers: Sequence[Layer], settings: RetrainSettings, seed: int, first: int) -> Learner:
    blocks = {network.get_submodule(layer.retrained) for layer in layers}
    fast = {weight for block in blocks for weight in block.parameters()}
    rest = [weight for weight in network.parameters() if weight not in fast]
    for weight in rest:
        weight.requires_grad_(settings.rest_learning_rate > 0)
    return Learner(
        network,
        settings.recipe,
        seed,
        settings.precision,
        slow=rest,
        slow_share=settings.rest_learning_rate / settings.recipe.learning_rate,
        forward=_after(network, first),
    )


def _learn(
    shared: Network,
    learners: Mapping[str, Learner],
    teacher: Network | None,
    first: int,
    batch: Batch,
    precision: Precision,
) -> None:
    """One step of every variant on the same batch; what lies before the first pruned layer is run once."""
    inputs = _before(shared, first, batch.images, precision)
    if teacher is not None:
        batch = dataclasses.replace(batch, targets=_probabilities(teacher, first, inputs, precision))
    for learner in learners.values():
        learner.learn(batch, inputs)


def _after(network: Network, first: int) -> Callable[[Tensor], Tensor]:
    """The network from a stage on."""

    def forward(x: Tensor) -> Tensor:
        for stage in network.stages()[first:]:
            x = stage(x)
        return x

    return forward


@torch.no_grad()
def _before(network: Network, first: int, images: Tensor, precision: Precision) -> Tensor:
    """What enters a stage; the stages before it are frozen."""
    x = images
    with autocast(images.device, precision):
        for stage in network.stages()[:first]:
            x = stage(x)
    return x


@torch.no_grad()
def _probabilities(teacher: Network, first: int, inputs: Tensor, precision: Precision) -> Float[Tensor, "batch label"]:
    """What a network says of the images whose activations enter a stage."""
    with autocast(inputs.device, precision):
        logits = _after(teacher.eval(), first)(inputs)
    return logits.float().softmax(1)


def _train_mode(variants: Mapping[str, Network], layers: Sequence[Layer], settings: RetrainSettings) -> None:
    """Dropout where something is trained; what is frozen stays as it is when the network is used."""
    for network in variants.values():
        network.train(settings.rest_learning_rate > 0)
        for layer in layers:
            network.get_submodule(layer.retrained).train()


def accuracies(
    variants: Mapping[str, Network],
    images: Samples,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    *,
    first: int = 0,
    batch_size: int = 128,
) -> dict[str, float]:
    """Share of the images that each variant classifies correctly, in one pass over them.

    Args:
        first: stage before which all variants are the same network.
    """
    shared = next(iter(variants.values()))
    device = device_of(shared)
    for network in variants.values():
        network.eval()
    correct = {name: torch.zeros((), dtype=torch.int64, device=device) for name in variants}
    with torch.inference_mode():
        for _, pixels, labels in images.own_batches(batch_size):
            normalised = normalisation.applied(pixels, device)
            inputs = _before(shared, first, normalised, precision)
            for name, network in variants.items():
                with autocast(device, precision):
                    logits = _after(network, first)(inputs)
                correct[name] += (logits.argmax(1) == labels.to(device)).sum()
        add_up(correct.values())
    return {name: int(count) / len(images) for name, count in correct.items()}


def _accuracies(
    variants: Mapping[str, Network],
    first: int,
    evaluated: Mapping[str, Samples],
    normalisation: Normalisation,
    precision: Precision,
    epoch: int,
    losses: Mapping[str, float],
) -> Rows:
    reached = {
        split: accuracies(variants, images, normalisation, precision, first=first)
        for split, images in evaluated.items()
    }
    rows = []
    for name in variants:
        by_split = {split: round(found[name], 5) for split, found in reached.items()}
        rows.append({"variant": name, "epoch": epoch, "loss": losses.get(name, ""), **by_split})
    return rows


def _save(path: Path, rows: Rows, learners: Mapping[str, Learner]) -> None:
    save_state(path, {"rows": rows, "learners": {name: learner.state() for name, learner in learners.items()}})


def _resume(path: Path | None, learners: Mapping[str, Learner]) -> tuple[Rows, int]:
    state = load_state(path) if path is not None else None
    if state is None:
        return [], 0
    for name, learner in learners.items():
        learner.restore(state["learners"][name])
    return state["rows"], next(iter(learners.values())).step
