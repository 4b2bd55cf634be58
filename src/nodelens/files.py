"""Files: written to a temporary name and renamed, read with one sentence where they are missing or damaged.

Where several processes work together, the first one alone touches the disk; the others are told what it reads there.
"""

from __future__ import annotations

import errno
import io
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from nodelens.errors import InputError
from nodelens.processes import by_first, first_only


@first_only
def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name only ever holds all of the content.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    if not path.name:
        raise InputError(f"{path} is a folder; give a file")
    # A fixed name: what a killed write left is overwritten by the next one instead of piling up.
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise InputError(why_unwritable(path, error)) from error


@first_only
def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file; the same tensors and metadata give the same bytes.

    Raises:
        InputError: as `write_atomically`.
    """
    contiguous = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    write_atomically(path, with_sorted_metadata(save_safetensors(contiguous, dict(metadata or {}))))


def why_unwritable(path: Path, error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {path} was not written; free some space and run the command again"
    return f"{path} cannot be written ({error.strerror}); choose another folder"


@by_first
def read_json(path: Path) -> dict[str, Any]:
    """Parse a JSON file that nodelens wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist; is {path.parent} a run directory?") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({error}); restore it or start a new run directory") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (not a JSON object); restore it or start a new run directory")
    return content


@by_first
def read_tensors(path: Path) -> dict[str, Tensor]:
    """Load a safetensors file.

    Raises:
        InputError: the file is missing, truncated or not a safetensors file.
    """
    try:
        tensors = load_safetensors(path.read_bytes())  # load_file loses a little memory with every tensor
        return dict(sorted(tensors.items()))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(damaged(path, error)) from error


@by_first
def read_metadata(path: Path) -> dict[str, str]:
    """The text beside the tensors of a safetensors file.

    Raises:
        InputError: the file is missing, truncated or not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(damaged(path, error)) from error


def damaged(path: Path, error: Exception) -> str:
    return f"{path} is truncated or not a safetensors file ({error}); restore it, or delete it to have it made again"


def bytes_of(tensor: Tensor) -> bytes:
    """What a tensor holds, of any type, row after row.

    >>> bytes_of(torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8))
    b'\\x01\\x02\\x03\\x04'
    """
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


@by_first
def exists(path: Path) -> bool:
    """Whether there is such a file."""
    return path.exists()


@first_only
def remove(path: Path) -> None:
    """Delete a file, if there is one."""
    path.unlink(missing_ok=True)


def with_sorted_metadata(content: bytes) -> bytes:
    """A safetensors file whose metadata stand in order: the library writes them in another one every time.

    The same tensors and metadata then give the same bytes.
    """
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # the format asks that the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + content[start:]


@first_only
def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write what resuming needs (tensors, numbers, lists, dicts) in one atomic step."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())


@by_first
def load_state(path: Path) -> dict[str, Any] | None:
    """Read what `save_state` wrote; None when there is nothing to resume.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
    except Exception as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}); delete it to start over") from error
