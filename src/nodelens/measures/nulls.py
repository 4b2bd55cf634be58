"""What chance gives: a site's statistics after the labels of its class means are permuted.

Class means and weights that are merely correlated at random give numbers near those of Table 1, so each
statistic of a site stands beside its value under this null. A permutation keeps every node's means, its
weights and the dependence among nodes, and breaks only the tie between a label's input and its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nodelens.errors import InputError
from nodelens.measures.nodal import NodalMatrices
from nodelens.measures.statistics import STATISTICS, sweep_orders


@dataclass(frozen=True)
class Null:
    """Mean and standard deviation of every scalar statistic (STATISTICS) over `draws` permutations.

    `std` is the sample standard deviation: 0 for a single draw, infinite where a draw is (an SNR without
    noise).
    """

    mean: dict[str, float]
    std: dict[str, float]
    draws: int


def permutation_null(
    matrices: NodalMatrices,
    threshold: float = 0.3,
    method: str = "greedy",
    permutations: int = 20,
    seed: int = 0,
) -> Null:
    """Permute the labels of the class means against the weights, alike in all nodes, and measure again.

    Raises:
        InputError: fewer than one permutation, a threshold that is not between 0 and 1, or no such method.

    >>> matrices = NodalMatrices(torch.eye(50), torch.eye(50))
    >>> permutation_null(matrices, permutations=3).mean["diagonal"] < 0.1
    True
    """
    return permutation_nulls(matrices, [threshold], method, permutations, seed)[0]


def permutation_nulls(
    matrices: NodalMatrices,
    thresholds: Sequence[float],
    method: str = "greedy",
    permutations: int = 20,
    seed: int = 0,
) -> list[Null]:
    """`permutation_null` at each of several thresholds, with the same permutations.

    Raises:
        InputError: fewer than one permutation, a threshold that is not between 0 and 1, or no such method.
    """
    if permutations < 1:
        raise InputError(f"permutations={permutations} is too few; give at least 1.")
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(matrices.labels, generator=generator) for _ in range(permutations)]
    drawn = sweep_orders(matrices, thresholds, method, orders)
    return [_null([draw.scalars() for draw in at_threshold]) for at_threshold in zip(*drawn, strict=True)]


def _null(draws: Sequence[Mapping[str, float]]) -> Null:
    values = {name: np.array([draw[name] for draw in draws]) for name in STATISTICS}
    return Null(
        mean={name: float(value.mean()) for name, value in values.items()},
        std={name: _spread(value) for name, value in values.items()},
        draws=len(draws),
    )


def _spread(values: np.ndarray) -> float:
    if not np.isfinite(values).all():
        return float("inf")
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
