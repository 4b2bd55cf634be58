"""Tables that a run directory holds, read back to be shown."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from nodelens.errors import InputError
from nodelens.report.tables import PERMUTED, TABLE1, TABLE2, UNTRAINED, Row, TextTable, statistics_table

SHOWN_ROWS = 60
"""A table without a form of its own is shown up to so many rows; the file has all."""

WORDS = frozenset({"site", "layer", "of", "name", "superclass", "split", "method"})
"""Columns of names, which stay text even where a name is a number."""


@dataclass(frozen=True)
class ShownTable:
    """A table as the page shows it: text cells, `words` columns of words first, the nulls' lines marked."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int
    file: str
    more: int = 0

    def is_null(self, row: Sequence[str]) -> bool:
        """Whether a line shows what chance gives."""
        return any(cell in (PERMUTED, UNTRAINED) for cell in row[: self.words])


def stored_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a CSV file: numbers as floats, but for those in columns of `WORDS`.

    Raises:
        InputError: the file is damaged.
    """
    try:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is damaged ({error}); delete it and run the command that wrote it again") from error
    if any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path} is damaged (a line is cut off); delete it and run the command that wrote it again")
    return [{key: value if key in WORDS else _number(value) for key, value in row.items()} for row in rows]


def table_names(folder: Path) -> list[str]:
    """Names of the tables that are shown: what is drawn as a figure, and what another table sums up, is not."""
    found = {path.name.removesuffix(path.suffix) for path in folder.glob("*") if path.suffix in (".csv", ".md")}
    hidden = {name for name in found if name.split(".")[0] == "sweep"}
    hidden |= {name for name in found if name.startswith("statistics.") and f"table1.{name.split('.')[1]}" in found}
    hidden |= {"prune"} if "prune.accuracy" in found else set()
    # Figs. 7 and 10 and a table show these rows, one per label or ratio.
    hidden |= {name for name in found if name.startswith(("heads.labels.", "heads.ratio.", "heads.silenced.labels."))}
    return sorted(found - hidden)


def digits_of(folder: Path, name: str) -> str:
    """The file with all digits of a table: its own rows, or those that it sums up; without either the table itself."""
    parts = name.split(".")
    files = [".".join(parts[:end]) + ".csv" for end in range(len(parts), 0, -1)]
    return next((file for file in files if (folder / file).exists()), f"{name}.md")


def shown_tables(folder: Path, name: str, called: str = "tables") -> list[ShownTable]:
    """The tables that `name`.csv (or `name`.md, its form for readers) is shown as.

    Args:
        called: the folder as seen from the run directory.

    Raises:
        InputError: the file is damaged.
    """
    page, file = folder / f"{name}.md", f"{called}/{digits_of(folder, name)}"
    if page.exists():
        return [_from_markdown(page, file)]
    rows = stored_rows(folder / f"{name}.csv")
    if not rows:
        return []
    if name.startswith("statistics."):
        return [shown_text(table, file) for table in _statistics(rows)]
    return [_plain(rows, name, file)]


def _statistics(rows: Sequence[Mapping[str, Any]]) -> list[TextTable]:
    """The statistics behind each block in the form of Tables 1 and 2; of all sites where no block has an output."""
    try:
        first = rows[0]
        how = f"{first['split']} split, threshold {first['threshold']:g}, {first['method']} clusters"
        outputs = block_outputs(rows)
        return [
            statistics_table(outputs, TABLE1, f"Clusters, diagonal and noise per node ({how})"),
            statistics_table(outputs, TABLE2, f"Signal and noise per label ({how})"),
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the statistics of the run are damaged ({error!r}); run `nodelens measure` again") from error


def block_outputs(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
    """The rows of the sites behind each block; all rows where no block has an output."""
    return [dict(row) for row in rows if str(row["site"]).endswith(".linear2")] or [dict(row) for row in rows]


def shown_text(table: TextTable, file: str) -> ShownTable:
    """A table of the terminal as the page shows it."""
    lines = tuple(line for group in table.groups for line in group)
    return ShownTable(table.title, table.headings, lines, table.names, file)


def _from_markdown(path: Path, file: str) -> ShownTable:
    lines = path.read_text(errors="replace").splitlines()
    table = [_cells(line) for line in lines if line.startswith("|")]
    title = next((line.strip("* ") for line in lines if line.startswith("**")), path.stem)
    if len(table) < 2 or len({len(line) for line in table}) > 1:
        raise InputError(f"{path} is damaged (no table); delete it and run the command that wrote it again")
    headings, rules, *rows = table
    words = next((i for i, rule in enumerate(rules) if rule.endswith("-:")), len(rules))
    return ShownTable(title, headings, tuple(rows), words, file)


def _cells(line: str) -> tuple[str, ...]:
    r"""The cells of a line of a table in Markdown.

    >>> _cells(r"| head | mean \|r\| |")
    ('head', 'mean |r|')
    """
    return tuple(cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1])


def _plain(rows: Sequence[Mapping[str, Any]], name: str, file: str) -> ShownTable:
    """Any other table, columns as they are, called by words; what stays the same from row to row is not repeated."""
    columns = [key for key in rows[0] if not key.endswith("_std")]
    words = len(list(takewhile(lambda key: isinstance(rows[0][key], str), columns)))
    cells = tuple(tuple(_cell(row[key]) for key in columns) for row in rows[:SHOWN_ROWS])
    headings = tuple(key.replace("_", " ") for key in columns)
    return ShownTable(name, headings, cells, words, file, max(0, len(rows) - SHOWN_ROWS))


def _cell(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
