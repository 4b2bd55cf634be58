"""Heads that share keys and values, against numpy's correlations and every grouping there is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from nodelens.errors import InputError
from nodelens.measures import shared_labels


def difference(correlation: np.ndarray, groups: list[int]) -> float:
    """Of pairs within a group and between two, by going through them."""
    pairs = list(itertools.combinations(range(len(groups)), 2))
    within = [correlation[i, j] for i, j in pairs if groups[i] == groups[j]]
    between = [correlation[i, j] for i, j in pairs if groups[i] != groups[j]]
    within, between = ([one for one in some if not np.isnan(one)] for some in (within, between))
    return float(np.mean(within) - np.mean(between)) if within and between else np.nan


def test_p_is_that_of_every_grouping() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = [torch.randint(0, 9, (4, 30), generator=generator).double() for _ in range(3)]
    for block in blocks:
        block[1] += block[0]  # two that share are alike
    found = shared_labels(blocks, [2, 2, 2])
    correlations = [np.corrcoef(block.numpy()) for block in blocks]
    observed = [difference(one, [0, 0, 1, 1]) for one in correlations]
    assert (found.within - found.between).tolist() == pytest.approx(observed)
    every = [[0, 0, 1, 1], [0, 1, 0, 1], [0, 1, 1, 0]]
    sums = [
        sum(difference(one, groups) for one, groups in zip(correlations, chosen, strict=True))
        for chosen in itertools.product(every, repeat=len(blocks))
    ]
    exact = np.mean(np.array(sums) >= sum(observed) - 1e-9)
    assert found.p_value == pytest.approx(exact, abs=0.01)


def test_heads_in_which_all_labels_are_alike_are_left_out() -> None:
    generator = torch.Generator().manual_seed(1)
    heads = torch.randn(6, 40, generator=generator).double()
    heads[[1, 3, 5]] = 2.0  # one of every pair: nothing can be said of those that share
    found = shared_labels([heads], [2])
    assert found.within.isnan().all()
    assert np.isnan(found.p_value)
    heads[1] = heads[0] + 0.1 * torch.randn(40, generator=generator)
    heads[4] = 2.0
    found = shared_labels([heads], [2])
    assert found.within.item() == pytest.approx(np.corrcoef(heads[0], heads[1])[0, 1])
    with np.errstate(invalid="ignore"):
        correlation = np.corrcoef(heads)
    by_chance = [difference(correlation, list(groups)) for groups in set(itertools.permutations([0, 0, 1, 1, 2, 2]))]
    compared = np.array([one for one in by_chance if not np.isnan(one)])
    assert len(compared) < len(by_chance), "some groupings put no two together that can be compared"
    exact = np.mean(compared >= difference(correlation, [0, 0, 1, 1, 2, 2]) - 1e-9)
    assert found.p_value == pytest.approx(exact, abs=0.015)


def test_where_nothing_can_be_compared_it_says_so() -> None:
    heads = torch.rand(4, 10)
    for group in (1, 4):
        with pytest.raises(InputError, match="nothing to compare"):
            shared_labels([heads], [group])
    with pytest.raises(InputError, match="cannot share"):
        shared_labels([heads], [3])
