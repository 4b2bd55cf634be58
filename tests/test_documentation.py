"""The commands in README, docs and scripts are those of the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from nodelens.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "scripts").glob("*.sh"))]
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}


def calls(path: Path) -> list[tuple[str, list[str]]]:
    """The command and the options of every call in a script, or in the code of a page."""
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    if path.suffix == ".md":
        blocks = re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)
        spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
        text = "\n".join([*blocks, *(" ".join(span.split()) for span in spans)])
    text = re.sub(r"(?<!\S)#.*", "", text)
    call = r'\$\{nodelens\[@\]\}" (\S+)([^;|\n]*)' if path.suffix == ".sh" else r"(?<!\S)nodelens (\S+)([^;|\n]*)"
    return [(name, re.findall(r"(?<!\S)--[a-z][a-z-]*", rest)) for name, rest in re.findall(call, text)]


@pytest.mark.parametrize("path", list(filter(calls, PAGES)), ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_and_their_options_exist(path: Path) -> None:
    for name, options in calls(path):
        assert name in OPTIONS, f"nodelens {name}"
        assert set(options) <= OPTIONS[name], f"nodelens {name}"


def test_there_are_commands() -> None:
    found = [options for path in PAGES for _, options in calls(path)]
    assert len(found) > 80
    assert sum(map(len, found)) > 250
