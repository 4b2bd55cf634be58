"""Which versions of what a result was made with."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from nodelens import __version__


def versions() -> dict[str, str]:
    """What a result depends on besides its configuration."""
    others = {name: _version(name) for name in ("torch", "torchvision", "numpy")}
    return {"python": platform.python_version(), "nodelens": __version__, **others}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "unknown"


def source_commit() -> str | None:
    """The commit of the checkout that this package runs from, if it runs from one, and whether it was changed since."""
    try:
        # A package installed inside somebody else's repository is not of their commit.
        _git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = _git("status", "--porcelain", "--", ".")
        return _git("rev-parse", "HEAD") + " with changes" * bool(changed)
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*command: str) -> str:
    # Without locks: another command may look at the same checkout.
    asked = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *command]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
