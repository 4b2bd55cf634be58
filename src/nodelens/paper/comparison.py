"""The paper's numbers beside ours: which block stands for which, and the lines of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nodelens.heads.study import HeadStudy
from nodelens.networks import Site
from nodelens.paper import values
from nodelens.report.heads import how
from nodelens.report.tables import Row, TextTable, rounded


def paired(study: HeadStudy, published: Mapping[int, object]) -> list[tuple[int, Site]]:
    """The paper's blocks with ours at the same distance from the last, the last first."""
    last = study.sites[-1].block
    ours = {site.block + values.BLOCKS - last: site for site in study.sites}
    return [(block, ours[block]) for block in sorted(published, reverse=True) if block in ours]


def place(index: int) -> str:
    """What the head at this place is called: the one with most labels is the first."""
    return f"{index + 1}{('st', 'nd', 'rd')[index] if index < 3 else 'th'}"


def table_of(study: HeadStudy, title: str, headings: Sequence[str]) -> TextTable:
    known = len(study.data.label_names)
    return TextTable(f"{title} ({known} labels, {how(study)})", (headings[0], "", *headings[1:]))


def lines_of(paper: Row, ours: Row, chance: Row | None = None, *, called: str = "by chance") -> list[Row]:
    """Paper, ours, the difference, and what chance gives; a cell is empty where there is no number.

    Args:
        called: what the line of chance is called.
        ours: `<name>_std` is the spread over the seeds, which goes into the file and not into the table.
    """
    names = list(dict.fromkeys([*ours, *paper]))
    difference = {name: ours[name] - paper[name] for name in names if name in ours and name in paper}
    lines = {"paper": paper, "ours": ours, "difference": difference}
    if chance is not None:
        lines[called] = chance
    return [{"of": of, **{name: line.get(name, "") for name in names}} for of, line in lines.items()]


def cells(line: Row) -> list[str]:
    """The line's numbers as text, after what it is of."""
    signed = line["of"] == "difference"
    return [line["of"], *(_number(line[name], signed) for name in line if name != "of" and not name.endswith("_std"))]


def _number(value: float | int | str, signed: bool) -> str:
    if isinstance(value, str) or value != value:
        return ""
    return f"{value:+.3g}" if signed else f"{value:.3g}"


def write_comparison(study: HeadStudy, name: str, rows: Sequence[Row], table: TextTable) -> TextTable:
    name = f"{name}.{study.settings.split}"
    study.run.write_table(name, rounded(rows))
    study.run.write_text(f"tables/{name}.md", table.markdown())
    return table
