"""From the name that a user gives to the files it means."""

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from nodelens.data.parquet import Parquet
from nodelens.data.snapshot import snapshot
from nodelens.data.sources import ClassFolders, Digits, Source
from nodelens.errors import InputError

HUB_IDS = {"cifar100": "uoft-cs/cifar100", "flowers102": "dpdl-benchmark/oxford_flowers102"}
IMAGE_NAMES = ("digits", *HUB_IDS)
TEXT_NAMES = ("clinc150",)
SPLIT_NAMES = ("train", "validation", "valid", "val", "dev", "test")
SPLIT_COLUMN_OF_SUFFIX = {":cct": "cct_split"}
IMAGE_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"))


def find_source(name: str, split: str) -> Source:
    """The files of one split.

    A plain name is looked up in the folder NODELENS_DATA, then on the hub, then as a path.

    Args:
        name: digits, cifar100, flowers102, flowers102:cct (the split of its column `cct_split`), a folder
            of class folders or of parquet files in the hub's layout, or hf:org/name.
        split: one of the data set's own splits.

    Raises:
        InputError: nothing has this name, or it has no such split, or the split is empty.
    """
    if name == "digits":
        return Digits(_chosen(("train", "test"), split, name))
    if name in TEXT_NAMES:
        raise InputError(f"{name} is a text data set; for images choose {', '.join(IMAGE_NAMES)} or a folder")
    suffix = next((suffix for suffix in SPLIT_COLUMN_OF_SUFFIX if name.endswith(suffix)), "")
    location = _location(name.removesuffix(suffix), IMAGE_NAMES, "of class folders or parquet files")
    parquet = _parquet_files(location)
    if parquet:
        return _parquet_source(name, split, parquet, SPLIT_COLUMN_OF_SUFFIX.get(suffix))
    return _class_folders(name, location, split)


def find_texts(name: str, split: str) -> Parquet:
    """The files of one split of texts.

    Args:
        name: clinc150 or another copy in the folder NODELENS_DATA, a folder of parquet files in the hub's layout, or
            hf:org/name.
        split: one of the data set's own splits.

    Raises:
        InputError: nothing has this name, or it holds no parquet files, or has no such split.
    """
    if name in IMAGE_NAMES:
        raise InputError(f"{name} is an image data set; for texts choose {', '.join(TEXT_NAMES)} or a folder")
    location = _location(name, TEXT_NAMES, "of parquet files")
    parquet = _parquet_files(location)
    if not parquet:
        raise InputError(f"{name} holds no parquet files; write its texts and labels with datasets.Dataset.to_parquet")
    return replace(_parquet_source(name, split, parquet, None), kind="text")


def is_at_hand(name: str) -> bool:
    """Whether a data set is found without asking the hub.

    >>> is_at_hand("digits"), is_at_hand("hf:org/name")
    (True, False)
    """
    plain = name.partition(":")[0]
    return name == "digits" or _local_copy(plain) is not None or (plain not in HUB_IDS and Path(plain).exists())


def _local_copy(name: str) -> Path | None:
    copies = os.environ.get("NODELENS_DATA")
    local = Path(copies).expanduser() / name if copies and name else None
    return local if local is not None and Path(name).name == name and local.exists() else None


def _location(name: str, known: Sequence[str], folders: str) -> Path:
    """Where a data set lies; `known` and `folders` are what else could have been given."""
    if name.startswith("hf:"):
        return _from_hub(name.removeprefix("hf:"))
    local = _local_copy(name)
    if local is not None:
        return local
    if name in HUB_IDS:
        return _from_hub(HUB_IDS[name])
    if name and Path(name).expanduser().exists():
        return Path(name).expanduser()
    if name in TEXT_NAMES:
        raise InputError(f"{name} is not here; put its parquet files into a folder of that name in NODELENS_DATA")
    copies = os.environ.get("NODELENS_DATA")
    nowhere = (
        f"; NODELENS_DATA names {copies}, where no folder is"
        if copies and not Path(copies).expanduser().is_dir()
        else ""
    )
    raise InputError(
        f"there is no data set {name!r}: known are {', '.join(known)}, and a folder {folders} or hf:org/name will "
        f"do{nowhere}"
    )


