"""Labels of one sign, row after row: the flat layout in which an outer product is cheap.

An element `μ_i · W_j` of a nodal matrix can be above a positive threshold only if both factors have the
same sign. A node therefore falls apart into two rows, row `2k` with the positive and row `2k + 1` with the
negative labels of node `k`, and inside a row only absolute values matter. Rows lie one after the other in
flat arrays, so that a few labels in one node and many in the next cost no padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64, Int64

_PIECE = 2**14
"""Queries bisected at a time: their bookkeeping then stays in the cache, which is twice as fast."""


@dataclass(frozen=True)
class LabelRows:
    """The labels in the diagonals of some nodes, one row per node and sign, labels ascending in a row.

    `mean` and `weight` are the absolute values of `μ_i` and `W_i`; `bound` is the threshold of each row,
    in the units of a field.
    """

    row: Int64[np.ndarray, " entry"]
    label: Int64[np.ndarray, " entry"]
    mean: Float64[np.ndarray, " entry"]
    weight: Float64[np.ndarray, " entry"]
    bound: Float64[np.ndarray, " row"]

    @property
    def starts(self) -> Int64[np.ndarray, " edge"]:
        """Where each row begins, and behind the last row its end: (rows + 1,)."""
        return row_starts(self.row, len(self.bound))


def row_starts(row: Int64[np.ndarray, " entry"], rows: int) -> Int64[np.ndarray, " edge"]:
    """Where each of `rows` rows begins in a flat array whose entries are grouped by row: (rows + 1,).

    >>> row_starts(np.array([0, 0, 2]), rows=3)
    array([0, 2, 2, 3])
    """
    return np.concatenate([[0], np.bincount(row, minlength=rows).cumsum()])


def split_signs(
    selected: Bool[np.ndarray, "node label"], sign_of: Float64[np.ndarray, "node label"]
) -> tuple[Int64[np.ndarray, " entry"], Int64[np.ndarray, " entry"]]:
    """Row and label of every selected element, the row chosen by the sign of `sign_of`; zeros are dropped."""
    by_sign = np.stack([selected & (sign_of > 0), selected & (sign_of < 0)], axis=1)
    row, label = np.nonzero(by_sign.reshape(-1, selected.shape[1]))
    return row, label


def diagonal_rows(
    means: Float64[np.ndarray, "node label"],
    weight: Float64[np.ndarray, "node label"],
    bound: Float64[np.ndarray, " node"],
) -> LabelRows:
    """The labels `i` with `μ_i · W_i > bound`, split by sign.

    >>> rows = diagonal_rows(np.array([[2.0, -1.0, 1.0]]), np.array([[2.0, -1.0, 0.1]]), np.array([0.5]))
    >>> rows.row, rows.label
    (array([0, 1]), array([0, 1]))
    """
    row, label = split_signs(means * weight > bound[:, None], means)
    node = row // 2
    return LabelRows(row, label, np.abs(means[node, label]), np.abs(weight[node, label]), np.repeat(bound, 2))


def descending_order(
    values: Float64[np.ndarray, " entry"], starts: Int64[np.ndarray, " edge"]
) -> Int64[np.ndarray, " entry"]:
    """The order that sorts every row of a flat array from its largest value to its smallest.

    >>> descending_order(np.array([1.0, 2.0, 5.0]), np.array([0, 2, 3]))
    array([1, 0, 2])
    """
    rows = [begin + np.argsort(-values[begin:end]) for begin, end in pairwise(starts) if begin < end]
    return np.concatenate([np.empty(0, dtype=np.int64), *rows])


def prefix_counts(
    query: Float64[np.ndarray, " query"],
    query_row: Int64[np.ndarray, " query"],
    descending: Float64[np.ndarray, " entry"],
    starts: Int64[np.ndarray, " edge"],
    bound: Float64[np.ndarray, " row"],
) -> Int64[np.ndarray, " query"]:
    """For each query, how many values `v` of its row fulfil `query · v > bound`; rows sorted descending.

    Bisection on the product itself: a quotient `bound / query` would be rounded, and could move a label
    across the threshold. A rounded product is still monotone in each factor, so the prefix is exact.

    >>> prefix_counts(np.array([2.0]), np.array([0]), np.array([3.0, 1.0]), np.array([0, 2]), np.array([4.0]))
    array([1])
    """
    pieces = range(0, len(query), _PIECE)
    counts = [_bisect(query[at : at + _PIECE], query_row[at : at + _PIECE], descending, starts, bound) for at in pieces]
    return np.concatenate([np.empty(0, dtype=np.int64), *counts])


def _bisect(
    query: Float64[np.ndarray, " query"],
    query_row: Int64[np.ndarray, " query"],
    descending: Float64[np.ndarray, " entry"],
    starts: Int64[np.ndarray, " edge"],
    bound: Float64[np.ndarray, " row"],
) -> Int64[np.ndarray, " query"]:
    low, high, limit = starts[query_row], starts[query_row + 1], bound[query_row]
    longest = int(np.diff(starts).max(initial=0))
    for _ in range(longest.bit_length()):
        middle = (low + high) >> 1
        # Where the search has ended, middle == high may lie behind the last entry.
        above = query * descending[np.minimum(middle, len(descending) - 1)] > limit
        searching = low < high
        low = np.where(searching & above, middle + 1, low)
        high = np.where(searching & ~above, middle, high)
    counts: Int64[np.ndarray, " query"] = low - starts[query_row]
    return counts
