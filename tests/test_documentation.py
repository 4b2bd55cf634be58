"""The commands in README, docs and scripts are those of the command line, and their Python runs."""

from __future__ import annotations

import re
import runpy
from importlib import metadata
from pathlib import Path

import pytest
import torch
import typer
from torch import Tensor, nn

import nodelens as nl
from nodelens.cli import app
from nodelens.networks import CCT, stored
from nodelens.probing import MeasureSettings, load_probing_data, measure_network, study
from nodelens.provenance import versions
from nodelens.runs import RunDirectory

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


def test_the_version_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert metadata.version("nodelens") == nl.__version__
    assert f"\nversion: {nl.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    # Where the checkout is only put onto Python's path, nothing is installed by that name.
    monkeypatch.setattr(metadata.Distribution, "discover", lambda **_: iter(()))
    found = versions()
    assert (found["nodelens"], found["torch"]) == (nl.__version__, "unknown")


def test_there_are_commands() -> None:
    found = [options for path in PAGES for _, options in calls(path)]
    assert len(found) > 80
    assert sum(map(len, found)) > 250


class Stack(nn.Module):
    """Two blocks of two layers, `layer1.0` to `layer2.1`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU())
        self.head = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layer2(self.layer1(images)).mean(dim=(2, 3)))  # type: ignore[no-any-return]


class Reader(nn.Module):
    """Two layers of words, `encoder.layers.0` and `encoder.layers.1`."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.encoder = nn.Module()
        self.encoder.layers = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder.layers(self.words(tokens)).mean(dim=1))  # type: ignore[no-any-return]


def python_of(path: Path) -> str:
    """All Python of a page, one block after the other."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```", path.read_text(), re.M | re.S))


@pytest.mark.parametrize("path", list(filter(python_of, PAGES)), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_python_of_a_page_runs(path: Path, cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(study, "probe_epochs", lambda training: 1)
    run = RunDirectory(Path("runs/cct"))
    run.write_tensors("model.safetensors", *stored(cct))
    if "load_measurements" in python_of(path):
        settings = MeasureSettings(("block.2.linear2",), untrained=False)
        measure_network(cct, load_probing_data(cct, "digits", ["test"]), settings, run)
    # A network of two blocks and digits stand in for one of seven and CIFAR-100.
    smaller = {'"cifar100"': '"digits"', "block.7": "block.2", "zeros(2, 3, 32, 32)": "zeros(2, 1, 8, 8)"}
    code = python_of(path)
    for theirs, ours in smaller.items():
        code = code.replace(theirs, ours)
    labels = torch.arange(20) % 2
    tokens = torch.randint(0, 9, (20, 5))
    given: dict[str, object] = {
        **{"torch": torch, "network": nl.load_network("runs/cct")},
        **{"my_classifier": Stack(), "my_text_classifier": Reader(), "names": ("low", "high")},
        **{"train_tokens": tokens, "train_labels": labels, "test_tokens": tokens, "test_labels": labels},
    }
    if "measurement" in code:
        given["measurement"] = nl.measure(nl.load_network("runs/cct"), "digits", "block.2.*")
    exec(compile(code, str(path), "exec"), given)
    assert given.keys() & {"r", "pruned"}


def test_the_results_at_one_glance_are_those_of_the_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = ROOT / "docs" / "results"
    overview = runpy.run_path(str(ROOT / "scripts" / "results_overview.py"))
    overview["main"](results, tmp_path)
    assert capsys.readouterr().out in (results / "README.md").read_text()
    assert (tmp_path / "growth.png").stat().st_size > 10_000
