"""Masks against the definition, weight by weight."""

from itertools import combinations, product
from statistics import fmean

import pytest
import torch

from nodelens.errors import InputError
from nodelens.measures import (
    NodalMatrices,
    andc_mask,
    dilution,
    field_mask,
    magnitude_mask,
    output_mask,
    random_mask,
    shared_fields,
    shared_label_probability,
    threshold_for,
    wanda_mask,
    with_removed,
)


def random_diagonals(nodes: int, labels: int, seed: int) -> torch.Tensor:
    return torch.rand(nodes, labels, generator=torch.Generator().manual_seed(seed)) < 0.2


def test_a_weight_is_kept_iff_its_nodes_share_a_label() -> None:
    out, into = random_diagonals(9, 7, seed=0), random_diagonals(6, 7, seed=1)
    shared = [[any(out[o, k] and into[i, k] for k in range(7)) for i in range(6)] for o in range(9)]
    assert andc_mask(out, into).tolist() == shared


def test_many_shared_labels_do_not_wrap_around() -> None:
    everything = torch.ones(1, 512, dtype=torch.bool)
    assert andc_mask(everything, everything).tolist() == [[True]]


def test_an_output_keeps_the_nodes_that_hold_its_label() -> None:
    diagonals = random_diagonals(5, 4, seed=2)
    mask = output_mask(diagonals)
    assert all(mask[j, k] == diagonals[k, j] for j in range(4) for k in range(5))


def test_dilution_is_the_share_removed() -> None:
    assert dilution(torch.tensor([[True, False], [False, False]])) == 0.75
    assert dilution(torch.ones(3, 3, dtype=torch.bool)) == 0.0


def test_diagonals_of_other_labels_and_empty_masks_are_refused() -> None:
    with pytest.raises(InputError, match="7 labels but the input site 8"):
        andc_mask(random_diagonals(2, 7, seed=0), random_diagonals(2, 8, seed=0))
    with pytest.raises(InputError, match="empty"):
        dilution(torch.ones(0, 3, dtype=torch.bool))


def test_the_shared_field_is_the_threshold_at_which_a_weight_goes() -> None:
    generator = torch.Generator().manual_seed(3)
    out, into = (
        NodalMatrices(torch.randn(7, nodes, generator=generator), torch.randn(7, nodes, generator=generator))
        for nodes in (9, 6)
    )
    shared = shared_fields(out.diagonal_fields(), into.diagonal_fields())
    by_hand = [
        [max(min(out.diagonal_fields()[o, k], into.diagonal_fields()[i, k]) for k in range(7)) for i in range(6)]
        for o in range(9)
    ]
    assert shared.tolist() == torch.tensor(by_hand).tolist()
    for threshold in (0.05, 0.3, 0.7):
        expected = andc_mask(out.diagonals(threshold), into.diagonals(threshold))
        assert torch.equal(shared > threshold, expected)
        assert torch.equal(out.diagonal_fields() > threshold, out.diagonals(threshold))


@pytest.mark.parametrize("wanted", [0.3, 0.5, 0.9])
def test_the_threshold_for_a_dilution_is_the_smallest_that_reaches_it(wanted: float) -> None:
    fields = torch.rand(20, 30, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    threshold = threshold_for(wanted, fields)
    assert dilution(fields > threshold) >= wanted
    assert dilution(fields > threshold * (1 - 1e-9)) < wanted


def test_a_dilution_that_no_threshold_gives_is_refused() -> None:
    fields = torch.tensor([[0.0, 0.0, 0.5, 1.0]], dtype=torch.float64)
    assert dilution(fields > threshold_for(0.5, fields)) == 0.5
    for wanted in (0.2, 0.9, 1.0, -0.1):
        with pytest.raises(InputError, match=r"remove 0\.500 to 0\.750"):
            threshold_for(wanted, fields)


@pytest.mark.parametrize("removed", [0, 1, 17, 59, 60])
def test_every_baseline_removes_exactly_what_it_is_told(removed: int) -> None:
    generator = torch.Generator().manual_seed(5)
    weight, norms = torch.randn(6, 10, generator=generator), torch.rand(10, generator=generator)
    for mask in (
        random_mask(weight, removed, generator),
        magnitude_mask(weight, removed),
        wanda_mask(weight, norms, removed),
        field_mask(weight * norms, removed),
        with_removed(random_diagonals(6, 10, seed=8), removed, generator),
    ):
        assert mask.shape == weight.shape
        assert int((~mask).sum()) == removed
    kept = weight.abs()[magnitude_mask(weight, removed)]
    gone = weight.abs()[~magnitude_mask(weight, removed)]
    assert not len(kept) or not len(gone) or kept.min() >= gone.max()


def test_wanda_compares_weights_within_each_output() -> None:
    generator = torch.Generator().manual_seed(6)
    weight, norms = torch.randn(5, 8, generator=generator), torch.rand(8, generator=generator)
    mask = wanda_mask(weight, norms, 5 * 3 + 2)
    scores = weight.abs() * norms
    for row, kept in zip(scores, mask, strict=True):
        order = row.argsort()
        gone = int((~kept).sum())
        assert gone in (3, 4)
        assert sorted(order[:gone].tolist()) == torch.nonzero(~kept).flatten().tolist()


def test_fields_are_compared_within_each_label_and_with_their_signs() -> None:
    generator = torch.Generator().manual_seed(7)
    fields = torch.randn(4, 9, generator=generator, dtype=torch.float64)
    for row, kept in zip(fields, field_mask(fields, 4 * 6), strict=True):
        assert sorted(row[kept].tolist()) == sorted(row.tolist())[-3:]


@pytest.mark.parametrize(("removed", "more"), [(10, False), (70, True)])
def test_a_mask_made_to_remove_as_many_loses_or_gains_only_what_it_must(removed: int, more: bool) -> None:
    mask = random_diagonals(10, 10, seed=9) | random_diagonals(10, 10, seed=10)
    assert 10 < int((~mask).sum()) < 70 or not more
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    first, again, other = (with_removed(mask, removed, generator) for generator in generators)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not (first & ~mask).any() if more else not (mask & ~first).any()


def test_the_probability_of_a_shared_label_is_that_of_all_choices() -> None:
    out, into, labels = [2, 0, 3], [1, 2, 5], 5
    found = shared_label_probability(torch.tensor(out), torch.tensor(into), labels)
    for row, a in zip(found.tolist(), out, strict=True):
        for probability, b in zip(row, into, strict=True):
            choices = product(combinations(range(labels), a), combinations(range(labels), b))
            assert probability == pytest.approx(fmean(bool(set(x) & set(y)) for x, y in choices), abs=1e-12)


def test_labels_drawn_at_random_are_shared_as_expected() -> None:
    out, into = random_diagonals(400, 50, seed=11), random_diagonals(300, 50, seed=12)
    expected = float(shared_label_probability(out.sum(dim=1), into.sum(dim=1), 50).mean())
    assert 1 - dilution(andc_mask(out, into)) == pytest.approx(expected, abs=0.01)
    assert 1 - dilution(andc_mask(out, out[:300])) > expected  # these do share labels


def test_more_labels_than_there_are_and_empty_sites_share_none_by_chance() -> None:
    for out in (torch.tensor([6]), torch.tensor([-1]), torch.zeros(0, dtype=torch.int64)):
        with pytest.raises(InputError, match="every node 0 to 5 labels"):
            shared_label_probability(out, torch.tensor([1]), 5)


def test_more_weights_than_there_are_cannot_be_removed() -> None:
    with pytest.raises(InputError, match="7 of 6 weights"):
        magnitude_mask(torch.ones(2, 3), 7)
