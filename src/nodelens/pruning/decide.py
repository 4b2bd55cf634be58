"""Decide which weights of a network go: by the labels that two nodes share (ANDC), or as others would.

Every decision is a mask per layer, so all that follows (retraining, saving, removal of dead nodes) is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor, nn

from nodelens.data.examples import Samples
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.measures import (
    andc_mask,
    check_threshold,
    dilution,
    field_mask,
    magnitude_mask,
    output_mask,
    random_mask,
    shared_fields,
    threshold_for,
    wanda_mask,
    with_removed,
)
from nodelens.networks import OWN_HEAD, Layer, as_wide_as, entering, layer_weight, masks_of, of_real_tokens, real_tokens
from nodelens.probing import Measurement
from nodelens.processes import add_up
from nodelens.shards import device_of
from nodelens.training.batches import seed_of

EVERY_LAYER = ("andc", "permuted", "random", "magnitude", "wanda", "branch")
"""Two are controls. `permuted`: as ANDC, with the labels of what a layer enters permuted. `branch`: all weights of the
layers go, only biases and skip connections are left."""

METHODS = (*EVERY_LAYER, "field")
"""`field` prunes the layer to the labels alone: what its inputs say for each label, by the layer itself."""

THRESHOLD = 0.35
"""Of a site, where nobody says otherwise: the paper's of most sites of Table 3."""

Masks = dict[str, Bool[Tensor, "_output _input"]]
"""A mask per layer, by the path of its module."""


@dataclass(frozen=True)
class LayerThresholds:
    """Thresholds of the two sites that a layer joins; the layer to the labels has the first only."""

    source: float
    target: float | None


class Decision(NamedTuple):
    """What the probes of one seed decide: their measurement, and by layer its thresholds and ANDC's mask."""

    measurement: Measurement
    thresholds: Mapping[str, LayerThresholds]
    masks: Masks


def thresholds_by_site(
    layers: Sequence[Layer], default: float, by_site: Mapping[str, float] | None = None
) -> dict[str, LayerThresholds]:
    """Each layer's thresholds, by its name.

    Args:
        default: the threshold of every site that `by_site` does not name.
        by_site: thresholds of some sites, by name.

    Raises:
        InputError: a threshold that is not between 0 and 1, or a site that none of the layers joins.
    """
    chosen = dict(by_site or {})
    joined = {site for layer in layers for site in (layer.source, layer.target) if site}
    for threshold in (default, *chosen.values()):
        check_threshold(threshold)
    foreign = sorted(chosen.keys() - joined)
    if foreign:
        raise InputError(f"{foreign[0]} has a threshold but is joined by none of the pruned layers")
    return {
        layer.name: LayerThresholds(
            chosen.get(layer.source, default), chosen.get(layer.target, default) if layer.target else None
        )
        for layer in layers
    }


def thresholds_by_dilution(
    measurement: Measurement, layers: Sequence[Layer], wanted: float | Mapping[str, float]
) -> dict[str, LayerThresholds]:
    """The smallest thresholds, alike for both sites of a layer, that remove a share of each layer's weights.

    Args:
        wanted: the share, 0 to 1, for all layers or by layer name.

    Raises:
        InputError: no threshold removes that share, or a layer's is not said.
    """
    if isinstance(wanted, Mapping):
        for layer in layers:
            if layer.name not in wanted:
                raise InputError(f"no dilution is given for {layer.name}")
    found = {}
    for layer in layers:
        share = wanted[layer.name] if isinstance(wanted, Mapping) else wanted
        try:
            found[layer.name] = _thresholds_at(share, layer, removal_thresholds(measurement, layer))
        except InputError as error:
            raise InputError(f"{layer.name}: {error}") from error
    return found


def reachable_thresholds(
    measurement: Measurement, layer: Layer, dilutions: Sequence[float]
) -> dict[float, LayerThresholds]:
    """The thresholds of `thresholds_by_dilution` for several shares of one layer; shares that none gives are left out.

    What takes long, the threshold at which each weight goes, is found once for all of them.
    """
    removal, found = removal_thresholds(measurement, layer), {}
    for share in dilutions:
        with suppress(InputError):
            found[share] = _thresholds_at(share, layer, removal)
    return found


def _thresholds_at(share: float, layer: Layer, removal: Float64[Tensor, "_output _node"]) -> LayerThresholds:
    threshold = threshold_for(share, removal)
    return LayerThresholds(threshold, threshold if layer.target else None)


def removal_thresholds(measurement: Measurement, layer: Layer) -> Float64[Tensor, "_output _node"]:
    """The threshold at which ANDC removes each weight of a layer, where both of its sites have the same."""
    source = measurement[layer.source].matrices.diagonal_fields()
    if layer.target is None:
        return source.T.contiguous()
    return shared_fields(measurement[layer.target].matrices.diagonal_fields(), source)


def andc_masks(
    network: nn.Module,
    measurement: Measurement,
    layers: Sequence[Layer],
    thresholds: Mapping[str, LayerThresholds],
) -> Masks:
    """Keep a weight iff the two nodes that it joins share a label (paper, section 3 and Fig. 6).

    Args:
        measurement: has every site that the layers join.
        thresholds: by layer name.

    Raises:
        InputError: a site was not measured or has another number of nodes than the layer.
    """
    masks: Masks = {}
    for layer in layers:
        mask = shared_mask(*joined_diagonals(measurement, layer, thresholds[layer.name]))
        masks[layer.module] = as_wide_as(layer_weight(network, layer), mask, layer)
    return masks


