"""Nodal matrices: what each node of a site adds to each output, for inputs of each label (paper, Fig. 3a)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int32, Int64
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures.clusters import Clustering, check_method
from nodelens.measures.filters import FilterBlock
from nodelens.measures.outer import OuterBlock

Block = OuterBlock | FilterBlock

_BLOCK_ELEMENTS = 2**22
"""Numbers per array of a block: some 32 MB in float64, so that memory does not grow with the nodes."""


@dataclass(frozen=True, eq=False)
class NodalMatrices:
    """The nodal matrices of a site, `F_k[i, j] = μ[i, k] · W[j, k]` for node `k`: (nodes, labels, labels).

    Silence every weight of a classifier head but those that leave node `k`: `F_k[i, j]` is then the field on
    output `j`, averaged over the inputs of label `i`. It is an outer product, so its two factors are all that
    is kept. A convolution filter that owns several positions adds them up: `F_k = Σ_p μ_p ⊗ W_p`.

    Numbers are taken to float64, where a product of two float32 is exact. An element is *above threshold* iff
    it is strictly larger than `threshold · max F_k`, computed once in float64. A matrix without a positive
    element has none above threshold.

    Args:
        class_means: mean activation of each node over the inputs of each label, (labels, nodes) or
            (labels, nodes, positions).
        weight: weights of the classifier head, of the same shape.

    Raises:
        InputError: the shapes differ, one is empty, or a number is NaN or infinite.

    >>> means, weight = torch.tensor([[2.0], [1.0], [-1.0]]), torch.tensor([[1.0], [2.0], [-2.0]])
    >>> matrices = NodalMatrices(means, weight)
    >>> matrices.field(0)
    tensor([[ 0.5000,  1.0000, -1.0000],
            [ 0.2500,  0.5000, -0.5000],
            [-0.2500, -0.5000,  0.5000]], dtype=torch.float64)
    >>> matrices.clusters(0, threshold=0.3)
    [[0], [1], [2]]
    """

    # No shapes here: a wrong one is the user's mistake, which __post_init__ explains in a sentence.
    class_means: Tensor
    weight: Tensor

    def __post_init__(self) -> None:
        _check_factor("class_means", self.class_means)
        _check_factor("weight", self.weight)
        if self.class_means.shape != self.weight.shape:
            raise InputError(
                f"class_means has shape {tuple(self.class_means.shape)} but weight "
                f"{tuple(self.weight.shape)}; give both as (labels, nodes)."
            )
        peak = _largest_magnitude(self.class_means) * _largest_magnitude(self.weight) * self.positions
        if not math.isfinite(peak):
            raise InputError("class_means times weight overflows float64; scale one of them down.")

    @property
    def labels(self) -> int:
        """Number of labels."""
        return int(self.class_means.shape[0])

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return int(self.class_means.shape[1])

    @property
    def positions(self) -> int:
        """Number of positions that each node owns; 1 for a unit of a transformer."""
        return int(self.class_means.shape[2]) if self.class_means.ndim == 3 else 1

    def select(self, nodes: Sequence[int]) -> NodalMatrices:
        """The nodal matrices of some nodes only, in the order given.

        Raises:
            InputError: no node is given, or one does not exist.
        """
        for node in nodes:
            self._check_node(node)
        return NodalMatrices(self.class_means[:, list(nodes)], self.weight[:, list(nodes)])

    def field(self, node: int) -> Float64[Tensor, "label label"]:
        """Nodal matrix of one node divided by its signed maximum; rows: label of the input, columns: output.

        A matrix without a positive element has nothing to be divided by, and keeps its own units.

        Raises:
            InputError: the node does not exist.
        """
        field = self.raw_field(node)
        maximum = field.max()
        return field / maximum if maximum > 0 else field

    def clipped(self, node: int, threshold: float) -> Bool[Tensor, "label label"]:
        """Which elements of one node's matrix are above threshold (paper, Fig. 3a, middle).

        Raises:
            InputError: the node does not exist, or the threshold is not between 0 and 1.
        """
        check_threshold(threshold)
        field = self.raw_field(node)
        bound = bounds(field.max().reshape(1).numpy(), threshold)
        return field > torch.from_numpy(bound)

    def maxima(self) -> Float64[Tensor, " node"]:
        """Largest element of each nodal matrix, in units of a field."""
        return torch.from_numpy(np.concatenate([block.maxima() for block in self.blocks()]))

    def above(self, threshold: float) -> Int64[Tensor, " node"]:
        """How many elements of each nodal matrix are above threshold.

        Raises:
            InputError: the threshold is not between 0 and 1.
        """
        check_threshold(threshold)
        counts = [block.count_above(bounds(block.maxima(), threshold)) for block in self.blocks()]
        return torch.from_numpy(np.concatenate(counts))

    def diagonals(self, threshold: float) -> Bool[Tensor, "node label"]:
        """Which labels are in each node's diagonal: `F_k[i, i]` above threshold.

        Raises:
            InputError: the threshold is not between 0 and 1.
        """
        check_threshold(threshold)
        parts = [block.diagonal() > bounds(block.maxima(), threshold)[:, None] for block in self.blocks()]
        return torch.from_numpy(np.concatenate(parts))

    def diagonal_fields(self) -> Float64[Tensor, "node label"]:
        """Diagonal elements as shares of each matrix's maximum: the threshold at which a label leaves the diagonal.

        0 where an element is not positive. Above a threshold to rounding; `diagonals` decides exactly.
        """
        parts = []
        for block in self.blocks():
            diagonal, maxima = block.diagonal(), block.maxima()[:, None]
            parts.append(np.where(diagonal > 0, diagonal, 0.0) / np.where(maxima > 0, maxima, 1.0))
        return torch.from_numpy(np.concatenate(parts))

    def clusters(self, node: int, threshold: float, method: str = "greedy") -> list[list[int]]:
        """The clusters of one node, labels ascending within a cluster.

        `greedy`, the rule of the paper's authors, gives clusters in the order of their first labels;
        `maximum` takes the largest possible cluster again and again.

        Raises:
            InputError: the node does not exist, the threshold is not between 0 and 1, or no such method.
        """
        return next(self.select([node]).clusterings(threshold, method)).members()

    def cluster_index(self, threshold: float, method: str = "greedy") -> Int32[Tensor, "node label"]:
        """Each label's cluster in each node, counted from 0 within the node; -1 where it is in none.

        Raises:
            InputError: the threshold is not between 0 and 1, or no such method.
        """
        return torch.cat([clustering.index() for clustering in self.clusterings(threshold, method)])

    def clusterings(self, threshold: float, method: str = "greedy") -> Iterator[Clustering]:
        """The clusters of all nodes, a block of nodes at a time."""
        check_threshold(threshold)
        check_method(method)
        return (block.clusters(bounds(block.maxima(), threshold), method) for block in self.blocks())

    def blocks(self) -> Iterator[Block]:
        """The nodes in order, a block at a time, as many as memory allows."""
        per_node = self.labels if self.positions == 1 else self.labels * (self.labels + self.positions)
        step = max(1, _BLOCK_ELEMENTS // per_node)
        for start in range(0, self.nodes, step):
            yield self._block(slice(start, start + step))

    def _block(self, nodes: slice) -> Block:
        means, weight = _by_node(self.class_means[:, nodes]), _by_node(self.weight[:, nodes])
        if self.positions > 1:
            return FilterBlock.of(means, weight)
        return OuterBlock(means.reshape(-1, self.labels), weight.reshape(-1, self.labels))

    def raw_field(self, node: int) -> Float64[Tensor, "label label"]:
        """Nodal matrix of one node in its own units; rows: label of the input, columns: output.

        Raises:
            InputError: the node does not exist.
        """
        self._check_node(node)
        block = self._block(slice(node, node + 1))
        if isinstance(block, FilterBlock):
            return torch.from_numpy(block.fields[0])
        return torch.from_numpy(np.outer(block.means[0], block.weight[0]))

    def _check_node(self, node: int) -> None:
        if not 0 <= node < self.nodes:
            raise InputError(f"node {node} does not exist; nodes are 0 to {self.nodes - 1}.")


def check_threshold(threshold: float) -> None:
    """Raise InputError unless the threshold lies strictly between 0 and 1.

    >>> check_threshold(0.3)
    """
    if not 0 < threshold < 1:
        raise InputError(f"threshold={threshold} is out of range; give a share between 0 and 1, such as 0.3.")


def bounds(maxima: Float64[np.ndarray, " node"], threshold: float) -> Float64[np.ndarray, " node"]:
    """What an element of each matrix must exceed: `threshold · max F`, infinite where no element is positive.

    >>> bounds(np.array([2.0, 0.0, -1.0]), 0.25)
    array([0.5, inf, inf])
    """
    return np.where(maxima > 0, threshold * maxima, np.inf)


def _largest_magnitude(factor: Tensor) -> float:
    return float(factor.detach().abs().max())


def _by_node(factor: Float[Tensor, "label node *position"]) -> Float64[np.ndarray, "node label *position"]:
    # First to the CPU: not every device knows float64.
    return factor.detach().cpu().to(torch.float64).transpose(0, 1).contiguous().numpy()


def _check_factor(name: str, factor: Tensor) -> None:
    if factor.ndim not in (2, 3) or not factor.is_floating_point():
        raise InputError(
            f"{name} is {factor.dtype} of shape {tuple(factor.shape)}; give floating-point numbers, "
            "(labels, nodes) or (labels, nodes, positions)."
        )
    if factor.numel() == 0:
        raise InputError(f"{name} of shape {tuple(factor.shape)} is empty; give at least one label and node.")
    bad = (~torch.isfinite(factor)).nonzero()
    if len(bad):
        label, node = bad[0, :2].tolist()
        raise InputError(
            f"{name} is NaN or infinite at label {label}, node {node}; check that every label has inputs "
            "and that training has not diverged."
        )
