"""Super-classes of labels from a file, for data sets that bring none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from nodelens.errors import InputError

NAMED = 5


def read_superclasses(path: Path, label_names: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Read a JSON file that maps each super-class to its labels: `{"trees": ["maple tree", "oak tree"], …}`.

    Returns:
        The names of the super-classes, and for each label an index into them.

    Raises:
        InputError: the file is missing or of another form, leaves out a label, names an unknown one or names
            one twice.
    """
    members = _members(path)
    placed = [label for labels in members.values() for label in labels]
    unknown = [label for label in dict.fromkeys(placed) if label not in set(label_names)]
    if unknown:
        raise InputError(f"{path} names labels that the data does not have: {_few(unknown)}")
    missing = [label for label in label_names if label not in set(placed)]
    if missing:
        raise InputError(f"{path} leaves out {len(missing)} of {len(label_names)} labels: {_few(missing)}")
    twice = [label for label in dict.fromkeys(placed) if placed.count(label) > 1]
    if twice:
        raise InputError(f"{path} names labels more than once: {_few(twice)}")
    index_of = {label: i for i, labels in enumerate(members.values()) for label in labels}
    return tuple(members), tuple(index_of[label] for label in label_names)


def _members(path: Path) -> dict[str, list[str]]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); give a JSON file of super-classes") from error
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error}); give a file of super-classes") from error
    if not isinstance(content, dict) or not content or not all(map(_are_names, content.values())):
        raise InputError(f'{path} is no map from super-classes to lists of labels; write {{"trees": ["oak tree"], …}}')
    return content


def _are_names(labels: object) -> bool:
    return isinstance(labels, list) and bool(labels) and all(isinstance(label, str) for label in labels)


def _few(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:NAMED])) + (", …" if len(labels) > NAMED else "")
