"""One page about a run that opens from disk: summary, explorer, the paper's tables and figures.

Everything is inside it, and it asks nothing of anyone: its own policy forbids every request.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from nodelens import __version__
from nodelens.data import ImageSet
from nodelens.errors import InputError
from nodelens.files import write_atomically
from nodelens.probing import MEASURED
from nodelens.processes import by_first
from nodelens.report.compared import compared_table
from nodelens.report.excitation import add_excitation
from nodelens.report.explored import describe_networks, explored_networks, opening_split, run_name
from nodelens.report.factors import FACTOR_BYTES, Factors
from nodelens.report.places import COMPARED, ELSEWHERE, PLACES, Place, place_of
from nodelens.report.stored import ShownTable, shown_tables, table_names
from nodelens.report.thumbnails import label_thumbnails, samples_of
from nodelens.runs import RunDirectory

HERE = Path(__file__).parent
FIGURES = {".svg": "image/svg+xml", ".png": "image/png"}
ENDINGS = {".svg": b"</svg>", ".png": b"IEND\xaeB`\x82"}
"""With what a whole file ends."""


PAGE_BYTES = 24_500_000
"""A page is no larger; what its tables and figures take, the nodes cannot."""

SVG_BYTES = 400_000
"""A larger drawing is shown as pixels where those are at hand: thousands of marks draw slowly."""

STUDIES = ("prune", "heads", "flowers102")
"""Where studies of a run lie inside of it: run directories, or folders of them."""


@dataclass(frozen=True)
class Section:
    """A place of the page with what one run has for it; `figures` are (name, data address)."""

    place: Place
    run: str
    tables: list[ShownTable]
    figures: list[tuple[str, str]]

    @property
    def anchor(self) -> str:
        """The section's address in the page."""
        return re.sub(r"[\s/]+", "-", "-".join(filter(None, (anchor_of(self.place), self.run))))


@by_first
def write_report(
    runs: Sequence[RunDirectory], out: Path | None = None, split: str | None = None, images: bool = True
) -> Path:
    """Write the page about one run, or several side by side.

    Args:
        out: file to write; by default `report.html` in the first run.
        split: which measured images the explorer opens with; by default the test images, as in the paper.
        images: show thumbnails where the data set is at hand.

    Raises:
        InputError: a run does not exist, holds nothing to show, or is damaged.
    """
    for run in runs:
        _check_run(run)
    networks = explored_networks(runs)
    opening = opening_split(networks, split)
    own = {one.name: one.run for one in networks if one.folder == MEASURED}
    of_runs = [section for run in runs for section in _sections(run, run_name(run, runs) if len(runs) > 1 else "")]
    sections = [*_compared(own, opening), *sorted(of_runs, key=_order)]
    factors = Factors(max(0, min(FACTOR_BYTES, PAGE_BYTES - _size(sections))))
    described = describe_networks(networks, opening, factors)
    opens = [network["name"] for network in described if network["name"] in own][:2]
    explorer: dict[str, Any] = {"networks": described, "opens": opens, "thumbnails": None}
    if images and described:
        explorer["thumbnails"] = _add_images(own, described, opening)
    path = out or runs[0].path / "report.html"
    write_atomically(path, _render(runs, sections, explorer, factors).encode())
    return path


def _size(sections: Sequence[Section]) -> int:
    return sum(len(address) for section in sections for _, address in section.figures)


def _add_images(
    runs: Mapping[str, RunDirectory], described: Sequence[dict[str, Any]], split: str
) -> dict[str, Any] | None:
    """Thumbnails of the first network's labels; every trained network gets what excites its nodes."""
    pictures = None
    for network in described:
        if network["name"] in runs and (shown := samples_of(runs[network["name"]], split)):
            add_excitation(runs[network["name"]], shown, network)
            if network is described[0] and isinstance(shown, ImageSet):
                pictures = label_thumbnails(shown, network["labels"])
    return pictures


def _check_run(run: RunDirectory) -> None:
    if not run.path.is_dir():
        raise InputError(f"there is no run directory {run.path}; `nodelens quickstart` makes one")
    known = ("config.json", MEASURED, "tables", "figures")
    if not any((run.path / name).exists() for name in known):
        raise InputError(f"{run.path} is no run directory: it holds neither {', '.join(known[:-1])} nor {known[-1]}")


