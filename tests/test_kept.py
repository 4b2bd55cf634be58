"""What ANDC keeps beside what chance gives: means over the seeds, the table and the picture."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure

from nodelens.report.kept import kept_figure, kept_means, kept_table

SEEDS = [
    {"layer": "a", "weights": 2000, "kept": 0.2, "kept_by_chance": 0.1, "size": 1.5, "size_by_chance": 1.0},
    {"layer": "a", "weights": 2000, "kept": 0.4, "kept_by_chance": 0.2, "size": 1.7, "size_by_chance": 1.0},
    {"layer": "b", "weights": 30, "kept": 0.0, "kept_by_chance": 0.0, "size": math.nan, "size_by_chance": math.nan},
]


def test_a_layer_is_a_line_of_means_and_nothing_kept_has_no_size() -> None:
    rows = kept_means(SEEDS)
    assert [row["layer"] for row in rows] == ["a", "b"]
    table = kept_table(rows, "title")
    assert table.groups == [[("a", "2,000", "0.300", "0.150", "1.60", "1.00")], [("b", "30", "0.000", "0.000", "", "")]]


def test_the_picture_shows_both_numbers_of_every_layer() -> None:
    rows = kept_means(SEEDS)
    figure = Figure()
    drawn = kept_figure(rows, "title", into=figure.subplots(1, 2))
    assert drawn is figure
    for axes, name in zip(figure.axes, ("kept", "size"), strict=True):
        _, chance, found = axes.collections
        for dots, column in ((chance, f"{name}_by_chance"), (found, name)):
            shown = np.ma.compress_rows(np.ma.asarray(dots.get_offsets()))
            expected = [[row[column], i] for i, row in enumerate(rows) if not math.isnan(row[column])]
            assert shown.tolist() == expected
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["a", "b"]
    low, high = figure.axes[1].get_xlim()
    assert low <= 0.8
    assert high >= 1.6
