"""The command line, run in the tests' own process."""

import sys

import pytest

from nodelens.cli import main


def nodelens(*arguments: str) -> int:
    """Run a command in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["nodelens", *arguments])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
    return 0
