"""Networks that timm publishes, by name: `timm:vit_small_patch16_224.augreg_in1k`, `timm:resnet50.a1_in1k`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from nodelens.errors import InputError
from nodelens.networks.network import Network

TIMM = "timm:"
TOLERANCE = 1e-4
"""Difference of two ways to the same logits in float32, as a share of the largest."""


def from_timm(
    source: str, build: Callable[[Mapping[str, Tensor], Mapping[str, str]], Network]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata of a network of timm, from timm's cache or the hub.

    Its code is timm's, ours is another: that both compute the same is tried on a random image.

    Args:
        source: `timm:` and timm's name.
        build: makes a network of them.

    Raises:
        InputError: timm is not installed, does not know the network or has no weights of it; the network is none that
            nodelens can build.
    """
    try:
        import timm
        from timm.models import load_state_dict_from_hf
    except ImportError as error:
        raise InputError(f'{source} needs timm; pip install "nodelens[timm]"') from error
    if not signature(load_state_dict_from_hf).parameters["weights_only"].default:
        raise InputError(f"timm {timm.__version__} would execute code in a checkpoint; update it to 1.0.26 or later")
    name = source.removeprefix(TIMM)
    try:
        theirs = timm.create_model(name, pretrained=True).eval()
    except Exception as error:  # of its own, of the hub's, of the connection
        raise InputError(f"timm cannot give {name}: {' '.join(str(error).split())}") from error
    state = theirs.state_dict()
    described: Any = theirs.pretrained_cfg
    metadata = {key: " ".join(map(str, described[key])) for key in ("mean", "std")}
    metadata["image_size"] = str(described["input_size"][-1])
    heads = [module.num_heads for module in theirs.modules() if hasattr(module, "num_heads")]
    metadata |= {"heads": str(heads[0])} if heads else {}
    ours = build(state, metadata)
    images = torch.randn(1, ours.config.channels, *[ours.config.image_size] * 2)
    with torch.inference_mode():
        expected, found = theirs(images), ours(images)
    if not torch.allclose(found, expected, rtol=0.0, atol=TOLERANCE * float(expected.abs().max())):
        raise InputError(f"{source} cannot be measured: with its weights, what nodelens builds gives other logits")
    return state, metadata
