"""Mixup and CutMix of a whole batch with itself in reverse order.

Zhang et al. 2018 (https://arxiv.org/abs/1710.09412) and Yun et al. 2019
(https://arxiv.org/abs/1905.04899), one draw per batch as in timm's ``Mixup(mode="batch")``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class MixDraw:
    """The random parameters of one batch.

    Attributes:
        share: weight of the images themselves, in [0, 1]; 1 leaves the batch as it is.
        cut: whether the partner covers a box (CutMix) instead of shining through (mixup).
        centre: vertical and horizontal centre of the box, as shares of the image's size in [0, 1).
    """

    share: Float[Tensor, ""]
    cut: Bool[Tensor, ""]
    centre: Float[Tensor, "2"]


def draw_mix(mixup: float, cutmix: float, probability: float, generator: torch.Generator) -> MixDraw:
    """Draw how to mix one batch.

    Args:
        mixup: Beta parameter of mixup; 0 = never mixup.
        cutmix: Beta parameter of CutMix; 0 = never CutMix. With both, each has probability 1/2.
        probability: probability that the batch is mixed at all.
        generator: source of the draw; the tensors lie on its device.
    """
    luck, switch, *centre = torch.rand(4, generator=generator, device=generator.device)
    cut = switch < (0.5 if mixup and cutmix else float(cutmix > 0))
    share = torch.where(cut, draw_share(cutmix or 1.0, generator), draw_share(mixup or 1.0, generator)).masked_fill(
        luck >= probability, 1.0
    )
    return MixDraw(share, cut, torch.stack(centre))


def draw_share(alpha: float, generator: torch.Generator) -> Float[Tensor, ""]:
    """Draw from Beta(alpha, alpha)."""
    # torch.distributions.Beta samples with this same kernel, but cannot be given a generator.
    concentration = torch.full((2,), alpha, device=generator.device)
    return torch._sample_dirichlet(concentration, generator)[0]


def kept_pixels(draw: MixDraw, height: int, width: int) -> Bool[Tensor, "{height} {width}"]:
    """True outside the CutMix box, whose area before clipping at the border is 1 − share.

    >>> draw = MixDraw(torch.tensor(0.75), torch.tensor(True), torch.tensor([0.5, 0.0]))
    >>> kept_pixels(draw, 4, 4).int()
    tensor([[1, 1, 1, 1],
            [0, 1, 1, 1],
            [0, 1, 1, 1],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    side = (1 - draw.share).sqrt()
    inside_rows = inside_interval(draw.centre[0], side, height)
    inside_columns = inside_interval(draw.centre[1], side, width)
    return ~(inside_rows[:, None] & inside_columns)


def inside_interval(centre: Float[Tensor, ""], length: Float[Tensor, ""], size: int) -> Bool[Tensor, " {size}"]:
    """True within ⌊size · length⌋ pixels around pixel ⌊size · centre⌋, an odd one going to the right."""
    middle, extent = (size * centre).floor(), (size * length).floor()
    pixel = torch.arange(size, device=centre.device)
    return (pixel >= middle - (extent / 2).floor()) & (pixel < middle + (extent / 2).ceil())


def mix_batch(
    images: Float[Tensor, "batch channel height width"],
    targets: Float[Tensor, "batch label"],
    draw: MixDraw,
) -> tuple[Float[Tensor, "batch channel height width"], Float[Tensor, "batch label"]]:
    """Blend image i with image batch − 1 − i, and their targets in proportion.

    With CutMix, the images' share of the targets is the share of pixels that they really keep.
    """
    kept = kept_pixels(draw, images.shape[2], images.shape[3]).to(images.dtype)
    # Laid out like one image: a CPU is five times faster than with one weight for all channels of a pixel.
    kept_values = kept.expand(1, *images.shape[1:]).contiguous(memory_format=torch.channels_last)
    pixel_weight = torch.where(draw.cut, kept_values, draw.share)
    target_weight = torch.where(draw.cut, kept.mean(), draw.share)
    # lerp is exact at weights 0 and 1, so CutMix and an unmixed batch copy their pixels unchanged.
    return (
        torch.lerp(images.flip(0), images, pixel_weight),
        torch.lerp(targets.flip(0), targets, target_weight.to(targets.dtype)),
    )
