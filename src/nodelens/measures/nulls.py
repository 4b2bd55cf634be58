"""What chance gives: a site's statistics after the labels of its class means are permuted.

Class means and weights that are merely correlated at random give numbers near those of Table 1, so each
statistic of a site stands beside its value under this null. A permutation keeps every node's means, its
weights and the dependence among nodes, and breaks only the tie between a label's input and its output.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nodelens.errors import InputError
from nodelens.measures.nodal import NodalMatrices
from nodelens.measures.statistics import STATISTICS, site_statistics


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
    if permutations < 1:
        raise InputError(f"permutations={permutations} is too few; give at least 1.")
    generator = torch.Generator().manual_seed(seed)
    draws = [site_statistics(_permuted(matrices, generator), threshold, method).scalars() for _ in range(permutations)]
    values = {name: np.array([draw[name] for draw in draws]) for name in STATISTICS}
    return Null(
        mean={name: float(value.mean()) for name, value in values.items()},
        std={name: _spread(value) for name, value in values.items()},
        draws=permutations,
    )


def _permuted(matrices: NodalMatrices, generator: torch.Generator) -> NodalMatrices:
    order = torch.randperm(matrices.labels, generator=generator).to(matrices.class_means.device)
    return NodalMatrices(matrices.class_means[order], matrices.weight)


def _spread(values: np.ndarray) -> float:
    if not np.isfinite(values).all():
        return float("inf")
    return float(values.std(ddof=1)) if len(values) > 1 else 0.0
