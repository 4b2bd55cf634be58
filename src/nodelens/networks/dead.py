"""Dead nodes: those that masks have left without any connection in or out; removed exactly.

A node that nothing leaves does not matter. One that nothing enters is the same for every input: what it adds to
the next layer joins that layer's bias.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn


def keep_outputs(layer: nn.Linear, kept: Int[Tensor, " kept"]) -> None:
    """Reduce a fully connected layer to some of its outputs, in place and in that order."""
    layer.weight = nn.Parameter(layer.weight.detach()[kept])
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[kept])
    layer.out_features = len(kept)


def keep_inputs(layer: nn.Linear, kept: Int[Tensor, " kept"]) -> None:
    """Reduce a fully connected layer to some of its inputs, in place and in that order."""
    layer.weight = nn.Parameter(layer.weight.detach()[:, kept])
    layer.in_features = len(kept)


def remove_hidden(
    first: nn.Linear, second: nn.Linear, activation: Callable[[Tensor], Tensor], multiple: int = 1
) -> None:
    """Remove the dead nodes between two fully connected layers, in place.

    Args:
        first: its outputs are the nodes.
        second: its inputs are the activations of the nodes.
        activation: what stands between the two, element by element.
        multiple: of nodes that stay, see `alive`.
    """
    weight = second.weight.detach()
    entered, left = first.weight.detach().any(dim=1), weight.any(dim=0)
    constant = torch.where(entered, 0.0, activation(_bias(first)))
    second.bias = nn.Parameter(_bias(second) + weight @ constant)
    # Dead nodes that stay must not be counted twice.
    second.weight = nn.Parameter(weight * entered)
    kept = alive(entered & left, multiple)
    keep_outputs(first, kept)
    keep_inputs(second, kept)


def _bias(layer: nn.Linear) -> Tensor:
    return layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias.detach()


def alive(mask: Bool[Tensor, " node"], multiple: int = 1) -> Int[Tensor, " kept"]:
    """Which nodes to keep: those alive, and as many dead ones as make their number a multiple.

    Kernels take layers of odd sizes more slowly, and empty ones not at all: of dead nodes alone some stay too.

    >>> alive(torch.tensor([True, False, False, True, True]), multiple=2)
    tensor([0, 1, 3, 4])
    """
    return alive_in_heads(mask[None], multiple)[0]


def alive_in_heads(mask: Bool[Tensor, "head dimension"], multiple: int = 1) -> Int[Tensor, "head kept"]:
    """Which dimensions of every head to keep: as many in each as the head with the most has alive, rounded up.

    Heads of one size are computed together; where a head has fewer alive, some dead ones stay.

    >>> alive_in_heads(torch.tensor([[True, False, True], [False, False, False]]))
    tensor([[0, 2],
            [0, 1]])
    """
    most = max(1, int(mask.sum(dim=1).max()))
    most = min(mask.shape[1], math.ceil(most / multiple) * multiple)
    alive_first = mask.int().argsort(dim=1, descending=True, stable=True)
    return alive_first[:, :most].sort(dim=1).values
