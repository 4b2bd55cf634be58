"""Rank correlation against scipy's, and its interval against what it promises."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from nodelens.errors import InputError
from nodelens.measures import rank_agreement


@given(st.integers(1, 4), st.integers(2, 12), st.integers(0, 1000))
@settings(max_examples=60)
def test_correlations_are_scipy_s(heads: int, labels: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    appearances = torch.randint(4, (heads, labels), generator=generator)
    accuracy = torch.randint(5, (heads, labels), generator=generator).double() / 5
    found = rank_agreement(appearances, accuracy, draws=5)
    rows = [*zip(appearances, accuracy, strict=True), (appearances.flatten(), accuracy.flatten())]
    for agreement, (often, exact) in zip([*found.within, found.pairs], rows, strict=True):
        if len(set(often.tolist())) == 1 or len(set(exact.tolist())) == 1:
            assert math.isnan(agreement.correlation)
            assert math.isnan(agreement.low)
            assert math.isnan(agreement.high)
        else:
            assert agreement.correlation == pytest.approx(spearmanr(often.numpy(), exact.numpy()).statistic)
            assert math.isnan(agreement.low) or -1 - 1e-9 <= agreement.low <= agreement.high <= 1 + 1e-9


def test_the_interval_holds_the_bootstrap_draws_of_whole_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    appearances = torch.randint(20, (3, 30), generator=generator)
    accuracy = (appearances + torch.randint(15, (3, 30), generator=generator)).float() / 40
    found = rank_agreement(appearances, accuracy, confidence=0.8, draws=200, seed=4)
    chosen = torch.randint(30, (200, 30), generator=torch.Generator().manual_seed(4))
    often, exact = appearances[:, chosen], accuracy[:, chosen]
    drawn = [spearmanr(often[:, i].flatten(), exact[:, i].flatten()).statistic for i in range(200)]
    ends = torch.tensor(drawn).double().quantile(torch.tensor([0.1, 0.9]).double())
    assert (found.pairs.low, found.pairs.high) == pytest.approx(tuple(ends.tolist()))
    drawn = [spearmanr(often[1, i], exact[1, i]).statistic for i in range(200)]
    ends = torch.tensor(drawn).double().quantile(torch.tensor([0.1, 0.9]).double())
    assert (found.within[1].low, found.within[1].high) == pytest.approx(tuple(ends.tolist()))


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    held, correlation = 0, 0.6
    true_rank_correlation = 6 / math.pi * math.asin(correlation / 2)  # of a bivariate normal
    for _ in range(200):
        x, noise = torch.randn(2, 1, 80, generator=generator, dtype=torch.float64)
        y = correlation * x + math.sqrt(1 - correlation**2) * noise
        within = rank_agreement((x * 1e6).long(), y, draws=200).within[0]
        held += within.low <= true_rank_correlation <= within.high
    assert 0.9 <= held / 200 <= 0.98


def test_perfect_agreement_and_its_opposite() -> None:
    appearances = torch.arange(40).reshape(2, 20)
    for sign in (1, -1):
        found = rank_agreement(appearances, sign * appearances.double() ** 3)
        for agreement in (*found.within, found.pairs):
            assert (agreement.correlation, agreement.low, agreement.high) == pytest.approx((sign, sign, sign))


def test_constant_or_missing_values_have_no_correlation() -> None:
    appearances = torch.tensor([[0, 0, 0], [1, 2, 3], [1, 2, 3], [1, 2, 3]])
    accuracy = torch.tensor([[0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3], [0.1, torch.nan, 0.3]])
    found = rank_agreement(appearances, accuracy)
    assert [math.isnan(agreement.correlation) for agreement in found.within] == [True, True, False, True]
    # A draw of one label thrice has no correlation; the interval is that of the other draws.
    assert (found.within[2].low, found.within[2].high) == pytest.approx((1, 1))
    assert math.isnan(found.pairs.correlation)
    single = rank_agreement(torch.tensor([[3]]), torch.tensor([[0.5]]))
    assert math.isnan(single.pairs.correlation)


def test_unusable_settings_are_refused() -> None:
    values = torch.ones(2, 3, dtype=torch.int64)
    for confidence in (0.0, 1.0, 95.0):
        with pytest.raises(InputError, match=r"confidence=.* is out of range; give a share between 0 and 1"):
            rank_agreement(values, values.double(), confidence=confidence)
    with pytest.raises(InputError, match="draws=0"):
        rank_agreement(values, values.double(), draws=0)
