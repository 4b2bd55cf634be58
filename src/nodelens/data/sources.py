"""One split of an image data set as it lies in its files: digits, class folders, parquet."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int64

from nodelens.data.pixels import EncodedImage
from nodelens.errors import InputError

PARQUET_BATCH = 256


@dataclass(frozen=True)
class LabelColumn:
    """The label of every image of a split, and what the labels are called.

    Attributes:
        values: (image,) indices into `names`.
        names: one per label.
        superclass_names: empty when there are none.
        superclass_of_label: one index into `superclass_names` per label; empty when there are none.
    """

    values: Int64[np.ndarray, "image"]
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
    labels: Int64[np.ndarray, "image"], fraction: float, seed: int
) -> tuple[Int64[np.ndarray, "rest"], Int64[np.ndarray, "held"]]:
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


def _stamp(files: Iterable[Path], *more: object) -> str:
    marks = ((str(file), file.stat()) for file in files)
    # The change time too: a copy that keeps the modification time still changes it.
    return hashed([*more, *((path, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for path, s in marks)])


def _content(files: Iterable[Path], root: Path, *more: object) -> str:
    return hashed([*more, *((file.relative_to(root).as_posix(), _file_hash(file)) for file in files)])


def _file_hash(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, hashlib.blake2b).hexdigest()
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}); make it readable") from error


@dataclass(frozen=True)
class Digits:
    """scikit-learn's 1,797 grey 8×8 digits, levels 0..16 stretched to 0..255; a fixed fifth is the test split."""

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
        return _stamp(self.files, self.classes)

    def content(self) -> str:
        return _content(self.files, self.root)

    def labels(self) -> LabelColumn:
        label_of = {name: label for label, name in enumerate(self.classes)}
        values = [label_of[file.relative_to(self.root).parts[0]] for file in self.files]
        return LabelColumn(np.array(values, dtype=np.int64), self.classes)

    def images(self) -> Iterator[EncodedImage]:
        for file in self.files:
            yield EncodedImage(file.relative_to(self.root).as_posix(), file)


