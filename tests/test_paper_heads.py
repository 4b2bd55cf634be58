"""Tables 4 and 5, Figs. 7 to 11 in miniature: the paper's numbers, ours and the difference."""

from __future__ import annotations

import csv
import dataclasses
import math
from pathlib import Path
from statistics import fmean

import pytest
import torch

import nodelens as nl
from command_line import nodelens
from nodelens.files import read_tensors
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


def of_seeds(run: Path, block: int) -> list[nl.HeadSpecialization]:
    """The labels of each head, by each seed's probe."""
    site = f"block.{block}.attention"
    found = load_measurements(RunDirectory(run), "train", [site])
    return [nl.head_specialization(m[site].matrices.diagonals(0.3), m[site].site.heads) for m in found]


def test_heads_stand_beside_the_paper_s_by_their_labels(reproduced: Path) -> None:
    owned = [found.labels_per_head for found in of_seeds(reproduced, 2)]
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
    """Seed by seed: how many super-classes hold just k labels of a head."""
    names, fillings = ["labels", *(f"filled_{k}" for k in range(1, 6))], torch.arange(1, 6)
    for block in (1, 2):
        owners = torch.stack([found.head_of_label for found in of_seeds(reproduced, block)])
        counts = torch.stack([(owners == head).reshape(2, 5, 2).sum(dim=1) for head in range(4)])  # head, seed, parity
        filled = (counts[..., None] == fillings).sum(dim=2)
        ours = torch.cat([counts.sum(dim=2)[..., None], filled], dim=2).double()
        rows = [row for row in table(reproduced, "table4") if row["block"] == str(block)]
        found = {of: [row for row in rows if row["of"] == of] for of in ("ours", "by chance")}
        order = ours[:, :, 0].mean(dim=1).argsort(descending=True, stable=True)
        for place, head in enumerate(order.tolist()):
            mean, spread = ours[head].mean(dim=0), ours[head].std(dim=0)
            assert [float(found["ours"][place][name]) for name in names] == pytest.approx(mean.tolist(), rel=1e-5)
            stds = [float(found["ours"][place][f"{name}_std"]) for name in names]
            assert stds == pytest.approx(spread.tolist(), rel=1e-5)
            drawn = [nl.expected_occupancy(int(n), torch.tensor(PARITY))[1:] for n in ours[head, :, 0]]
            chance = [float(found["by chance"][place][name]) for name in names[1:]]
            assert chance == pytest.approx(torch.stack(drawn).mean(dim=0).tolist(), rel=1e-5)


def test_accuracies_of_two_groups_have_a_spread_over_the_seeds(reproduced: Path) -> None:
    def agree(row: dict[str, str], name: str, by_seed: list[float]) -> None:
        known = torch.tensor([value for value in by_seed if value == value]).double()
        spread = known.std().item() if len(known) > 1 else 0.0
        shown = [float(row[name]), float(row[f"{name}_std"])]
        assert shown == pytest.approx([known.mean().item(), spread], rel=1e-4, abs=1e-6, nan_ok=True)

    (figure8,) = [row for row in table(reproduced, "figure8") if row["of"] == "ours"]
    figure9 = {row["block"]: row for row in table(reproduced, "figure9") if row["of"] == "ours"}
    broken = {}
    for block in (1, 2):
        exact = read_tensors(reproduced / "heads" / "accuracies" / f"block.{block}.attention.safetensors")
        seeds, network = of_seeds(reproduced, block), exact["network"]
        broken[block] = [found.broken for found in seeds]
        groups = [(network[own].mean().item(), network[~own].mean().item()) for own in broken[block]]
        agree(figure9[str(block)], "with", [first for first, _ in groups])
        agree(figure9[str(block)], "without", [second for _, second in groups])
        agree(figure9[str(block)], "gain", [first - second for first, second in groups])
    both = [network[one & two].mean().item() for one, two in zip(broken[1], broken[2], strict=True)]
    agree(figure9["both"], "with", both)
    labels, own, others = [], [], []
    for found, accuracy in zip(seeds, exact["heads"].tolist(), strict=True):
        owned = [(label, head) for label, head in enumerate(found.head_of_label.tolist()) if head >= 0]
        rest = [[accuracy[other][label] for other in range(4) if other != head] for label, head in owned]
        labels.append(float(len(owned)))
        own.append(fmean(accuracy[head][label] for label, head in owned) if owned else math.nan)
        others.append(fmean(map(fmean, rest)) if owned else math.nan)
    agree(figure8, "labels", labels)
    agree(figure8, "own", own)
    agree(figure8, "others", others)
    agree(figure8, "gain", [a - b for a, b in zip(own, others, strict=True)])


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
