"""Layers: the fully connected layers of a network, by the two sites that they join."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.sites import Site, matching

DIGITS = 4
"""Of the number of a block: no network has ten thousand."""


@dataclass(frozen=True)
class Layer:
    """A fully connected layer between two sites, or from a site to the labels.

    Attributes:
        name: e.g. ``block.7.linear1``; ``output`` for the layer whose outputs are the labels.
        module: path of the ``nn.Linear`` (``network.get_submodule``).
        source: name of the site whose nodes are the layer's inputs.
        target: name of the site whose nodes are its outputs; None where those are the labels.
        stage: index of the stage of `Network.stages` that it acts in.
        retrained: path of the module that is retrained when the layer is pruned: its whole block.
    """

    name: str
    module: str
    source: str
    target: str | None
    stage: int
    retrained: str


def select_layers(available: Sequence[Layer], patterns: str | Sequence[str]) -> list[Layer]:
    """The layers that match any of the glob patterns (as `select_sites`), in the network's order.

    Raises:
        InputError: a pattern that matches nothing.
    """
    chosen = matching([layer.name for layer in available], patterns, "layer")
    return [layer for layer in available if layer.name in chosen]


def block_patterns(available: Sequence[Layer], blocks: str | None) -> list[str]:
    """Patterns of the layers of some blocks.

    Args:
        blocks: numbers and ranges, `7` or `1-3,7`; None is the last block, or all layers of a network without blocks.

    Raises:
        InputError: it is neither.

    >>> block_patterns([], "1-3,7")
    ['block.1.*', 'block.2.*', 'block.3.*', 'block.7.*']
    """
    if blocks is None:
        # A module of somebody else's network may be called block; the layers in it are retrained by themselves.
        of_blocks = [layer for layer in available if layer.retrained != layer.module]
        numbered = [layer.name.split(".")[1] for layer in of_blocks if layer.name.startswith("block.")]
        return [f"block.{numbered[-1]}.*"] if numbered else ["*"]
    return [f"block.{number}.*" for number in block_numbers(blocks)]


def block_numbers(blocks: str) -> list[int]:
    """Numbers and ranges of blocks.

    Raises:
        InputError: it is no such list.

    >>> block_numbers("1-3,7")
    [1, 2, 3, 7]
    """
    numbers: list[int] = []
    for part in blocks.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not first.isdecimal() or not last.isdecimal() or max(len(first), len(last)) > DIGITS:
            raise InputError(f"--blocks {blocks} is no list of blocks; give numbers and ranges such as 1-3,7")
        if int(last) < int(first):
            raise InputError(f"--blocks {blocks}: {part} counts downwards; give {last}-{first}")
        numbers += range(int(first), int(last) + 1)
    return numbers


def layer_between(available: Sequence[Layer], source: str, target: str | None) -> Layer:
    """The layer that joins two sites; `target` None is the layer to the labels.

    Raises:
        InputError: no fully connected layer joins them.
    """
    for layer in available:
        if (layer.source, layer.target) == (source, target):
            return layer
    pairs = ", ".join(f"{layer.source} → {layer.target or 'labels'}" for layer in available[:4])
    raise InputError(
        f"no fully connected layer joins {source} and {target or 'the labels'}; joined are {pairs or 'no sites'}, …"
    )


def without_skip(layers: Sequence[Layer], sites: Sequence[Site]) -> list[Layer]:
    """The same layers, their outputs seen before the skip connection is added, where the network has that site."""
    names = {site.name for site in sites}
    return [
        replace(layer, target=f"{layer.target}.no_skip") if f"{layer.target}.no_skip" in names else layer
        for layer in layers
    ]


def by_own_head(layers: Sequence[Layer], sites: Sequence[Site]) -> list[Layer]:
    """The same layers, the inputs of the layer to the labels seen by that layer itself instead of by a probe.

    Raises:
        InputError: the layer to the labels is not among them, or the network has no linear one.
    """
    own = next((site.name for site in sites if site.own_head), None)
    if own is None or all(layer.target for layer in layers):
        raise InputError(
            "only the layer to the labels is a head of the network's own, and none is to be pruned here; "
            "give --layers output"
        )
    return [layer if layer.target else replace(layer, source=own) for layer in layers]


def layer_weight(network: nn.Module, layer: Layer) -> Tensor:
    """The layer's weight, (output, input), as the forward pass uses it."""
    return network.get_submodule(layer.module).weight  # type: ignore[return-value]


def as_wide_as(weight: Tensor, mask: Bool[Tensor, "output node"], layer: Layer) -> Bool[Tensor, "_output _input"]:
    """One column per input; a filter that owns several positions is several inputs of the layer.

    Args:
        mask: one row per output, one column per node of the layer's source.

    Raises:
        InputError: the layer has another number of outputs, or inputs that the nodes do not share alike.
    """
    outputs, inputs = weight.shape
    if mask.shape[0] != outputs or inputs % mask.shape[1]:
        raise InputError(
            f"{layer.name} has a weight of {outputs} × {inputs} but its sites were measured with "
            f"{mask.shape[0]} and {mask.shape[1]} nodes; measure this network"
        )
    return mask.repeat_interleave(inputs // mask.shape[1], dim=1)
