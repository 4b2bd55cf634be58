"""Clusters of labels in outer-product nodal matrices (paper, section 2 and Fig. 3).

A *cluster* is a set S of labels whose block is wholly above threshold in both directions, the diagonal
included. In an outer product all of S shares one sign, and for positive factors the block is full iff
`min_S μ · min_S W > bound`: two numbers stand for a cluster, and no (labels, labels) array is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int32, Int64, Integer
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures.rows import LabelRows, descending_order, prefix_counts

METHODS = ("greedy", "maximum")
"""The cluster rules: that of the paper's authors, and one that does not depend on how labels are numbered."""

_FRONT = 8
_PEELS = 32
"""Largest clusters that are taken from all nodes side by side; few nodes have more."""


def check_method(method: str) -> None:
    """Raise InputError unless `method` is one of METHODS.

    >>> check_method("greedy")
    """
    if method not in METHODS:
        raise InputError(f"unknown cluster rule {method!r}; choose {' or '.join(METHODS)}")


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
    spans = Spans.of(rows)
    in_row = _first_fit(rows, spans) if method == "greedy" else _largest_first(spans)
    return _join_signs(rows, in_row, labels, method)


@dataclass(frozen=True)
class Spans:
    """Every label as a span of places in its row, whose labels are sorted by descending mean.

    Label `i` has its own place in the order of the means, and pairs `μ_k · W_i` with the labels before some place are
    above the bound: its span reaches from the one to the other. Two labels can join if and only if their spans overlap,
    and a block is full iff all its spans have a place in common. From here on a cluster is two whole numbers, compared
    several times as fast as products of factors.

    `order` sorts the entries; `row`, `begins` and `ends` are in that order, and count places through all rows.
    """

    order: Int64[np.ndarray, " entry"]
    row: Int64[np.ndarray, " entry"]
    begins: Int64[np.ndarray, " entry"]
    ends: Int64[np.ndarray, " entry"]

    @classmethod
    def of(cls, rows: LabelRows) -> Spans:
        """The spans of the diagonal labels of every row."""
        starts, row = rows.starts, rows.row
        order = descending_order(rows.mean, starts)
        counts = prefix_counts(rows.weight[order], row, rows.mean[order], starts, rows.bound)
        return cls(order, row, np.arange(len(row)), starts[row] + counts)


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


def _first_fit(rows: LabelRows, spans: Spans) -> Int64[np.ndarray, " entry"]:
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
    longest = int(lengths.max(initial=0))
    # Whole numbers as short as they can be: so many more are compared at once.
    begin, end = (np.empty(len(order), dtype=np.min_scalar_type(longest)) for _ in range(2))
    begin[spans.order] = spans.begins - rows.starts[spans.row]
    end[spans.order] = spans.ends - rows.starts[spans.row]
    cluster = np.empty(len(order), dtype=np.int64)
    cluster[order] = _fill(begin[order], end[order], np.bincount(rank), longest)
    return cluster


def _fill(
    begin: Integer[np.ndarray, " entry"],
    end: Integer[np.ndarray, " entry"],
    running: Int64[np.ndarray, " step"],
    longest: int,
) -> Int64[np.ndarray, " entry"]:
    """Cluster of each entry; step `s` places the next label of each of the first `running[s]` rows.

    A cluster is kept as the places that all its spans have in common. One that is not open yet has all places, so that
    any label fits it: opening a cluster needs no case of its own.
    """
    rows = int(running[0]) if len(running) else 0
    first, behind = (np.full((rows, _FRONT), place, dtype=begin.dtype) for place in (0, longest))
    cluster = np.empty(len(begin), dtype=np.int64)
    opened, at, every = 0, 0, np.arange(rows)
    for count in running:
        now, here = slice(at, at + count), every[:count]
        a, b = first[:count, : opened + 1], behind[:count, : opened + 1]
        column = _first_fitting(a, b, begin[now], end[now], _FRONT)
        a[here, column] = np.maximum(a[here, column], begin[now])
        b[here, column] = np.minimum(b[here, column], end[now])
        cluster[now] = column
        opened = max(opened, int(column.max()) + 1)
        if opened == first.shape[1]:
            first, behind = _widened(first, 0), _widened(behind, longest)
        at += count
    return cluster


