"""Nodal matrices of convolution filters that own several positions: `F = Σ_p μ_p ⊗ W_p`.

Their rank is the number of positions, so the shortcuts for outer products do not hold: each matrix is formed,
a few nodes at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import networkx as nx
import numpy as np
from jaxtyping import Bool, Float64, Int64

from nodelens.measures.clusters import Clustering, check_method


@dataclass(frozen=True)
class FilterBlock:
    """Some filters of a site, each with means and weights at every position, in float64.

    >>> block = FilterBlock(np.ones((1, 2, 3)), np.ones((1, 2, 3)))
    >>> block.maxima()
    array([3.])
    """

    means: Float64[np.ndarray, "node label position"]
    weight: Float64[np.ndarray, "node label position"]

    @cached_property
    def fields(self) -> Float64[np.ndarray, "node label label"]:
        """Rows: label of the input; columns: output.

        Positions are added one after the other, ascending: each product of two float32 is exact in float64,
        so the order of the sum fixes every bit of it, which a matrix product would leave open.
        """
        fields = np.zeros((*self.means.shape[:2], self.weight.shape[1]))
        for position in range(self.means.shape[2]):
            fields += self.means[:, :, None, position] * self.weight[:, None, :, position]
        return fields

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

        `maximum` is NP-hard for these matrices: it is exact, deterministic, and slow where a filter holds
        hundreds of labels. Of equally large clusters, which goes first may depend on the order of labels.
        """
        check_method(method)
        rule = greedy_cliques if method == "greedy" else maximum_cliques
        return _clustering(self.fields > bound[:, None, None], rule)


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
    graph = nx.Graph()
    graph.add_nodes_from(np.flatnonzero(np.diagonal(above)).tolist())
    pairs = np.argwhere(np.triu(above & above.T, k=1))
    graph.add_edges_from(pair for pair in pairs.tolist() if pair[0] in graph and pair[1] in graph)
    cliques: Cliques = []
    while len(graph):
        clique, _ = nx.max_weight_clique(graph, weight=None)
        cliques.append(sorted(clique))
        graph.remove_nodes_from(clique)
    return cliques


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
