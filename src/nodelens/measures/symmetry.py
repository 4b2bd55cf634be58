"""How far the symmetry among the heads of a block is broken, beside what chance gives (paper, section 4).

Order parameters of the symmetry breaking, for the paper's question whether it sets in along the blocks like a
phase transition; and their null.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from nodelens.measures.heads import RATIOS, head_appearances, ratio_sweep
from nodelens.measures.resampling import p_value, permutations

BAND = (0.025, 0.975)
"""Quantiles between which chance falls 95 times in 100."""


@dataclass(frozen=True, eq=False)
class BesideChance:
    """Quantities beside their null.

    Attributes:
        observed: what was measured.
        mean, std: over the draws of the null; `std` is the sample standard deviation, 0 for a single draw.
        low, high: quantiles of the null at BAND.
        p_value: probability of at least as much by chance, `(1 + #{null ≥ observed}) / (1 + draws)`.
    """

    observed: Float64[Tensor, "*quantity"]
    mean: Float64[Tensor, "*quantity"]
    std: Float64[Tensor, "*quantity"]
    low: Float64[Tensor, "*quantity"]
    high: Float64[Tensor, "*quantity"]
    p_value: Float64[Tensor, "*quantity"]

    def __getitem__(self, index: int | slice) -> BesideChance:
        """Some of the quantities."""
        values = (self.observed, self.mean, self.std, self.low, self.high, self.p_value)
        return BesideChance(*(value[index] for value in values))


@dataclass(frozen=True, eq=False)
class SymmetryBreaking:
    """The symmetry breaking among the heads of one block, each number beside its null.

    Attributes:
        ratios: factors of the assignment rule.
        draws: number of draws of the null.
        owned: labels with symmetry breaking, in all heads together, one per ratio (Fig. 10).
        participation: normalised participation of the leading head, 0 to 1.
        information: mutual information between label and head, in bits.
    """

    ratios: tuple[float, ...]
    draws: int
    owned: BesideChance
    participation: BesideChance
    information: BesideChance


def head_participation(appearances: Int64[Tensor, "*draw head label"]) -> Float64[Tensor, "*draw"]:
    """Normalised participation of the leading head, the mean over labels that appear.

    `(max_h p_hl - 1/H) / (1 - 1/H)` with `p_hl = A_hl / Σ_h A_hl`: 0 where all heads hold a label equally
    often, 1 where only one does. Few appearances make it large by chance alone. It is nan for a single head,
    whose symmetry cannot be broken, and where no label appears.

    >>> head_participation(torch.tensor([[4, 2, 0], [0, 2, 0]]))
    tensor(0.5000, dtype=torch.float64)
    """
    counts = appearances.double()
    even = 1 / counts.shape[-2]
    leading = counts.amax(dim=-2) / counts.sum(dim=-2)
    return ((leading - even) / (1 - even)).nanmean(dim=-1)


def head_information(appearances: Int64[Tensor, "*draw head label"]) -> Float64[Tensor, "*draw"]:
    """Mutual information between label and head, in bits: what an appearance's label tells of its head.

    `Σ_hl p_hl log2(p_hl / (p_h p_l))` with `p_hl = A_hl / Σ A`: 0 where every head shares out its appearances
    alike among the labels (so for a single head), at most `log2 H`. Few appearances make it large by chance
    alone. It is nan where no label appears.

    >>> head_information(torch.tensor([[3, 0], [0, 3]])), head_information(torch.tensor([[2, 4], [1, 2]]))
    (tensor(1., dtype=torch.float64), tensor(0., dtype=torch.float64))
    """
    counts = appearances.double()
    total = counts.sum(dim=(-2, -1), keepdim=True)
    # In whole numbers up to the quotient: independent heads give a logarithm of exactly 1.
    lift = counts * total / (counts.sum(dim=-2, keepdim=True) * counts.sum(dim=-1, keepdim=True))
    terms = torch.where(counts > 0, counts * lift.log2(), 0.0)
    return (terms.sum(dim=(-2, -1)) / total[..., 0, 0]).clamp(min=0)


def symmetry_breaking(
    diagonals: Bool[Tensor, "node label"],
    heads: int,
    ratios: Sequence[float] = RATIOS,
    draws: int = 1000,
    seed: int = 0,
) -> SymmetryBreaking:
    """Measure the symmetry breaking among heads, and again with the nodes permuted among the heads.

    If it does not matter to which head a node belongs, every permutation of the nodes is as likely as the one
    observed: the p-values are exact for precisely this question. Each node keeps its diagonal, hence the
    clusters of labels that occur together, and each label keeps its appearances in total. Permuting labels
    instead (within a head, or the class means against the weights as `permutation_null` does) would mix labels
    that all heads recognise often with labels that none does, and tear clusters apart. Such a null asks whether
    labels differ or whether there are clusters at all; it would be rejected without any difference among heads.

    Args:
        heads: number of heads, which own equal runs of the nodes.
        ratios: factors of the assignment rule.
        draws: number of permutations.

    Raises:
        InputError: the heads do not divide the nodes, a ratio is below 1, fewer than one draw.

    >>> experts = torch.eye(2, dtype=torch.bool).repeat_interleave(8, dim=0)
    >>> found = symmetry_breaking(experts, heads=2, ratios=[2.0], draws=99)
    >>> found.owned.observed, found.participation.observed, found.information.p_value
    (tensor([2.], dtype=torch.float64), tensor(1., dtype=torch.float64), tensor(0.0100, dtype=torch.float64))
    """
    observed = _quantities(head_appearances(diagonals, heads), ratios)
    null = torch.cat([_quantities(drawn, ratios) for drawn in shuffled_appearances(diagonals, heads, draws, seed)])
    compared = _beside(observed, null)
    return SymmetryBreaking(tuple(ratios), draws, compared[:-2], compared[-2], compared[-1])


def shuffled_appearances(
    diagonals: Bool[Tensor, "node label"], heads: int, draws: int, seed: int
) -> Iterator[Int64[Tensor, "draw head label"]]:
    """Appearances of each label in each head after the nodes are permuted among the heads, some draws at a time.

    >>> next(shuffled_appearances(torch.ones(4, 1, dtype=torch.bool), heads=2, draws=3, seed=0)).flatten()
    tensor([2, 2, 2, 2, 2, 2])
    """
    nodes, labels = diagonals.shape
    owner = torch.arange(nodes) // (nodes // heads)
    # In float64 a matrix product of zeros and ones is a count.
    held = diagonals.cpu().double()
    for order in permutations(nodes, draws, seed, width=heads + labels):
        belongs = F.one_hot(owner[order], heads).double()
        yield (belongs.transpose(1, 2) @ held).long()


def _quantities(
    appearances: Int64[Tensor, "*draw head label"], ratios: Sequence[float]
) -> Float64[Tensor, "*draw quantity"]:
    """Labels owned in total per ratio, then the two order parameters."""
    appearances = appearances.cpu()
    owned = ratio_sweep(appearances, ratios).sum(dim=-1).double()
    order = torch.stack([head_participation(appearances), head_information(appearances)], dim=-1)
    return torch.cat([owned, order], dim=-1)


def _beside(observed: Float64[Tensor, " quantity"], null: Float64[Tensor, "draw quantity"]) -> BesideChance:
    low, high = torch.from_numpy(np.quantile(null.numpy(), BAND, axis=0))
    return BesideChance(
        observed=observed,
        mean=null.mean(dim=0),
        std=null.std(dim=0, correction=min(1, len(null) - 1)),
        low=low,
        high=high,
        p_value=p_value(observed, null),
    )
