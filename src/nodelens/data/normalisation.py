"""Mean and standard deviation by which a network's input images are normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor

from nodelens.data.augment import normalise
from nodelens.data.examples import Examples, Samples
from nodelens.data.texts import TextExamples
from nodelens.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """Per-channel mean and standard deviation, as shares of the full scale."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def applied(
        self, images: UInt8[Tensor, "batch height width channel"], device: torch.device
    ) -> Float[Tensor, "batch channel height width"]:
        """Normalised inputs on a device: see `nodelens.data.augment.normalise`."""
        return normalise(images.to(device), self.mean, self.std)

    def metadata(self) -> dict[str, str]:
        """Metadata of a checkpoint."""
        return {"mean": " ".join(map(str, self.mean)), "std": " ".join(map(str, self.std))}


class AsTheyAre(Normalisation):
    """Inputs that are not scaled."""

    def __init__(self) -> None:
        super().__init__((), ())

    def applied(self, images: Shaped[Tensor, "batch ..."], device: torch.device) -> Shaped[Tensor, "batch ..."]:
        """Inputs on a device, as they are."""
        return images.to(device)

    def metadata(self) -> dict[str, str]:
        """Nothing is to be known of them."""
        return {}


# The figures that published CIFAR-100 networks were trained with.
KNOWN = {"cifar100": Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))}


def normalisation_of(training: Samples) -> Normalisation:
    """The usual figures of a known data set, otherwise those of these images, to four decimals.

    Inputs that are no images stay as they are.
    """
    if isinstance(training, Examples):
        return AsTheyAre()
    if training.name in KNOWN:
        return KNOWN[training.name]
    mean, std = training.channel_statistics()
    return Normalisation(tuple(round(m, 4) for m in mean), tuple(round(s, 4) for s in std))


def input_metadata(training: Samples, normalisation: Normalisation, flip: float) -> dict[str, str]:
    """What a checkpoint says of the inputs that its network learnt: how they were scaled, or became tokens.

    Args:
        flip: probability with which images were mirrored.
    """
    if isinstance(training, TextExamples):
        return training.tokeniser.metadata()
    return {**normalisation.metadata(), "flip": f"{flip:g}"}


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
