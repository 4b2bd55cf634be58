"""One split of an image data set as it lies in its files: what each kind offers, and the plain kinds."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from nodelens.data.pixels import EncodedImage
from nodelens.errors import InputError


@dataclass(frozen=True)
class LabelColumn:
    """The label of every image of a split, and what the labels are called.

    Attributes:
        values: (image,) indices into `names`.
        names: one per label.
        superclass_names: empty when there are none.
        superclass_of_label: one index into `superclass_names` per label; empty when there are none.
    """

    values: Int64[np.ndarray, " image"]
    names: tuple[str, ...]
    superclass_names: tuple[str, ...] = ()
    superclass_of_label: tuple[int, ...] = ()


@runtime_checkable
class Source(Protocol):
    """One split of a data set before decoding."""

    @property
    def name(self) -> str:
        """The data set, as the user called it."""

    @property
    def split(self) -> str:
        """Which of its splits."""

    @property
    def mode(self) -> str:
        """What to decode to: "RGB" or "L"."""

    def stamp(self) -> str:
        """A hash that changes when a file is touched; reads no file."""

    def content(self) -> str:
        """A hash of what the files hold, wherever they lie; reads every file."""

    def labels(self) -> LabelColumn:
        """The labels, in the order of `images`."""

    def images(self) -> Iterator[EncodedImage]:
        """The images, in order."""


def hashed(parts: Iterable[object]) -> str:
    """32 hex digits that stand for the parts and their order."""
    return hashlib.blake2b(repr(list(parts)).encode(), digest_size=16).hexdigest()


def stratified(
    labels: Int64[np.ndarray, " image"], fraction: float, seed: int
) -> tuple[Int64[np.ndarray, " rest"], Int64[np.ndarray, " held"]]:
    """Divides positions at random so that every label gives up the same share.

    Args:
        labels: label of every image.
        fraction: share to hold out. Of n images with a label, fraction·n go, give or take one.
        seed: of the choice within a label.

    Returns:
        The positions that stay and the floor(fraction·images) that are held out, both ascending.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    quota = np.floor(np.arange(len(labels) + 1) * fraction + 1e-9)
    held = np.diff(quota) > 0
    return np.sort(by_label[~held]), np.sort(by_label[held])


def file_stamp(files: Iterable[Path], *more: object) -> str:
    """A hash of the files' paths, sizes and times."""
    # The change time too: a copy that keeps the modification time still changes it.
    marks = ((str(file), _state(file)) for file in files)
    return hashed([*more, *((path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in marks)])


def file_hash(file: Path) -> str:
    """A hash of what a file holds."""
    with readable(file), file.open("rb") as stream:
        return hashlib.file_digest(stream, hashlib.blake2b).hexdigest()


def _state(file: Path) -> os.stat_result:
    with readable(file):
        return file.stat()


@contextmanager
def readable(file: Path) -> Iterator[None]:
    """Turns a failure to read a file into the InputError that names it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}); restore it") from error


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 grey 8×8 digits, levels 0..16 stretched to 0..255; a fixed fifth is for tests."""

    split: str
    name: str = "digits"
    mode: str = "L"

    def stamp(self) -> str:
        from importlib.metadata import version

        return hashed(["digits", self.split, version("scikit-learn")])

    def content(self) -> str:
        pixels, labels = self._rows()
        return hashed([pixels.tobytes(), labels.tobytes()])

    def labels(self) -> LabelColumn:
        return LabelColumn(self._rows()[1], tuple("0123456789"))

    def images(self) -> Iterator[EncodedImage]:
        for position, pixels in enumerate(self._rows()[0]):
            yield EncodedImage(f"digit {position}", pixels)

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        from sklearn.datasets import load_digits

        levels, labels = load_digits(return_X_y=True)
        kept = stratified(labels.astype(np.int64), fraction=0.2, seed=0)[self.split == "test"]
        pixels = np.rint(levels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        return pixels[kept], labels[kept].astype(np.int64)


@dataclass(frozen=True)
class ClassFolders:
    """A folder that holds one folder of image files per class.

    Attributes:
        root: the folder of the split.
        files: its images.
        classes: names of the class folders of all splits, so that a label means the same in each.
    """

    name: str
    split: str
    root: Path
    files: tuple[Path, ...]
    classes: tuple[str, ...]
    mode: str = "RGB"

    def stamp(self) -> str:
        return file_stamp(self.files, self.classes)

    def content(self) -> str:
        named = ((file.relative_to(self.root).as_posix(), file_hash(file)) for file in self.files)
        return hashed(named)

    def labels(self) -> LabelColumn:
        label_of = {name: label for label, name in enumerate(self.classes)}
        values = [label_of[file.relative_to(self.root).parts[0]] for file in self.files]
        return LabelColumn(np.array(values, dtype=np.int64), self.classes)

    def images(self) -> Iterator[EncodedImage]:
        for file in self.files:
            yield EncodedImage(file.relative_to(self.root).as_posix(), file)
