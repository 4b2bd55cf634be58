"""The permutation null against permutations carried out here."""

import math

import pytest
import torch

from nodelens.errors import InputError
from nodelens.measures import STATISTICS, NodalMatrices, permutation_null, permutation_nulls, site_statistics


def test_mean_and_spread_over_the_permutations_of_the_class_means() -> None:
    generator = torch.Generator().manual_seed(1)
    means, weight = torch.randn(10, 30, generator=generator), torch.randn(10, 30, generator=generator)
    null = permutation_null(NodalMatrices(means, weight), 0.2, "maximum", permutations=4, seed=7)
    generator = torch.Generator().manual_seed(7)
    orders = [torch.randperm(10, generator=generator) for _ in range(4)]
    draws = [site_statistics(NodalMatrices(means[order], weight), 0.2, "maximum") for order in orders]
    assert null.draws == 4
    assert list(null.mean) == list(null.std) == list(STATISTICS)
    for name in STATISTICS:
        values = torch.tensor([getattr(draw, name) for draw in draws], dtype=torch.float64)
        assert null.mean[name] == pytest.approx(float(values.mean()))
        assert null.std[name] == pytest.approx(float(values.std()))


@pytest.mark.parametrize("positions", [1, 3])
def test_nulls_at_several_thresholds_are_those_at_each(positions: int) -> None:
    generator = torch.Generator().manual_seed(3)
    means, weight = torch.randn(2, 9, 20, positions, generator=generator).squeeze(-1)
    matrices = NodalMatrices(means, weight)
    found = permutation_nulls(matrices, [0.2, 0.5], permutations=3, seed=5)
    generator = torch.Generator().manual_seed(5)
    orders = [torch.randperm(9, generator=generator) for _ in range(3)]
    for threshold, null in zip((0.2, 0.5), found, strict=True):
        draws = [site_statistics(NodalMatrices(means[order], weight), threshold) for order in orders]
        assert null.mean["noise"] == pytest.approx(sum(draw.noise for draw in draws) / 3)
        assert null.mean["snr"] == pytest.approx(sum(draw.snr for draw in draws) / 3)


def test_correlated_means_and_weights_stand_out_from_their_null() -> None:
    means = torch.randn(40, 50, generator=torch.Generator().manual_seed(2))
    matrices = NodalMatrices(means, means)
    null = permutation_null(matrices, permutations=5)
    assert site_statistics(matrices).diagonal > null.mean["diagonal"] + 5 * null.std["diagonal"]


def test_the_same_seed_gives_the_same_null() -> None:
    matrices = NodalMatrices(torch.randn(8, 5), torch.randn(8, 5))
    assert permutation_null(matrices, seed=3) == permutation_null(matrices, seed=3)


def test_an_infinite_ratio_has_an_infinite_spread_and_one_draw_none() -> None:
    null = permutation_null(NodalMatrices(torch.ones(1, 1), torch.ones(1, 1)), permutations=1)
    assert (null.mean["snr"], null.std["snr"], null.std["diagonal"]) == (math.inf, math.inf, 0.0)


def test_no_permutation_is_refused() -> None:
    with pytest.raises(InputError, match="permutations=0"):
        permutation_null(NodalMatrices(torch.ones(2, 2), torch.ones(2, 2)), permutations=0)