@dataclass(frozen=True)
class Parquet:
    """Parquet files in the hub's layout: an Image column and a ClassLabel column.

    pyarrow and not `datasets` reads them: it starts in a third of the time and writes no second copy.

    Attributes:
        files: those with rows of the split.
        all_files: those of every split; the super-class of a label is looked up in all of them.
        split_column: column whose value tells the split of a row; None when the files do.
    """

    name: str
    split: str
    files: tuple[Path, ...]
    all_files: tuple[Path, ...]
    split_column: str | None = None
    mode: str = field(default="RGB", init=False)

    def stamp(self) -> str:
        return _stamp(self.all_files, self.split, self.split_column)

    def content(self) -> str:
        rows = (self.split_column, self.split if self.split_column else None)
        return hashed([rows, *(_file_hash(file) for file in self.files)])

    def labels(self) -> LabelColumn:
        classes = self._class_columns()
        label = _label_column(classes)
        values = self._label_values(label, len(classes[label]))
        superclasses = self._superclasses(label, classes)
        return LabelColumn(values, classes[label], *superclasses)

    def images(self) -> Iterator[EncodedImage]:
        from pyarrow.parquet import ParquetFile

        column = self._image_column()
        columns = [column, self.split_column] if self.split_column else [column]
        for file in self.files:
            row = 0
            for batch in ParquetFile(file).iter_batches(PARQUET_BATCH, columns=columns):
                for position in np.flatnonzero(self._in_split(batch)):
                    image = batch[column][int(position)].as_py() or {}
                    yield EncodedImage(f"{file.name} row {row + position}", image.get("bytes") or b"")
                row += len(batch)

    def _in_split(self, rows: Any) -> np.ndarray:
        """Which rows of a pyarrow table or batch belong to the split."""
        if self.split_column is None:
            return np.ones(len(rows), dtype=bool)
        return np.array([value == self.split for value in rows[self.split_column].to_pylist()], dtype=bool)

    def _features(self) -> dict[str, Any]:
        """The hub's description of every column; the same in all files."""
        described = [_hub_features(file) for file in self.all_files]
        if any(features != described[0] for features in described):
            raise InputError(
                f"the parquet files of {self.name} differ in columns or label names; keep one kind"
            )
        if self.split_column is not None and self.split_column not in described[0]:
            raise InputError(
                f"{self.name} needs a column {self.split_column!r} in its files; leave out the suffix"
            )
        return described[0]

    def _image_column(self) -> str:
        features = self._features()
        for column, feature in features.items():
            if feature.get("_type") == "Image":
                return column
        kind = (
            "a text data set"
            if any(f.get("dtype") == "string" for f in features.values())
            else "no image data set"
        )
        raise InputError(
            f"{self.name} is {kind} (columns: {', '.join(features)}); give one with an Image column"
        )

    def _class_columns(self) -> dict[str, tuple[str, ...]]:
        """Label names of every ClassLabel column."""
        self._image_column()
        features = self._features().items()
        classes = {column: tuple(f["names"]) for column, f in features if f.get("_type") == "ClassLabel"}
        if not classes:
            raise InputError(
                f"{self.name} has no ClassLabel column; cast its labels with datasets.ClassLabel"
            )
        return classes

    def _label_values(self, column: str, count: int) -> Int64[np.ndarray, "image"]:
        tables = [_read(file, [column, self.split_column]) for file in self.files]
        kept = [table[column].filter(self._in_split(table)) for table in tables]
        labels = [label for chunk in kept for label in chunk.to_pylist()]
        wrong = sum(label is None or not 0 <= label < count for label in labels)
        if wrong:
            raise InputError(
                f"{wrong} of {len(labels)} rows in {self.name} ({self.split}) have no label in 0..{count - 1}; "
                f"correct column {column!r} or choose another split"
            )
        if not labels and self.split_column:
            self._raise_unknown_split(self.split_column)
        return np.array(labels, dtype=np.int64)

    def _raise_unknown_split(self, column: str) -> None:
        found = {value for file in self.files for value in _read(file, [column])[column].to_pylist()}
        splits = ", ".join(sorted(str(value) for value in found))
        raise InputError(f"{self.name} has no split {self.split!r}: choose one of {splits}")

    def _superclasses(
        self, label: str, classes: dict[str, tuple[str, ...]]
    ) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and assignment of the first coarser column that every label determines; empty without one."""
        for column, names in classes.items():
            if len(names) < len(classes[label]):
                assignment = self._assignment(label, column, len(classes[label]))
                if assignment is not None:
                    return names, assignment
        return (), ()

    def _assignment(self, label: str, coarse: str, count: int) -> tuple[int, ...] | None:
        tables = [_read(file, [label, coarse]).drop_null() for file in self.all_files]
        pairs = np.concatenate(
            [np.stack([t[label].to_numpy(), t[coarse].to_numpy()]) for t in tables], axis=1
        )
        fine, above = pairs[:, (pairs[0] >= 0) & (pairs[0] < count)]
        assigned = np.full(count, -1)
        assigned[fine] = above
        determined = bool((assigned[fine] == above).all() and (assigned >= 0).all())
        return tuple(assigned.tolist()) if determined else None


def _label_column(classes: dict[str, tuple[str, ...]]) -> str:
    """The column of the labels: by its name, else the one with the most classes."""
    for usual in ("label", "fine_label"):
        if usual in classes:
            return usual
    return max(classes, key=lambda column: len(classes[column]))


def _hub_features(file: Path) -> dict[str, Any]:
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        metadata = read_schema(file).metadata or {}
    except (OSError, ArrowException) as error:
        raise InputError(f"{file} is no readable parquet file; fetch it again") from error
    if b"huggingface" not in metadata:
        raise InputError(
            f"{file} lacks the hub's description of its columns; write it with datasets.to_parquet"
        )
    features: dict[str, Any] = json.loads(metadata[b"huggingface"])["info"]["features"]
    return features


def _read(file: Path, columns: list[str | None]) -> Any:
    """A pyarrow table of the columns that are not None."""
    from pyarrow.parquet import read_table

    return read_table(file, columns=[column for column in columns if column is not None])
