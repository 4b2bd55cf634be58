"""Probes: a classifier head at every site, all trained side by side on one pass of the frozen network.

A probe is sequence pooling and a fully connected layer without bias (paper, section 2 and Fig. 2). Where the
nodes are filters there is no pooling and the layer reads every position. Several seeds of a probe are one
more axis of its tensors, so they share every read of the activations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nodelens.networks import Site
from nodelens.probing.readout import Readout
from nodelens.shards import whole_tensors
from nodelens.training.batches import seed_of


class Probe(nn.Module):
    """The classifier heads of one site, one per seed.

    Attributes:
        pool_weight: g of the pooling `softmax_T(x·g)`, (seed, node); None at sites without tokens. A bias
            would shift all tokens' scores alike and have no effect.
        scale: of the activations as the probe reads them; None for 1. `fold` takes it into the weights.
        weight: W of the fully connected layer, (seed, label, node · position).
        bias: of the network's own layer to the labels, (seed, label); a probe that is trained has none.
    """

    pool_weight: nn.Parameter | None
    bias: nn.Parameter | None
    scale: Float[Tensor, ""] | None

    def __init__(self, site: Site, labels: int, seeds: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__()
        self.site = site
        self.layer_norm = layer_norm
        inputs = site.nodes * site.positions
        bound = 1 / math.sqrt(inputs)
        weights, pools = [], []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed_of(seed, *site.name.encode()))
            weights.append(torch.empty(labels, inputs).uniform_(-bound, bound, generator=generator))
            pools.append(torch.empty(site.nodes).uniform_(-bound, bound, generator=generator))
        self.weight = nn.Parameter(torch.stack(weights))
        self.pool_weight = nn.Parameter(torch.stack(pools)) if site.layout == "tokens" else None
        self.bias = nn.Parameter(torch.zeros(len(weights), labels)) if site.own_head else None
        self.register_buffer("scale", None, persistent=False)

    def adopt(self, network: nn.Module) -> None:
        """Be the network's own layer to the labels, for every seed; it is not trained."""
        layer = network.get_submodule(self.site.module)
        found = {name: getattr(layer, name) for name in ("weight", "bias") if getattr(layer, name) is not None}
        with torch.no_grad():
            for name, own in whole_tensors(found).items():
                self.get_parameter(name).copy_(own)
        self.requires_grad_(False)

    def fold(self) -> None:
        """Take the scale into the weights, so that they are those of the activations as they are."""
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(self._scaled(weight))
        self.scale = None

    def readout(self, before: nn.Linear | None = None) -> Readout:
        """What the probe computes from the activations at its site, or from those that enter a layer before it.

        A probe behind a fully connected layer `Ax + b` is another one before it: the tokens' shares are those of
        the query `Aᵀg`, since b shifts all scores alike, and a mean of `Ax + b` is `A` times the mean of x, plus b.

        Args:
            before: the layer that the site is the output of.
        """
        query = None if self.pool_weight is None else self._scaled(self.pool_weight)
        weight = self._scaled(self.weight)
        if before is None:
            none = self.weight.new_zeros(self.weight.shape[:2])
            return Readout(query, weight, none if self.bias is None else self.bias, self.layer_norm)
        assert query is not None
        through, bias = before.weight.float(), 0.0 if before.bias is None else weight @ before.bias.float()
        return Readout(query @ through, weight @ through, weight.new_zeros(weight.shape[:2]) + bias)

    def _scaled(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return weight if self.scale is None else weight * self.scale

    def add_gradient(self, gradient: Readout, before: nn.Linear | None = None) -> None:
        """Add to `grad` what `Readout.learn` found for `readout(before)`."""
        by_query, by_weight = gradient.queries, gradient.weight
        if before is not None:
            assert by_query is not None
            through = before.weight.float().T
            by_query, by_weight = by_query @ through, by_weight @ through
            if before.bias is not None:
                by_weight += gradient.bias[..., None] * before.bias.float()
        _add(self.weight, self._scaled(by_weight))
        if self.pool_weight is not None:
            assert by_query is not None
            _add(self.pool_weight, self._scaled(by_query))

    def pool(
        self, activations: Tensor, real: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "seed batch input"]:
        """What reaches the fully connected layer, as `Readout.pool`."""
        return self.readout().pool(activations, real)

    def forward(
        self, activations: Tensor, real: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "seed batch label"]:
        """Logits of the probe: ``z Wᵀ``."""
        readout = self.readout()
        return readout.logits(readout.pool(activations, real))


def _add(weight: nn.Parameter, gradient: Tensor) -> None:
    weight.grad = gradient if weight.grad is None else weight.grad + gradient


class Probes(nn.Module):
    """The probes of several sites."""

    def __init__(self, sites: Sequence[Site], labels: int, seeds: Sequence[int], layer_norm: bool = False) -> None:
        super().__init__()
        self.seeds = tuple(seeds)
        self.labels = labels
        # A module's name may not hold dots; the order of the sites is kept.
        self._index = {site.name: i for i, site in enumerate(sites)}
        self._probes = nn.ModuleList(Probe(site, labels, seeds, layer_norm) for site in sites)

    def __getitem__(self, site: str) -> Probe:
        return self._probes[self._index[site]]  # type: ignore[return-value]

    def __iter__(self) -> Iterator[Probe]:
        return iter(self._probes)  # type: ignore[arg-type]

    @property
    def sites(self) -> list[Site]:
        return [probe.site for probe in self]
