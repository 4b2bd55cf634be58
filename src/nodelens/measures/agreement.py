"""Do labels that appear often in a head's diagonals have a high accuracy in that head (paper, Fig. 8)?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64, Shaped
from scipy.stats import rankdata
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures.resampling import resamples


@dataclass(frozen=True)
class Agreement:
    """A rank correlation, -1 to 1, and the ends of its confidence interval; nan where it is undefined."""

    correlation: float
    low: float
    high: float


@dataclass(frozen=True)
class HeadAgreement:
    """Agreement of appearances and accuracy over the labels within each head, and over all (head, label) pairs."""

    within: tuple[Agreement, ...]
    pairs: Agreement


def rank_agreement(
    appearances: Int64[Tensor, "head label"],
    accuracy: Float[Tensor, "head label"],
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> HeadAgreement:
    """Spearman's rank correlation between each label's appearances in a head and its accuracy there (Fig. 8).

    The interval holds the middle `confidence` of the correlations over bootstrap draws of the labels. A drawn
    label brings its values in all heads, which are not independent of each other. Where either quantity is
    constant or nan the correlation is nan, and so is its interval; draws in which it is are left out.

    Raises:
        InputError: a confidence that is not between 0 and 1, or fewer than one draw.

    >>> import torch
    >>> appearances, accuracy = torch.tensor([[1, 2, 3], [0, 0, 0]]), torch.tensor([[0.1, 0.2, 0.9], [0.1, 0.2, 0.3]])
    >>> agreement = rank_agreement(appearances, accuracy)
    >>> [round(within.correlation, 3) for within in agreement.within], round(agreement.pairs.correlation, 3)
    ([1.0, nan], 0.375)
    """
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence} is out of range; give a share between 0 and 1, such as 0.95.")
    often, exact = appearances.cpu().numpy(), accuracy.detach().cpu().double().numpy()
    observed = _correlations(often[:, None], exact[:, None])[0]
    chosen = [order.numpy() for order in resamples(often.shape[1], draws, seed, width=len(often))]
    drawn = np.concatenate([_correlations(often[:, order], exact[:, order]) for order in chosen])
    found = [_with_interval(float(value), drawn[:, i], confidence) for i, value in enumerate(observed)]
    return HeadAgreement(tuple(found[:-1]), found[-1])


def _correlations(
    often: Int64[np.ndarray, "head draw label"], exact: Float64[np.ndarray, "head draw label"]
) -> Float64[np.ndarray, "draw correlation"]:
    """Rank correlation within each head, then over all (head, label) pairs."""
    pairs = [values.swapaxes(0, 1).reshape(often.shape[1], -1) for values in (often, exact)]
    return np.concatenate([_spearman(often, exact), _spearman(*pairs)[None]]).T


def _spearman(a: Shaped[np.ndarray, "*draw item"], b: Shaped[np.ndarray, "*draw item"]) -> Float64[np.ndarray, "*draw"]:
    """Correlation of the ranks, ties sharing their mean rank; nan where either side is constant.

    `scipy.stats.spearmanr` warns of constant input, which is no mistake here: a head may hold no label.
    """
    ranks = [rankdata(values, axis=-1) for values in (a, b)]
    x, y = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    scale = np.sqrt((x * x).sum(axis=-1) * (y * y).sum(axis=-1))
    correlation: Float64[np.ndarray, "*draw"]
    correlation = np.divide((x * y).sum(axis=-1), scale, out=np.full(scale.shape, np.nan), where=scale != 0)
    return correlation


def _with_interval(correlation: float, drawn: Float64[np.ndarray, " draw"], confidence: float) -> Agreement:
    usable = drawn[~np.isnan(drawn)]
    if np.isnan(correlation) or len(usable) == 0:
        return Agreement(correlation, float("nan"), float("nan"))
    low, high = np.quantile(usable, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Agreement(correlation, float(low), float(high))
