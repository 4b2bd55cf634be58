"""Tables 4 and 5, Figs. 7 to 11 in miniature: the paper's numbers, ours and the difference."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import pytest
import torch

import nodelens as nl
from command_line import nodelens
from nodelens.heads.study import HeadData, load_head_data
from nodelens.paper import heads as room
from nodelens.paper import scales, values
from nodelens.probing import load_measurements
from nodelens.runs import RunDirectory

PARITY = tuple(label % 2 for label in range(10))


def table(run: Path, name: str) -> list[dict[str, str]]:
    with (run / "tables" / f"{name}.train.csv").open() as file:
        return list(csv.DictReader(file))


def even_and_odd(*arguments: object) -> HeadData:
    """The digits, with two super-classes."""
    data = load_head_data(*arguments)  # type: ignore[arg-type]
    return dataclasses.replace(data, superclass_names=("even", "odd"), superclass_of_label=PARITY)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every study of the heads, with the smallest network; the figures' names in `drawn.txt`."""
    run, drawn = tmp_path_factory.mktemp("runs") / "run", []
    short = scales.recipe("digits", epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(scales.SCALES, "smoke", scales.Scale("cct_2_3x1_16", "digits", "digits", probe_epochs=1, seeds=2))
        patch.setattr(scales, "recipe", lambda name: short)
        patch.setattr(room, "load_head_data", even_and_odd)
        patch.setattr(room, "save_figure", lambda figure, path: drawn.append(path.name))
        for name in room.HEAD_STUDIES:
            assert nodelens("reproduce", name, "--out", str(run)) == 0
    (run / "drawn.txt").write_text(" ".join(drawn))
    return run


def test_the_paper_s_numbers_add_up() -> None:
    assert [sum(labels for labels, _ in heads) for heads in values.TABLE4.values()] == [74, 39]
    for heads in values.TABLE4.values():
        assert [sum(k * n for k, n in enumerate(filled, start=1)) for _, filled in heads] == [n for n, _ in heads]
    assert all(sum(heads) == total for _, heads, total in values.TABLE5.values())


def test_heads_stand_beside_the_paper_s_by_their_labels(reproduced: Path) -> None:
    found = load_measurements(RunDirectory(reproduced), "train", ["block.2.attention"])
    owned = [nl.head_specialization(m["block.2.attention"].matrices.diagonals(0.3), 4).labels_per_head for m in found]
    mean = sorted(torch.stack(owned).double().mean(dim=0).tolist(), reverse=True)
    for name, published in (("table5", (20, 18, 16, 14)), ("figure7", (23, 21, 15, 15))):
        lines = {row["of"]: row for row in table(reproduced, name) if row["block"] == "2"}
        for i in range(4):
            paper, ours, difference = (float(lines[of][f"head_{i + 1}"]) for of in ("paper", "ours", "difference"))
            assert paper == published[i]
            assert ours == mean[i]
            assert difference == pytest.approx(ours - paper)


def test_table_5_of_other_data_names_the_paper_s(reproduced: Path) -> None:
    title = (reproduced / "tables" / "table5.train.md").read_text().splitlines()[0]
    assert "the paper's is CCT-7/7x2 on Flowers-102" in title


def test_superclasses_of_random_labels_are_the_paper_s(reproduced: Path) -> None:
    sampled = table(reproduced, "table4.random")
    assert [float(sampled[0][f"filled_{k}"]) for k in range(1, 6)] == [8.1, 5.4, 1.7, 0.25, 0.015]
    assert max(abs(float(row["filled_1"])) for row in sampled if row["of"] == "difference") < 0.06


def test_superclasses_of_our_heads_stand_beside_chance(reproduced: Path) -> None:
    for row in table(reproduced, "table4"):
        if row["of"] == "ours":
            filled = [int(row[f"filled_{k}"]) for k in range(1, 6)]
            assert sum(k * count for k, count in enumerate(filled, start=1)) == int(row["labels"])
            labels = int(row["labels"])
        if row["of"] == "by chance":
            expected = nl.expected_occupancy(labels, torch.tensor(PARITY))[1:].tolist()
            assert [float(row[f"filled_{k}"]) for k in range(1, 6)] == pytest.approx(expected, rel=1e-5)


def test_figure10_is_in_shares_of_the_labels(reproduced: Path) -> None:
    rows = [row for row in table(reproduced, "figure10") if row["block"] == "2"]
    assert [row["of"] for row in rows] == ["paper", "ours", "difference", "by chance"]
    assert [rows[0][f"ratio_{r}"] for r in ("1", "1.5", "2", "2.5", "3")] == ["", "0.7", "0.7", "0.7", ""]
    own = next(row for row in table(reproduced, "table5") if row["block"] == "2" and row["of"] == "ours")
    assert float(rows[1]["ratio_2"]) == pytest.approx(float(own["total"]) / 10)
    assert float(rows[2]["ratio_2"]) == pytest.approx(float(rows[1]["ratio_2"]) - 0.7, abs=1e-5)


def test_accuracies_with_and_without_symmetry_breaking(reproduced: Path) -> None:
    paper = {row["block"]: row for row in table(reproduced, "figure9") if row["of"] == "paper"}
    assert [(paper[b]["with"], paper[b]["without"]) for b in ("2", "1")] == [("0.82", "0.78"), ("0.836", "0.79")]
    assert paper["both"]["with"] == "0.857"


def test_every_figure_is_drawn(reproduced: Path) -> None:
    figures = ("figure7", "figure8", "figure9", "figure10", "figure11", "figure11.overlap")
    assert (reproduced / "drawn.txt").read_text() == " ".join(f"{figure}.train" for figure in figures)
