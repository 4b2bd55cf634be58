"""Parquet files in the hub's layout."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from nodelens.data.pixels import EncodedImage
from nodelens.data.sources import LabelColumn, file_hash, file_stamp, hashed, readable
from nodelens.errors import InputError

# Encoded images in memory at a time.
BATCH = 256
STRINGS = ("string", "large_string")


@dataclass(frozen=True)
class Parquet:
    """Parquet files in the hub's layout: a column of images or of texts, and a ClassLabel column.

    pyarrow reads them rather than `datasets`: it starts sooner and writes no second copy of the files.

    Attributes:
        files: those with rows of the split.
        all_files: those of every split; the super-class of a label is looked up in all of them.
        split_column: column whose value tells the split of a row; None when the files do.
        kind: what a row holds.
    """

    name: str
    split: str
    files: tuple[Path, ...]
    all_files: tuple[Path, ...]
    split_column: str | None = None
    kind: Literal["image", "text"] = "image"
    mode: str = field(default="RGB", init=False)

    def stamp(self) -> str:
        return file_stamp(self.all_files, self.split, self.split_column)

    def content(self) -> str:
        rows = (self.split_column, self.split if self.split_column else None)
        return hashed([rows, *(file_hash(file) for file in self.files)])

    def labels(self) -> LabelColumn:
        classes = self._class_columns()
        label = _label_column(classes)
        values = self._label_values(label, len(classes[label]))
        superclasses = self._superclasses(label, classes)
        return LabelColumn(values, classes[label], *superclasses)

    def images(self) -> Iterator[EncodedImage]:
        column = self._content_column()
        for file in self.files:
            for row, image in self._rows(file, column):
                yield EncodedImage(f"{file.name} row {row}", (image or {}).get("bytes") or b"")

    def texts(self) -> list[str]:
        """The texts, in order.

        Raises:
            InputError: a row without a text.
        """
        column = self._content_column()
        found = [(file, row, text) for file in self.files for row, text in self._rows(file, column)]
        missing = [f"{file.name} row {row}" for file, row, text in found if not (text and text.strip())]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(found)} rows of {self.name} ({self.split}) hold no text in column {column!r} "
                f"(first: {missing[0]}); leave them out"
            )
        return [text for _, _, text in found]

    def _rows(self, file: Path, column: str) -> Iterator[tuple[int, Any]]:
        """Row number and value of a column for every row of the split."""
        columns = [column, self.split_column] if self.split_column else [column]
        start = 0
        with _sound(file):
            for batch in _opened(file).iter_batches(BATCH, columns=columns):
                for position in np.flatnonzero(self._in_split(batch)).tolist():
                    yield start + position, batch[column][position].as_py()
                start += len(batch)

    def _in_split(self, rows: Any) -> np.ndarray:
        """Which rows of a pyarrow table or batch belong to the split."""
        if self.split_column is None:
            return np.ones(len(rows), dtype=bool)
        return np.array([value == self.split for value in rows[self.split_column].to_pylist()], dtype=bool)

    @cached_property
    def _features(self) -> dict[str, Any]:
        """The hub's description of every column; the same in all files."""
        described = [_hub_features(file) for file in self.all_files]
        if any(features != described[0] for features in described):
            raise InputError(f"the parquet files of {self.name} differ in columns or label names; keep one kind")
        if self.split_column is not None and self.split_column not in described[0]:
            raise InputError(f"{self.name} needs a column {self.split_column!r} in its files; leave out the suffix")
        return described[0]

    def _content_column(self) -> str:
        """The column of what is classified: the first with images, or with texts."""
        features = self._features
        of = {
            "image": [column for column, feature in features.items() if feature.get("_type") == "Image"],
            "text": [column for column, feature in features.items() if feature.get("dtype") in STRINGS],
        }
        for column in of[self.kind]:
            return column
        other = "text" if self.kind == "image" else "image"
        has = f"{'an' if other == 'image' else 'a'} {other} data set" if of[other] else f"no {self.kind} data set"
        wanted = "an Image column" if self.kind == "image" else "a column of strings"
        raise InputError(f"{self.name} is {has} (columns: {', '.join(features)}); give one with {wanted}")

    def _class_columns(self) -> dict[str, tuple[str, ...]]:
        """Label names of every ClassLabel column."""
        self._content_column()
        features = self._features.items()
        classes = {column: tuple(f["names"]) for column, f in features if f.get("_type") == "ClassLabel"}
        if not classes:
            raise InputError(f"{self.name} has no ClassLabel column; cast its labels with datasets.ClassLabel")
        return classes

    def _label_values(self, column: str, count: int) -> Int64[np.ndarray, " image"]:
        tables = [_read(file, [column, self.split_column]) for file in self.files]
        kept = [table[column].filter(self._in_split(table)) for table in tables]
        labels = [label for chunk in kept for label in chunk.to_pylist()]
        wrong = sum(label is None or not 0 <= label < count for label in labels)
        if wrong:
            raise InputError(
                f"{wrong} of {len(labels)} rows in {self.name} ({self.split}) have no label "
                f"in 0..{count - 1}; correct column {column!r} or choose another split"
            )
        if not labels and self.split_column:
            self._raise_unknown_split(self.split_column)
        return np.array(labels, dtype=np.int64)

    def _raise_unknown_split(self, column: str) -> None:
        found = {value for file in self.files for value in _read(file, [column])[column].to_pylist()}
        splits = ", ".join(sorted(str(value) for value in found))
        raise InputError(f"{self.name} has no split {self.split!r}: choose one of {splits}")

    def _superclasses(self, label: str, classes: dict[str, tuple[str, ...]]) -> tuple[tuple[str, ...], tuple[int, ...]]:
        """Names and assignment of the first coarser column that every label determines; empty without one."""
        for column, names in classes.items():
            if len(names) < len(classes[label]):
                assignment = self._assignment(label, column, len(classes[label]))
                if assignment is not None:
                    return names, assignment
        return (), ()

    def _assignment(self, label: str, coarse: str, count: int) -> tuple[int, ...] | None:
        tables = [_read(file, [label, coarse]).drop_null() for file in self.all_files]
        pairs = np.concatenate([np.stack([t[label].to_numpy(), t[coarse].to_numpy()]) for t in tables], axis=1)
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
    with _sound(file):
        metadata = _opened(file).schema_arrow.metadata or {}
    if b"huggingface" not in metadata:
        raise InputError(
            f"{file} lacks the hub's description of its columns; write it with datasets.Dataset.to_parquet"
        )
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{file}: the hub's description of its columns is damaged; fetch it again") from error
    return {column: feature if isinstance(feature, dict) else {} for column, feature in features}  # a list: of many


def _read(file: Path, columns: list[str | None]) -> Any:
    """A pyarrow table of the columns that are not None."""
    with _sound(file):
        return _opened(file).read([column for column in columns if column is not None])


def _opened(file: Path) -> Any:
    # Imported here, as a third of a second is more than loading decoded images takes.
    from pyarrow.parquet import ParquetFile

    return ParquetFile(file)


@contextmanager
def _sound(file: Path) -> Iterator[None]:
    """Turns a failure to read or to understand a parquet file into the InputError that names it."""
    from pyarrow import ArrowException

    try:
        with readable(file):
            yield
    except ArrowException as error:
        raise InputError(f"{file} is damaged or no parquet file; fetch it again") from error
