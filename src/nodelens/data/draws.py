"""Random numbers for images of several batches that are augmented together."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nodelens.data.part import Part, whole


@dataclass(frozen=True)
class Draws:
    """Draws for every batch from a generator of its own, so that it comes out the same whichever are beside it.

    Attributes:
        generators: one per batch, on the images' device.
        part: which images of each batch are augmented; others of the batch are drawn for too.

    >>> one, two = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    >>> together = Draws((one, two), whole(3)).uniform()
    >>> torch.equal(together[3:], Draws((two.manual_seed(2),), whole(3)).uniform())
    True
    """

    generators: tuple[torch.Generator, ...]
    part: Part

    def __len__(self) -> int:
        """Number of images."""
        return len(self.generators) * len(self.part)

    @property
    def device(self) -> torch.device:
        """Where the numbers arise."""
        return self.generators[0].device

    def uniform(self, *leading: int) -> Float[Tensor, "*leading image"]:
        """From [0, 1)."""
        shape = (*leading, self.part.whole)
        rows = self._rows(lambda generator: torch.rand(shape, generator=generator, device=self.device).movedim(-1, 0))
        return rows.movedim(0, -1)

    def integers(self, least: int, end: int, *trailing: int) -> Int[Tensor, " image *trailing"]:
        """From least … end − 1."""
        shape = (self.part.whole, *trailing)
        return self._rows(lambda generator: torch.randint(least, end, shape, generator=generator, device=self.device))

    def normal(self, *trailing: int) -> Float[Tensor, " image *trailing"]:
        """With mean 0 and variance 1."""
        shape = (self.part.whole, *trailing)
        return self._rows(lambda generator: torch.randn(shape, generator=generator, device=self.device))

    def per_batch(self, draw: Callable[[torch.Generator], Tensor]) -> Shaped[Tensor, " batch *rest"]:
        """What `draw` makes of each batch's generator."""
        return torch.stack([draw(generator) for generator in self.generators])

    def _rows(self, draw: Callable[[torch.Generator], Tensor]) -> Shaped[Tensor, " image *rest"]:
        """The rows of this part's images, of one draw for every batch."""
        return torch.cat([self.part.of(draw(generator)) for generator in self.generators])


def draws_of(generator: torch.Generator, images: int) -> Draws:
    """The draws of one whole batch."""
    return Draws((generator,), whole(images))
