"""Prune a network by a measurement of it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodelens.errors import InputError
from nodelens.measures import dilution as dilution_of
from nodelens.networks import Network, apply_masks, by_own_head, fingerprint, select_layers, sites, without_skip
from nodelens.networks import layers as layers_of
from nodelens.probing import Measurement
from nodelens.pruning.chance import kept_rows
from nodelens.pruning.decide import (
    THRESHOLD,
    Decision,
    LayerThresholds,
    andc_masks,
    check_thresholds_or_dilution,
    check_unpruned,
    thresholds_by_dilution,
    thresholds_by_site,
    total_dilution,
)
from nodelens.pruning.vanished import emptied_layers


@dataclass(frozen=True)
class Pruned:
    """A pruned network, not retrained yet, and how it was pruned.

    Attributes:
        network: a copy of the network whose masked weights stay zero, also when it is trained.
        thresholds: of the two sites of every pruned layer, by the layer's name.
        dilution: share of the weights removed of every pruned layer, by its name.
        total_dilution: of all of them together.
        dilution_by_chance: share that would be removed of every pruned layer, by its name, if every node's labels were
            drawn at random, as many as it has.
    """

    network: Network
    thresholds: Mapping[str, LayerThresholds]
    dilution: Mapping[str, float]
    total_dilution: float
    dilution_by_chance: Mapping[str, float]


def prune(
    network: Network,
    measurement: Measurement,
    layers: str | Sequence[str] = "*",
    *,
    threshold: float = THRESHOLD,
    site_thresholds: Mapping[str, float] | None = None,
    dilution: float | Mapping[str, float] | None = None,
    skip: bool = True,
    own_head: bool = False,
) -> Pruned:
    """ANDC pruning: keep a weight only where the two nodes that it joins share a label (paper, section 3).

    Args:
        network: it is left as it is.
        measurement: of this network, with every site that the layers join; best on images that it was not
            trained on and that are not the test images.
        layers: glob patterns such as `block.7.*` or `output`; by default every layer.
        threshold: of every site that `site_thresholds` does not name, between 0 and 1; the default is the paper's.
        dilution: wanted share of the weights to remove, of every layer or by layer name; the thresholds are
            then found for it.
        skip: take the labels of projection and Linear2 with the skip connection added, as in the paper.
        own_head: take the labels of what enters the layer to the labels by that layer itself, the site `own_head`.

    Raises:
        InputError: a layer or site that there is not, a layer that is pruned already, a measurement of another network,
            a threshold out of range, a dilution that cannot be reached, thresholds of sites beside a dilution.

    Warns:
        UserWarning: nothing is left of a layer; its nodes without any label are named.
    """
    if measurement.network and measurement.network != fingerprint(network):
        raise InputError("the measurement belongs to another network (other weights); measure this one")
    chosen = select_layers(layers_of(network), layers)
    if not skip:
        chosen = without_skip(chosen, sites(network))
    if own_head:
        chosen = by_own_head(chosen, sites(network))
    check_unpruned(network, chosen)
    check_thresholds_or_dilution(site_thresholds, dilution)
    if dilution is None:
        thresholds = thresholds_by_site(chosen, threshold, site_thresholds)
    else:
        thresholds = thresholds_by_dilution(measurement, chosen, dilution)
    masks = andc_masks(network, measurement, chosen, thresholds)
    for sentence in emptied_layers(measurement, chosen, thresholds, masks):
        warnings.warn(sentence, stacklevel=2)
    pruned = copy.deepcopy(network)
    apply_masks(pruned, masks)
    # What was said of the dense network's accuracy does not hold for this one.
    pruned.checkpoint_metadata = {k: v for k, v in network.checkpoint_metadata.items() if k != "test_accuracy"}
    shares = {layer.name: dilution_of(masks[layer.module]) for layer in chosen}
    kept = kept_rows(network, chosen, [Decision(measurement, thresholds, masks)])
    by_chance = {row["layer"]: 1 - row["kept_by_chance"] for row in kept}
    return Pruned(pruned, thresholds, shares, total_dilution(masks), by_chance)
