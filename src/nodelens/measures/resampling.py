"""Chance, drawn: permutations and resamples by a seed, and the p-value that they give."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from nodelens.errors import InputError

_ELEMENTS_AT_ONCE = 2**22
_ROUNDING = 1e-12


def check_draws(draws: int) -> None:
    """Raise InputError unless something is drawn.

    >>> check_draws(1000)
    """
    if draws < 1:
        raise InputError(f"draws={draws} is too few; give at least 1.")


def permutations(items: int, draws: int, seed: int, width: int = 1) -> Iterator[Int64[Tensor, "draw item"]]:
    """Random orders of `items` items, some of the `draws` at a time; one item will take `width` elements of memory.

    Raises:
        InputError: fewer than one draw.

    >>> [sorted(order) for order in next(permutations(3, draws=2, seed=0)).tolist()]
    [[0, 1, 2], [0, 1, 2]]
    """
    generator = torch.Generator().manual_seed(seed)
    for count in _portions(draws, items * width):
        yield torch.rand(count, items, dtype=torch.float64, generator=generator).argsort(dim=1)


def resamples(items: int, draws: int, seed: int, width: int = 1) -> Iterator[Int64[Tensor, "draw item"]]:
    """Items drawn with replacement, as many as there are (bootstrap); the arguments are those of `permutations`.

    Raises:
        InputError: fewer than one draw.

    >>> next(resamples(3, draws=5, seed=0)).shape
    torch.Size([5, 3])
    """
    generator = torch.Generator().manual_seed(seed)
    for count in _portions(draws, items * width):
        yield torch.randint(items, (count, items), generator=generator)


def p_value(observed: Float64[Tensor, " *value"], null: Float64[Tensor, " draw *value"]) -> Float64[Tensor, " *value"]:
    """Probability of at least as much by chance, `(1 + #{null ≥ observed}) / (1 + draws)`.

    Counting the observation among the draws keeps the test exact for any number of them: under the null,
    `P(p ≤ α) ≤ α`. An observation that is nan has no p-value: nan.

    >>> p_value(torch.tensor(2.0).double(), torch.tensor([1.0, 2.0, 3.0]).double())
    tensor(0.7500, dtype=torch.float64)
    """
    # Equal values that were added up in another order are equal: a rounding must not make a draw the smaller one.
    bound = observed - _ROUNDING * observed.abs().clamp(min=1)
    reached = (null >= bound).sum(dim=0)
    return torch.where(observed.isnan(), torch.nan, (1 + reached).double() / (1 + len(null)))


def _portions(draws: int, elements: int) -> list[int]:
    """How many draws at a time."""
    check_draws(draws)
    most = max(1, _ELEMENTS_AT_ONCE // max(1, elements))
    return [min(most, draws - start) for start in range(0, draws, most)]
