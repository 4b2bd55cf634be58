"""Shapes in signatures are enforced while the tests run (jaxtyping with beartype)."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each worker has one core, and so have the processes that it starts

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from nodelens.networks import CCT, VGG

install_import_hook("nodelens", "beartype.beartype")

settings.register_profile("nodelens", deadline=None)  # no test may hang on how fast the machine is
settings.load_profile("nodelens")

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


@pytest.fixture
def vgg() -> VGG:
    """A VGG whose classifier has eight hidden units, where torchvision's makes 515 MB, and whose norms do something."""
    import torch
    from torch import nn

    from nodelens.networks import VGG, build_network

    torch.manual_seed(0)
    with torch.device("meta"):  # the large layers are never filled
        network = build_network("vgg11_bn", 10, 32, 3)
    assert isinstance(network, VGG)
    for i, inputs, outputs in ((0, 512 * 49, 8), (3, 8, 8), (6, 8, 10)):
        network.classifier[i] = nn.Linear(inputs, outputs, device="meta")
    network = network.to_empty(device="cpu").eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            module.reset_parameters()
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return network
