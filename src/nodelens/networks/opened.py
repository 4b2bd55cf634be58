"""Layers of torch and transformers, opened: the same weights and numbers, but hooks see what passes through."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class OpenAttention(nn.MultiheadAttention):
    """torch's attention, whose projection is a module that runs.

    Torch's own computes with the weight of `out_proj` and does not call it, so that nothing stands where its heads
    hand on what they found. Here that enters `out_proj`, as (batch, token, node) whatever `batch_first` says.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As `nn.MultiheadAttention`, of whose arguments it takes every one; to rounding the same."""
        if query.is_nested:  # by the user's own hand: only torch's own layers can read it
            return super().forward(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        alone = query.ndim == 2  # (token, node)
        by_batch = self.batch_first and not alone
        query, key, value = (one.transpose(0, 1) if by_batch else one for one in (query, key, value))
        # A projection that changes nothing: every mask, bias and option stays torch's own.
        unchanged = torch.eye(self.embed_dim, dtype=query.dtype, device=query.device)
        found, weights = F.multi_head_attention_forward(
            *(query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight, self.in_proj_bias),
            *(self.bias_k, self.bias_v, self.add_zero_attn, self.dropout, unchanged, None, self.training),
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        if alone:
            return self.out_proj(found), weights
        made = self.out_proj(found.transpose(0, 1))
        return made if self.batch_first else made.transpose(0, 1), weights


def opened(network: nn.Module) -> nn.Module:
    """The same network, in place, with every `nn.MultiheadAttention` an `OpenAttention`, but for wrapped projections.

    And with encoders of torch that keep the tokens that fill up a text: torch leaves these out where no gradient is
    asked for, in tensors that nothing but its own layers can read. What an encoder makes of such tokens is then not
    zero, as it is not in training either.

    Of transformers, GPT-2's `Conv1D`, a fully connected layer whose weight lies transposed, becomes an `nn.Linear`.
    """
    for module in network.modules():
        if type(module) is nn.MultiheadAttention and _computes_as_its_weight_says(module.out_proj):
            module.__class__ = OpenAttention
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    transposed = [(path, one) for path, one in network.named_modules(remove_duplicate=False) if _is_transposed(one)]
    linear = {one: _linear(one) for _, one in transposed}
    for path, one in transposed:
        network.set_submodule(path, linear[one])
    return network


def _is_transposed(module: nn.Module) -> bool:
    """Whether it is a `Conv1D` of transformers that computes as its weight says."""
    kind = type(module)
    return (kind.__module__, kind.__name__) == ("transformers.pytorch_utils", "Conv1D") and not (
        module._forward_hooks or module._forward_pre_hooks
    )


def _linear(theirs: nn.Module) -> nn.Linear:
    weight: nn.Parameter = theirs.weight  # type: ignore[assignment]
    inputs, outputs = weight.shape
    layer = nn.Linear(inputs, outputs, device="meta")
    layer.weight = nn.Parameter(weight.detach().T.contiguous(), requires_grad=weight.requires_grad)
    layer.bias = theirs.bias  # type: ignore[assignment]
    return layer.train(theirs.training)


def _computes_as_its_weight_says(projection: nn.Module) -> bool:
    """Whether a projection is what its weight says; of a wrapped one torch takes the weight alone."""
    return type(projection).forward is nn.Linear.forward and not (
        projection._forward_hooks or projection._forward_pre_hooks
    )
