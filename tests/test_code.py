"""The code itself: lint, format, types."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

NOTEBOOK = "nodelens.report.notebook"
"""The one thing above that those below ask for: what a notebook shows of them, when it does."""


@pytest.mark.parametrize(
    "command", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=["lint", "format", "types"]
)
def test_code_is_clean(command: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rooms_use_only_those_below_them() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = re.findall(r"^(\w+)/ ", page.split("```")[1], re.MULTILINE)
    source = ROOT / "src" / "nodelens"
    assert set(rooms) == {path.parent.name for path in source.glob("*/__init__.py")}
    bottom = len(rooms)  # of modules that are in no room: they use each other
    upward = []
    for path in source.glob("**/*.py"):
        room, *within = path.relative_to(source).parts
        floor = rooms.index(room) if within else bottom
        for module in _imported(path):
            above = rooms.index(module) if module in rooms else bottom
            if above < floor and path.stem != "__main__":
                upward.append(f"{path.relative_to(source)} uses {module}/")
    assert not upward


def _imported(path: Path) -> set[str]:
    """The parts of the package that a file imports, at its beginning or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    shown = {name for name in found if name.startswith(NOTEBOOK)}
    return {name.split(".")[1] for name in found - shown if name.startswith("nodelens.")}
