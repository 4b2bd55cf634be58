"""Decoded images on disk: written once, memory-mapped ever after.

<cache>/images/<fingerprint>/   images.npy (uint8), labels.npy (int64), meta.json
<cache>/stamps/<stamp>          the fingerprint of files that have not been touched since
"""

import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from filelock import FileLock
from jaxtyping import Int64, UInt8

from nodelens.data.pixels import EncodedImage, decode, own_size
from nodelens.data.sources import LabelColumn, Source, hashed
from nodelens.errors import InputError

logger = logging.getLogger(__name__)

# Part of every fingerprint: raise it when the same files would decode to other pixels.
DECODE_FORMAT = 1
# Images a thread decodes at a time, and images in memory at a time.
GROUP, WINDOW = 32, 256
NAMED_UNDECODABLE = 3


@dataclass(frozen=True)
class Meta:
    """What the arrays on disk do not say themselves.

    Attributes:
        label_names: one per label.
        superclass_names: empty when there are none.
        superclass_of_label: empty when there are none.
        undecodable: number of images left out.
        first_undecodable: the first few of them.
        images_bytes, labels_bytes: sizes of the complete files.
    """

    label_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    superclass_of_label: tuple[int, ...]
    undecodable: int
    first_undecodable: tuple[str, ...]
    images_bytes: int
    labels_bytes: int

    @classmethod
    def read(cls, file: Path) -> "Meta":
        """Raises OSError, ValueError or TypeError when the file is missing or damaged."""
        stored = json.loads(file.read_text())
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
        }
        return cls(**fields)


@dataclass(frozen=True)
class DecodedSplit:
    """A split's pixels (a read-only memory map) and labels."""

    pixels: UInt8[np.ndarray, "image height width channel"]
    labels: Int64[np.ndarray, " image"]
    meta: Meta
    fingerprint: str


def default_cache() -> Path:
    """The folder NODELENS_CACHE, or ~/.cache/nodelens."""
    return Path(os.environ.get("NODELENS_CACHE") or "~/.cache/nodelens").expanduser()


def decoded_split(source: Source, image_size: int | None, cache: Path) -> DecodedSplit:
    """Maps the decoded images of a source, decoding them first if the cache has not got them.

    Undecodable images are left out and counted in `meta`. Safe under concurrent processes.

    Args:
        source: what to decode.
        image_size: side of the square in pixels; None for the images' own size, if it is one.
        cache: folder to keep the result in.

    Raises:
        InputError: unreadable or unusable files, images of several sizes, a cache that cannot be written.
    """
    try:
        fingerprint = _fingerprint(source, image_size, cache)
        folder = cache / "images" / fingerprint
        return _open(folder) or _make_once(folder, source, image_size)
    except OSError as error:
        raise _cache_error(cache, error) from error


def _cache_error(cache: Path, error: OSError) -> InputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"no space is left in {cache}; free some or set NODELENS_CACHE to another folder")
    where = error.filename or cache
    return InputError(f"{where} cannot be used ({error.strerror or error}); set NODELENS_CACHE to another folder")


def _fingerprint(source: Source, image_size: int | None, cache: Path) -> str:
    stamp = cache / "stamps" / hashed([DECODE_FORMAT, "own", image_size, source.mode, source.stamp()])
    known = stamp.read_text() if stamp.exists() else ""
    if len(known) == 32:
        return known
    labels = source.labels()
    named = (labels.names, labels.superclass_names, labels.superclass_of_label)
    # Images that have the size asked for stay as they are: the same data, whether it was asked for or not.
    size = None if image_size is not None and _all_have(source, image_size) else image_size
    fingerprint = hashed([DECODE_FORMAT, size, source.mode, named, source.content()])
    _remember(stamp, fingerprint)
    return fingerprint


def _all_have(source: Source, size: int) -> bool:
    """Whether every image is a square of this size; reads their headers, up to the first that is not."""
    return all(found in (None, (size, size)) for found in map(own_size, source.images()))


def _remember(stamp: Path, fingerprint: str) -> None:
    """Saves the next load from reading every file; where it fails, the next load is only slower."""
    written = stamp.with_suffix(f".{os.getpid()}")
    try:
        stamp.parent.mkdir(parents=True, exist_ok=True)
        written.write_text(fingerprint)
        written.replace(stamp)
    except OSError as error:
        logger.info("%s cannot be written: %s", stamp, error)
        written.unlink(missing_ok=True)


def _open(folder: Path) -> DecodedSplit | None:
    """The split in a cache folder, or None where it is missing or damaged."""
    if not folder.exists():
        return None
    try:
        meta = Meta.read(folder / "meta.json")
        files = {folder / "images.npy": meta.images_bytes, folder / "labels.npy": meta.labels_bytes}
        if all(file.stat().st_size == size for file, size in files.items()):
            pixels, labels = (np.load(file, mmap_mode="r") for file in files)
            return DecodedSplit(pixels, np.array(labels), meta, folder.name)
    except (OSError, ValueError, TypeError):
        pass
    logger.info("%s is damaged and will be made again", folder)
    return None


