"""Diagonals assigned in advance, for networks that are pruned before they learn: A-ANDC (paper, discussion)."""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from nodelens.errors import InputError

ROUNDS = 16
"""How often every node trades labels with another. A label changes hands in half of the trades, so after these hardly
any is where it was dealt."""


def assigned_diagonals(
    nodes: int, labels: int, size: int, generator: torch.Generator
) -> Bool[Tensor, "{nodes} {labels}"]:
    """A diagonal of `size` labels for every node, each label in as many diagonals as any other, or one more.

    The labels are dealt in turn, then nodes trade them in random pairs, which changes neither how many a node has
    nor how many nodes a label has (Carstens et al. 2018, global curveball).

    Args:
        nodes: of the site.
        labels: of the data.
        size: labels in the diagonal of a node.
        generator: on the CPU; the same state gives the same diagonals.

    Raises:
        InputError: no label for a node, or more than there are.

    >>> import torch
    >>> diagonals = assigned_diagonals(6, 4, 2, torch.Generator().manual_seed(0))
    >>> diagonals.sum(dim=1).tolist(), diagonals.sum(dim=0).tolist()
    ([2, 2, 2, 2, 2, 2], [3, 3, 3, 3])
    """
    if not 1 <= size <= labels:
        raise InputError(f"a node cannot have {size} of {labels} labels; give 1 to {labels}")
    deck = torch.randperm(labels, generator=generator)
    dealt = deck[torch.arange(nodes * size) % labels].reshape(nodes, size)
    diagonals = torch.zeros(nodes, labels, dtype=torch.bool).scatter_(1, dealt, True)
    for _ in range(ROUNDS):
        diagonals = _traded(diagonals, generator)
    return diagonals


def _traded(diagonals: Bool[Tensor, "node label"], generator: torch.Generator) -> Bool[Tensor, "node label"]:
    """The nodes in random pairs; what only one of a pair has is dealt between the two at random."""
    first, second = torch.randperm(len(diagonals), generator=generator)[: len(diagonals) // 2 * 2].view(2, -1)
    both, either = diagonals[first] & diagonals[second], diagonals[first] ^ diagonals[second]
    scores = torch.rand(either.shape, generator=generator).masked_fill(~either, 2.0)
    rank = scores.argsort(dim=1).argsort(dim=1)
    given = rank < either.sum(dim=1, keepdim=True) // 2
    traded = diagonals.clone()
    traded[first], traded[second] = both | given, both | (either & ~given)
    return traded
