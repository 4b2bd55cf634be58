"""Clusters of labels in outer-product nodal matrices (paper, section 2 and Fig. 3).

A *cluster* is a set S of labels whose block is wholly above threshold in both directions, the diagonal
included. In an outer product all of S shares one sign, and for positive factors the block is full iff
`min_S μ · min_S W > bound`: two numbers stand for a cluster, and no (labels, labels) array is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int32, Int64
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures.rows import LabelRows, descending_order, prefix_counts

METHODS = ("greedy", "maximum")
"""The cluster rules: that of the paper's authors, and one that does not depend on how labels are numbered."""

_FRONT = 8


def check_method(method: str) -> None:
    """Raise InputError unless `method` is one of METHODS.

    >>> check_method("greedy")
    """
    if method not in METHODS:
        raise InputError(f"method={method!r} is no cluster rule; use one of {', '.join(METHODS)}.")


@dataclass(frozen=True)
class Clustering:
    """The clusters of a number of nodes: which label of which node belongs to which cluster.

    Clusters are numbered through all nodes, node after node. Within a node the `greedy` rule orders them by
    their first label, the `maximum` rule by size. `owner` is the node of each cluster.
    """

    nodes: int
    labels: int
    node: Int64[np.ndarray, " entry"]
    label: Int64[np.ndarray, " entry"]
    cluster: Int64[np.ndarray, " entry"]
    owner: Int64[np.ndarray, " cluster"]

    @property
    def sizes(self) -> Int64[Tensor, " cluster"]:
        """Labels per cluster."""
        return torch.from_numpy(np.bincount(self.cluster, minlength=len(self.owner)))

    @property
    def n_clusters(self) -> Int64[Tensor, " node"]:
        """Clusters per node."""
        return torch.from_numpy(np.bincount(self.owner, minlength=self.nodes))

    @property
    def diagonal(self) -> Int64[Tensor, " node"]:
        """Labels per node that lie in a cluster, `Σ|S|`: the node's diagonal."""
        return torch.from_numpy(np.bincount(self.node, minlength=self.nodes))

    @property
    def block_elements(self) -> Int64[Tensor, " node"]:
        """Elements per node inside the clusters' own blocks, `Σ|S|²`."""
        owner = torch.from_numpy(self.owner)
        return torch.zeros(self.nodes, dtype=torch.int64).index_add_(0, owner, self.sizes**2)

    @property
    def appearances(self) -> Int64[Tensor, " label"]:
        """Nodes per label that hold it in a cluster (Fig. 4a)."""
        return torch.from_numpy(np.bincount(self.label, minlength=self.labels))

    def index(self) -> Int32[Tensor, "node label"]:
        """Each label's cluster, counted from 0 within its node; -1 where the node does not hold the label."""
        first = np.concatenate([[0], self.n_clusters.numpy().cumsum()])[self.node]
        index = torch.full((self.nodes, self.labels), -1, dtype=torch.int32)
        index[self.node, self.label] = torch.from_numpy((self.cluster - first).astype(np.int32))
        return index

    def members(self) -> list[list[int]]:
        """The labels of every cluster, ascending."""
        order = np.lexsort((self.label, self.cluster))
        edges = self.sizes.numpy().cumsum()[:-1]
        return [part.tolist() for part in np.split(self.label[order], edges)] if len(self.owner) else []


def cluster_rows(rows: LabelRows, labels: int, method: str) -> Clustering:
    """Cluster the diagonal labels of every node by either rule.

    >>> from nodelens.measures.rows import diagonal_rows
    >>> means, weight = np.array([[4.0, 1.0, 2.0, -2.0]]), np.array([[1.0, 4.0, 2.0, -2.0]])
    >>> cluster_rows(diagonal_rows(means, weight, np.array([1.5])), labels=4, method="maximum").members()
    [[0, 2], [1], [3]]
    """
    check_method(method)
    in_row = _first_fit(rows) if method == "greedy" else _largest_first(rows)
    return _join_signs(rows, in_row, labels, method)


