"""What a probe computes, as tensors alone: sequence pooling and a fully connected layer, and their gradients.

Several probes behind one place are one more axis, so they share every read of the activations, which is what
probing costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from nodelens.hardware import BF16_PRODUCTS, MATRIX_UNITS
from nodelens.networks import fitting


@dataclass(frozen=True)
class Readout:
    """Probes behind one place of a network: their logits are `pool(x) Wᵀ + c`. Or the gradients of these.

    Attributes:
        queries: g of the pooling `softmax_T(x·g)`, (probe, node); None where nothing is pooled.
        weight: W of the fully connected layers, (probe, label, input).
        bias: c, (probe, label).
        layer_norm: whether each token is normalised before the pooling.
    """

    queries: Float[Tensor, "probe node"] | None
    weight: Float[Tensor, "probe label input"]
    bias: Float[Tensor, "probe label"]
    layer_norm: bool = False

    def pool(
        self, activations: Tensor, real: Bool[Tensor, "batch token"] | None = None
    ) -> Float[Tensor, "probe batch input"]:
        """What reaches the fully connected layers: for every image the pooled activation z of each node.

        For filters the inputs are node-major: position p of node k is input ``k · positions + p``.

        Args:
            real: the tokens that are pooled; by default all. Of no account where a site's tokens are not those.
        """
        return self._pool(self._normed(activations), real)

    def logits(self, pooled: Float[Tensor, "probe batch input"]) -> Float[Tensor, "probe batch label"]:
        """``z Wᵀ + c``."""
        return torch.baddbmm(self.bias[:, None], pooled, self.weight.transpose(1, 2))

    def learn(
        self,
        activations: Tensor,
        targets: Float[Tensor, "batch label"],
        share: float,
        real: Bool[Tensor, "batch token"] | None = None,
    ) -> tuple[Float[Tensor, " probe"], Readout]:
        """Every probe's mean cross-entropy and its gradient.

        In closed form, which is faster than autograd where sixty probes learn beside one pass of a network.

        Args:
            targets: share of each label; each row sums to 1.
            share: what part of a larger batch these images are; gradients and losses are this part of its mean.
            real: as `pool` takes it.
        """
        normed = self._normed(activations)
        pooled = self._pool(normed, real)
        log_probabilities = self.logits(pooled).log_softmax(dim=2)
        losses = -(targets * log_probabilities).sum(dim=2).mean(dim=1) * share
        by_logit = log_probabilities.exp_().sub_(targets).mul_(share / len(targets))
        by_query = None
        if self.queries is not None:
            by_query = pooling_gradient(normed, self.queries, by_logit @ self.weight, fitting(real, normed))
        return losses, Readout(by_query, by_logit.transpose(1, 2) @ pooled, by_logit.sum(dim=1))

    def _normed(self, activations: Tensor) -> Tensor:
        if not self.layer_norm or self.queries is None:
            return activations
        return F.layer_norm(activations, activations.shape[-1:])

    def _pool(self, normed: Tensor, real: Bool[Tensor, "batch token"] | None) -> Float[Tensor, "probe batch input"]:
        if self.queries is not None:
            return pool_tokens(normed, self.queries, fitting(real, normed))
        return normed.flatten(1).float().expand(len(self.weight), -1, -1)


def pool_tokens(
    activations: Float[Tensor, "batch token node"],
    queries: Float[Tensor, "query node"],
    real: Bool[Tensor, "batch token"] | None = None,
) -> Float[Tensor, "query batch node"]:
    """Sequence pooling, once per query: the mean over the tokens x with the shares `softmax(x·g)` of query g.

    It is attention with keys and values alike, and its kernel reads the activations once for both.

    Args:
        real: the tokens that have a share; by default all.
    """
    tokens = activations.unsqueeze(1)
    if tokens.device.type == "cpu" and tokens.dtype == torch.bfloat16 and not MATRIX_UNITS:
        # Measured: the kernel is slower in bf16 than in fp32, but for many queries, and products are faster than both.
        if BF16_PRODUCTS:
            shares = _shares((activations @ queries.T.to(activations.dtype)).float(), real)
            return (shares.transpose(1, 2).to(activations.dtype) @ activations).float().transpose(0, 1)
        tokens = tokens.float()
    asked = queries.to(tokens.dtype).expand(len(tokens), 1, -1, -1)
    if tokens.dtype != torch.float32 and len(queries) <= 3:
        # Measured on a CPU: few queries are faster as heads than as positions.
        tokens, asked = tokens.expand(-1, len(queries), -1, -1), asked.transpose(1, 2)
    attended = None if real is None else real[:, None, None]
    pooled = F.scaled_dot_product_attention(asked, tokens, tokens, attended, scale=1.0)
    return pooled.flatten(1, 2).transpose(0, 1).float()


def pooling_gradient(
    activations: Float[Tensor, "batch token node"],
    queries: Float[Tensor, "query node"],
    gradient: Float[Tensor, "query batch node"],
    real: Bool[Tensor, "batch token"] | None = None,
) -> Float[Tensor, "query node"]:
    """The gradient of the queries, from that of what they pooled: `Σ a (x·d − Σ a x·d) x` over images and tokens.

    Here a are the tokens' shares and d is the gradient of what was pooled. Two reads of the activations, where
    autograd takes three. `real` as for `pool_tokens`.
    """
    each = torch.cat([queries[:, None].expand_as(gradient), gradient]).permute(1, 2, 0)
    scores, slopes = (activations @ each.to(activations.dtype)).float().chunk(2, dim=2)
    shares = _shares(scores, real)
    by_score = shares * (slopes - (shares * slopes).sum(dim=1, keepdim=True))
    return (by_score.transpose(1, 2).to(activations.dtype) @ activations).float().sum(dim=0)


def _shares(
    scores: Float[Tensor, "batch token query"], real: Bool[Tensor, "batch token"] | None
) -> Float[Tensor, "batch token query"]:
    """What part of the mean each token has, by its scores; those that are not real have none."""
    return (scores if real is None else scores.masked_fill(~real[..., None], -torch.inf)).softmax(dim=1)
