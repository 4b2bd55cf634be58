"""Image data sets: decoded once, memory-mapped, handed out in batches."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from torch import Tensor

from nodelens.data.decoded import DecodedSplit, decoded_split, default_cache
from nodelens.data.label_names import names_of_labels
from nodelens.data.lookup import find_source
from nodelens.data.sources import Source, hashed, stratified
from nodelens.errors import InputError
from nodelens.processes import add_up, share
from nodelens.progress import console, progress

STATISTICS_BATCH = 1024


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of an image data set, decoded; or a subset of one, which shares its pixels.

    Attributes:
        name: the data set, as it was asked for.
        split: the split, or what a subset is called.
        pixels: the decoded images on disk, read-only, channels last, 0..255.
        rows: which of the stored images this set has, in its order.
        labels: the label of each of them.
        label_names: one per label.
        superclass_names: empty when there are none.
        superclass_of_label: an index into `superclass_names` per label; empty when there are none.
        fingerprint: 32 hex digits; a hash of the source files' content, the decoding and the rows.
        skipped: number of undecodable images that were left out of the split.
    """

    name: str
    split: str
    pixels: UInt8[np.ndarray, "stored height width channel"]
    rows: Int64[np.ndarray, " image"]
    labels: Int64[Tensor, " image"]
    label_names: tuple[str, ...]
    superclass_names: tuple[str, ...]
    superclass_of_label: tuple[int, ...]
    fingerprint: str
    skipped: int = 0

    def __len__(self) -> int:
        """Number of images."""
        return len(self.rows)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        height, width, channels = self.pixels.shape[1:]
        return height, width, channels

    def batch(
        self, positions: Int[np.ndarray, "batch"] | Int[Tensor, "batch"]
    ) -> UInt8[Tensor, "batch height width channel"]:
        """Copies the images at these positions, channels last, 0..255.

        Raises:
            IndexError: a position is not in the set.
        """
        wanted = positions.cpu().numpy() if isinstance(positions, Tensor) else positions
        return torch.from_numpy(np.take(np.asarray(self.pixels), self.rows[wanted], axis=0))

    def batches(
        self, size: int
    ) -> Iterator[tuple[UInt8[Tensor, "batch height width channel"], Int64[Tensor, "batch"]]]:
        """Images and labels in order, `size` at a time; the last batch has what is left."""
        for start in range(0, len(self), size):
            positions = np.arange(start, min(start + size, len(self)))
            yield self.batch(positions), self.labels[start : start + size]

    def own_batches(
        self, size: int, title: str = ""
    ) -> Iterator[tuple[slice, UInt8[Tensor, "batch height width channel"], Int64[Tensor, "batch"]]]:
        """Where they stand, images and labels of the batches that this process reads: with one process of all.

        Whole batches are shared out, so each is computed alike whatever the number of processes.

        Args:
            title: of the progress shown; none is shown without.
        """
        return own_batches(self, size, title)

    def take(self, positions: Int[np.ndarray, "batch"] | Int[Tensor, "batch"], split_name: str) -> "ImageSet":
        """The subset at these positions, in their order; copies no pixels.

        Raises:
            IndexError: a position is not in the set.
        """
        wanted = positions.cpu().numpy() if isinstance(positions, Tensor) else positions
        rows = self.rows[wanted]
        fingerprint = hashed([self.fingerprint, rows.tobytes()])
        labels = self.labels[torch.from_numpy(wanted)]
        return replace(self, split=split_name, rows=rows, labels=labels, fingerprint=fingerprint)

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel over all pixels of all images, in 0..1."""
        # Counts of the 256 levels: exact, in one pass, in memory that does not grow.
        counts = np.zeros((self.image_shape[2], 256), dtype=np.int64)
        for _, images, _ in self.own_batches(STATISTICS_BATCH):
            for channel, levels in enumerate(images.numpy().reshape(-1, len(counts)).T):
                counts[channel] += np.bincount(levels, minlength=256)
        add_up([torch.from_numpy(counts)])
        levels = np.arange(256) / 255
        shares = counts / counts.sum(axis=1, keepdims=True)
        mean = shares @ levels
        deviation = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(axis=1))
        return tuple(mean.tolist()), tuple(deviation.tolist())


@runtime_checkable
class Labelled(Protocol):
    """A set that hands out batches with labels."""

    @property
    def labels(self) -> Tensor: ...
    def batch(self, positions: np.ndarray) -> Tensor: ...


def own_batches(examples: Labelled, size: int, title: str = "") -> Iterator[tuple[slice, Tensor, Tensor]]:
    """The batches that this process reads, see `ImageSet.own_batches`."""
    own = own_slices(len(examples.labels), size)
    read, total = 0, sum(where.stop - where.start for where in own)
    with progress(title, total) if title and own else nullcontext() as bar:
        for where in own:
            yield where, examples.batch(np.arange(where.start, where.stop)), examples.labels[where]
            read += where.stop - where.start
            if bar is not None:
                bar.reach(read)


def own_slices(images: int, size: int) -> Sequence[slice]:
    """Batches in order, the last with what is left: those of them that this process reads.

    >>> own_slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return share([slice(start, min(start + size, images)) for start in range(0, images, size)])


