"""What the machine has and can do: which way is fastest, and what there is room for."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch


def _capabilities() -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot say
    return found


MATRIX_UNITS = bool(_capabilities().get("amx_bf16", False))
"""Whether the CPU multiplies bf16 matrices in units of their own (AMX)."""

BF16_PRODUCTS = bool(_capabilities().get("avx512_bf16", False))
"""Whether the CPU multiplies numbers in bf16 at all (AVX-512)."""


def memory_of(device: torch.device) -> int | None:
    """Bytes of memory that a device has in all; None where nothing tells."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    known = getattr(os, "sysconf_names", {})
    if device.type != "cpu" or not {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= known.keys():
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
