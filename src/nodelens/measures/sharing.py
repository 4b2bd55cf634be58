"""Do heads that share keys and values stand for the same labels?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures.heads import check_heads
from nodelens.measures.resampling import p_value, permutations

DRAWS = 10_000


@dataclass(frozen=True, eq=False)
class SharedLabels:
    """How alike the appearances of labels are in two heads that share keys and values, and in two that do not.

    Attributes:
        within: mean Pearson correlation over the labels, of pairs of heads that share; one for each block.
        between: of all other pairs.
        p_value: of so large a mean difference of the two over the blocks, heads being put into groups by chance.
    """

    within: Float64[Tensor, " block"]
    between: Float64[Tensor, " block"]
    p_value: float


def shared_labels(
    appearances: Sequence[Float[Tensor, "_head label"]], sharing: Sequence[int], draws: int = DRAWS, seed: int = 0
) -> SharedLabels:
    """Whether labels appear alike often in heads that share keys and values, over some blocks together.

    A head in which all labels appear equally often correlates with none, and its pairs are left out. Few heads have
    few groupings: for four that share by pairs there are three, so that one block alone cannot have p < 1/3.

    Args:
        appearances: for each block, how often each label appears in each head's diagonals (Fig. 7).
        sharing: for each block, how many neighbouring heads share keys and values.

    Raises:
        InputError: heads that all share or of which none do, or groups that do not divide them; fewer than one draw.

    >>> alike = torch.tensor([[3.0, 0, 0, 1], [2.0, 0, 0, 1], [0.0, 3, 1, 0], [0.0, 2, 2, 0]])
    >>> found = shared_labels([alike, alike.flip(1)], [2, 2])
    >>> bool((found.within > 0.5).all()), bool((found.between < 0).all()), round(found.p_value, 1)
    (True, True, 0.1)
    """
    observed, null = [], []
    for block, (of_heads, group) in enumerate(zip(appearances, sharing, strict=True)):
        heads = len(of_heads)
        check_heads(group, heads)
        if not 1 < group < heads:
            raise InputError(f"of {heads} heads {group} share keys and values; there is nothing to compare.")
        correlation = torch.corrcoef(of_heads.double())
        same = torch.arange(heads) // group
        observed.append(_both(correlation, same[None]))
        orders = permutations(heads, draws, seed + block, width=heads)
        null.append(torch.cat([_both(correlation, same[some]) for some in orders]))
    within, between = torch.cat(observed).unbind(dim=1)
    drawn = torch.stack(null)  # (block, draw, 2)
    difference = (drawn[..., 0] - drawn[..., 1]).mean(dim=0)
    by_chance = difference[~difference.isnan()]  # groupings in which no two heads can be compared say nothing
    return SharedLabels(within, between, float(p_value((within - between).mean(), by_chance)))


def _both(
    correlation: Float64[Tensor, "head head"], group_of_head: Int64[Tensor, "draw head"]
) -> Float64[Tensor, "draw 2"]:
    """Mean correlation of pairs within a group, and of the others."""
    together = group_of_head[:, :, None] == group_of_head[:, None, :]
    pairs = torch.ones_like(correlation, dtype=torch.bool).tril(diagonal=-1) & ~correlation.isnan()
    return torch.stack([_mean(correlation, pairs & together), _mean(correlation, pairs & ~together)], dim=1)


def _mean(values: Float64[Tensor, "head head"], chosen: Bool[Tensor, "draw head head"]) -> Float64[Tensor, " draw"]:
    return torch.where(chosen, values, 0.0).sum(dim=(1, 2)) / chosen.sum(dim=(1, 2))
