"""Execution of what pruning has left of a fully connected layer.

A permutation gathers outputs that read the same inputs, nodes that share labels, into groups. Each group is one
small dense product over the inputs that any of it reads; whether that is faster than the dense layer with its
zeros is measured (`nodelens.pruning.execution`), not assumed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A fully connected layer as one dense product per group of outputs.

    Attributes:
        columns: the inputs that the groups read, group after group.
        order: where the layer's outputs, in their own order, stand among those of the groups.
        multiply_adds: per input vector.
    """

    columns: Tensor
    order: Tensor

    def __init__(self, layer: nn.Linear, groups: list[NDArray[np.intp]]) -> None:
        """
        Args:
            layer: its weight may be sparse; what is zero outside the groups' inputs is left out.
            groups: the outputs of each group; together every output once.
        """
        super().__init__()
        weight = layer.weight.detach()
        rows = [torch.from_numpy(group).to(weight.device) for group in groups]
        columns = [weight[row].any(dim=0).nonzero().flatten() for row in rows]
        self.widths = [len(column) for column in columns]
        self.weights = nn.ParameterList(weight[row][:, column] for row, column in zip(rows, columns, strict=True))
        self.bias = layer.bias
        self.register_buffer("columns", torch.cat(columns))
        self.register_buffer("order", torch.cat(rows).argsort())
        self.multiply_adds = sum(part.numel() for part in self.weights)

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        # Inputs as rows: gathering whole rows is four times as fast as gathering elements of each row.
        read = torch.split(x.flatten(0, -2).T.contiguous().index_select(0, self.columns), self.widths)
        parts = [weight @ part for weight, part in zip(self.weights, read, strict=True)]
        product = torch.cat(parts).index_select(0, self.order).T
        return (product if self.bias is None else product + self.bias).reshape(*x.shape[:-1], -1)


class SparseLinear(nn.Module):
    """A fully connected layer as a product with a sparse matrix (CSR)."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
            self.register_buffer("weight", layer.weight.detach().to_sparse_csr())
        self.bias = layer.bias
        self.multiply_adds = int(torch.count_nonzero(layer.weight))

    def forward(self, x: Float[Tensor, "*batch input"]) -> Float[Tensor, "*batch output"]:
        flat = x.flatten(0, -2)
        product = (self.weight @ flat.T).T  # type: ignore[operator]
        return (product if self.bias is None else product + self.bias).reshape(*x.shape[:-1], -1)


def gathered(mask: Bool[Tensor, "output input"], groups: Sequence[int]) -> list[list[NDArray[np.intp]]]:
    """Gather a layer's outputs into groups that read few inputs.

    Outputs are put in an order in which those that read alike stand together (average linkage of the Jaccard
    distances), and the order is cut where the products of the groups have the least elements in all. Outputs
    that read nothing are a group of their own.

    Args:
        mask: which weights are left.
        groups: most groups of outputs that read something; several numbers share the order, which takes long to find.

    Returns:
        For each of the numbers the outputs of each group; together every output once.
    """
    reads = mask.cpu().numpy()
    read_something = reads.any(axis=1)
    nothing, rows = np.flatnonzero(~read_something), np.flatnonzero(read_something)
    if len(rows) > 2 and max(groups) > 1:
        rows = rows[leaves_list(linkage(reads[rows], "average", metric="jaccard"))]
    sizes = segment_sizes(reads[rows])
    alone = [nothing] if len(nothing) else []
    cuts = [best_cuts(sizes, most) if len(rows) else [] for most in groups]
    return [[*(rows[begin:end] for begin, end in of_number), *alone] for of_number in cuts]


def segment_sizes(reads: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For every run of consecutive rows `begin` to `end - 1` the number of weights of its dense product.

    Returns:
        (rows, rows + 1), begin by end: rows in the run times inputs that any of them reads; 0 where it is empty.
    """
    rows = len(reads)
    sizes = np.zeros((rows, rows + 1), dtype=np.int64)
    for begin in range(rows):
        inputs = np.logical_or.accumulate(reads[begin:], axis=0).sum(axis=1)
        sizes[begin, begin + 1 :] = inputs * np.arange(1, rows - begin + 1)
    return sizes


def best_cuts(sizes: NDArray[np.int64], groups: int) -> list[tuple[int, int]]:
    """Cut a sequence of rows into at most so many runs of the least total size (dynamic programming).

    >>> best_cuts(segment_sizes(np.array([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=bool)), groups=2)
    [(0, 2), (2, 3)]
    """
    rows = len(sizes)
    backwards = np.arange(rows + 1)[None, :] < np.arange(rows)[:, None]
    costs = np.where(backwards, np.iinfo(np.int64).max // 4, sizes)
    least, begins = costs[0], []
    for _ in range(groups - 1):
        totals = least[:rows, None] + costs
        begins.append(totals.argmin(axis=0))
        least = totals.min(axis=0)
    cuts, end = [], rows
    for begin_of in reversed(begins):
        cuts.append((int(begin_of[end]), end))
        end = int(begin_of[end])
    cuts.append((0, end))
    return [(begin, end) for begin, end in reversed(cuts) if begin < end]
