"""Which attention head is the expert for which labels: the heads' modus vivendi (paper, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor
from torch.nn import functional as F

from nodelens.errors import InputError

RATIOS = tuple(step / 20 for step in range(20, 61))
"""Factors of the assignment rule from 1 to 3, the range of Fig. 10."""


@dataclass(frozen=True, eq=False)
class HeadSpecialization:
    """Appearances of each label in each head's diagonals (Fig. 7), and the head that specialises in it.

    `head_of_label` is -1 for a label that is nobody's. `ratio` is the rule's factor, Th_Ratio in Fig. 10.
    """

    appearances: Int64[Tensor, "head label"]
    head_of_label: Int64[Tensor, " label"]
    ratio: float

    @property
    def labels_per_head(self) -> Int64[Tensor, " head"]:
        """Number of labels that each head specialises in (Tables 4 and 5)."""
        owned = self.head_of_label[self.head_of_label >= 0]
        return torch.bincount(owned, minlength=len(self.appearances))

    @property
    def broken(self) -> Bool[Tensor, " label"]:
        """Labels with symmetry breaking: those that some head specialises in."""
        return self.head_of_label >= 0

    def _repr_html_(self) -> str:
        from nodelens.report.notebook import specialization_html

        return specialization_html(self)


def check_heads(heads: int, nodes: int) -> None:
    """Raise InputError unless so many heads can share the nodes equally.

    >>> check_heads(4, 256)
    """
    if heads < 1 or nodes == 0 or nodes % heads:
        raise InputError(f"{heads} heads cannot share {nodes} nodes equally; give the network's own heads.")


def check_ratio(ratio: float) -> None:
    """Raise InputError unless the factor of the assignment rule is finite and at least 1.

    >>> check_ratio(2.0)
    """
    if not 1 <= ratio < float("inf"):
        raise InputError(f"ratio={ratio} is out of range; give a factor of at least 1, such as 2.")


def head_appearances(diagonals: Bool[Tensor, "node label"], heads: int) -> Int64[Tensor, "head label"]:
    """Number of each head's nodes whose diagonal holds each label, `A[h, l]` (Fig. 7).

    Head `h` of `heads` owns the nodes `h · nodes/heads` up to `(h + 1) · nodes/heads - 1`.

    Raises:
        InputError: the heads do not divide the nodes.

    >>> head_appearances(torch.tensor([[True, False], [True, True]]), heads=1)
    tensor([[2, 1]])
    """
    nodes, labels = diagonals.shape
    check_heads(heads, nodes)
    return diagonals.reshape(heads, nodes // heads, labels).sum(dim=1)


def head_specialization(diagonals: Bool[Tensor, "node label"], heads: int, ratio: float = 2.0) -> HeadSpecialization:
    """Assign to each head the labels that appear in its diagonals `ratio` times as often as in any other's.

    Head `h` of `heads` owns the nodes `h · nodes/heads` up to `(h + 1) · nodes/heads - 1`, and specialises in
    label `l` iff `A[h, l] > 0` and `A[h, l] ≥ ratio · A[h', l]` for every other head `h'` (section 4). A tie
    belongs to nobody, also with ratio 1.

    Raises:
        InputError: the heads do not divide the nodes, or the ratio is below 1.

    >>> diagonals = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]], dtype=torch.bool)
    >>> specialization = head_specialization(diagonals, heads=2)
    >>> specialization.head_of_label, specialization.labels_per_head
    (tensor([ 0, -1, -1]), tensor([1, 0]))
    """
    appearances = head_appearances(diagonals, heads)
    check_ratio(ratio)
    most, others, head = _leading(appearances)
    expert = (most > others) & (most.double() >= _bound(ratio, others))
    return HeadSpecialization(appearances, torch.where(expert, head, -1), ratio)


def ratio_sweep(
    appearances: Int64[Tensor, "*draw head label"], ratios: Sequence[float] = RATIOS
) -> Int64[Tensor, "*draw ratio head"]:
    """Number of labels that each head specialises in, for each factor of the assignment rule (Fig. 10).

    Only the appearances are needed, any number of them at once: the leading head and the runner-up of a label
    are the same for every ratio.

    Raises:
        InputError: a ratio is below 1.

    >>> ratio_sweep(torch.tensor([[4, 3, 0], [2, 2, 0]]), [1.0, 2.0, 3.0])
    tensor([[2, 0],
            [1, 0],
            [0, 0]])
    """
    for ratio in ratios:
        check_ratio(ratio)
    most, others, head = _leading(appearances)
    factors = torch.tensor(ratios, dtype=torch.float64, device=most.device)[:, None]
    expert = (most > others)[..., None, :] & (most[..., None, :].double() >= _bound(factors, others[..., None, :]))
    belongs = F.one_hot(head, appearances.shape[-2])
    return (expert.double() @ belongs.double()).long()


def _bound(ratio: float | Float64[Tensor, "ratio 1"], others: Int64[Tensor, "*label"]) -> Float64[Tensor, "*bound"]:
    """`ratio · A`, less what rounding may have added: 1.1 · 50 is 55.000000000000007, and 55 is enough."""
    return ratio * others.double() * (1 - 1e-12)


def _leading(
    appearances: Int64[Tensor, "*draw head label"],
) -> tuple[Int64[Tensor, "*draw label"], Int64[Tensor, "*draw label"], Int64[Tensor, "*draw label"]]:
    """Each label's appearances in its leading head, the most in any other head, and the leading head."""
    most, head = appearances.max(dim=-2)
    others = appearances.scatter(-2, head.unsqueeze(-2), 0).amax(dim=-2)
    return most, others, head
