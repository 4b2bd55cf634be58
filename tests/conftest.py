"""Shapes in signatures are enforced while the tests run (jaxtyping with beartype)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from nodelens.networks import CCT

install_import_hook("nodelens", "beartype.beartype")

# Decoded images outlive a test run, but not in the user's own cache.
os.environ.setdefault("NODELENS_CACHE", str(Path(tempfile.gettempdir()) / "nodelens-tests"))


@pytest.fixture
def cct() -> CCT:
    """A tiny CCT whose activations differ from image to image, unlike those of the small initial weights."""
    import torch

    from nodelens.networks import CCT, build_network

    torch.manual_seed(0)
    network = build_network("cct_2_3x1_16", 10, 8, 1).eval()
    assert isinstance(network, CCT)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return network
