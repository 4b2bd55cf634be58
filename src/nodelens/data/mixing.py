"""Mixup and CutMix of whole batches, each with itself in reverse order.

Zhang et al. 2018 (https://arxiv.org/abs/1710.09412) and Yun et al. 2019
(https://arxiv.org/abs/1905.04899), one draw per batch as in timm's ``Mixup(mode="batch")``.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nodelens.data.draws import Draws


@dataclass(frozen=True)
class MixDraw:
    """The random parameters of each batch.

    Attributes:
        share: weight of the images themselves, in [0, 1]; 1 leaves the batch as it is.
        cut: whether the partner covers a box (CutMix) instead of shining through (mixup).
        centre: vertical and horizontal centre of the box, as shares of the image's size in [0, 1).
    """

    share: Float[Tensor, " batch"]
    cut: Bool[Tensor, " batch"]
    centre: Float[Tensor, "batch 2"]


def draw_mix(mixup: float, cutmix: float, probability: float, draws: Draws) -> MixDraw:
    """Draw how to mix each batch.

    Args:
        mixup: Beta parameter of mixup; 0 = never mixup.
        cutmix: Beta parameter of CutMix; 0 = never CutMix. With both, each has probability 1/2.
        probability: probability that a batch is mixed at all.
        draws: of the batches; the tensors lie on their device.
    """
    luck, switch, *centre = draws.per_batch(lambda one: torch.rand(4, generator=one, device=draws.device)).unbind(1)
    cut = switch < (0.5 if mixup and cutmix else float(cutmix > 0))
    share = torch.where(cut, draw_shares(cutmix or 1.0, draws), draw_shares(mixup or 1.0, draws))
    return MixDraw(share.masked_fill(luck >= probability, 1.0), cut, torch.stack(centre, dim=1))


def draw_shares(alpha: float, draws: Draws) -> Float[Tensor, " batch"]:
    """Draw from Beta(alpha, alpha), for each batch."""
    # torch.distributions.Beta samples with this same kernel, but cannot be given a generator.
    concentration = torch.full((2,), alpha, device=draws.device)
    return draws.per_batch(lambda generator: torch._sample_dirichlet(concentration, generator))[:, 0]


def kept_pixels(draw: MixDraw, height: int, width: int) -> Bool[Tensor, "batch {height} {width}"]:
    """True outside each CutMix box, whose area before clipping at the border is 1 − share.

    >>> draw = MixDraw(torch.tensor([0.75]), torch.tensor([True]), torch.tensor([[0.5, 0.0]]))
    >>> kept_pixels(draw, 4, 4)[0].int()
    tensor([[1, 1, 1, 1],
            [0, 1, 1, 1],
            [0, 1, 1, 1],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    side = (1 - draw.share).sqrt()
    inside_rows = inside_intervals(draw.centre[:, 0], side, height)
    inside_columns = inside_intervals(draw.centre[:, 1], side, width)
    return ~(inside_rows[:, :, None] & inside_columns[:, None, :])


def inside_intervals(
    centre: Float[Tensor, " batch"], length: Float[Tensor, " batch"], size: int
) -> Bool[Tensor, "batch {size}"]:
    """True within ⌊size · length⌋ pixels around pixel ⌊size · centre⌋, an odd one going to the right."""
    middle, extent = (size * centre[:, None]).floor(), (size * length[:, None]).floor()
    pixel = torch.arange(size, device=centre.device)
    return (pixel >= middle - (extent / 2).floor()) & (pixel < middle + (extent / 2).ceil())


def mix_batches(
    images: Float[Tensor, "image channel height width"],
    targets: Float[Tensor, "image label"],
    draw: MixDraw,
) -> tuple[Float[Tensor, "image channel height width"], Float[Tensor, "image label"]]:
    """Blend each batch's image i with its image size − 1 − i, and their targets in proportion.

    With CutMix, the images' share of the targets is the share of pixels that they really keep.

    Args:
        images: of as many batches as there are draws, one after another and equally large.
        targets: theirs.
        draw: how each batch is mixed.
    """
    batches = len(draw.share)
    share, cut = draw.share[:, None, None, None], draw.cut[:, None, None, None]
    kept = kept_pixels(draw, images.shape[2], images.shape[3])[:, None].to(images.dtype)
    # Laid out like an image: a CPU is five times faster than with one weight for all channels of a pixel.
    kept_values = kept.expand(-1, *images.shape[1:]).contiguous(memory_format=torch.channels_last)
    pixel_weight = torch.where(cut, kept_values, share)
    target_weight = torch.where(draw.cut, kept.mean((1, 2, 3)), draw.share)[:, None, None].to(targets.dtype)
    own_images, own_targets = images.view(batches, -1, *images.shape[1:]), targets.view(batches, -1, targets.shape[1])
    # lerp is exact at weights 0 and 1, so CutMix and an unmixed batch copy their pixels unchanged.
    mixed = torch.lerp(own_images.flip(1), own_images, pixel_weight[:, None])
    shares = torch.lerp(own_targets.flip(1), own_targets, target_weight)
    return mixed.flatten(0, 1), shares.flatten(0, 1)
