"""Nodal matrices that are outer products, `F = μ ⊗ W`, many nodes at a time and without any L×L array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from nodelens.measures.clusters import Clustering, cluster_rows
from nodelens.measures.rows import descending_order, diagonal_rows, prefix_counts, row_starts, split_signs


@dataclass(frozen=True)
class OuterBlock:
    """Some nodes of a site, each with one mean per label and one weight per label, in float64.

    >>> block = OuterBlock(np.array([[2.0, 1.0]]), np.array([[1.0, 3.0]]))
    >>> block.maxima(), block.count_above(np.array([2.5]))
    (array([6.]), array([2]))
    """

    means: Float64[np.ndarray, "node label"]
    weight: Float64[np.ndarray, "node label"]

    def permuted(self, order: Int64[np.ndarray, " label"]) -> OuterBlock:
        """The same nodes, the labels of their means in another order."""
        return OuterBlock(self.means[:, order], self.weight)

    def maxima(self) -> Float64[np.ndarray, " node"]:
        """Largest element of each nodal matrix: it lies at a corner of the range of both factors."""
        corners = [
            mean * weight
            for mean in (self.means.min(axis=1), self.means.max(axis=1))
            for weight in (self.weight.min(axis=1), self.weight.max(axis=1))
        ]
        highest: Float64[np.ndarray, " node"] = np.max(corners, axis=0)
        return highest

    def diagonal(self) -> Float64[np.ndarray, "node label"]:
        """The diagonal elements of each nodal matrix."""
        diagonal: Float64[np.ndarray, "node label"] = self.means * self.weight
        return diagonal

    def count_above(self, bound: Float64[np.ndarray, " node"]) -> Int64[np.ndarray, " node"]:
        """How many elements of each nodal matrix are above its bound, `ΣB`, by sorting."""
        query_row, query = _candidates(self.means, self.weight, bound)
        row, values = _candidates(self.weight, self.means, bound)
        both = np.repeat(bound, 2)
        starts = row_starts(row, len(both))
        counts = prefix_counts(query, query_row, values[descending_order(values, starts)], starts, both)
        # Sums of integers below 2^53 are exact in bincount's float64.
        return np.bincount(query_row // 2, weights=counts, minlength=len(bound)).astype(np.int64)

    def clusters(self, bound: Float64[np.ndarray, " node"], method: str) -> Clustering:
        """The clusters of every node by either rule."""
        return cluster_rows(diagonal_rows(self.means, self.weight, bound), self.means.shape[1], method)

    def label_field(
        self, maxima: Float64[np.ndarray, " node"], clustering: Clustering, total: Float64[np.ndarray, " label"]
    ) -> Float64[np.ndarray, " label"]:
        """`total` and, on each output, the elements in the clusters' blocks: `W_j · Σ_{i in S} μ_i / max F`."""
        node, label, cluster = clustering.node, clustering.label, clustering.cluster
        mean_of_cluster = np.bincount(cluster, self.means[node, label], minlength=len(clustering.owner))
        field = self.weight[node, label] * (mean_of_cluster[cluster] / maxima[node])
        added: Float64[np.ndarray, " label"] = total + np.bincount(label, field, minlength=clustering.labels)
        return added


def _candidates(
    values: Float64[np.ndarray, "node label"],
    partners: Float64[np.ndarray, "node label"],
    bound: Float64[np.ndarray, " node"],
) -> tuple[Int64[np.ndarray, " entry"], Float64[np.ndarray, " entry"]]:
    """Row and absolute value of what is above its bound with at least its best partner."""
    highest = np.maximum(partners.max(axis=1), 0.0)[:, None]
    lowest = np.minimum(partners.min(axis=1), 0.0)[:, None]
    best = values * np.where(values > 0, highest, lowest)
    row, label = split_signs(best > bound[:, None], values)
    return row, np.abs(values[row // 2, label])