def _render(
    runs: Sequence[RunDirectory], sections: Sequence[Section], explorer: Mapping[str, Any], factors: Factors
) -> str:
    contents = _contents(sections)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((HERE / name).read_text() for name in ("page.css", "explorer/explorer.js"))
    names = [run_name(run, runs) for run in runs]
    return environment.get_template("page.html.j2").render(
        title=" beside ".join(names),
        # Written by this package, not by a user: marked as safe, and named by their hashes in the page's policy.
        style=Markup(style),
        script=Markup(script),
        style_hash=_hash(style),
        script_hash=_hash(script),
        facts=[(name, _facts(run)) for name, run in zip(names, runs, strict=True)],
        sections=sections,
        contents=contents,
        missing=sorted({entry.command for entry in contents if not entry.anchor}),
        page_megabytes=f"{PAGE_BYTES / 1e6:.0f}",
        explorer=explorer,
        factors=factors,
        version=__version__,
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _facts(run: RunDirectory) -> dict[str, str]:
    """What the run says of itself: the network, its data, its accuracy, how it was measured."""
    sections = run.configuration()
    train, measure = (sections.get(command, {}).get("settings", {}) for command in ("train", "measure"))
    events = run.events("train")
    data = (measure or train).get("data", {})
    seeds = measure.get("probe", {}).get("seeds", [])
    found = {
        "network": train.get("network"),
        "data": data.get("name"),
        "trained for": f"{events[-1]['epoch']} epochs" if events and "epoch" in events[-1] else None,
        "test accuracy": f"{events[-1]['test_accuracy']:.4f}" if events and "test_accuracy" in events[-1] else None,
        "probe seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})" if seeds else None,
        "probes learned": f"{measure['training_split']} split" if "training_split" in measure else None,
    }
    return {key: str(value) for key, value in found.items() if value}


@dataclass(frozen=True)
class Entry:
    """A line of the contents: a table or figure of the paper, the section that holds it, what makes it otherwise."""

    name: str
    anchor: str
    command: str


def _contents(sections: Sequence[Section]) -> list[Entry]:
    """The paper's tables and figures in the order of the page; no anchor where no run has them."""
    held = {section.place.title: section.anchor for section in reversed(sections)}
    return [Entry(name, held.get(place.title, ""), place.command) for place in PLACES for name in place.paper]


def anchor_of(place: Place) -> str:
    """The place's address in the page.

    >>> anchor_of(PLACES[2])
    'figure-3'
    """
    return (place.paper[0] if place.paper else place.title).lower().replace(" ", "-")


def _compared(runs: Mapping[str, RunDirectory], split: str) -> list[Section]:
    table = compared_table(runs, split) if len(runs) > 1 else None
    return [Section(COMPARED, "", [table], [])] if table else []


def _order(section: Section) -> int:
    """Place by place: what several runs have for one stands together."""
    return (*PLACES, ELSEWHERE).index(section.place)


def _sections(run: RunDirectory, of_run: str) -> list[Section]:
    tables, figures = _stored(run, "tables", table_names), _stored(run, "figures", _figures)
    found = []
    for place in (*PLACES, ELSEWHERE):
        here = [(folder, name) for folder, name in tables if place_of(name) is place]
        shown = _told_apart(
            (folder.parent.name, table)
            for folder, name in here
            for table in shown_tables(run.path / folder, name, called=folder.as_posix())
        )
        drawn: dict[str, str] = {}
        for folder, name in figures:
            if place_of(name) is place:
                # What `heads` and `reproduce` draw alike is shown once.
                drawn.setdefault(_address(run.path / folder, name), (folder / name).as_posix())
        if shown or drawn:
            found.append(Section(place, of_run, shown, [(name, address) for address, name in drawn.items()]))
    return found


def _told_apart(tables: Iterable[tuple[str, ShownTable]]) -> list[ShownTable]:
    """Tables with the study that each is of; where there are several studies, their tables' titles begin with them."""
    found = list(tables)
    several = len({study for study, _ in found if study}) > 1
    return [replace(table, title=f"{study}: {table.title}") if study and several else table for study, table in found]


def _stored(run: RunDirectory, kind: str, names: Callable[[Path], Sequence[str]]) -> list[tuple[Path, str]]:
    """What the run and the studies inside of it have in their folders of tables or figures: (folder, name)."""
    nested = [
        path for study in STUDIES for depth in ("", "*/") for path in sorted(run.path.glob(f"{study}/{depth}{kind}"))
    ]
    folders = [path.relative_to(run.path) for path in (run.path / kind, *nested)]
    return [(folder, name) for folder in folders for name in names(run.path / folder)]


def _figures(folder: Path) -> list[str]:
    return sorted({path.name.removesuffix(path.suffix) for path in folder.glob("*") if path.suffix in FIGURES})


def _address(folder: Path, name: str) -> str:
    """A figure inside the page: the SVG, or the PNG where there is no other or it is much smaller."""
    drawn, pixels = folder / f"{name}.svg", folder / f"{name}.png"
    path = pixels if pixels.exists() and (not drawn.exists() or drawn.stat().st_size > SVG_BYTES) else drawn
    content = path.read_bytes()
    if not content.rstrip().endswith(ENDINGS[path.suffix]):
        raise InputError(f"{path} is damaged (it is cut off); delete it and run the command that wrote it again")
    return f"data:{FIGURES[path.suffix]};base64,{base64.b64encode(content).decode()}"
