"""Images that lie on the device which learns them: moved there once, gathered there batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from nodelens.data.datasets import ImageSet, own_slices
from nodelens.data.examples import Examples, Samples

MOVED_AT_ONCE = 4096
"""Images that are copied in one piece: the host holds no second copy of the whole set."""
LARGEST_SHARE = 0.5
"""Of the device's free memory, so that the rest remains for the training."""


@dataclass(frozen=True, eq=False)
class ResidentImages:
    """An image set on a device; what training and evaluation ask of an `ImageSet`, without the host.

    Attributes:
        pixels: grey levels 0 to 255.
        labels: of each image.
        label_names: one per label.
    """

    pixels: UInt8[Tensor, "image height width channel"]
    labels: Int64[Tensor, " image"]
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.labels)

    def batch(self, positions: Int[Tensor, "batch"]) -> UInt8[Tensor, "batch height width channel"]:
        """The images at these positions, which lie on the device too."""
        return self.pixels.index_select(0, positions)

    def own_batches(
        self, size: int
    ) -> Iterator[tuple[slice, UInt8[Tensor, "batch height width channel"], Int64[Tensor, "batch"]]]:
        """Where they stand, images and labels of the batches that this process reads, as those of an `ImageSet`."""
        for where in own_slices(len(self), size):
            yield where, self.pixels[where], self.labels[where]


def moved(images: ImageSet, device: torch.device) -> ResidentImages:
    """Copy an image set to a device."""
    pixels = torch.empty(len(images), *images.image_shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), MOVED_AT_ONCE):
        positions = np.arange(start, min(start + MOVED_AT_ONCE, len(images)))
        pixels[start : start + MOVED_AT_ONCE].copy_(images.batch(positions))
    return ResidentImages(pixels, images.labels.to(device), images.label_names)


def near(images: Samples, device: torch.device) -> Samples | ResidentImages:
    """The images where the device reads them fastest: on it, if it is not the CPU and they leave it room.

    Inputs of another kind, which are small, are moved to any device.
    """
    if isinstance(images, Examples):
        return images.to(device)
    if device.type != "cuda":
        return images
    free, _ = torch.cuda.mem_get_info(device)
    return moved(images, device) if len(images) * np.prod(images.image_shape) < LARGEST_SHARE * free else images
