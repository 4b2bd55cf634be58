"""What the machine can do that decides which way is fastest."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def _capabilities() -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot say
    return found


MATRIX_UNITS = bool(_capabilities().get("amx_bf16", False))
"""Whether the CPU multiplies bf16 matrices in units of their own (AMX)."""
