"""Mean and standard deviation by which a network's input images are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nodelens.data.augment import normalise
from nodelens.data.datasets import ImageSet
from nodelens.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation, as shares of the full scale."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def applied(
        self, images: UInt8[Tensor, "batch height width channel"], device: torch.device
    ) -> Float[Tensor, "batch channel height width"]:
        """What a network is given on a device: see `nodelens.data.augment.normalise`."""
        return normalise(images.to(device), self.mean, self.std)

    def metadata(self) -> dict[str, str]:
        """As it is written into a checkpoint."""
        return {"mean": " ".join(map(str, self.mean)), "std": " ".join(map(str, self.std))}


# The figures that published CIFAR-100 networks were trained with.
KNOWN = {"cifar100": Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))}


def normalisation_of(training: ImageSet) -> Normalisation:
    """The usual figures of a known data set, otherwise those of these images, to four decimals."""
    if training.name in KNOWN:
        return KNOWN[training.name]
    mean, std = training.channel_statistics()
    return Normalisation(tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std))


def normalisation_from(metadata: Mapping[str, str]) -> Normalisation | None:
    """What a checkpoint says of its own input, if it does.

    Raises:
        InputError: what it says are no numbers.
    """
    if "mean" not in metadata or "std" not in metadata:
        return None
    mean, std = (_numbers(metadata, key) for key in ("mean", "std"))
    return Normalisation(mean, std)


def _numbers(metadata: Mapping[str, str], key: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, metadata[key].split()))
    except ValueError as error:
        raise InputError(
            f"the checkpoint's metadata give the {key} of its images as {metadata[key]!r}; write numbers between spaces"
        ) from error
