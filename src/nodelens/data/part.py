"""Which images of a batch a process has, where several share it."""

from dataclasses import dataclass

import torch
from jaxtyping import Shaped
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """A run of a batch's first half, together with the images that these are mixed with.

    Mixing joins image i with image whole − 1 − i, so a part needs no image of another one. What is random is
    drawn for the whole batch, so an image meets the same fate whatever part it is in.

    Attributes:
        whole: images in the batch.
        begin, end: positions of the run, 0 ≤ begin < end ≤ ⌈whole / 2⌉.
    """

    whole: int
    begin: int
    end: int

    def __len__(self) -> int:
        """Number of images."""
        return self.whole - 2 * self.begin if 2 * self.end > self.whole else 2 * (self.end - self.begin)

    def of(self, batch: Shaped[Tensor, " whole *rest"]) -> Shaped[Tensor, " part *rest"]:
        """The rows of these images.

        >>> Part(whole=7, begin=1, end=3).of(torch.arange(7)), Part(7, 3, 4).of(torch.arange(7))
        (tensor([1, 2, 4, 5]), tensor([3]))
        """
        if len(self) == self.whole:
            return batch
        partners = max(self.end, self.whole - self.end)
        return torch.cat([batch[self.begin : self.end], batch[partners : self.whole - self.begin]])


def whole(images: int) -> Part:
    """All images of a batch."""
    return Part(images, 0, -(-images // 2))
