"""Which number format a device computes fastest in, and how to ask for it."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from nodelens.errors import InputError
from nodelens.processes import by_first

Precision = Literal["fp32", "bf16"]


def resolve_precision(asked: str, device: torch.device) -> Precision:
    """`auto` becomes what is faster here; the choice is written into the run's configuration.

    CPUs differ: with matrix units for bf16 it is several times as fast as fp32, without them half as fast.

    Raises:
        InputError: neither `auto`, `fp32` nor `bf16`.
    """
    if asked == "auto":
        return "bf16" if device.type != "cpu" or _bf16_is_faster() else "fp32"
    if asked == "fp32":
        return "fp32"
    if asked == "bf16":
        return "bf16"
    raise InputError(f"unknown precision {asked!r}; choose auto, fp32 or bf16")


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """The context in which a forward pass runs in that precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


@by_first
def _bf16_is_faster() -> bool:
    seconds = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        for _ in range(4):
            for dtype in seconds:
                a, b = torch.ones(2048, 256, dtype=dtype), torch.ones(256, 768, dtype=dtype)
                start = time.perf_counter()
                torch.mm(a, b)
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return seconds[torch.bfloat16] < 0.9 * seconds[torch.float32]
