"""Super-classes of a head's labels: against Table 4, every set of labels, and a simulation."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodelens.errors import InputError
from nodelens.measures import (
    HeadSpecialization,
    expected_occupancy,
    head_occupancy,
    occupancy_test,
    superclass_occupancy,
)

CIFAR_100 = torch.arange(100) // 5
TABLE_4 = {
    25: (8.1, 5.4, 1.7, 0.25, 0.015),
    20: (8.4, 4.2, 0.95, 0.10, 0.004),
    15: (8.1, 2.8, 0.44, 0.03, 0.0007),
    10: (6.8, 1.4, 0.13, 0.005, 0.0),
    5: (4.2, 0.37, 0.013, 0.0, 0.0),
}
"""Super-classes that hold 1 to 5 of m random labels, from the paper's 50,000 samples."""


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


@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.data())
@settings(max_examples=60)
def test_p_values_against_every_set_of_labels(superclasses: list[int], data: st.DataObject) -> None:
    superclass = torch.tensor(superclasses)
    chosen = data.draw(st.sets(st.sampled_from(range(len(superclasses)))))
    found = occupancy_test(sorted(chosen), superclass)
    every = [superclass_occupancy(labels, superclass) for labels in combinations(range(len(superclasses)), len(chosen))]
    assert found.labels == len(chosen)
    assert found.occupancy.tolist() == superclass_occupancy(sorted(chosen), superclass).tolist()
    assert len(found.at_least) == len(found.p_value) == max(map(superclasses.count, superclasses))
    for k, (reached, p) in enumerate(zip(found.at_least.tolist(), found.p_value.tolist(), strict=True), start=1):
        assert reached == int(found.occupancy[k:].sum())
        assert p == pytest.approx(sum(int(one[k:].sum()) >= reached for one in every) / len(every))


def test_p_values_against_a_simulation_on_twenty_super_classes_of_five() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = torch.rand(4000, 100, generator=generator).argsort(dim=1)[:, :23]
    held = torch.nn.functional.one_hot(CIFAR_100[draws]).sum(dim=1)
    found = occupancy_test([0, 1, 2, 3, 5, 6, 7, 10, 11, 12, *range(20, 85, 5)], CIFAR_100)
    assert found.at_least.tolist() == [16, 3, 3, 1, 0]
    for k, (reached, p) in enumerate(zip(found.at_least.tolist(), found.p_value.tolist(), strict=True), start=1):
        share = ((held >= k).sum(dim=1) >= reached).double().mean()
        assert p == pytest.approx(float(share), abs=4 * (p * (1 - p) / 4000) ** 0.5 + 1e-9)


def test_the_paper_s_first_head_fills_super_classes_as_chance_does_not() -> None:
    # Block 7, head 1: 23 labels; 3, 3, 0, 1 and 2 super-classes with one to five of them.
    filled = [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2), (6, 4), (7, 5), (8, 5)]
    found = occupancy_test([5 * c + i for c, held in filled for i in range(held)], CIFAR_100)
    assert found.occupancy.tolist() == [11, 3, 3, 0, 1, 2]
    assert found.expected.tolist() == expected_occupancy(23, CIFAR_100).tolist()
    assert found.p_value[4] < 1e-4
    assert found.p_value[3] < 1e-3
    assert found.p_value[0] > 0.99


@pytest.mark.parametrize("chosen", [[], list(range(100))])
def test_no_label_and_all_labels_leave_nothing_to_chance(chosen: list[int]) -> None:
    assert occupancy_test(chosen, CIFAR_100).p_value.tolist() == pytest.approx([1.0] * 5)


def test_p_values_of_random_labels_are_calibrated() -> None:
    generator = torch.Generator().manual_seed(0)
    sets = [torch.randperm(100, generator=generator)[:20] for _ in range(300)]
    p = torch.stack([occupancy_test(labels, CIFAR_100).p_value for labels in sets])
    for alpha in (0.05, 0.2, 0.5):
        # Counts take few values: the test may be shy, never bold.
        assert ((p <= alpha).double().mean(dim=0) <= alpha + 3 * (alpha * (1 - alpha) / 300) ** 0.5).all()


def specialization(owner: list[int]) -> HeadSpecialization:
    return HeadSpecialization(torch.ones(3, len(owner), dtype=torch.int64), torch.tensor(owner), 2.0)


def test_heads_are_tested_each_with_its_own_labels() -> None:
    found = head_occupancy(specialization([0, 0, -1, 1, 1, 0]), torch.tensor([4, 4, 4, 9, 9, 9]))
    assert [test.labels for test in found] == [3, 2, 0]
    assert [test.occupancy.tolist() for test in found] == [[0, 1, 1, 0], [1, 0, 1, 0], [2, 0, 0, 0]]


@pytest.mark.parametrize("entries", [5, 7])
def test_super_classes_of_other_labels_are_refused(entries: int) -> None:
    with pytest.raises(
        InputError,
        match=rf"^superclass_of_label has {entries} entries but there are 6 labels; give the super-class of every",
    ):
        head_occupancy(specialization([0, 0, -1, 1, 1, 0]), [0] * entries)