def load_images(
    name: str,
    split: str,
    *,
    image_size: int | None = None,
    skip_undecodable: bool = False,
    cache: Path | None = None,
) -> ImageSet:
    """Loads one split; the first time, its images are decoded into the cache.

    Args:
        name: digits, cifar100, flowers102, flowers102:cct, the name of a copy in the folder NODELENS_DATA, a
            folder of class folders or of parquet files in the hub's layout, or hf:org/name.
        split: one of the data set's own splits.
        image_size: side in pixels of the square that each image becomes; None keeps the images' own size.
        skip_undecodable: leave out images that cannot be decoded and count them in `skipped`.
        cache: folder for the decoded images; None for NODELENS_CACHE or else ~/.cache/nodelens.

    Raises:
        InputError: no such data set or split, an empty split, undecodable images, images of several sizes,
            labels out of range, a full disk.

    >>> train = load_images("digits", "train")
    >>> len(train), train.image_shape, train.label_names[:3]
    (1438, (8, 8, 1), ('0', '1', '2'))
    """
    if image_size is not None and image_size < 1:
        raise InputError(f"--image-size is {image_size}; give at least 1 pixel")
    source = find_source(name, split)
    decoded = decoded_split(source, image_size, cache or default_cache())
    if decoded.meta.undecodable and not skip_undecodable:
        raise _undecodable(source, decoded)
    if decoded.meta.undecodable:
        console.print(f"left out {decoded.meta.undecodable} images of {name} ({split}) that cannot be decoded")
    return ImageSet(
        name=name,
        split=split,
        pixels=decoded.pixels,
        rows=np.arange(len(decoded.pixels)),
        labels=torch.from_numpy(decoded.labels),
        label_names=names_of_labels(name, decoded.meta.label_names),
        superclass_names=decoded.meta.superclass_names,
        superclass_of_label=decoded.meta.superclass_of_label,
        fingerprint=decoded.fingerprint,
        skipped=decoded.meta.undecodable,
    )


def _undecodable(source: Source, decoded: DecodedSplit) -> InputError:
    count, first = decoded.meta.undecodable, ", ".join(decoded.meta.first_undecodable)
    return InputError(
        f"{count} of {count + len(decoded.labels)} images in {source.name} ({source.split}) "
        f"cannot be decoded (first: {first}); repair them or pass --skip-undecodable"
    )


@runtime_checkable
class Divisible(Protocol):
    """A set with labels and subsets."""

    @property
    def split(self) -> str: ...
    def __len__(self) -> int: ...
    @property
    def labels(self) -> Tensor: ...
    def take(self, positions: np.ndarray, split_name: str) -> Any: ...


Whole = TypeVar("Whole", bound=Divisible)


def holdout(images: Whole, fraction: float, seed: int = 0) -> tuple[Whole, Whole]:
    """Divides a set in two at random, every label alike: (rest, held out).

    Args:
        images: the set to divide.
        fraction: share to hold out, between 0 and 1; of every label, give or take one image.
        seed: the same seed gives the same division.

    Raises:
        InputError: the fraction leaves one of the two empty.
    """
    if not 0 < fraction < 1 or len(images) * fraction < 1:
        raise InputError(f"a share of {fraction} of {len(images)} images cannot be held out; give one in (0, 1)")
    rest, held = stratified(images.labels.numpy(), fraction, seed)
    return images.take(rest, f"{images.split}-rest"), images.take(held, f"{images.split}-held-out")
