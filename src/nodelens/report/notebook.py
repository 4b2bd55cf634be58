"""What a notebook shows of a measurement, of a site's statistics and of the heads' labels: a table and a picture."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence

import torch
from markupsafe import Markup
from matplotlib.figure import Figure

from nodelens.measures import STATISTICS, HeadSpecialization, SiteStatistics
from nodelens.probing import Measurement
from nodelens.probing.measure import COLUMNS
from nodelens.report.figures import label_figure, svg_of
from nodelens.report.growth import growth_figure
from nodelens.report.head_figures import head_label_figure
from nodelens.report.head_tables import NOBODY, label_order
from nodelens.report.tables import Row, statistics_rows


def measurement_html(measured: Measurement) -> str:
    """Accuracy and statistics of every site, and how they grow along the network where there are several."""
    rows = statistics_rows({"network": [measured]}, permutations=0)
    cells = [(row["site"], *(f"{row[name]:.3g}" for name in COLUMNS)) for row in rows]
    shown = _table(measured.caption(), ("site", *COLUMNS), cells)
    return shown + _picture(growth_figure(rows)) if len(measured) > 1 else shown


def statistics_html(statistics: SiteStatistics) -> str:
    """Every scalar statistic, and how evenly the labels are known (Fig. 4)."""
    rows = [(STATISTICS[name], f"{value:.4g}") for name, value in statistics.scalars().items()]
    labels = [str(label) for label in range(statistics.labels)]
    return _table(statistics.caption(), (), rows) + _picture(label_figure(statistics, labels))


def specialization_html(found: HeadSpecialization) -> str:
    """How many labels each head specialises in, and which, those that appear most first (Fig. 7)."""
    rows = []
    for head, of_head in enumerate(found.appearances):
        own = torch.nonzero(found.head_of_label == head).flatten()
        own = own[of_head[own].argsort(descending=True, stable=True)]
        named = ", ".join(f"{label} ({int(of_head[label])})" for label in own.tolist())
        rows.append((str(head + 1), str(len(own)), named))
    total, labels = int(found.broken.sum()), len(found.head_of_label)
    caption = f"{total} of {labels} labels belong to a head (ratio {found.ratio:g})"
    figure = head_label_figure(_label_rows(found), "appearances", "")
    return _table(caption, ("head", "labels", "label (appearances)"), rows) + _picture(figure)


def _label_rows(found: HeadSpecialization) -> list[Row]:
    rows = []
    for label in label_order(found):
        owner = int(found.head_of_label[label])
        row: Row = {"name": str(label), "head": owner + 1 if owner >= 0 else NOBODY}
        rows.append(row | {f"appearances_{head + 1}": int(of[label]) for head, of in enumerate(found.appearances)})
    return rows


def _table(caption: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """A table whose first column names its rows."""
    head = _line("th", headings) if headings else Markup()
    body = Markup().join(_line("td", row) for row in rows)
    return Markup("<table><caption>{}</caption>{}{}</table>").format(caption, head, body)


def _line(kind: str, cells: Sequence[str]) -> Markup:
    return Markup("<tr>{}</tr>").format(Markup().join(Markup(f"<{kind}>{{}}</{kind}>").format(cell) for cell in cells))


def _picture(figure: Figure) -> Markup:
    drawn = base64.b64encode(svg_of(figure)).decode()
    return Markup('<img style="max-width: 100%" src="data:image/svg+xml;base64,{}">').format(drawn)
