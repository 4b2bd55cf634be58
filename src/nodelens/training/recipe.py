"""Recipes: everything about a training run but the network, the data and the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nodelens.data.augment import Augmentation
from nodelens.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        learning_rate: peak rate, reached after the warm-up.
        schedule: `cosine` down to `final_learning_rate`, or `step`: times `step_factor` every `step_epochs`.
        warmup_epochs: linear rise from `warmup_learning_rate`; may be a fraction of an epoch.
        weight_decay: biases and norms are spared.
        momentum: of SGD and Muon.
        attention_dropout, stochastic_depth: regularisation inside the network while it trains; a BERT drops out of its
            residual stream what it drops out of attention.
    """

    epochs: int
    batch_size: int = 128
    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"
    learning_rate: float = 6e-4
    schedule: Literal["cosine", "step"] = "cosine"
    final_learning_rate: float = 1e-5
    step_factor: float = 0.8
    step_epochs: int = 10
    warmup_epochs: float = 0.0
    warmup_learning_rate: float = 1e-6
    weight_decay: float = 0.06
    momentum: float = 0.9
    label_smoothing: float = 0.1
    attention_dropout: float = 0.1
    stochastic_depth: float = 0.1
    augmentation: Augmentation = field(default_factory=Augmentation)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Learning rate of optimizer step `step` (0-based)."""
        epoch = step / steps_per_epoch
        if epoch < self.warmup_epochs:
            rise = (epoch + 1 / steps_per_epoch) / self.warmup_epochs
            return self.warmup_learning_rate + min(1.0, rise) * (self.learning_rate - self.warmup_learning_rate)
        if self.schedule == "step":
            return self.learning_rate * self.step_factor ** (int(epoch) // self.step_epochs)
        done = (epoch - self.warmup_epochs) / max(1e-9, self.epochs - self.warmup_epochs)
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


RECIPES: dict[str, Recipe] = {
    "digits": Recipe(
        epochs=40,
        batch_size=32,
        learning_rate=1e-3,
        warmup_epochs=2.0,
        weight_decay=0.05,
        attention_dropout=0.0,
        stochastic_depth=0.0,
        augmentation=Augmentation(flip=0.0, resized_crop=(0.6, 1.0), mixup=0.4, mix_probability=0.5),
    ),
    # Known to give 0.809 with CCT-7/3x1 on CIFAR-100 (the paper's accuracy).
    "cct-300": Recipe(
        epochs=300,
        warmup_epochs=10.0,
        augmentation=Augmentation(
            flip=0.5, resized_crop=(0.8, 1.0), rand_augment=9.0, erase=0.25, mixup=0.8, cutmix=1.0
        ),
    ),
    # Ours, meant to reach the same in half the epochs: by Muon, and with less of what slows a short training down.
    "cct-fast": Recipe(
        epochs=150,
        batch_size=256,
        optimizer="muon",
        learning_rate=2e-3,
        warmup_epochs=5.0,
        weight_decay=0.08,
        momentum=0.95,
        attention_dropout=0.0,
        augmentation=Augmentation(
            flip=0.5, resized_crop=(0.8, 1.0), rand_augment=9.0, erase=0.1, mixup=0.8, cutmix=1.0, mix_probability=0.75
        ),
    ),
    # What two CPU cores can do in an hour or less with CCT-7/3x2 on CIFAR-100.
    "cct-cpu": Recipe(
        epochs=12,
        learning_rate=1e-3,
        warmup_epochs=1.5,
        weight_decay=0.05,
        attention_dropout=0.0,
        stochastic_depth=0.05,
        augmentation=Augmentation(flip=0.5, crop_padding=4, mixup=0.8, mix_probability=0.25),
    ),
    # The appendix of the paper: step decay by 0.8 every 10 epochs, batches of 100, 100 epochs.
    "paper-step": Recipe(
        epochs=100,
        batch_size=100,
        learning_rate=3e-4,
        schedule="step",
        step_factor=0.8,
        step_epochs=10,
        weight_decay=4e-2,
        augmentation=Augmentation(flip=0.5, crop_padding=4),
    ),
    # How the paper retrains a pruned network: its appendix, (q, dt) as for the probes.
    "andc-retrain": Recipe(
        epochs=3,
        batch_size=100,
        learning_rate=5e-4,
        schedule="step",
        step_factor=0.78,
        weight_decay=1e-2,
        augmentation=Augmentation(flip=0.5, crop_padding=4),
    ),
    # What a trained network needs to learn other labels.
    "fine-tune": Recipe(
        epochs=10,
        batch_size=64,
        learning_rate=1e-4,
        warmup_epochs=1.0,
        weight_decay=0.05,
        attention_dropout=0.0,
        augmentation=Augmentation(flip=0.5, resized_crop=(0.6, 1.0)),
    ),
    # A small text transformer from scratch on some ten thousand texts.
    "text": Recipe(
        epochs=20,
        learning_rate=1.5e-3,
        warmup_epochs=2.0,
        weight_decay=0.05,
        stochastic_depth=0.0,
    ),
    "vgg-sgd": Recipe(
        epochs=200,
        optimizer="sgd",
        learning_rate=0.05,
        final_learning_rate=0.0,
        warmup_epochs=1.0,
        weight_decay=5e-4,
        augmentation=Augmentation(flip=0.5, crop_padding=4),
    ),
}
# The same epochs by Muon; its rate is the best of those tried (docs/benchmarks.md).
RECIPES["cct-cpu-fast"] = replace(RECIPES["cct-cpu"], optimizer="muon", learning_rate=2e-3, momentum=0.95)
# Known to give 0.972 with CCT-7/7x2 on Flowers-102 at 224 pixels, on the CCT authors' split.
RECIPES["cct-flowers"] = replace(RECIPES["cct-300"], batch_size=96, learning_rate=5e-4)


def recipe(
    name: str, epochs: int | None = None, batch_size: int | None = None, learning_rate: float | None = None
) -> Recipe:
    """A recipe by name, with its length, batch size or peak learning rate changed on request.

    Raises:
        InputError: there is no recipe of that name, or nothing would be trained.
    """
    if name not in RECIPES:
        raise InputError(f"unknown recipe {name!r}; known: {', '.join(RECIPES)}")
    chosen = RECIPES[name]
    changes: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
    for what, value in changes.items():
        if value is not None and value < 1:
            raise InputError(f"{what} must be at least 1, not {value}")
    if learning_rate is not None:
        if not 0 < learning_rate < math.inf:
            raise InputError(f"a learning rate of {learning_rate:g} teaches nothing; give one such as 1e-4")
        ends = min(chosen.final_learning_rate, learning_rate)
        changes |= {"learning_rate": learning_rate, "final_learning_rate": ends}
    if epochs is not None and chosen.warmup_epochs > epochs / 2:
        changes["warmup_epochs"] = epochs / 4
    return replace(chosen, **{key: value for key, value in changes.items() if value is not None})


def recorded_recipe(record: Mapping[str, Any]) -> Recipe:
    """The recipe that a run's `config.json` holds."""
    augmentation = record["augmentation"]
    crop = augmentation["resized_crop"]  # a tuple became a list in the file
    restored = Augmentation(**{**augmentation, "resized_crop": tuple(crop) if crop else None})
    return Recipe(**{**record, "augmentation": restored})
