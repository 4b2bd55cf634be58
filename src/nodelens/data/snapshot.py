"""Files of a repository on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from nodelens.errors import InputError


def snapshot(
    name: str,
    kind: Literal["dataset", "model"],
    patterns: Sequence[str],
    *,
    revision: str = "main",
    unknown: str,
    otherwise: str,
) -> Path:
    """The folder of a repository's files, fetched once; without a network, those fetched before.

    Args:
        patterns: which of its files.
        unknown: what is said where there is none of that name.
        otherwise: what can be done where it cannot be fetched, but for connecting to the network.

    Raises:
        InputError: either is so.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, repo_type=kind, revision=revision, allow_patterns=list(patterns)))
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise InputError(unknown) from error
    except Exception as error:  # the client lets errors of several network libraries through
        raise InputError(
            f"{name!r} cannot be fetched from the hub ({type(error).__name__}); connect to the network or {otherwise}"
        ) from error