def joined_diagonals(
    measurement: Measurement, layer: Layer, at: LayerThresholds
) -> tuple[Bool[Tensor, "_output label"] | None, Bool[Tensor, "_node label"]]:
    """Diagonals of the nodes that a layer makes, None where these are the labels, and of those that it reads."""
    source = measurement[layer.source].matrices.diagonals(at.source)
    if layer.target is None or at.target is None:
        return None, source
    return measurement[layer.target].matrices.diagonals(at.target), source


def shared_mask(
    out: Bool[Tensor, "_output label"] | None, into: Bool[Tensor, "_node label"]
) -> Bool[Tensor, "_output _node"]:
    """ANDC's mask between nodes with these diagonals, from `joined_diagonals`."""
    return output_mask(into) if out is None else andc_mask(out, into)


def baseline_masks(
    network: nn.Module,
    layers: Sequence[Layer],
    removed: Mapping[str, int],
    method: str,
    *,
    seed: int = 0,
    input_norms: Mapping[str, Float[Tensor, " _input"]] | None = None,
    own_fields: Float[Tensor, "_label _input"] | None = None,
    permuted: Masks | None = None,
) -> Masks:
    """Remove from each layer as many weights as told, by another method than ANDC.

    Args:
        removed: number of weights by the path of the layer's module.
        method: `permuted`, `random`, `magnitude`, `wanda`, `field`, or `branch`, which removes all.
        seed: of the random choice; every layer draws its own.
        input_norms: for `wanda`, from `input_norms`.
        own_fields: for `field`, from `own_fields`.
        permuted: for `permuted`, from `chance.permuted_masks`; of a layer that it lacks weights are removed at random.

    Raises:
        InputError: no such method.
    """
    masks: Masks = {}
    for layer in layers:
        weight, count = layer_weight(network, layer).detach().cpu(), removed[layer.module]
        generator = torch.Generator().manual_seed(seed_of(seed, *layer.name.encode()))
        if method == "random":
            mask = random_mask(weight, count, generator)
        elif method == "permuted" and permuted is not None:
            kept = permuted.get(layer.module, torch.ones_like(weight, dtype=torch.bool))
            mask = with_removed(kept.cpu(), count, generator)
        elif method == "magnitude":
            mask = magnitude_mask(weight, count)
        elif method == "wanda" and input_norms is not None:
            mask = wanda_mask(weight, input_norms[layer.module].cpu(), count)
        elif method == "field" and own_fields is not None:
            mask = field_mask(own_fields, count)
        elif method == "branch":
            mask = torch.zeros_like(weight, dtype=torch.bool)
        else:
            raise InputError(f"unknown method {method!r}; choose {', '.join(METHODS)}")
        masks[layer.module] = mask
    return masks


def removed_counts(masks: Masks) -> dict[str, int]:
    """How many weights each mask removes."""
    return {module: int((~mask).sum()) for module, mask in masks.items()}


def total_dilution(masks: Masks) -> float:
    """Share of the weights of all layers together that the masks remove, 0 to 1."""
    return dilution(torch.cat([mask.flatten() for mask in masks.values()]))


def own_fields(measurement: Measurement) -> Float64[Tensor, "label node"]:
    """What each input of the layer to the labels adds to a label's logit when that label is shown, on average.

    The diagonals of the nodal matrices of the network's own head (method, section 3), in units of a logit.

    Raises:
        InputError: the own head was not measured.
    """
    matrices = measurement[OWN_HEAD].matrices
    return matrices.class_means.double() * matrices.weight.double()


def check_field_method(methods: Sequence[str], layers: Sequence[Layer]) -> None:
    """
    Raises:
        InputError: `field` is to prune a layer whose outputs are no labels.
    """
    inner = next((layer.name for layer in layers if layer.target), None)
    if "field" in methods and inner:
        raise InputError(f"field prunes the layer to the labels alone, not {inner}; give --layers output")


def check_thresholds_or_dilution(
    site_thresholds: Mapping[str, float] | None, dilution: float | Mapping[str, float] | None
) -> None:
    """
    Raises:
        InputError: both are given.
    """
    if dilution is not None and site_thresholds:
        raise InputError(
            "a dilution finds the thresholds of all sites; give it or thresholds of sites (--site-thresholds), not both"
        )


def check_unpruned(network: nn.Module, layers: Sequence[Layer]) -> None:
    """
    Raises:
        InputError: a layer is held by a mask already, which new ones would lift.
    """
    masked = masks_of(network)
    for layer in layers:
        if layer.module in masked:
            raise InputError(f"{layer.name} is pruned already; prune the network that it was before")


@torch.inference_mode()
def input_norms(
    network: nn.Module,
    layers: Sequence[Layer],
    images: Samples,
    normalisation: Normalisation,
    batch_size: int = 128,
) -> dict[str, Float[Tensor, " _input"]]:
    """Root of the summed squares of each input of the layers over all tokens and images, by module path.

    Tokens that fill up a text are left out.
    """
    network.eval()
    device = device_of(network)
    widths = {layer.module: layer_weight(network, layer).shape[1] for layer in layers}
    squares = {module: torch.zeros(width, dtype=torch.float64, device=device) for module, width in widths.items()}
    real = None

    def add(module: str, x: Tensor) -> None:
        squares[module] += of_real_tokens(x, real).double().square().flatten(0, -2).sum(dim=0)

    with entering(network, squares, add):
        for _, pixels, _ in images.own_batches(batch_size):
            shown = normalisation.applied(pixels, device)
            real = real_tokens(network, shown)
            network(shown)
    add_up(squares.values())
    return {module: squared.sqrt().float() for module, squared in squares.items()}
