"""A-ANDC: weights that are never there, because the labels of the nodes were assigned before training.

The paper's discussion: ANDC trains a network, prunes it and trains it again; with diagonals assigned in advance,
each label about equally often, one training does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures import andc_mask, assigned_diagonals, output_mask, random_mask
from nodelens.networks import Layer, Network, Site, as_wide_as, layer_weight, select_layers
from nodelens.training.batches import ASSIGNMENT, seed_of


@dataclass(frozen=True)
class Assignment:
    """Labels assigned to nodes in advance.

    Attributes:
        size: labels of every node.
        layers: glob patterns of the layers that keep only the weights between nodes that share a label.
        control: `random` keeps as many weights of each layer, drawn at random: what the labels are worth shows
            against it.
    """

    size: int
    layers: tuple[str, ...] = ("block.*.*",)
    control: Literal["random"] | None = None


def assigned_masks(
    network: Network, assignment: Assignment, seed: int = 0
) -> dict[str, Bool[Tensor, "_output _input"]]:
    """Masks of a network that is not trained yet, by the path of the layer's module.

    A layer keeps the weight between two nodes iff they were assigned a common label, the output layer the weight
    from a node to each of its labels.

    Args:
        seed: of the assignment; every site draws its own, and those on one residual stream share it.

    Raises:
        InputError: no such layer, no label for a node or more than there are, or too few for every label to get a node.
    """
    chosen = select_layers(network.layers(), assignment.layers)
    diagonals = site_diagonals(network, chosen, assignment.size, seed)
    masks = {}
    for layer in chosen:
        source = diagonals[layer.source]
        mask = output_mask(source) if layer.target is None else andc_mask(diagonals[layer.target], source)
        mask = as_wide_as(layer_weight(network, layer), mask, layer)
        if assignment.control == "random":
            generator = torch.Generator().manual_seed(seed_of(seed, ASSIGNMENT, *layer.name.encode()))
            mask = random_mask(mask, int((~mask).sum()), generator)
        masks[layer.module] = mask
    return masks


def site_diagonals(
    network: Network, layers: Sequence[Layer], size: int, seed: int = 0
) -> dict[str, Bool[Tensor, "_node _label"]]:
    """The diagonals assigned to every site that the layers join, by its name.

    Sites on one residual stream have the same nodes: a skip connection carries node k of one to node k of the next.
    Were they assigned different labels, each branch would add to a node what the skip connection does not mean by
    it; the paper asks for this coherence when it prunes the projection by its labels with the skip connection.

    Raises:
        InputError: as `assigned_masks`.
    """
    joined = {name for layer in layers for name in (layer.source, layer.target) if name}
    found: dict[str, Tensor] = {}
    by_nodes: dict[tuple[str, int], Tensor] = {}
    for site in network.sites():
        if site.name in joined:
            same = (site.stream or site.name, site.nodes)
            if same not in by_nodes:
                by_nodes[same] = _diagonals(site, network.config.labels, size, seed)
            found[site.name] = by_nodes[same]
    return found


def _diagonals(site: Site, labels: int, size: int, seed: int) -> Bool[Tensor, "_node _label"]:
    name = site.stream or site.name
    generator = torch.Generator().manual_seed(seed_of(seed, ASSIGNMENT, site.nodes, *name.encode()))
    diagonals = assigned_diagonals(site.nodes, labels, size, generator)
    if site.nodes * size < labels:
        least = -(-labels // site.nodes)
        raise InputError(
            f"{site.nodes} nodes of {site.name} with {size} labels each leave some of {labels} labels without a node; "
            f"assign at least {least}"
        )
    return diagonals