def _make_once(folder: Path, source: Source, image_size: int | None) -> DecodedSplit:
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial_folder = folder.with_suffix(".partial")
    with FileLock(folder.with_suffix(".lock")):
        made = _open(folder)
        if made is not None:
            return made
        for leftover in (folder, partial_folder):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            _write(partial_folder, source, image_size)
            partial_folder.rename(folder)
        finally:
            shutil.rmtree(partial_folder, ignore_errors=True)
    made = _open(folder)
    if made is None:
        raise InputError(f"{folder} changed while it was written; run again")
    return made


def _write(folder: Path, source: Source, image_size: int | None) -> None:
    labels = source.labels()
    if not len(labels.values):
        raise InputError(f"{source.name} ({source.split}) is empty; choose another split")
    logger.info("decoding %d images of %s (%s)", len(labels.values), source.name, source.split)
    folder.mkdir()
    # Written as a stream: on a full disk, writing through a memory map kills the process.
    with (folder / "images.npy").open("wb") as file:
        undecodable = _write_pixels(file, source, image_size, len(labels.values))
        _to_disk(file)
    with (folder / "labels.npy").open("wb") as file:
        np.save(file, np.delete(labels.values, list(undecodable)))
        _to_disk(file)
    _write_meta(folder, labels, list(undecodable.values()))


def _write_meta(folder: Path, labels: LabelColumn, undecodable: list[str]) -> None:
    meta = Meta(
        label_names=labels.names,
        superclass_names=labels.superclass_names,
        superclass_of_label=labels.superclass_of_label,
        undecodable=len(undecodable),
        first_undecodable=tuple(undecodable[:NAMED_UNDECODABLE]),
        images_bytes=(folder / "images.npy").stat().st_size,
        labels_bytes=(folder / "labels.npy").stat().st_size,
    )
    with (folder / "meta.json").open("wb") as file:
        file.write(json.dumps(asdict(meta)).encode())
        _to_disk(file)


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_pixels(file: BinaryIO, source: Source, image_size: int | None, total: int) -> dict[int, str]:
    """Writes an .npy of all images that decode; returns position -> name of those that do not."""
    undecodable: dict[int, str] = {}
    shape: tuple[int, ...] = ()
    for position, (where, pixels) in enumerate(_decoded_images(source, image_size, total)):
        if pixels is None:
            undecodable[position] = where
            continue
        if not shape:
            shape = pixels.shape
            _write_header(file, (total, *shape))
        elif pixels.shape != shape:
            raise _sizes_differ(source, shape, pixels.shape)
        file.write(pixels.tobytes())
    if not shape:
        raise InputError(
            f"none of the {total} images in {source.name} ({source.split}) can be decoded "
            f"(first: {undecodable[0]}); repair them"
        )
    # numpy pads its header so that the first axis can change without moving the data.
    file.seek(0)
    _write_header(file, (total - len(undecodable), *shape))
    return undecodable


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _sizes_differ(source: Source, one: tuple[int, ...], other: tuple[int, ...]) -> InputError:
    sizes = " and ".join(f"{width}×{height}" for height, width, _ in (one, other))
    return InputError(f"images in {source.name} ({source.split}) differ in size ({sizes}); give --image-size")


def _decoded_images(source: Source, image_size: int | None, total: int) -> Iterator[tuple[str, np.ndarray | None]]:
    """Name and pixels of every image in order; None for what cannot be decoded."""
    attempt = partial(_attempt_group, mode=source.mode, size=image_size)
    images = _with_progress(source, total)
    # Threads: Pillow releases the interpreter lock, so that two decode large images twice as fast as one.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        while window := list(islice(images, WINDOW)):
            groups = [window[start : start + GROUP] for start in range(0, len(window), GROUP)]
            for group in pool.map(attempt, groups):
                yield from group


def _with_progress(source: Source, total: int) -> Iterator[EncodedImage]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return iter(
        track(
            source.images(),
            f"decoding {source.name} ({source.split})",
            total=total,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
    )


def _attempt_group(group: list[EncodedImage], mode: str, size: int | None) -> list[tuple[str, np.ndarray | None]]:
    return [(image.where, _attempt(image, mode, size)) for image in group]


def _attempt(image: EncodedImage, mode: str, size: int | None) -> np.ndarray | None:
    try:
        return decode(image, mode, size)
    except MemoryError:
        raise
    except Exception as error:  # damaged data makes Pillow's plugins raise nearly anything
        logger.debug("%s cannot be decoded: %r", image.where, error)
        return None
