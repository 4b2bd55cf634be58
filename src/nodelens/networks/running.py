"""Running somebody else's network once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nodelens.errors import InputError

FAILURES = (RuntimeError, ValueError, TypeError, AssertionError, IndexError)
"""What networks raise on inputs that they cannot be run on."""

TOLERANCE = 1e-4
"""Difference of two ways to the same logits in float32, as a share of the largest."""


def run_once(network: nn.Module, example: Tensor) -> Any:
    """Its output in eval mode; afterwards its modules are as they were.

    Raises:
        InputError: it cannot be run on the example, for one of another shape than it reads.
    """
    training = {module: module.training for module in network.modules()}
    device = next((weight.device for weight in network.parameters()), example.device)
    network.eval()
    try:
        with torch.no_grad():
            return network(example.to(device, copy=True))  # which it may write to
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        reason, shape = " ".join(str(error).split()), tuple(example.shape)
        raise InputError(f"{type(network).__name__} cannot be run on inputs of {shape}: {reason}") from error
    finally:
        for module, was in training.items():
            module.training = was


def logits_of(output: Any) -> Any:
    """Logits: the attribute of an output object, as the hub's networks return, or else the output itself."""
    return getattr(output, "logits", output)


def same_logits(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two ways to compute them agree to rounding in float32."""
    return torch.allclose(found, expected, rtol=0.0, atol=tolerance * float(expected.abs().max()))
