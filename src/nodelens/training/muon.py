"""Muon, with the matrices of one shape taken together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import BFloat16, Float
from torch import Tensor


class StackedMuon(torch.optim.Muon):
    """torch's Muon with Nesterov momentum and steps of AdamW's size, computed for all matrices of one shape at once.

    A GPU is done with an operation on one such matrix before the host has asked for the next: a step of CCT-7 on an
    H200 took 22 ms and takes 2.7 (docs/benchmarks.md). Its state is that of torch's, its steps are equal.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step of every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            assert group["nesterov"]
            assert group["adjust_lr_fn"] == "match_rms_adamw"
            of_shape: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    of_shape[weight.shape].append(weight)
            for weights in of_shape.values():
                self._step(weights, group)

    def _step(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if "momentum_buffer" not in self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        averages = [self.state[weight]["momentum_buffer"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, averages, group["momentum"])
        steps = orthogonalised(torch.stack(ahead), group["ns_coefficients"], group["ns_steps"], group["eps"])
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        rate = 0.2 * math.sqrt(max(weights[0].shape)) * group["lr"]
        torch._foreach_add_(weights, steps.float().unbind(), alpha=-rate)


def orthogonalised(
    matrices: Float[Tensor, "matrix row column"],
    coefficients: tuple[float, float, float],
    rounds: int,
    eps: float,
) -> BFloat16[Tensor, "matrix row column"]:
    """Each matrix with all its singular values near 1, by Newton and Schulz (Jordan et al. 2024), in bf16."""
    a, b, c = coefficients
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    for _ in range(rounds):
        products = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(products, products, products, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
