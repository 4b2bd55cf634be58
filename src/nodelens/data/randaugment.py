"""RandAugment on whole batches, with an operation of its own for every image.

Cubuk et al. 2020 (https://arxiv.org/abs/1909.13719), in the form that timm calls
``rand-m9-mstd0.5-inc1``: each drawn operation is applied with probability 1/2, at a strength drawn
anew. The fifteen operations fall into four families: curves of grey levels, saturation, sharpness and
affine maps. Each family runs over the whole batch, with parameters that change nothing where an
image's operation belongs to another family.

Pixels are whole grey levels in float32 and are rounded after each family as torchvision rounds uint8.
"""

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nodelens.data.draws import Draws


class Operation(IntEnum):
    """What RandAugment can do to an image; the strength grows with the level, where there is one."""

    IDENTITY = 0
    AUTO_CONTRAST = 1
    EQUALIZE = 2
    INVERT = 3
    ROTATE = 4
    POSTERIZE = 5
    SOLARIZE = 6
    SOLARIZE_ADD = 7
    COLOR = 8
    CONTRAST = 9
    BRIGHTNESS = 10
    SHARPNESS = 11
    SHEAR_X = 12
    SHEAR_Y = 13
    TRANSLATE_X = 14
    TRANSLATE_Y = 15


@dataclass(frozen=True)
class RandAugmentDraw:
    """The random parameters of one round for each image.

    Attributes:
        operation: an :class:`Operation`.
        level: strength, 0 to 1 (timm's magnitude / 10).
        sign: −1 or 1, the direction of an operation that has two.
    """

    operation: Int[Tensor, " batch"]
    level: Float[Tensor, " batch"]
    sign: Float[Tensor, " batch"]

    def chosen(self, operation: Operation) -> Bool[Tensor, " batch"]:
        """Which images have this operation."""
        return self.operation == operation.value

    def signed(self, operation: Operation, greatest: float) -> Float[Tensor, " batch"]:
        """The level times ±greatest for the images that have this operation, 0 for the others."""
        return (self.sign * self.level * greatest).masked_fill(~self.chosen(operation), 0.0)


def draw_rand_augment(magnitude: float, std: float, draws: Draws) -> RandAugmentDraw:
    """Draw one round: an operation for each image; half of them stay as they are.

    Args:
        magnitude: mean strength, 0 to 10.
        std: standard deviation of the strength, which is clipped to 0 … 10.
        draws: of the images.
    """
    applied, sign = draws.uniform(2) < 0.5
    operation = draws.integers(1, len(Operation))
    level = ((magnitude + std * draws.normal()) / 10).clamp(0, 1)
    return RandAugmentDraw(operation * applied, level, 1.0 - 2.0 * sign)


def rand_augment(
    pixels: Float[Tensor, "batch channel height width"],
    draw: RandAugmentDraw,
    fill: Float[Tensor, "1 channel 1 1"],
) -> Float[Tensor, "batch channel height width"]:
    """Apply one round of operations.

    Args:
        pixels: whole grey levels 0 to 255, with 1 or 3 channels.
        draw: the operation of each image and its strength.
        fill: grey levels of what an affine map brings in from outside the image.

    Returns:
        Whole grey levels 0 to 255.
    """
    toned = adjust_tones(pixels, draw)
    coloured = adjust_saturation(toned, enhancement(draw, Operation.COLOR))
    sharpened = adjust_sharpness(coloured, enhancement(draw, Operation.SHARPNESS))
    return warp(sharpened, affine_maps(draw, *pixels.shape[2:]), fill)


def enhancement(draw: RandAugmentDraw, operation: Operation) -> Float[Tensor, "batch 1 1 1"]:
    """Factor 1 ± 0.9 · level of the images that have this operation; 1 for the others."""
    return 1 + draw.signed(operation, 0.9)[:, None, None, None]


