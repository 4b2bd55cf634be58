"""Nodal matrices of convolution filters that own several positions: `F = Σ_p μ_p ⊗ W_p`.

Their rank is the number of positions, so the shortcuts for outer products do not hold: each matrix is formed,
a few nodes at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodelens.measures.clusters import Clustering, check_method


@dataclass(frozen=True)
class FilterBlock:
    """The nodal matrices of some filters of a site, in float64.

    Attributes:
        fields: rows: label of the input; columns: output.

    >>> block = FilterBlock.of(np.ones((1, 2, 3)), np.ones((1, 2, 3)))
    >>> block.maxima()
    array([3.])
    """

    fields: Float64[np.ndarray, "node label label"]

    @classmethod
    def of(
        cls,
        means: Float64[np.ndarray, "node label position"],
        weight: Float64[np.ndarray, "node label position"],
    ) -> FilterBlock:
        """The filters with these means and weights at every position.

        Positions are added one after the other, ascending: each product of two float32 is exact in float64,
        so the order of the sum fixes every bit of it, which a matrix product would leave open.
        """
        fields = np.zeros((*means.shape[:2], weight.shape[1]))
        for position in range(means.shape[2]):
            fields += means[:, :, None, position] * weight[:, None, :, position]
        return cls(fields)

    def permuted(self, order: Int64[np.ndarray, " label"]) -> FilterBlock:
        """The same filters, the labels of their means in another order: the rows of their matrices."""
        return FilterBlock(self.fields[:, order])

    def maxima(self) -> Float64[np.ndarray, " node"]:
        """Largest element of each nodal matrix."""
        highest: Float64[np.ndarray, " node"] = self.fields.max(axis=(1, 2))
        return highest

    def diagonal(self) -> Float64[np.ndarray, "node label"]:
        """The diagonal elements of each nodal matrix."""
        return np.diagonal(self.fields, axis1=1, axis2=2)

    def count_above(self, bound: Float64[np.ndarray, " node"]) -> Int64[np.ndarray, " node"]:
        """How many elements of each nodal matrix are above its bound, `ΣB`."""
        above = self.fields > bound[:, None, None]
        counts: Int64[np.ndarray, " node"] = np.count_nonzero(above, axis=(1, 2)).astype(np.int64)
        return counts

    def clusters(self, bound: Float64[np.ndarray, " node"], method: str) -> Clustering:
        """The clusters of every filter by either rule.

        `maximum` is NP-hard for these matrices: it is exact, and slow where a filter holds hundreds of labels.
        Of equally large clusters, the one whose labels come first is taken.
        """
        check_method(method)
        rule = greedy_cliques if method == "greedy" else maximum_cliques
        return _clustering(self.fields > bound[:, None, None], rule)

    def label_field(
        self, maxima: Float64[np.ndarray, " node"], clustering: Clustering, total: Float64[np.ndarray, " label"]
    ) -> Float64[np.ndarray, " label"]:
        """`total` and, on each output, the elements in the clusters' blocks: `Σ_{i in S} F_ij / max F`.

        Labels and nodes are added one after the other, ascending: the order fixes every bit of the sum.
        """
        cluster = clustering.index().numpy()
        inside = (cluster[:, :, None] == cluster[:, None, :]) & (cluster >= 0)[:, None, :]
        on_output = np.add.reduce(np.where(inside, self.fields, 0.0), axis=1)
        shares = on_output / np.where(maxima > 0, maxima, 1.0)[:, None]
        found: Float64[np.ndarray, " label"] = np.cumsum(np.concatenate([total[None], shares]), axis=0)[-1]
        return found


Cliques = list[list[int]]


def greedy_cliques(above: Bool[np.ndarray, "label label"]) -> Cliques:
    """Clusters of one boolean nodal matrix by the greedy rule, in the order in which they are opened.

    >>> greedy_cliques(np.array([[1, 0, 1], [1, 1, 1], [1, 0, 1]], dtype=bool))
    [[0, 2], [1]]
    """
    mutual = above & above.T
    left = np.diagonal(above).copy()
    cliques: Cliques = []
    while left.any():
        clique, allowed = [], left.copy()
        while allowed.any():
            label = int(allowed.argmax())
            clique.append(label)
            allowed &= mutual[label]
            allowed[label] = False
        left[clique] = False
        cliques.append(clique)
    return cliques


def maximum_cliques(above: Bool[np.ndarray, "label label"]) -> Cliques:
    """Clusters of one boolean nodal matrix, each the largest possible among the labels left.

    >>> maximum_cliques(np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]], dtype=bool))
    [[1, 2, 3], [0]]
    """
    neighbours = [_bits(row) for row in above & above.T]
    left = _bits(np.diagonal(above))
    cliques: Cliques = []
    while left:
        cliques.append(largest_clique(neighbours, left))
        left &= ~sum(1 << label for label in cliques[-1])
    return cliques


def _bits(flags: Bool[np.ndarray, " label"]) -> int:
    """A set of labels as an integer, label `i` its bit `i`."""
    return int.from_bytes(np.packbits(flags, bitorder="little").tobytes(), "little")


def _members(bits: int) -> Iterator[int]:
    """The labels of a set, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def largest_clique(neighbours: Sequence[int], candidates: int) -> list[int]:
    """The largest set of mutual neighbours among the candidates; of equally large ones the one that comes first.

    Branch and bound over ascending labels: a branch is left where even its colours, of which a clique needs one
    per label, would not give a larger clique than the best so far. It begins with its first clique, than which no
    other of its cliques comes earlier.

    Args:
        neighbours: per label, its neighbours as bits (itself may be among them).
        candidates: the labels to choose from, as bits; at least one.

    >>> largest_clique([0b0010, 0b1101, 0b1010, 0b0110], 0b1111)
    [1, 2, 3]
    """
    best: list[int] = []
    # What is still to be tried at each depth; a clique may have more labels than Python calls itself.
    branches: list[tuple[list[int], int, Iterator[tuple[int, int]]]] = []

    def open_branch(clique: list[int], allowed: int) -> None:
        nonlocal best
        first = [*clique, *_first_clique(neighbours, allowed)]
        best = first if len(first) > len(best) else best
        branches.append((clique, allowed, iter(_colours_from(neighbours, allowed))))

    open_branch([], candidates)
    while branches:
        clique, allowed, untried = branches.pop()
        label, colours = next(untried, (0, 0))
        if len(clique) + colours > len(best):
            allowed &= ~(1 << label)
            branches.append((clique, allowed, untried))
            open_branch([*clique, label], allowed & neighbours[label])
    return best


