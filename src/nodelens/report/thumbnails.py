"""Small images of a data set, side by side in one picture."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from nodelens.data import ImageSet, Samples, is_at_hand, load_images, text_splits
from nodelens.data.texts import tokeniser_from
from nodelens.errors import InputError
from nodelens.files import read_metadata
from nodelens.runs import RunDirectory

SIDE = 32
"""Pixels of a thumbnail; smaller images keep their own size."""

EXACT = 16
"""Images of fewer pixels than this are kept as they are."""

LABELS = 400
"""Up to so many labels have thumbnails."""


def samples_of(run: RunDirectory, split: str) -> Samples | None:
    """The images or texts that a run was measured on, or another split of these; None where they are not at hand."""
    sections = run.configuration()
    recorded = sections.get("measure") or sections.get("train") or {}
    name = str(recorded.get("settings", {}).get("data", {}).get("name") or "")
    path = run.path / "model.safetensors"
    metadata = read_metadata(path) if path.exists() else {}
    config = json.loads(metadata.get("config", "{}"))
    # A report asks nobody for images: what is not at hand is not shown.
    for one in dict.fromkeys((split, "test", "train")) if name and is_at_hand(name) else ():
        with suppress(InputError):
            tokeniser = tokeniser_from(metadata)
            if tokeniser is not None:
                return text_splits(name, ("train", one), tokeniser, config["positions"])[1]
            # A checkpoint that was measured elsewhere is not here, but its run says how large its images were.
            return load_images(name, one, image_size=config.get("image_size") or recorded.get("image_size") or None)
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
    return {"picture": _address(sheet, side), "side": side, "columns": columns, "rows": rows}


def _address(picture: Image.Image, side: int) -> str:
    """A data address: JPEG for photographs, a third of the size; every pixel of very small images."""
    kind, how = ("PNG", {"optimize": True}) if side < EXACT else ("JPEG", {"quality": 85})
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
