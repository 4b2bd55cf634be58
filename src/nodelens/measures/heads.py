"""Which attention head is the expert for which labels: the heads' modus vivendi (paper, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from nodelens.errors import InputError


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
    nodes, labels = diagonals.shape
    if heads < 1 or nodes == 0 or nodes % heads:
        raise InputError(f"{heads} heads cannot share {nodes} nodes equally; give the network's own heads.")
    if not 1 <= ratio < float("inf"):
        raise InputError(f"ratio={ratio} is out of range; give a factor of at least 1, such as 2.")
    appearances = diagonals.reshape(heads, nodes // heads, labels).sum(dim=1)
    most, head = appearances.max(dim=0)
    others = appearances.scatter(0, head[None], 0).amax(dim=0)
    expert = (most > others) & (most.double() >= ratio * others.double())
    return HeadSpecialization(appearances, torch.where(expert, head, -1), ratio)


def superclass_occupancy(
    labels: Int[Tensor, " chosen"] | Sequence[int], superclass_of_label: Int[Tensor, " label"]
) -> Int64[Tensor, " occupancy"]:
    """How many super-classes hold exactly 0, 1, … K of the given labels (Table 4); K: the largest one's size.

    Raises:
        InputError: a label does not exist or is given twice.

    >>> superclass_occupancy([0, 1, 2], torch.tensor([7, 7, 8, 8, 9, 9]))
    tensor([1, 1, 1])
    """
    chosen = torch.as_tensor(labels, dtype=torch.int64).cpu()
    known = len(superclass_of_label)
    if len(torch.unique(chosen)) < len(chosen) or bool(((chosen < 0) | (chosen >= known)).any()):
        raise InputError(f"labels {chosen.tolist()} are no set of labels; give different ones, 0 to {known - 1}.")
    member, size = _membership(superclass_of_label)
    held = torch.bincount(member[chosen], minlength=len(size))
    return torch.bincount(held, minlength=int(size.max()) + 1)


def expected_occupancy(m: int, superclass_of_label: Int[Tensor, " label"]) -> Float64[Tensor, " occupancy"]:
    """Expected number of super-classes that hold exactly 0, 1, … K of `m` labels drawn at random (Table 4).

    Hypergeometric and exact, where the paper sampled: `Σ_c C(|c|, k) · C(L - |c|, m - k) / C(L, m)`.

    Raises:
        InputError: `m` is negative or larger than the number of labels.

    >>> expected_occupancy(1, torch.tensor([0, 0, 1]))
    tensor([1., 1., 0.], dtype=torch.float64)
    """
    labels = len(superclass_of_label)
    if not 0 <= m <= labels:
        raise InputError(f"m={m} labels cannot be drawn from {labels}; give 0 to {labels}.")
    sizes = _membership(superclass_of_label)[1].tolist()
    ways = [sum(comb(size, k) * comb(labels - size, m - k) for size in sizes if k <= m) for k in range(max(sizes) + 1)]
    return torch.tensor([float(Fraction(way, comb(labels, m))) for way in ways], dtype=torch.float64)


def _membership(
    superclass_of_label: Int[Tensor, " label"],
) -> tuple[Int64[Tensor, " label"], Int64[Tensor, " superclass"]]:
    """Super-class of each label, numbered from 0, and the size of each super-class."""
    if superclass_of_label.numel() == 0:
        raise InputError("superclass_of_label is empty; give the super-class of every label.")
    _, member, size = torch.unique(superclass_of_label.cpu(), return_inverse=True, return_counts=True)
    return member, size
