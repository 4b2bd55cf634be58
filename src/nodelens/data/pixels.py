"""One encoded image -> uint8 pixels, channels last."""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

EXIF_ORIENTATION = 0x0112


class EncodedImage(NamedTuple):
    """An image before decoding.

    Attributes:
        where: the words that an error names it by.
        data: the bytes of an image file, the path of one, or grey pixels uint8 (height, width).
    """

    where: str
    data: bytes | Path | np.ndarray


def decode(encoded: EncodedImage, mode: str, size: int | None) -> UInt8[np.ndarray, "height width channel"]:
    """The pixels of one image, upright.

    Args:
        encoded: what to decode.
        mode: "RGB" (3 channels) or "L" (1 channel). Transparency is dropped, as torchvision does.
        size: None keeps the native size; else the short side is resized to this many pixels
            (antialiased bicubic) and the square in the centre is kept.

    Raises:
        Exception: of whatever kind Pillow raises for what it cannot decode.
    """
    with _opened(encoded.data) as image:
        if image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            ImageOps.exif_transpose(image, in_place=True)
        converted = _in_mode(image, mode)
    if size is not None:
        converted = _centre_square(converted, size)
    pixels = np.asarray(converted, dtype=np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def own_size(encoded: EncodedImage) -> tuple[int, int] | None:
    """Width and height as stored; decodes nothing. None for what is no image."""
    try:
        with _opened(encoded.data) as image:
            return image.size
    except Exception:  # of whatever kind: it is left out, or refused, when it is decoded
        return None


def _opened(data: bytes | Path | np.ndarray) -> Image.Image:
    if isinstance(data, np.ndarray):
        return Image.fromarray(data)
    return Image.open(BytesIO(data) if isinstance(data, bytes) else data)


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _eight_bit(image)
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no fixed white")
    elif "transparency" in image.info:
        # Without this stop at RGBA, Pillow warns about the transparency of a palette.
        image = image.convert("RGBA")
    return image.convert(mode)


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey 16-bit levels on the 8-bit scale; Pillow's own conversion would clip them at 255."""
    levels = np.asarray(image).clip(0, 65535).astype(np.float64)
    return Image.fromarray(np.rint(levels / 257).astype(np.uint8))


def _centre_square(image: Image.Image, size: int) -> Image.Image:
    """Short side to `size`, then the centre: the arithmetic of torchvision's Resize and CenterCrop."""
    short = min(image.size)
    width, height = (int(size * side / short) for side in image.size)
    resized = image if (width, height) == image.size else image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return resized.crop((left, top, left + size, top + size))
