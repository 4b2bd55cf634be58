"""How the labels of a head fall into super-classes, and how often chance does as much (paper, Table 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import comb

import numpy as np
import torch
from jaxtyping import Float64, Int, Int64
from scipy.stats import hypergeom
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures.heads import HeadSpecialization


@dataclass(frozen=True, eq=False)
class OccupancyTest:
    """The super-classes that hold the labels of one head, beside as many labels drawn at random (Table 4).

    Attributes:
        labels: number of labels.
        occupancy: super-classes that hold exactly 0, 1, … K of the labels.
        expected: the same on average over random labels.
        at_least: super-classes that hold at least 1, 2, … K of the labels.
        p_value: probability that random labels fill as many super-classes or more with at least 1, 2, … K.
    """

    labels: int
    occupancy: Int64[Tensor, " occupancy"]
    expected: Float64[Tensor, " occupancy"]
    at_least: Int64[Tensor, " filling"]
    p_value: Float64[Tensor, " filling"]


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
        raise InputError(f"labels {chosen.tolist()} repeat or are out of range; give different ones, 0 to {known - 1}.")
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


def occupancy_test(
    labels: Int[Tensor, " chosen"] | Sequence[int], superclass_of_label: Int[Tensor, " label"]
) -> OccupancyTest:
    """Does a head fill more super-classes than as many labels drawn at random would (Table 4)?

    For each k from 1 to K the statistic is `T_k`, the number of super-classes that hold at least k of the
    labels, and the p-value is `P(T_k of random labels ≥ T_k)` over all sets of as many labels, each equally
    likely. Nothing is sampled: the distribution of `T_k` is added up super-class by super-class. The K tests
    of one head depend on each other and are not corrected for their number; only k ≥ 2 speaks of labels that
    keep together, for which `T_1` gets smaller.

    Raises:
        InputError: a label does not exist or is given twice.

    >>> test = occupancy_test([0, 1], torch.tensor([7, 7, 8, 8]))
    >>> test.at_least, test.p_value
    (tensor([1, 1]), tensor([1.0000, 0.3333], dtype=torch.float64))
    """
    occupancy = superclass_occupancy(labels, superclass_of_label)
    at_least = occupancy.flip(0).cumsum(0).flip(0)[1:]
    sizes = _membership(superclass_of_label)[1].numpy()
    return OccupancyTest(
        labels=len(labels),
        occupancy=occupancy,
        expected=expected_occupancy(len(labels), superclass_of_label),
        at_least=at_least,
        p_value=torch.from_numpy(_tails(len(labels), sizes, at_least.numpy())),
    )


def head_occupancy(
    specialization: HeadSpecialization, superclass_of_label: Int[Tensor, " _label"] | Sequence[int]
) -> list[OccupancyTest]:
    """The super-classes of the labels that each head specialises in, head by head (Table 4).

    Raises:
        InputError: there is not one super-class for each label.

    >>> owner = torch.tensor([0, 0, 1, -1])
    >>> specialization = HeadSpecialization(torch.ones(2, 4, dtype=torch.int64), owner, ratio=2.0)
    >>> [test.occupancy.tolist() for test in head_occupancy(specialization, [0, 0, 1, 1])]
    [[1, 0, 1], [1, 1, 0]]
    """
    superclasses = torch.as_tensor(superclass_of_label, dtype=torch.int64)
    owner = specialization.head_of_label.cpu()
    if len(superclasses) != len(owner):
        raise InputError(
            f"superclass_of_label has {len(superclasses)} entries but there are {len(owner)} labels; "
            "give the super-class of every label."
        )
    heads = range(len(specialization.appearances))
    return [occupancy_test(torch.nonzero(owner == head).flatten(), superclasses) for head in heads]


def _tails(
    m: int, sizes: Int64[np.ndarray, " superclass"], at_least: Int64[np.ndarray, " filling"]
) -> Float64[np.ndarray, " filling"]:
    """For k from 1 to K: probability that as many super-classes or more hold at least k of `m` random labels.

    The super-classes take their share one after the other, each a hypergeometric part of what is left:
    `joint[k - 1, n, t]` is the probability that n labels are left to draw and t super-classes hold at least k so
    far. All terms are positive, so float64 loses no more than roundings.
    """
    joint = np.zeros((len(at_least), m + 1, len(sizes) + 1))
    joint[:, m, 0] = 1.0
    left = int(sizes.sum())
    for size in sizes.tolist():
        joint = _after_superclass(joint, left, size)
        left -= size
    drawn = zip(joint[:, 0], at_least, strict=True)
    return np.array([1.0 if reached == 0 else min(1.0, float(row[reached:].sum())) for row, reached in drawn])


def _after_superclass(
    joint: Float64[np.ndarray, "filling undrawn filled"], left: int, size: int
) -> Float64[np.ndarray, "filling undrawn filled"]:
    """Let the next super-class, `size` of the `left` labels, take part in the draw."""
    after = np.zeros_like(joint)
    undrawn = np.arange(joint.shape[1])
    possible = undrawn <= left
    for held in range(min(size, len(undrawn) - 1) + 1):
        share = np.zeros(len(undrawn))
        share[possible] = hypergeom.pmf(held, left, size, undrawn[possible])
        taken = joint[:, held:] * share[held:, None]
        until = len(undrawn) - held
        # The first rows ask for at most as many labels as the super-class now holds.
        after[:held, :until, 1:] += taken[:held, :, :-1]
        after[held:, :until] += taken[held:]
    return after


def _membership(
    superclass_of_label: Int[Tensor, " label"],
) -> tuple[Int64[Tensor, " label"], Int64[Tensor, " superclass"]]:
    """Super-class of each label, numbered from 0, and the size of each super-class."""
    if superclass_of_label.numel() == 0:
        raise InputError("superclass_of_label is empty; give the super-class of every label.")
    _, member, size = torch.unique(superclass_of_label.cpu(), return_inverse=True, return_counts=True)
    return member, size