def _from_hub(hub_id: str) -> Path:
    """The folder of the hub's parquet files, fetched once; without a network, the copy fetched before."""
    # The hub keeps a parquet copy of data sets in other formats in a branch of its own.
    for revision in ("main", "refs/convert/parquet"):
        folder = snapshot(
            hub_id,
            "dataset",
            ["*.parquet"],
            revision=revision,
            unknown=f"the hub has no data set {hub_id!r} that you may read; check the name",
            otherwise="put a copy into the folder that NODELENS_DATA names",
        )
        if _parquet_files(folder):
            return folder
    raise InputError(f"{hub_id!r} has no parquet files on the hub; download it and give its folder")


def _chosen(splits: Collection[str], split: str, name: str) -> str:
    if split not in splits:
        raise InputError(f"{name} has no split {split!r}: choose one of {', '.join(splits)}")
    return split


def _parquet_files(location: Path) -> tuple[Path, ...]:
    """Parquet files at most two folders deep: the deepest that the hub's layouts go."""
    if location.is_file():
        return (location,) if location.suffix == ".parquet" else ()
    files = [file for depth in ("", "*/", "*/*/") for file in location.glob(f"{depth}*.parquet")]
    hidden = (any(part.startswith(".") for part in file.relative_to(location).parts) for file in files)
    return tuple(sorted(file for file, out_of_sight in zip(files, hidden, strict=True) if not out_of_sight))


def _parquet_source(name: str, split: str, files: tuple[Path, ...], column: str | None) -> Parquet:
    configurations = sorted({str(_configuration(file)) for file in files})
    if len(configurations) > 1:
        raise InputError(f"{name} holds several data sets; give the folder of one: {', '.join(configurations)}")
    if column is not None:
        return Parquet(name, split, files, files, column)
    of_split: dict[str, list[Path]] = {}
    for file in files:
        of_split.setdefault(_split_of(file), []).append(file)
    chosen = of_split[_chosen(of_split, split, name)]
    return Parquet(name, split, tuple(chosen), files)


def _configuration(file: Path) -> Path:
    """The folder that a parquet file's data set fills: above the folder of a split."""
    return file.parent.parent if file.parent.name in SPLIT_NAMES else file.parent


def _split_of(file: Path) -> str:
    """The split in the name of a file or of its folder, by the hub's conventions."""
    numbered = re.fullmatch(r"(.+)-\d{5}-of-\d{5}", file.stem)
    if numbered:
        return numbered[1]
    for word in (file.stem, file.parent.name):
        leading = re.match(rf"({'|'.join(SPLIT_NAMES)})(?![A-Za-z])", word)
        if leading:
            return leading[1]
    return "train"


def _class_folders(name: str, location: Path, split: str) -> ClassFolders:
    roots = _split_folders(location)
    root = roots[_chosen(roots, split, name)]
    classes = sorted({folder.name for other in roots.values() for folder in _subfolders(other)})
    files = tuple(file for folder in _subfolders(root) for file in _image_files(folder))
    if not files:
        raise InputError(f"{name} ({split}) is empty: put parquet files or class folders with images into {root}")
    return ClassFolders(name, split, root, files, tuple(classes))


def _split_folders(location: Path) -> dict[str, Path]:
    """Folder of each split; a folder without split folders is all train."""
    splits = {folder.name: folder for folder in _subfolders(location) if folder.name in SPLIT_NAMES}
    return splits if any(_subfolders(folder) for folder in splits.values()) else {"train": location}


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _image_files(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if not path.name.startswith("."))
    return sorted(path for path in files if path.suffix.lower() in IMAGE_SUFFIXES)
