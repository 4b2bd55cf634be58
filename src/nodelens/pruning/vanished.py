"""Nodes whose diagonal is empty: ANDC leaves them no connection. Are they needed?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from nodelens.networks import Layer
from nodelens.probing import Measurement
from nodelens.pruning.decide import Decision, LayerThresholds, Masks

SILENCED, KEPT = "vanished only", "all but vanished"
"""Remove the weights of vanished nodes only; remove what ANDC does but for theirs."""


def vanished(measurement: Measurement, site: str, threshold: float) -> Bool[Tensor, " node"]:
    """Which nodes of a site have no label in their diagonal."""
    return ~measurement[site].matrices.diagonals(threshold).any(dim=1)


def vanished_masks(
    measurement: Measurement, layers: Sequence[Layer], thresholds: Mapping[str, LayerThresholds], andc: Masks
) -> dict[str, Masks]:
    """Two controls: only vanished nodes silenced, and ANDC with the vanished nodes' weights kept to be retrained."""
    silenced: Masks = {}
    kept: Masks = {}
    for layer in layers:
        at = thresholds[layer.name]
        touches = vanished_weights(measurement, layer, at, andc[layer.module].shape[1])
        silenced[layer.module] = ~touches.expand_as(andc[layer.module])
        kept[layer.module] = andc[layer.module] | touches
    return {SILENCED: silenced, KEPT: kept}


def vanished_weights(
    measurement: Measurement, layer: Layer, at: LayerThresholds, inputs: int
) -> Bool[Tensor, "output input"]:
    """Which weights of a layer enter or leave a vanished node; one row where its outputs are labels."""
    source = vanished(measurement, layer.source, at.source)
    source = source.repeat_interleave(inputs // len(source))
    if layer.target is None or at.target is None:
        return source[None, :]
    return vanished(measurement, layer.target, at.target)[:, None] | source[None, :]


def vanished_rows(layers: Sequence[Layer], decisions: Sequence[Decision]) -> list[dict[str, object]]:
    """How many nodes of each joined site have no diagonal, for every seed."""
    rows: list[dict[str, object]] = []
    for measurement, of_seed, _ in decisions:
        seen: dict[tuple[str, float], int] = {}
        for layer in layers:
            at = of_seed[layer.name]
            for site, threshold in ((layer.source, at.source), (layer.target, at.target)):
                if site is not None and threshold is not None and (site, threshold) not in seen:
                    count = int(torch.count_nonzero(vanished(measurement, site, threshold)))
                    seen[site, threshold] = count
                    nodes = measurement[site].site.nodes
                    facts = {"site": site, "seed": measurement.seed, "threshold": round(threshold, 4)}
                    rows.append({**facts, "nodes": nodes, "vanished": count})
    return rows


def emptied_layers(
    measurement: Measurement, layers: Sequence[Layer], thresholds: Mapping[str, LayerThresholds], masks: Masks
) -> list[str]:
    """One sentence for each layer of which ANDC leaves nothing, with its nodes that have no label at all."""
    sentences = []
    for layer in layers:
        if masks[layer.module].any():
            continue
        at = thresholds[layer.name]
        unlabelled = _unlabelled(measurement, layer.source, at.source)
        other = "an output"
        if layer.target is not None and at.target is not None:
            unlabelled += f", {_unlabelled(measurement, layer.target, at.target)}"
            other = f"any of {layer.target}"
        sentences.append(
            f"{layer.name} is pruned to nothing: no node of {layer.source} shares a label with {other} "
            f"(without any label: {unlabelled})"
        )
    return sentences


def _unlabelled(measurement: Measurement, site: str, threshold: float, most: int = 8) -> str:
    """How many nodes of a site have no label, and the first of them."""
    gone = vanished(measurement, site, threshold)
    first = gone.nonzero().flatten().tolist()
    names = ", ".join(map(str, first[:most])) + (", …" if len(first) > most else "")
    return f"{len(first)} of {len(gone)} nodes of {site}" + (f": {names}" if names else "")
