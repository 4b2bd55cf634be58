"""The head rule label by label, for one ratio and for many, and heads that are experts by construction."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodelens.errors import InputError
from nodelens.measures import RATIOS, head_appearances, head_specialization, ratio_sweep


def experts(appearances: list[list[int]], ratio: float) -> list[int]:
    """The rule, head against head; a label that two heads could claim is nobody's."""
    heads = range(len(appearances))
    owner = []
    for label in range(len(appearances[0])):
        a = [appearances[h][label] for h in heads]
        exact = Fraction(str(ratio))
        claims = [h for h in heads if a[h] > 0 and all(a[h] >= exact * a[o] for o in heads if o != h)]
        owner.append(claims[0] if len(claims) == 1 else -1)
    return owner


def diagonals_with(appearances: list[list[int]], nodes_per_head: int) -> torch.Tensor:
    """Diagonals in which each label appears in each head as often as wanted."""
    counts = torch.tensor(appearances)
    return (torch.arange(nodes_per_head)[None, :, None] < counts[:, None]).flatten(0, 1)


@given(
    st.integers(1, 4).flatmap(
        lambda heads: st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=heads, max_size=heads)
    ),
    st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.0]),
)
@settings(max_examples=150)
def test_the_rule_with_ties_zeros_and_one_head(appearances: list[list[int]], ratio: float) -> None:
    result = head_specialization(diagonals_with(appearances, 6), len(appearances), ratio)
    owner = experts(appearances, ratio)
    assert result.appearances.tolist() == appearances
    assert result.head_of_label.tolist() == owner
    assert result.labels_per_head.tolist() == [owner.count(head) for head in range(len(appearances))]
    assert result.ratio == ratio


@given(
    st.integers(1, 4).flatmap(
        lambda heads: st.lists(st.lists(st.integers(0, 6), min_size=5, max_size=5), min_size=heads, max_size=heads)
    )
)
@settings(max_examples=50)
def test_the_sweep_is_the_rule_ratio_by_ratio(appearances: list[list[int]]) -> None:
    found = ratio_sweep(torch.tensor(appearances))
    assert found.shape == (len(RATIOS), len(appearances))
    for ratio, per_head in zip(RATIOS, found.tolist(), strict=True):
        owner = experts(appearances, ratio)
        assert per_head == [owner.count(head) for head in range(len(appearances))]


def test_many_appearances_are_swept_at_once() -> None:
    many = torch.randint(9, (2, 5, 3, 7), generator=torch.Generator().manual_seed(0))
    found = ratio_sweep(many, [1.0, 1.5, 2.0])
    assert found.shape == (2, 5, 3, 3)
    for i in range(2):
        for j in range(5):
            assert found[i, j].tolist() == ratio_sweep(many[i, j], [1.0, 1.5, 2.0]).tolist()


def test_the_ratios_are_those_of_figure_10() -> None:
    assert (RATIOS[0], RATIOS[-1], len(RATIOS)) == (1.0, 3.0, 41)
    assert 2.0 in RATIOS


def test_no_label_and_a_label_that_never_appears() -> None:
    assert ratio_sweep(torch.zeros(3, 0, dtype=torch.int64), [2.0]).tolist() == [[0, 0, 0]]
    assert ratio_sweep(torch.zeros(3, 2, dtype=torch.int64), [1.0]).tolist() == [[0, 0, 0]]


def test_planted_experts_are_recovered_label_for_label() -> None:
    generator = torch.Generator().manual_seed(0)
    heads, labels = 4, 100
    planted = torch.randint(-1, heads, (labels,), generator=generator)
    expert = planted == torch.arange(heads)[:, None]
    # Experts hold a label in 32 of 64 nodes, the others in 8; nobody's labels are held by all alike.
    wanted = torch.where(expert, 32, 8)
    order = torch.rand(heads, 64, labels, generator=generator).argsort(dim=1)
    diagonals = (order < wanted[:, None]).flatten(0, 1)
    found = head_specialization(diagonals, heads)
    assert torch.equal(found.head_of_label, planted)
    assert torch.equal(found.broken, planted >= 0)
    assert torch.equal(head_appearances(diagonals, heads), wanted)


def test_exactly_twice_as_often_is_enough() -> None:
    result = head_specialization(diagonals_with([[4, 3], [2, 2]], 4), heads=2)
    assert result.head_of_label.tolist() == [0, -1]


@pytest.mark.parametrize("ratio", RATIOS)
def test_exactly_as_often_as_the_ratio_is_enough_whatever_rounding_says(ratio: float) -> None:
    exact = Fraction(str(ratio))
    others = [count for count in range(1, 200) if (exact * count).denominator == 1]
    appearances = torch.tensor([[int(exact * count) for count in others], others])
    expected = len(others) if ratio > 1 else 0
    assert ratio_sweep(appearances, [ratio]).tolist() == [[expected, 0]]
    less = appearances - torch.tensor([[1], [0]])
    assert ratio_sweep(less, [ratio])[0, 0] == 0
    diagonals = diagonals_with(appearances.tolist(), int(appearances.max()))
    assert int(head_specialization(diagonals, 2, ratio).broken.sum()) == expected


@pytest.mark.parametrize(("heads", "ratio"), [(3, 2.0), (0, 2.0), (2, 0.5), (2, float("nan"))])
def test_unusable_settings_are_refused(heads: int, ratio: float) -> None:
    with pytest.raises(InputError, match="ratio" if heads == 2 else "heads"):
        head_specialization(torch.ones(4, 3, dtype=torch.bool), heads, ratio)


def test_what_is_wrong_is_said_in_a_sentence() -> None:
    diagonals = torch.ones(4, 3, dtype=torch.bool)
    with pytest.raises(InputError, match=r"^0 heads cannot share 4 nodes equally; give the network's own heads\.$"):
        head_appearances(diagonals, 0)
    with pytest.raises(InputError, match=r"^3 heads cannot share 4 nodes equally"):
        head_appearances(diagonals, 3)
    with pytest.raises(InputError, match=r"^ratio=0\.5 is out of range; give a factor of at least 1, such as 2\.$"):
        ratio_sweep(head_appearances(diagonals, 2), [1.0, 0.5])


def test_a_notebook_shows_whose_labels_are_whose() -> None:
    shown = head_specialization(diagonals_with([[2, 6, 1, 0], [1, 0, 1, 4]], 6), heads=2)._repr_html_()
    assert "3 of 4 labels belong to a head (ratio 2)" in shown
    assert "<tr><td>1</td><td>2</td><td>1 (6), 0 (2)</td></tr><tr><td>2</td><td>1</td><td>3 (4)</td></tr>" in shown
    assert shown.count("<img ") == 1
