"""Multi-head self-attention, and what computes it fastest."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.hardware import MATRIX_UNITS
from nodelens.networks.dead import alive, alive_in_heads, keep_inputs, keep_outputs


def attend_materialised(
    q: Float[Tensor, "batch head query size"],
    k: Float[Tensor, "batch head key size"],
    v: Float[Tensor, "batch head key value"],
    dropout: float = 0.0,
    scale: float | None = None,
    bias: Float[Tensor, "batch 1 1 key"] | None = None,
) -> Float[Tensor, "batch head query value"]:
    """Scaled dot-product attention with the attention matrix written out."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    added = q.new_empty(1, 1, 1) if bias is None else bias.expand(-1, q.shape[1], -1, -1).flatten(0, 1)
    products = torch.baddbmm(
        added, q.flatten(0, 1), k.flatten(0, 1).transpose(-2, -1), beta=0 if bias is None else 1, alpha=scale
    )
    weights = F.dropout(products.softmax(dim=-1), dropout, training=dropout > 0)
    return torch.bmm(weights, v.flatten(0, 1)).view(*q.shape[:3], v.shape[-1])


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dropout: float = 0.0,
    scale: float | None = None,
    bias: Float[Tensor, "batch 1 1 key"] | None = None,
) -> Tensor:
    """Scaled dot-product attention by whatever is fastest here; all ways agree to rounding.

    Args:
        scale: of the products of queries and keys; by default one over the root of their size.
        bias: added to the scaled products of each key; by default nothing.

    Measured in benchmarks/attention.py: on a CPU the fused kernel's backward pass is slow in bf16 and its
    dropout in any format; without matrix units its forward pass is slow in bf16 too. There the matrix is written
    out.
    """
    slow_backward = q.requires_grad and (dropout > 0 or q.dtype != torch.float32)
    slow_forward = q.dtype == torch.bfloat16 and not MATRIX_UNITS
    if q.device.type == "cpu" and (slow_backward or slow_forward):
        return attend_materialised(q, k, v, dropout, scale, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)


class Attention(nn.Module):
    """Multi-head self-attention; its projection's input is the site `attention`.

    Attributes:
        sizes: outputs of QKV that are queries, keys and values.
        scale: of the products of queries and keys.
    """

    def __init__(self, width: int, heads: int, dropout: float, qkv_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.sizes = (width, width, width)
        self.scale = (width // heads) ** -0.5
        self.dropout = dropout
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "batch token embedding"], present: Bool[Tensor, "batch token 1"] | None = None
    ) -> Float[Tensor, "batch token embedding"]:
        """
        Args:
            present: tokens that are there, at least one per sample, by default all. The others are not attended to,
                and nothing is mixed for them.
        """
        parts = self.qkv(x).split(self.sizes, dim=-1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        absent = None if present is None else ~present.transpose(1, 2).unsqueeze(1)
        bias = None if absent is None else q.new_zeros(absent.shape).masked_fill(absent, -torch.inf)
        mixed = attend(q, k, v, self.dropout if self.training else 0.0, self.scale, bias).transpose(1, 2).flatten(2)
        return self.proj(mixed if present is None else mixed * present)  # type: ignore[no-any-return]

    def remove_dead(self, multiple: int = 1) -> None:
        """Remove what no longer matters, in place: whole heads, dimensions of queries and keys, and of values.

        A dimension of queries matters only with the same one of keys, whose weights vary from token to token: a key's
        bias shifts all scores of a query alike. A dimension of values matters only if it enters the projection; one
        that nothing enters is its bias for every token and joins the projection's. All heads keep the same number of
        dimensions, a multiple (see `alive_in_heads`).
        """
        bias = self.qkv.weight.new_zeros(len(self.qkv.weight)) if self.qkv.bias is None else self.qkv.bias.detach()
        entered, shifts = self.qkv.weight.detach().any(dim=1).reshape(3, -1), bias.reshape(3, -1)
        weight = self.proj.weight.detach()
        self.proj.bias = nn.Parameter(self.proj.bias.detach() + weight @ torch.where(entered[2], 0.0, shifts[2]))
        # Dead values that stay must not be counted twice.
        self.proj.weight = nn.Parameter(weight * entered[2])
        matched = ((entered[0] | shifts[0].bool()) & entered[1]).reshape(self.heads, -1)
        values = (entered[2] & weight.any(dim=0)).reshape(self.heads, -1)
        heads = alive(values.any(dim=1))
        starts = torch.arange(self.heads, device=heads.device)[heads, None] * values.shape[1]
        matched, kept = ((alive_in_heads(mask[heads], multiple) + starts).flatten() for mask in (matched, values))
        keep_outputs(self.qkv, torch.cat([matched, matched + values.numel(), kept + 2 * values.numel()]))
        keep_inputs(self.proj, kept)
        self.heads, self.sizes = len(heads), (len(matched), len(matched), len(kept))
