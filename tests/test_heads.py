"""The head rule label by label, and super-classes against Table 4 and a simulation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodelens.errors import InputError
from nodelens.measures import expected_occupancy, head_specialization, superclass_occupancy

CIFAR_100 = torch.arange(100) // 5
TABLE_4 = {
    25: (8.1, 5.4, 1.7, 0.25, 0.015),
    20: (8.4, 4.2, 0.95, 0.10, 0.004),
    15: (8.1, 2.8, 0.44, 0.03, 0.0007),
    10: (6.8, 1.4, 0.13, 0.005, 0.0),
    5: (4.2, 0.37, 0.013, 0.0, 0.0),
}
"""Super-classes that hold 1 to 5 of m random labels, from the paper's 50,000 samples."""


def experts(appearances: list[list[int]], ratio: float) -> list[int]:
    """The rule, head against head; a label that two heads could claim is nobody's."""
    heads = range(len(appearances))
    owner = []
    for label in range(len(appearances[0])):
        a = [appearances[h][label] for h in heads]
        claims = [h for h in heads if a[h] > 0 and all(a[h] >= ratio * a[o] for o in heads if o != h)]
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
@settings(max_examples=150, deadline=None)
def test_the_rule_with_ties_zeros_and_one_head(appearances: list[list[int]], ratio: float) -> None:
    result = head_specialization(diagonals_with(appearances, 6), len(appearances), ratio)
    owner = experts(appearances, ratio)
    assert result.appearances.tolist() == appearances
    assert result.head_of_label.tolist() == owner
    assert result.labels_per_head.tolist() == [owner.count(head) for head in range(len(appearances))]
    assert result.ratio == ratio


def test_exactly_twice_as_often_is_enough() -> None:
    result = head_specialization(diagonals_with([[4, 3], [2, 2]], 4), heads=2)
    assert result.head_of_label.tolist() == [0, -1]


@pytest.mark.parametrize(("heads", "ratio"), [(3, 2.0), (0, 2.0), (2, 0.5), (2, float("nan"))])
def test_unusable_settings_are_refused(heads: int, ratio: float) -> None:
    with pytest.raises(InputError, match="ratio" if heads == 2 else "heads"):
        head_specialization(torch.ones(4, 3, dtype=torch.bool), heads, ratio)


def test_occupancy_counts_super_classes() -> None:
    # Two whole super-classes, one with a single label, 17 with none.
    chosen = [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 99]
    assert superclass_occupancy(chosen, CIFAR_100).tolist() == [17, 1, 0, 0, 0, 2]
    assert superclass_occupancy(torch.tensor(chosen), CIFAR_100).sum() == 20
    assert superclass_occupancy([], CIFAR_100).tolist() == [20, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("m", TABLE_4)
def test_expected_occupancy_is_what_the_paper_sampled(m: int) -> None:
    expected = expected_occupancy(m, CIFAR_100)
    assert expected.sum() == pytest.approx(20)
    for value, printed in zip(expected[1:].tolist(), TABLE_4[m], strict=True):
        # Two digits are printed, of a mean over 50,000 samples of some `value` super-classes each.
        assert value == pytest.approx(printed, rel=0.05, abs=4 * (value / 50_000) ** 0.5)


def test_expected_occupancy_of_unequal_super_classes_against_a_simulation() -> None:
    superclass = torch.tensor([3, 3, 3, 3, 1, 1, 7, 9, 9, 9])
    generator = torch.Generator().manual_seed(0)
    draws = [superclass_occupancy(torch.randperm(10, generator=generator)[:4], superclass) for _ in range(2000)]
    mean = torch.stack(draws).double().mean(dim=0)
    assert expected_occupancy(4, superclass).tolist() == pytest.approx(mean.tolist(), abs=0.08)


def test_labels_that_are_no_set_are_refused() -> None:
    for labels in ([0, 0], [100], [-1]):
        with pytest.raises(InputError, match="labels"):
            superclass_occupancy(labels, CIFAR_100)
    for m in (-1, 101):
        with pytest.raises(InputError, match=f"m={m}"):
            expected_occupancy(m, CIFAR_100)
    with pytest.raises(InputError, match="empty"):
        expected_occupancy(0, torch.zeros(0, dtype=torch.int64))
