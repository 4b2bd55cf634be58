"""Small images of a data set, side by side in one picture."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from nodelens.data import ImageSet, load_images
from nodelens.errors import InputError
from nodelens.runs import RunDirectory

SIDE = 32
"""Pixels of a thumbnail; smaller images keep their own size."""

LABELS = 400
"""Up to so many labels have thumbnails."""


def images_of(run: RunDirectory, split: str) -> ImageSet | None:
    """The images that a run was measured on, or of another split of the data set; None where it is not at hand."""
    sections = run.configuration()
    recorded = sections.get("measure") or sections.get("train") or {}
    name = recorded.get("settings", {}).get("data", {}).get("name")
    for one in dict.fromkeys((split, "test", "train")) if name else ():
        with suppress(InputError):
            return load_images(str(name), one)
    return None


def label_thumbnails(images: ImageSet, label_names: Sequence[str]) -> dict[str, Any] | None:
    """One image of each label; None where the images have other labels, or one of them has no image."""
    if tuple(label_names) != images.label_names or len(label_names) > LABELS:
        return None
    labels = images.labels.numpy()
    first = [int(np.argmax(labels == label)) for label in range(len(label_names))]
    if any(labels[position] != label for label, position in enumerate(first)):
        return None
    return thumbnails(images, first)


def thumbnails(images: ImageSet, positions: Sequence[int]) -> dict[str, Any]:
    """The images at these positions in one picture, row by row.

    Returns:
        `picture`, a data address; `side` of a thumbnail in pixels; `columns` of the picture.
    """
    pixels = images.batch(np.asarray(positions, dtype=np.int64)).numpy()
    side = min(SIDE, max(images.image_shape[:2]))
    columns = min(len(positions), 50)
    rows = -(-len(positions) // columns)
    sheet = Image.new("RGB", (columns * side, rows * side))
    for i, image in enumerate(pixels):
        small = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).convert("RGB")
        sheet.paste(small.resize((side, side)), (i % columns * side, i // columns * side))
    return {"picture": _address(sheet), "side": side, "columns": columns, "rows": rows}


def _address(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
