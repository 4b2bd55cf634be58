"""How the layers of a pruned network are best executed here: chosen layer by layer, by measurement."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nodelens.networks import entering
from nodelens.pruning.packed import PackedLinear, SparseLinear, gathered
from nodelens.timing import ratio, take_turns
from nodelens.training.precision import Precision, autocast

DENSE = "dense"
"""The network or layer as it was before pruning, also where it is retrained as a control."""
GROUPS = (1, 4, 16)
"""Numbers of groups that are tried; a single one leaves out what no output reads or what reads nothing."""

FASTER = 0.97
"""Another execution must take at most this share of the dense layer's time, or the layer stays dense."""


@dataclass(frozen=True)
class Trial:
    """One execution of one layer, timed.

    Attributes:
        ratio: seconds divided by those of the dense layer, median over the rounds.
        multiply_adds: per input vector.
        chosen: whether the layer is executed in this way.
    """

    layer: str
    execution: str
    ratio: float
    multiply_adds: int
    chosen: bool = False


def sparse_layers(network: nn.Module) -> dict[str, nn.Linear]:
    """The fully connected layers that have zeros among their weights, by module path."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and not bool(module.weight.all())
    }


def executions(layer: nn.Linear, precision: Precision = "fp32") -> dict[str, nn.Module]:
    """The ways to execute a layer, by name; a sparse product knows no bf16 on every device."""
    mask = layer.weight.detach() != 0
    found: dict[str, nn.Module] = {DENSE: layer}
    for n, groups in zip(GROUPS, gathered(mask, GROUPS), strict=True):
        found[f"{n} group{'s' * (n > 1)}"] = PackedLinear(layer, groups)
    return found if precision == "bf16" else found | {"sparse": SparseLinear(layer)}


@torch.inference_mode()
def executions_of(network: nn.Module, precision: Precision = "fp32") -> dict[str, dict[str, nn.Module]]:
    """The ways to execute every layer that has zeros, by its path; they serve batches of every size."""
    return {name: executions(layer, precision) for name, layer in sparse_layers(network).items()}


@torch.inference_mode()
def choose_executions(
    network: nn.Module,
    ways_of: Mapping[str, Mapping[str, nn.Module]],
    images: Shaped[Tensor, "batch ..."],
    precision: Precision = "fp32",
    rounds: int = 15,
) -> tuple[dict[str, nn.Module], list[Trial]]:
    """Time every execution of every layer that has zeros, on what enters it when the images are classified.

    Args:
        ways_of: of the network, from `executions_of`.

    Returns:
        The modules to put in place of layers for which another execution was faster than the dense one, by path;
        and all trials.
    """
    inputs = _inputs(network, ways_of, images, precision)
    chosen, trials = {}, []
    for name, ways in ways_of.items():
        x = inputs[name]
        with autocast(images.device, precision):
            found = take_turns({way: partial(module, x) for way, module in ways.items()}, rounds, warm_up=3)
        shares = {way: ratio(found, way, DENSE) for way in ways}
        best = min(shares, key=lambda way: shares[way])
        best = best if shares[best] <= FASTER else DENSE
        if best != DENSE:
            chosen[name] = ways[best]
        for way, module in ways.items():
            work = int(module.weight.numel() if way == DENSE else module.multiply_adds)  # type: ignore
            trials.append(Trial(name, way, shares[way], work, way == best))
    return chosen, trials


def executed(network: nn.Module, chosen: Mapping[str, nn.Module]) -> nn.Module:
    """A copy of a network with other modules in place of some of its layers."""
    changed = copy.deepcopy(network)
    for name, module in chosen.items():
        changed.set_submodule(name, module)
    return changed


def _inputs(network: nn.Module, layers: Iterable[str], images: Tensor, precision: Precision) -> dict[str, Tensor]:
    """What enters each of the layers, by their paths."""
    found: dict[str, Tensor] = {}
    with entering(network, layers, found.__setitem__), autocast(images.device, precision):
        network(images)
    return found