def _first_clique(neighbours: Sequence[int], candidates: int) -> Iterator[int]:
    """Each label, ascending, that is a neighbour of all taken before: where a search begins."""
    while candidates:
        label = next(_members(candidates))
        yield label
        candidates &= neighbours[label] & ~(1 << label)


def _colours_from(neighbours: Sequence[int], candidates: int) -> list[tuple[int, int]]:
    """Every label, ascending, with the number of colours that it and the labels after it take.

    Neighbours have different colours, so that no clique among those labels is larger than their number.
    """
    coloured: list[int] = []
    found = []
    for label in reversed(list(_members(candidates))):
        k = next((k for k, same in enumerate(coloured) if not same & neighbours[label]), len(coloured))
        if k == len(coloured):
            coloured.append(0)
        coloured[k] |= 1 << label
        found.append((label, len(coloured)))
    return found[::-1]


def _clustering(
    above: Bool[np.ndarray, "node label label"],
    rule: Callable[[Bool[np.ndarray, "label label"]], Cliques],
) -> Clustering:
    """Apply a rule to every node and number the clusters through."""
    owned = [(node, clique) for node, matrix in enumerate(above) for clique in rule(matrix)]
    owner = np.array([node for node, _ in owned], dtype=np.int64)
    sizes = np.array([len(clique) for _, clique in owned], dtype=np.int64)
    label = np.array([label for _, clique in owned for label in clique], dtype=np.int64)
    cluster = np.repeat(np.arange(len(owned), dtype=np.int64), sizes)
    return Clustering(len(above), above.shape[1], np.repeat(owner, sizes), label, cluster, owner)
