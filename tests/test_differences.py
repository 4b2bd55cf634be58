"""Mean accuracies of groups of labels, and their permutation test against every division and scipy's."""

import math
from itertools import combinations, permutations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, permutation_test

from nodelens.errors import InputError
from nodelens.measures import accuracy_difference, accuracy_in_two_blocks, own_head_p_value


def test_against_every_division_of_the_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    accuracy = torch.rand(9, generator=generator, dtype=torch.float64)
    broken = torch.tensor([1, 1, 0, 0, 1, 0, 0, 1, 0], dtype=torch.bool)
    accuracy[broken] += 0.3
    found = accuracy_difference(accuracy, broken, draws=20_000)
    assert found.labels == (4, 5)
    assert found.accuracy == pytest.approx((float(accuracy[broken].mean()), float(accuracy[~broken].mean())))
    assert found.difference == pytest.approx(found.accuracy[0] - found.accuracy[1])
    total, values = float(accuracy.sum()), accuracy.tolist()
    sums = [sum(values[i] for i in chosen) for chosen in combinations(range(9), 4)]
    as_large = [abs(s / 4 - (total - s) / 5) >= abs(found.difference) - 1e-12 for s in sums]
    exact = sum(as_large) / len(sums)
    assert found.p_value == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5)


def test_against_scipy_s_permutation_test() -> None:
    generator = torch.Generator().manual_seed(1)
    accuracy, broken = torch.rand(40, generator=generator), torch.arange(40) < 15
    accuracy[broken] += 0.12

    def statistic(a: np.ndarray, b: np.ndarray) -> float:
        return float(a.mean() - b.mean())

    groups = accuracy[broken].double().numpy(), accuracy[~broken].double().numpy()
    theirs = permutation_test(groups, statistic, n_resamples=5000, rng=0, alternative="two-sided").pvalue
    assert accuracy_difference(accuracy, broken).p_value == pytest.approx(theirs, abs=0.03)


def test_p_values_are_uniform_where_breaking_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    accuracies = torch.rand(300, 30, generator=generator, dtype=torch.float64)
    found = [accuracy_difference(one, torch.arange(30) < 12, draws=199, seed=i) for i, one in enumerate(accuracies)]
    assert kstest([one.p_value - 0.0025 for one in found], "uniform").pvalue > 0.05


def test_the_smallest_p_value_counts_the_observation() -> None:
    broken = torch.arange(60) < 30
    assert accuracy_difference(broken.double(), broken, draws=99).p_value == 1 / 100
    assert accuracy_difference((~broken).double(), broken, draws=99).p_value == 1 / 100
    assert accuracy_difference(torch.full((60,), 0.1), broken, draws=99).p_value == 1


@pytest.mark.parametrize("broken", [[False] * 3, [True] * 3])
def test_an_empty_group_has_no_accuracy(broken: list[bool]) -> None:
    found = accuracy_difference(torch.tensor([0.2, 0.4, 0.6]), torch.tensor(broken))
    assert found.labels == (sum(broken), 3 - sum(broken))
    assert [math.isnan(mean) for mean in found.accuracy] == [not broken[0], broken[0]]
    assert math.isnan(found.difference)
    assert math.isnan(found.p_value)


def test_two_blocks_divide_the_labels_in_three() -> None:
    generator = torch.Generator().manual_seed(2)
    accuracy, broken = torch.rand(50, generator=generator), torch.rand(2, 50, generator=generator) < 0.5
    found = accuracy_in_two_blocks(accuracy, broken, draws=200, seed=1)
    first, second = broken
    groups = {"both": first & second, "one": first ^ second, "none": ~(first | second)}
    assert found.labels == {name: int(group.sum()) for name, group in groups.items()}
    for name, group in groups.items():
        assert found.accuracy[name] == pytest.approx(float(accuracy[group].mean()))
    for pair, (a, b) in {
        "both_against_one": ("both", "one"),
        "both_against_none": ("both", "none"),
        "one_against_none": ("one", "none"),
    }.items():
        values = torch.cat([accuracy[groups[a]], accuracy[groups[b]]])
        alone = accuracy_difference(values, torch.arange(len(values)) < found.labels[a], draws=200, seed=1)
        assert getattr(found, pair).accuracy == pytest.approx(alone.accuracy)
        assert getattr(found, pair).p_value == alone.p_value


def test_two_blocks_without_symmetry_breaking() -> None:
    found = accuracy_in_two_blocks(torch.tensor([0.5, 1.0]), torch.zeros(2, 2, dtype=torch.bool))
    assert found.labels == {"both": 0, "one": 0, "none": 2}
    assert found.accuracy["none"] == 0.75
    assert math.isnan(found.accuracy["both"])
    assert math.isnan(found.both_against_none.p_value)


def test_no_draw_is_refused() -> None:
    for broken in ([True, False], [True, True]):
        with pytest.raises(InputError, match="draws=0 is too few; give at least 1"):
            accuracy_difference(torch.tensor([0.5, 1.0]), torch.tensor(broken), draws=0)


def test_own_heads_against_every_way_to_deal_out_the_labels() -> None:
    generator = torch.Generator().manual_seed(3)
    owner = torch.tensor([0, -1, 1, 1, 2, -1, 0, 2, 1])
    effect = torch.rand(3, 9, generator=generator, dtype=torch.float64)
    effect[:, owner < 0] = 100.0  # labels of nobody say nothing
    owned = [label for label in range(9) if owner[label] >= 0]
    heads = owner[owned].tolist()
    sums = [float(effect[list(dealt), owned].sum()) for dealt in permutations(heads)]
    observed = float(effect[heads, owned].sum())
    exact = sum(value >= observed - 1e-12 for value in sums) / len(sums)
    assert 0.02 < exact < 0.98
    found = own_head_p_value(effect, owner, draws=20_000)
    assert found == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 20_000) ** 0.5)
    # That a head matters more to all labels, or a label is lost sooner without any head, is no effect of the owner.
    larger = effect + torch.tensor([[0.0], [5.0], [1.0]]) + torch.arange(9.0)
    assert own_head_p_value(larger, owner, draws=500) == own_head_p_value(effect, owner, draws=500)
    eight = torch.arange(24) % 3
    assert own_head_p_value((torch.arange(3)[:, None] == eight).float(), eight, draws=99) == 1 / 100
    unknown = effect.clone()
    unknown[1, 0] = torch.nan
    assert math.isnan(own_head_p_value(unknown, owner))
    assert math.isnan(own_head_p_value(effect, torch.tensor([1, -1] * 4 + [1])))
    assert math.isnan(own_head_p_value(effect, torch.full((9,), -1)))
