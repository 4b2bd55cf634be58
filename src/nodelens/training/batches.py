"""The batches that a training run sees, from any step on.

Nothing random carries state from step to step: the order of an epoch and the augmentation of a step come
from generators seeded by (seed, epoch) and (seed, step). Resuming therefore needs no random state at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nodelens.data.augment import augment, mix
from nodelens.data.draws import Draws
from nodelens.data.examples import Examples, Samples
from nodelens.data.normalisation import Normalisation
from nodelens.data.part import Part
from nodelens.data.resident import ResidentImages, near
from nodelens.data.texts import TextExamples
from nodelens.errors import InputError
from nodelens.processes import share, size
from nodelens.training.recipe import Recipe

ORDER, AUGMENTATION, DROPOUT, ASSIGNMENT = range(4)

BATCHES_AT_ONCE = 16
VALUES_AT_ONCE = {"cpu": 2**18, "accelerator": 2**24}
"""Of all batches that are augmented together; the steps between take some twenty times as much memory."""


def seed_of(seed: int, *purpose: int) -> int:
    """An independent seed for each purpose and step."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


@dataclass(frozen=True)
class Batch:
    """Images and targets of one optimizer step: those that this process has.

    Attributes:
        step: optimizer steps before this one, since the beginning of the run.
        epoch: 0-based.
        targets: share of each label, smoothed and perhaps mixed; each row sums to 1.
        learning_rate: the recipe's for this step.
        ends_epoch: whether it is the epoch's last.
        share: of the step's images; 1 with one process.
    """

    step: int
    epoch: int
    images: Shaped[Tensor, "batch ..."]
    targets: Float[Tensor, "batch label"]
    learning_rate: float
    ends_epoch: bool
    share: float = 1.0


def with_a_batch(recipe: Recipe, training: Samples) -> Recipe:
    """The recipe, with batches no larger than the split."""
    return replace(recipe, batch_size=min(recipe.batch_size, max(1, len(training))))


def steps_per_epoch(training: Samples, recipe: Recipe) -> int:
    """Whole batches in an epoch; what is left over is seen in other epochs.

    Raises:
        InputError: the split is smaller than a batch.
    """
    steps = len(training) // recipe.batch_size
    if steps == 0:
        kind = "texts" if isinstance(training, TextExamples) else "images"
        raise InputError(
            f"{training.name} {training.split} has {len(training)} {kind}, less than a batch of {recipe.batch_size}; "
            "give a smaller --batch-size"
        )
    return steps


def training_batches(
    training: Samples,
    recipe: Recipe,
    seed: int,
    normalisation: Normalisation,
    device: torch.device,
    first_step: int = 0,
) -> Iterator[Batch]:
    """All batches of a run from `first_step` on; a GPU is given the images once, and then an epoch's order.

    A few batches are augmented together, see `prepared_at_once`; each comes out as it would alone.

    Raises:
        InputError: the split is smaller than a batch, or a batch too small for so many processes.
    """
    steps, part = steps_per_epoch(training, recipe), own_part(recipe.batch_size)
    source = near(training, device)
    at_once = prepared_at_once(len(part) * math.prod(training.image_shape), device)
    for epoch in range(first_step // steps, recipe.epochs):
        order = _on(source.labels.device, epoch_order(len(training), seed, epoch))
        batches = order[: steps * recipe.batch_size].view(steps, recipe.batch_size)
        # Groups begin with the epoch, whichever step comes first: a resumed run prepares the same ones.
        for begin in range(0, steps, at_once):
            group = range(epoch * steps + begin, epoch * steps + min(begin + at_once, steps))
            if group.stop <= first_step:
                continue
            chosen = batches[begin : begin + len(group)]
            images, targets = prepare(source, chosen, part, recipe, seed, group, normalisation, device)
            for step in range(max(first_step, group.start), group.stop):
                own = slice((step - group.start) * len(part), (step - group.start + 1) * len(part))
                rate, ends = recipe.rate(step, steps), step + 1 == (epoch + 1) * steps
                yield Batch(step, epoch, images[own], targets[own], rate, ends, len(part) / part.whole)


def prepared_at_once(values: int, device: torch.device) -> int:
    """Batches that are augmented together.

    Augmentation is some 650 small operations. For one batch, a GPU is done with each before it is given the
    next, and on a CPU, small batches take less time than the calls; large ones would only leave its caches.

    Args:
        values: of a batch: images times pixels times channels.

    >>> [prepared_at_once(128 * 32 * 32 * 3, torch.device(kind)) for kind in ("cuda", "cpu")]
    [16, 1]
    """
    room = VALUES_AT_ONCE["cpu" if device.type == "cpu" else "accelerator"]
    return max(1, min(BATCHES_AT_ONCE, room // values))


def own_part(batch_size: int) -> Part:
    """The images of a batch that this process learns.

    Raises:
        InputError: a process would have none.
    """
    pairs = range(-(-batch_size // 2))
    if len(pairs) < size():
        raise InputError(
            f"a batch of {batch_size} images cannot be shared by {size()} processes, which take them by pairs; "
            "give a larger --batch-size"
        )
    own = share(pairs)
    return Part(batch_size, own[0], own[-1] + 1)


def _on(device: torch.device, order: Int[Tensor, " image"]) -> Int[Tensor, " image"]:
    """Copied without waiting for the device."""
    return order if device.type == "cpu" else order.pin_memory().to(device, non_blocking=True)


def epoch_order(images: int, seed: int, epoch: int) -> Int[Tensor, " image"]:
    """The order in which an epoch goes through the images."""
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed_of(seed, ORDER, epoch)))


def prepare(
    training: Samples | ResidentImages,
    chosen: Int[Tensor, "batch whole"],
    part: Part,
    recipe: Recipe,
    seed: int,
    steps: range,
    normalisation: Normalisation,
    device: torch.device,
) -> tuple[Shaped[Tensor, "image ..."], Float[Tensor, "image label"]]:
    """A part of each of a few steps' batches, augmented, with its smoothed, perhaps mixed, targets.

    Inputs that are no images stay as they are.

    Args:
        chosen: the images of each step's batch.
        part: which of them this process has.

    Returns:
        Images and targets, batch after batch.
    """
    seeds = (seed_of(seed, AUGMENTATION, step) for step in steps)
    draws = Draws(tuple(torch.Generator(device).manual_seed(one) for one in seeds), part)
    own = part.of(chosen.mT).mT.flatten()
    pixels, labels = training.batch(own).to(device), training.labels[own].to(device)
    # F.one_hot would look at the labels' values.
    known = torch.arange(len(training.label_names), device=device)
    targets = (labels[:, None] == known) * (1 - recipe.label_smoothing) + recipe.label_smoothing / len(known)
    if isinstance(training, Examples):
        return pixels, targets
    images = augment(pixels, recipe.augmentation, normalisation.mean, normalisation.std, draws)
    return mix(images, targets, recipe.augmentation, draws)