def _first_fitting(
    first: Integer[np.ndarray, "row cluster"],
    behind: Integer[np.ndarray, "row cluster"],
    begin: Integer[np.ndarray, " row"],
    end: Integer[np.ndarray, " row"],
    front: int,
) -> Int64[np.ndarray, " row"]:
    """The first cluster of each row that its label fits; the last column must be unopened.

    Most labels fit one of the first clusters: the others are looked at only for the rows that need them.
    """
    fits = (first[:, :front] < end[:, None]) & (begin[:, None] < behind[:, :front])
    column: Int64[np.ndarray, " row"] = fits.argmax(axis=1)
    if front < first.shape[1]:
        left = np.flatnonzero(~fits.any(axis=1))
        if len(left):
            rest = first[left, front:], behind[left, front:]
            column[left] = front + _first_fitting(*rest, begin[left], end[left], 4 * front)
    return column


def _widened(places: Integer[np.ndarray, "row cluster"], unopened: int) -> Integer[np.ndarray, "row wider"]:
    """Room for twice as many clusters, the new ones unopened."""
    return np.concatenate([places, np.full_like(places, unopened)], axis=1)


def _largest_first(spans: Spans) -> Int64[np.ndarray, " entry"]:
    """The maximum rule: take the largest possible cluster of each row, remove its labels, repeat.

    The labels whose spans hold a place form a full block, and some place gives a largest cluster; what is removed
    changes the span of no other label. Of equally large clusters the one with the largest means goes first, so the
    result does not depend on how labels are numbered.
    """
    order, row, ends = spans.order, spans.row, spans.ends
    cluster = np.empty(len(row), dtype=np.int64)
    peel = 0
    while len(order) and peel < _PEELS:
        taken = _largest(row, ends)
        cluster[order[taken]] = peel
        left = ~taken
        survivors = np.concatenate([[0], left.cumsum()])
        order, row, ends = order[left], row[left], survivors[ends[left]]
        peel += 1
    edges = np.flatnonzero(np.diff(row, prepend=-1, append=-1))
    for begin, end in pairwise(edges):
        cluster[order[begin:end]] = peel + _largest_one_by_one(ends[begin:end] - begin)
    return cluster


def _largest_one_by_one(ends: Int64[np.ndarray, " entry"]) -> Int64[np.ndarray, " entry"]:
    """The maximum rule for one row with many clusters: only the places around a cluster change when it is taken.

    Of one size, the clusters come in the order of their places, so that a place behind the last one is looked for; for
    the next smaller size the search begins anew.
    """
    places = len(ends)
    ends = ends.astype(np.int32)
    # How many spans hold each place: one more begins at each, and those that end before it are gone.
    holding = (np.arange(1, places + 1) - np.bincount(ends, minlength=places + 1)[:places].cumsum()).astype(np.int32)
    reaches = np.maximum.accumulate(ends)
    cluster = np.full(places, -1, dtype=np.int64)
    peel, at, size = 0, 0, int(holding.max(initial=0))
    while size > 1:
        at = _next_holding(holding, at, size)
        if at == places:
            at, size = 0, int(holding.max())
            continue
        begin = int(np.searchsorted(reaches, at, side="right"))  # no span before it reaches this place
        taken = begin + np.flatnonzero((ends[begin : at + 1] > at) & (cluster[begin : at + 1] < 0))
        cluster[taken] = peel
        until = int(ends[taken].max())
        change = np.bincount(taken - begin, minlength=until - begin + 1)
        change -= np.bincount(ends[taken] - begin, minlength=until - begin + 1)
        holding[begin:until] -= change[:-1].cumsum().astype(np.int32)
        peel += 1
    alone = np.flatnonzero(cluster < 0)  # no two of them overlap
    cluster[alone] = peel + np.arange(len(alone))
    return cluster


def _next_holding(holding: Int32[np.ndarray, " place"], at: int, size: int) -> int:
    """The first place from `at` on that so many spans hold; behind the last one where there is none."""
    step = 256
    while at < len(holding):
        found = np.flatnonzero(holding[at : at + step] >= size)
        if len(found):
            return at + int(found[0])
        at, step = at + step, 2 * step
    return len(holding)


def _largest(row: Int64[np.ndarray, " entry"], ends: Int64[np.ndarray, " entry"]) -> np.ndarray:
    """Which entries form the largest cluster of their row: bool (entry,)."""
    position = np.arange(len(row))
    # Every earlier row has left by the end of its own entries: one running sum serves all rows.
    allowed = position + 1 - np.bincount(ends, minlength=len(row) + 1)[:-1].cumsum()
    begins = np.flatnonzero(np.diff(row, prepend=-1))
    lengths = np.diff(begins, append=len(row))
    best = np.flatnonzero(allowed == np.repeat(np.maximum.reduceat(allowed, begins), lengths))
    first = best[np.diff(row[best], prepend=-1) != 0]
    cut = np.repeat(first, lengths)
    inside: np.ndarray = (position <= cut) & (ends > cut)
    return inside
