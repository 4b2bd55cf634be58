"""Augmentation of whole batches, on the device that holds them.

Every step is a fixed sequence of tensor operations: no shape depends on a drawn value and nothing
waits for the device. What is random is drawn apart from its application, from explicit generators,
and depends on the number of images only, never on their content. Several batches can be augmented
together, and come out as each would alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from nodelens.data.crops import (
    draw_boxes,
    draw_crops,
    draw_flips,
    draw_shifts,
    resize_boxes,
    shift_and_flip,
)
from nodelens.data.draws import Draws
from nodelens.data.mixing import draw_mix, mix_batches
from nodelens.data.randaugment import draw_rand_augment, rand_augment
from nodelens.errors import InputError

ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)

Levels = Float[Tensor, "batch channel height width"] | UInt8[Tensor, "batch channel height width"]
"""Grey levels 0 to 255, whole numbers also where they are float."""


@dataclass(frozen=True)
class Augmentation:
    """What is done at random to a training batch; the default is a horizontal flip and nothing else.

    Attributes:
        flip: probability of a horizontal flip.
        crop_padding: pixels by which a crop of the original size may leave the image, which is
            continued by reflection; 0 = no crop.
        resized_crop: least and greatest share of the area of a random crop (aspect ratio 3/4 to 4/3)
            that is resized to the original size, bicubic; None = no such crop.
        rand_augment: magnitude of RandAugment, 0 to 10, of timm's increasing set; 0 = none.
        rand_augment_std: standard deviation of the magnitude, drawn anew for each operation.
        rand_augment_ops: operations drawn per image; each is then applied with probability 1/2.
        erase: probability that a box of 2 % to 33 % of the area is replaced by normal noise.
        mixup: Beta parameter of mixup; 0 = none.
        cutmix: Beta parameter of CutMix; 0 = none.
        mix_probability: share of the batches that are mixed; with mixup and cutmix, half by each.

    Raises:
        InputError: where a value is out of its range, or both kinds of crop are asked for.
    """

    flip: float = 0.5
    crop_padding: int = 0
    resized_crop: tuple[float, float] | None = None
    rand_augment: float = 0.0
    rand_augment_std: float = 0.5
    rand_augment_ops: int = 2
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("flip", "erase", "mix_probability"):
            self._require_range(name, 0.0, 1.0)
        self._require_range("rand_augment", 0.0, 10.0)
        for name in ("crop_padding", "rand_augment_std", "mixup", "cutmix"):
            self._require_range(name, 0.0, math.inf)
        self._require_range("rand_augment_ops", 1.0, math.inf)
        self._require_crop()

    def _require_range(self, name: str, least: float, greatest: float) -> None:
        value = getattr(self, name)
        if not (least <= value <= greatest and value < math.inf):
            raise InputError(f"{name} is {value}, but must be a number from {least} to {greatest}.")

    def _require_crop(self) -> None:
        if self.resized_crop is None:
            return
        least, greatest = self.resized_crop
        if not 0 < least <= greatest <= 1:
            raise InputError(
                f"resized_crop is {self.resized_crop}, but must be two rising shares of the area in (0, 1]."
            )
        if self.crop_padding:
            raise InputError("crop_padding and resized_crop are both set: choose one kind of crop.")


def augment(
    images: UInt8[Tensor, "batch height width channel"],
    augmentation: Augmentation,
    mean: Sequence[float],
    std: Sequence[float],
    draws: Draws,
) -> Float[Tensor, "batch channel height width"]:
    """Augment and normalise images: crop, flip, then as configured.

    Args:
        images: grey levels 0 to 255.
        augmentation: what to do; its mixup and cutmix are left to :func:`mix`.
        mean: mean of each channel, as a share of 255.
        std: standard deviation of each channel, as a share of 255.
        draws: of these images, batch after batch.

    Returns:
        Normalised images in float32, laid out in memory as channels_last.

    Raises:
        InputError: where crop_padding is not smaller than the image, mean and std do not have one value
            per channel, or RandAugment meets images of neither 1 nor 3 channels.
    """
    require_fitting(images, augmentation)
    pixels = crop(images, augmentation, draws)
    if augmentation.rand_augment:
        pixels = apply_rand_augment(pixels, augmentation, mean, draws)
    normalised = standardise(pixels, mean, std)
    if not augmentation.erase:
        return normalised
    boxes = draw_erasures((images.shape[1], images.shape[2]), augmentation.erase, draws)
    return erase(normalised, boxes, draws)


def mix(
    images: Float[Tensor, "batch channel height width"],
    targets: Float[Tensor, "batch label"],
    augmentation: Augmentation,
    draws: Draws,
) -> tuple[Float[Tensor, "batch channel height width"], Float[Tensor, "batch label"]]:
    """Mixup or CutMix of each batch with itself in reverse order, with the same draw for all its images.

    Args:
        images: normalised images.
        targets: share of each label, one-hot or smoothed; each row keeps its sum.
        augmentation: its mixup, cutmix and mix_probability are read.
        draws: of these images, batch after batch.
    """
    if not (augmentation.mixup or augmentation.cutmix):
        return images, targets
    draw = draw_mix(augmentation.mixup, augmentation.cutmix, augmentation.mix_probability, draws)
    return mix_batches(images, targets, draw)


def normalise(
    images: UInt8[Tensor, "batch height width channel"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch channel height width"]:
    """Scale grey levels to zero mean and unit variance: (x / 255 − mean) / std.

    Args:
        images: grey levels 0 to 255.
        mean: mean of each channel, as a share of 255.
        std: standard deviation of each channel, as a share of 255.

    Returns:
        float32, laid out in memory as channels_last.

    Raises:
        InputError: where mean and std do not have one value per channel, or a std is not positive.

    >>> normalise(torch.tensor([0, 255], dtype=torch.uint8).view(1, 1, 2, 1), [0.2], [0.4]).flatten()
    tensor([-0.5000,  2.0000])
    """
    return standardise(images.permute(0, 3, 1, 2), mean, std)


def standardise(
    pixels: Levels, mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "batch channel height width"]:
    """:func:`normalise` for images that already have their channels first."""
    if not len(mean) == len(std) == pixels.shape[1] or min(std) <= 0:
        raise InputError(
            f"mean {tuple(mean)} and std {tuple(std)} must give one value, the std above 0,"
            f" for each of the images' {pixels.shape[1]} channels."
        )
    width = pixels.shape[3]
    scale = per_channel([1 / (255 * s) for s in std], width, pixels.device)
    bias = per_channel([-m / s for m, s in zip(mean, std, strict=True)], width, pixels.device)
    levels = pixels.to(torch.float32, memory_format=torch.channels_last)
    return torch.addcmul(bias, levels, scale)


def per_channel(values: Sequence[float], width: int, device: torch.device) -> Float[Tensor, "1 channel 1 {width}"]:
    """One value per channel, to broadcast over a batch with the channels first."""
    # torch.tensor(values, device=...) would wait for the device. A whole row of pixels, laid out like the
    # images, lets a CPU use vector instructions: three times faster than a value per channel.
    row = torch.stack([torch.full((width,), value, device=device) for value in values])
    return row[None, :, None, :].contiguous(memory_format=torch.channels_last)


def crop(images: UInt8[Tensor, "batch height width channel"], augmentation: Augmentation, draws: Draws) -> Levels:
    """Crop and flip as configured; still grey levels 0 to 255, with the channels first."""
    height, width = images.shape[1:3]
    flips = draw_flips(augmentation.flip, draws)
    if augmentation.resized_crop is not None:
        boxes = draw_crops((height, width), augmentation.resized_crop, draws)
        return resize_boxes(images, boxes, flips)
    shifts = draw_shifts(augmentation.crop_padding, draws)
    return shift_and_flip(images, shifts, flips).permute(0, 3, 1, 2)


def apply_rand_augment(
    pixels: Levels, augmentation: Augmentation, mean: Sequence[float], draws: Draws
) -> Float[Tensor, "batch channel height width"]:
    """All rounds of RandAugment; what comes in from outside the image has the mean colour."""
    fill = per_channel([float(round(255 * m)) for m in mean], 1, pixels.device)
    levels = pixels.to(torch.float32, memory_format=torch.contiguous_format)
    for _ in range(augmentation.rand_augment_ops):
        drawn = draw_rand_augment(augmentation.rand_augment, augmentation.rand_augment_std, draws)
        levels = rand_augment(levels, drawn, fill)
    return levels


def draw_erasures(size: tuple[int, int], probability: float, draws: Draws) -> Int[Tensor, "image 4"]:
    """Draw the box to erase in each image: top, left, height and width in pixels; height 0 = none."""
    boxes, fitted = draw_boxes(size, ERASED_AREA, ERASED_ASPECT, draws)
    erased = draws.uniform() < probability
    return boxes * (fitted & erased)[:, None]


def erase(
    images: Float[Tensor, "batch channel height width"],
    boxes: Int[Tensor, "batch 4"],
    draws: Draws,
) -> Float[Tensor, "batch channel height width"]:
    """Replace each image's box by standard normal noise, drawn for every pixel and channel."""
    _, channel, height, width = images.shape
    noise = draws.normal(height, width, channel)
    top, left, box_height, box_width = boxes[:, :, None].unbind(1)
    row, column = (torch.arange(side, device=images.device) for side in (height, width))
    inside_rows = (row >= top) & (row < top + box_height)
    inside_columns = (column >= left) & (column < left + box_width)
    inside = inside_rows[:, :, None] & inside_columns[:, None, :]
    return torch.where(inside[:, None], noise.permute(0, 3, 1, 2), images)


def require_fitting(images: UInt8[Tensor, "batch height width channel"], augmentation: Augmentation) -> None:
    """Raise InputError where the images' size or channels do not allow what is configured."""
    height, width, channel = images.shape[1:]
    if augmentation.crop_padding >= min(height, width):
        raise InputError(
            f"crop_padding is {augmentation.crop_padding},"
            f" but must be smaller than the {height}×{width} images, whose border is reflected."
        )
    if augmentation.rand_augment and channel not in (1, 3):
        raise InputError(f"rand_augment needs images of 1 or 3 channels, but these have {channel}.")
