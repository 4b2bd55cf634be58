"""What ANDC would keep by chance: does it matter that two nodes share a label?

Nodes with many labels share some with any other node. So the share of a layer that ANDC keeps, and how large the
weights are that it keeps, stand beside what they would be if every node's labels were drawn at random, as many as it
has; and a network pruned with permuted labels can be retrained beside ANDC's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float64
from torch import Tensor, nn

from nodelens.measures import dilution, shared_label_probability
from nodelens.networks import Layer, as_wide_as, layer_weight
from nodelens.probing import Measurement
from nodelens.pruning.decide import Decision, LayerThresholds, Masks, joined_diagonals, shared_mask
from nodelens.training.batches import seed_of


def permuted_masks(
    network: nn.Module,
    measurement: Measurement,
    layers: Sequence[Layer],
    thresholds: Mapping[str, LayerThresholds],
    seed: int = 0,
) -> Masks:
    """ANDC's masks, had the labels on the two sides of a layer nothing to do with each other.

    The labels of a layer's output site (or the outputs themselves) are permuted, alike for all of its nodes and
    otherwise in every layer. So every node keeps as many labels, and nodes of one site share as many with one
    another; what a mask like this costs more than ANDC's is what the common labels are worth.

    Args:
        measurement, thresholds: as for `andc_masks`.
    """
    masks: Masks = {}
    for layer in layers:
        out, into = joined_diagonals(measurement, layer, thresholds[layer.name])
        generator = torch.Generator().manual_seed(seed_of(seed, *f"labels of {layer.name}".encode()))
        order = torch.randperm(into.shape[1], generator=generator)
        mask = shared_mask(None, into[:, order]) if out is None else shared_mask(out[:, order], into)
        masks[layer.module] = as_wide_as(layer_weight(network, layer), mask, layer)
    return masks


def kept_rows(network: nn.Module, layers: Sequence[Layer], decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """For every layer and probe seed the weights between nodes that share a label, beside what chance gives.

    Args:
        network: not pruned yet.
        decisions: one per probe seed.

    Returns:
        Rows with `kept`, the share of the weights, and `size`, the mean absolute weight of those kept over that of
        all (NaN where none is), each with `…_by_chance`: the same if every node's labels were drawn at random.
    """
    rows = []
    for layer in layers:
        weight = layer_weight(network, layer).detach().cpu().abs().double()
        for measurement, thresholds, masks in decisions:
            mask = masks[layer.module].cpu()
            kept_by_chance, size_by_chance = _by_chance(measurement, layer, thresholds[layer.name], weight)
            rows.append(
                {
                    "layer": layer.name,
                    "seed": measurement.seed,
                    "weights": weight.numel(),
                    "kept": 1 - dilution(mask),
                    "kept_by_chance": kept_by_chance,
                    "size": float(weight[mask].mean() / weight.mean()),
                    "size_by_chance": size_by_chance,
                }
            )
    return rows


def _by_chance(
    measurement: Measurement, layer: Layer, at: LayerThresholds, weight: Float64[Tensor, "_output _input"]
) -> tuple[float, float]:
    """`kept_by_chance` and `size_by_chance` of a layer.

    Nodes with as many labels are alike, so weights are added up over them before they meet a probability.
    """
    out_diagonals, in_diagonals = joined_diagonals(measurement, layer, at)
    labels = in_diagonals.shape[1]
    # A filter that owns several positions is several inputs of the layer.
    into = in_diagonals.sum(dim=1).cpu().repeat_interleave(weight.shape[1] // len(in_diagonals))
    out = into.new_ones(labels) if out_diagonals is None else out_diagonals.sum(dim=1).cpu()
    (out, of_out), (into, of_in) = (torch.unique(counts, return_inverse=True) for counts in (out, into))
    probability = shared_label_probability(out, into, labels)
    pairs = of_out.bincount().double()[:, None] * of_in.bincount().double()[None, :]
    sizes = weight.new_zeros(len(out), weight.shape[1]).index_add_(0, of_out, weight)
    sizes = weight.new_zeros(len(out), len(into)).index_add_(1, of_in, sizes)
    kept = (pairs * probability).sum()
    return float(kept / pairs.sum()), float((sizes * probability).sum() / kept / weight.mean())