def adjust_tones(
    pixels: Float[Tensor, "batch channel height width"], draw: RandAugmentDraw
) -> Float[Tensor, "batch channel height width"]:
    """Apply the operations that map each grey level of a channel to another, through a table."""
    level_index = pixels.flatten(2).long()
    curves = content_curves(pixels, level_index, draw)
    for operation, curve in fixed_curves(draw.level, pixels.device).items():
        curves = torch.where(draw.chosen(operation)[:, None, None], curve, curves)
    return curves.gather(2, level_index).view(pixels.shape)


def fixed_curves(level: Float[Tensor, " batch"], device: torch.device) -> dict[Operation, Float[Tensor, "_ 1 256"]]:
    """New grey levels by old ones, of the operations that ignore what the image shows."""
    value = torch.arange(256.0, device=device)
    level = level[:, None, None]
    step = 2 ** (4 + (4 * level).floor())
    threshold = 256 - (256 * level).floor()
    brighter = (value + (110 * level).floor()).clamp(max=255)
    return {
        Operation.INVERT: (255 - value).view(1, 1, 256),
        Operation.POSTERIZE: (value / step).floor() * step,
        Operation.SOLARIZE: torch.where(value < threshold, value, 255 - value),
        Operation.SOLARIZE_ADD: torch.where(value < 128, brighter, value),
    }


def content_curves(
    pixels: Float[Tensor, "batch channel height width"],
    level_index: Int[Tensor, "batch channel pixel"],
    draw: RandAugmentDraw,
) -> Float[Tensor, "batch channel 256"]:
    """New grey levels by old ones, of the operations that depend on what the image shows.

    Brightness and contrast, whose neutral factor is 1, and so do nothing elsewhere, come as one curve.
    """
    least, greatest = pixels.amin((2, 3))[..., None], pixels.amax((2, 3))[..., None]
    contrast = enhancement(draw, Operation.CONTRAST)[:, 0]
    brightness = enhancement(draw, Operation.BRIGHTNESS)[:, 0]
    grey = luminance(pixels).mean((2, 3))[..., None]
    value = torch.arange(256.0, device=pixels.device).expand(*pixels.shape[:2], 256)
    curves = (value * (contrast * brightness) + grey * (1 - contrast)).clamp(0, 255).floor()
    stretched = auto_contrast_curves(value, least, greatest)
    curves = torch.where(draw.chosen(Operation.AUTO_CONTRAST)[:, None, None], stretched, curves)
    equalized = equalize_curves(value, level_index, greatest)
    return torch.where(draw.chosen(Operation.EQUALIZE)[:, None, None], equalized, curves)


def auto_contrast_curves(
    value: Float[Tensor, "batch channel 256"],
    least: Float[Tensor, "batch channel 1"],
    greatest: Float[Tensor, "batch channel 1"],
) -> Float[Tensor, "batch channel 256"]:
    """Stretch least … greatest to 0 … 255; a channel of one level stays as it is."""
    extent = greatest - least
    stretched = ((value - least) / (extent.clamp(min=1) * (1 / 255))).clamp(0, 255).floor()
    return torch.where(extent > 0, stretched, value)


def equalize_curves(
    value: Float[Tensor, "batch channel 256"],
    level_index: Int[Tensor, "batch channel pixel"],
    greatest: Float[Tensor, "batch channel 1"],
) -> Float[Tensor, "batch channel 256"]:
    """Make the histogram of each channel flat, as in Pillow: in steps of 1/255 of the pixels below the
    greatest level; a channel with fewer than 255 such pixels stays as it is.
    """
    one = torch.ones((), device=value.device).expand(level_index.shape)
    histogram = torch.zeros_like(value, memory_format=torch.contiguous_format).scatter_add_(2, level_index, one)
    darker = histogram.cumsum(2) - histogram
    step = (darker.gather(2, greatest.long()) / 255).floor()
    flat = ((darker + (step / 2).floor()) / step.clamp(min=1)).floor().clamp(max=255)
    return torch.where(step > 0, flat, value)


