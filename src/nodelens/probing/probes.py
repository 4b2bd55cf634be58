"""Probes: a classifier head at every site, all trained side by side on one pass of the frozen network.

A probe is sequence pooling and a fully connected layer without bias (paper, section 2 and Fig. 2). Where the
nodes are filters there is no pooling and the layer reads every position. Several seeds of a probe are one
more axis of its tensors, so they share every read of the activations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.networks import Site
from nodelens.training.batches import seed_of


class Probe(nn.Module):
    """The classifier heads of one site, one per seed.

    Attributes:
        pool_weight: g of the pooling `softmax_T(x·g)`, (seed, node); absent at sites without tokens. A bias
            would shift all tokens' scores alike and have no effect.
        weight: W of the fully connected layer, (seed, label, node · position).
    """

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
        if site.layout == "tokens":
            self.pool_weight = nn.Parameter(torch.stack(pools))

    def pool(self, activations: Tensor) -> Float[Tensor, "seed batch input"]:
        """What reaches the fully connected layer: for every image the pooled activation z of each node.

        For filters the inputs are node-major: position p of node k is input ``k · positions + p``.
        """
        return self._pool(self._normed(activations))

    def _normed(self, activations: Tensor) -> Tensor:
        if not self.layer_norm or self.site.layout != "tokens":
            return activations
        return F.layer_norm(activations, activations.shape[-1:])

    def _pool(self, normed: Tensor) -> Float[Tensor, "seed batch input"]:
        if self.site.layout == "tokens":
            return pool_tokens(normed, self.pool_weight)
        return normed.flatten(1).float().expand(self.weight.shape[0], -1, -1)

    def learn(
        self, activations: Tensor, targets: Float[Tensor, "batch label"], share: float = 1.0
    ) -> Float[Tensor, "seed"]:
        """Add every seed's gradient of its mean cross-entropy to `grad`, and return those losses.

        In closed form, which is faster than autograd where sixty probes learn beside one pass of a network.

        Args:
            targets: share of each label; each row sums to 1.
            share: what part of a larger batch these images are; gradients and losses are this part of its mean.
        """
        normed = self._normed(activations)
        pooled = self._pool(normed)
        log_probabilities = (pooled @ self.weight.transpose(1, 2)).log_softmax(dim=2)
        losses = -(targets * log_probabilities).sum(dim=2).mean(dim=1) * share
        by_logit = log_probabilities.exp_().sub_(targets).mul_(share / len(targets))
        _add_gradient(self.weight, by_logit.transpose(1, 2) @ pooled)
        if self.site.layout == "tokens":
            _add_gradient(self.pool_weight, pooling_gradient(normed, self.pool_weight, by_logit @ self.weight))
        return losses

    def forward(self, activations: Tensor) -> Float[Tensor, "seed batch label"]:
        """Logits of the probe: ``z Wᵀ``."""
        return self.pool(activations) @ self.weight.transpose(1, 2)


def pool_tokens(
    activations: Float[Tensor, "batch token node"], queries: Float[Tensor, "query node"]
) -> Float[Tensor, "query batch node"]:
    """Sequence pooling, once per query: the mean over the tokens x with the shares `softmax(x·g)` of query g.

    It is attention with keys and values alike, and its kernel reads the activations once for both.
    """
    tokens = activations.unsqueeze(1)
    asked = queries.to(tokens.dtype).expand(len(tokens), 1, -1, -1)
    if tokens.dtype != torch.float32 and len(queries) <= 3:
        # Measured on a CPU: few queries are faster as heads than as positions.
        tokens, asked = tokens.expand(-1, len(queries), -1, -1), asked.transpose(1, 2)
    pooled = F.scaled_dot_product_attention(asked, tokens, tokens, scale=1.0)
    return pooled.flatten(1, 2).transpose(0, 1).float()


def pooling_gradient(
    activations: Float[Tensor, "batch token node"],
    queries: Float[Tensor, "query node"],
    gradient: Float[Tensor, "query batch node"],
) -> Float[Tensor, "query node"]:
    """The gradient of the queries, from that of what they pooled: `Σ a (x·d − Σ a x·d) x` over images and tokens.

    Here a are the tokens' shares and d is the gradient of what was pooled. Two reads of the activations, where
    autograd takes three.
    """
    each = torch.cat([queries[:, None].expand_as(gradient), gradient]).permute(1, 2, 0)
    scores, slopes = (activations @ each.to(activations.dtype)).float().chunk(2, dim=2)
    shares = scores.softmax(dim=1)
    by_score = shares * (slopes - (shares * slopes).sum(dim=1, keepdim=True))
    return (by_score.transpose(1, 2).to(activations.dtype) @ activations).float().sum(dim=0)


def _add_gradient(weight: nn.Parameter, gradient: Tensor) -> None:
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