def _join_signs(rows: LabelRows, in_row: Int64[np.ndarray, " entry"], labels: int, method: str) -> Clustering:
    """Number the clusters of a node's two rows together, in the order that the rule gives."""
    width = int(in_row.max(initial=0)) + 1
    key = rows.row * width + in_row
    size = np.bincount(key, minlength=len(rows.bound) * width)
    used = np.flatnonzero(size)
    row = used // width
    if method == "greedy":
        first_label = np.empty(len(size), dtype=np.int64)
        first_label[key[::-1]] = rows.label[::-1]  # the last write stays: a cluster's lowest label
        order = np.lexsort((first_label[used], row // 2))
    else:
        order = np.lexsort((row, -size[used], row // 2))
    number = np.empty(len(size), dtype=np.int64)
    number[used[order]] = np.arange(len(used))
    return Clustering(len(rows.bound) // 2, labels, rows.row // 2, rows.label, number[key], row[order] // 2)


def _first_fit(rows: LabelRows) -> Int64[np.ndarray, " entry"]:
    """The greedy rule, as the equivalent online one: each label, ascending, joins the first cluster it fits.

    A cluster that the greedy rule opens later never sees a label that an earlier one has taken, so all
    clusters can be filled in a single pass; and that pass runs through all rows side by side, one label of
    every row per step. Longest rows first: the rows still running are then always the first ones.
    """
    lengths = np.diff(rows.starts)
    by_length = np.argsort(-lengths, kind="stable")
    place = np.empty_like(by_length)
    place[by_length] = np.arange(len(lengths))
    rank = np.arange(len(rows.row)) - rows.starts[rows.row]
    order = np.argsort(rank * len(lengths) + place[rows.row], kind="stable")
    cluster = np.empty(len(rows.row), dtype=np.int64)
    cluster[order] = _fill(rows.mean[order], rows.weight[order], np.bincount(rank), rows.bound[by_length])
    return cluster


def _fill(
    mean: Float64[np.ndarray, " entry"],
    weight: Float64[np.ndarray, " entry"],
    running: Int64[np.ndarray, " step"],
    bound: Float64[np.ndarray, " row"],
) -> Int64[np.ndarray, " entry"]:
    """Cluster of each entry; step `s` places the next label of each of the first `running[s]` rows.

    A cluster is kept as its lowest mean and weight. One that is not open yet has infinite minima, so that any
    diagonal label fits it: opening a cluster needs no case of its own.
    """
    lowest_mean = np.full((len(bound), _FRONT), np.inf)
    lowest_weight = np.full((len(bound), _FRONT), np.inf)
    cluster = np.empty(len(mean), dtype=np.int64)
    opened, begin, every = 0, 0, np.arange(len(bound))
    for count in running:
        now, here = slice(begin, begin + count), every[:count]
        a, b = lowest_mean[:count, : opened + 1], lowest_weight[:count, : opened + 1]
        column = _first_fitting(a, b, mean[now], weight[now], bound[:count], _FRONT)
        a[here, column] = np.minimum(a[here, column], mean[now])
        b[here, column] = np.minimum(b[here, column], weight[now])
        cluster[now] = column
        opened = max(opened, int(column.max()) + 1)
        if opened == lowest_mean.shape[1]:
            lowest_mean, lowest_weight = _widened(lowest_mean), _widened(lowest_weight)
        begin += count
    return cluster


def _first_fitting(
    lowest_mean: Float64[np.ndarray, "row cluster"],
    lowest_weight: Float64[np.ndarray, "row cluster"],
    mean: Float64[np.ndarray, " row"],
    weight: Float64[np.ndarray, " row"],
    bound: Float64[np.ndarray, " row"],
    front: int,
) -> Int64[np.ndarray, " row"]:
    """The first cluster of each row that its label fits; the last column must be unopened.

    Most labels fit one of the first clusters: the others are looked at only for the rows that need them.
    """
    smaller_mean = np.minimum(lowest_mean[:, :front], mean[:, None])
    smaller_weight = np.minimum(lowest_weight[:, :front], weight[:, None])
    fits = smaller_mean * smaller_weight > bound[:, None]
    column: Int64[np.ndarray, " row"] = fits.argmax(axis=1)
    if front < lowest_mean.shape[1]:
        left = np.flatnonzero(~fits.any(axis=1))
        if len(left):
            rest = lowest_mean[left, front:], lowest_weight[left, front:]
            column[left] = front + _first_fitting(*rest, mean[left], weight[left], bound[left], 4 * front)
    return column


def _widened(lowest: Float64[np.ndarray, "row cluster"]) -> Float64[np.ndarray, "row wider"]:
    """Room for twice as many clusters, the new ones unopened."""
    return np.concatenate([lowest, np.full_like(lowest, np.inf)], axis=1)


def _largest_first(rows: LabelRows) -> Int64[np.ndarray, " entry"]:
    """The maximum rule: take the largest possible cluster of each row, remove its labels, repeat.

    With a row sorted by descending mean, the cut-off at `k` allows the labels `i ≤ k` with
    `W_i · μ_k > bound`; some cut-off gives a largest cluster. Label `i` is allowed for `i ≤ k < leaves_i`,
    and what is removed changes that for no other label. Of equally large clusters the one with the largest
    cut-off goes first, so the result does not depend on how labels are numbered.
    """
    starts, row = rows.starts, rows.row
    order = descending_order(rows.mean, starts)
    leaves = starts[row] + prefix_counts(rows.weight[order], row, rows.mean[order], starts, rows.bound)
    cluster = np.empty(len(row), dtype=np.int64)
    peel = 0
    while len(order):
        taken = _largest(row, leaves)
        cluster[order[taken]] = peel
        left = ~taken
        survivors = np.concatenate([[0], left.cumsum()])
        order, row, leaves = order[left], row[left], survivors[leaves[left]]
        peel += 1
    return cluster


def _largest(row: Int64[np.ndarray, " entry"], leaves: Int64[np.ndarray, " entry"]) -> np.ndarray:
    """Which entries form the largest cluster of their row: bool (entry,)."""
    position = np.arange(len(row))
    # Every earlier row has left by the end of its own entries: one running sum serves all rows.
    allowed = position + 1 - np.bincount(leaves, minlength=len(row) + 1)[:-1].cumsum()
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    lengths = np.diff(begins, append=len(row))
    best = np.flatnonzero(allowed == np.repeat(np.maximum.reduceat(allowed, begins), lengths))
    first = best[np.diff(row[best], prepend=-1) != 0]
    cut = np.repeat(first, lengths)
    inside: np.ndarray = (position <= cut) & (leaves > cut)
    return inside