def luminance(pixels: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch 1 height width"]:
    """Whole grey levels of colour images (ITU-R 601); an image of one channel is its own luminance."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = pixels[:, :1], pixels[:, 1:2], pixels[:, 2:]
    return red.mul(0.2989).add(green, alpha=0.587).add(blue, alpha=0.114).floor()


def adjust_saturation(
    pixels: Float[Tensor, "batch channel height width"], factor: Float[Tensor, "batch 1 1 1"]
) -> Float[Tensor, "batch channel height width"]:
    """Move the colours away from grey (factor above 1) or towards it; one channel has no colour."""
    if pixels.shape[1] == 1:
        return pixels
    return torch.lerp(luminance(pixels), pixels, factor).clamp(0, 255).floor()


def adjust_sharpness(
    pixels: Float[Tensor, "batch channel height width"], factor: Float[Tensor, "batch 1 1 1"]
) -> Float[Tensor, "batch channel height width"]:
    """Move the pixels away from their smoothed neighbourhood (factor above 1) or towards it.

    The outermost pixels have no full neighbourhood and stay, as in Pillow.
    """
    if min(pixels.shape[2:]) < 3:
        return pixels
    columns = pixels[..., :-2] + pixels[..., 1:-1] + pixels[..., 2:]
    neighbourhood = columns[..., :-2, :] + columns[..., 1:-1, :] + columns[..., 2:, :]
    centre = pixels[..., 1:-1, 1:-1]
    smooth = nearest_level((neighbourhood + 4 * centre) / 13)
    sharpened = (centre + (smooth - centre) * (1 - factor)).clamp(0, 255).floor()
    output = pixels.clone()
    output[..., 1:-1, 1:-1] = sharpened
    return output


def affine_maps(draw: RandAugmentDraw, height: int, width: int) -> Float[Tensor, "batch 2 3"]:
    """Map from output to input position in pixels, (x, y, 1) → (x, y), of each image.

    Up to 30° around the centre (anticlockwise for sign 1), shear by up to 0.3 from the upper left
    corner, translation by up to 0.45 of the width or height; the identity for other operations.
    """
    angle = draw.signed(Operation.ROTATE, math.radians(30))
    cos, sin = angle.cos(), angle.sin()
    x = draw.signed(Operation.TRANSLATE_X, 0.45 * width) + ((1 - cos) * width + sin * height) / 2
    y = draw.signed(Operation.TRANSLATE_Y, 0.45 * height) + ((1 - cos) * height - sin * width) / 2
    rows = [
        torch.stack([cos, draw.signed(Operation.SHEAR_X, 0.3) - sin, x], dim=1),
        torch.stack([draw.signed(Operation.SHEAR_Y, 0.3) + sin, cos, y], dim=1),
    ]
    return torch.stack(rows, dim=1)


def warp(
    pixels: Float[Tensor, "batch channel height width"],
    maps: Float[Tensor, "batch 2 3"],
    fill: Float[Tensor, "1 channel 1 1"],
) -> Float[Tensor, "batch channel height width"]:
    """Resample each image under its affine map, bilinear; outside of the image lies ``fill``."""
    height, width = pixels.shape[2:]
    x = torch.arange(width, device=pixels.device) + 0.5
    y = (torch.arange(height, device=pixels.device) + 0.5)[:, None]
    # Written out: as a matrix product this would lose precision wherever float32 products are shortened.
    across, down, offset = maps[:, :, :, None, None].unbind(2)
    source_x, source_y = (across * x + down * y + offset).unbind(1)
    grid = torch.stack([source_x * (2 / width) - 1, source_y * (2 / height) - 1], dim=3)
    sampled = F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    return torch.where(inside[:, None], nearest_level(sampled), fill)


def nearest_level(
    values: Float[Tensor, "batch channel height width"],
) -> Float[Tensor, "batch channel height width"]:
    """Round to the nearest whole number."""
    # floor is ten times faster than round on a CPU, which has to send ties to the even number.
    return (values + 0.5).floor()
