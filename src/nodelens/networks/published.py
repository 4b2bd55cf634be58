"""Networks that timm publishes, by name: `timm:vit_small_patch16_224.augreg_in1k`, `timm:convnext_tiny.fb_in1k`.

A network that one of nodelens's own families computes alike is taken for one of that family: then its heads can be
studied and its layers pruned. Of any other the sites are found by running it, see `nodelens.networks.adapted`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.adapted import Adapted
from nodelens.networks.network import Network
from nodelens.networks.running import same_logits

TIMM = "timm:"
PERTURBATION = 0.1
"""Of the weights of a fresh network, for that comparison."""

Build = Callable[[Mapping[str, Tensor], Mapping[str, str]], Network]
"""Makes a network of one of nodelens's own families of weights and metadata; an `InputError` where there is none."""


@dataclass(frozen=True)
class TimmConfig:
    """A network of timm: its name there, its labels and its input."""

    name: str
    labels: int
    image_size: int
    channels: int = 3


class TimmNetwork(Adapted):
    """A network that timm builds."""

    family = "timm"

    def __init__(self, config: TimmConfig) -> None:
        example = torch.zeros(2, config.channels, config.image_size, config.image_size)
        super().__init__(_untrained(config), config, example)


def from_timm(source: str, build: Build) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata of a network with the weights that timm publishes, from timm's cache or the hub.

    Args:
        source: `timm:` and timm's name.

    Raises:
        InputError: timm is not installed, does not know the network or has no weights of it.
    """
    name = source.removeprefix(TIMM)
    theirs = _created(name, pretrained=True)
    described: Any = theirs.pretrained_cfg
    state = dict(theirs.state_dict())
    channels, image_size = described["input_size"][0], described["input_size"][-1]
    metadata = {key: " ".join(map(str, described[key])) for key in ("mean", "std")}
    metadata |= {"image_size": str(image_size), **_heads(theirs)}
    if alike(theirs, state, metadata, build) is not None:
        return state, metadata
    config = TimmConfig(name, int(theirs.num_classes), image_size, channels)  # type: ignore[arg-type]
    described_by_us = {"family": TimmNetwork.family, "config": json.dumps(dataclasses.asdict(config))}
    return {f"network.{key}": tensor for key, tensor in state.items()}, metadata | described_by_us


def of_timm(source: str, labels: int, image_size: int, channels: int, build: Build) -> Network:
    """A freshly initialised network of timm.

    Args:
        source: `timm:` and timm's name.
        labels: number of outputs.
        image_size: side of the square input, in pixels.
        channels: of the input.

    Raises:
        InputError: timm is not installed or does not know the network; it cannot be built for such images.
    """
    config = TimmConfig(source.removeprefix(TIMM), labels, image_size, channels)
    theirs = _untrained(config)
    metadata = {"image_size": str(image_size), **_heads(theirs)}
    fresh = {key: tensor.clone() for key, tensor in theirs.state_dict().items()}
    _perturb(theirs)
    ours = alike(theirs, theirs.state_dict(), metadata, build)
    return TimmNetwork(config) if ours is None else build(fresh, metadata)


def _perturb(theirs: nn.Module) -> None:
    """Give every part a say in the logits: a fresh LayerScale or output layer hides what the others compute."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(PERTURBATION * torch.randn(weight.shape, generator=generator))


def _created(name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
    try:
        import timm
        from timm.models import load_state_dict_from_hf
    except ImportError as error:
        raise InputError(f'timm:{name} needs timm; pip install "nodelens[timm]"') from error
    if not signature(load_state_dict_from_hf).parameters["weights_only"].default:
        raise InputError(f"timm {timm.__version__} would execute code in a checkpoint; update it to 1.0.26 or later")
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments).eval()
    except Exception as error:  # of its own, of the hub's, of the connection
        raise InputError(f"timm cannot give {name}: {' '.join(str(error).split())}") from error


def _untrained(config: TimmConfig) -> nn.Module:
    shape: dict[str, Any] = {"num_classes": config.labels, "in_chans": config.channels}
    theirs = _created(config.name, **shape)
    described: Any = theirs.pretrained_cfg
    # Networks whose weights depend on the size of the image want to be told it, others must not.
    if described.get("fixed_input_size") and described["input_size"][-1] != config.image_size:
        return _created(config.name, **shape, img_size=config.image_size)
    return theirs


def _heads(theirs: nn.Module) -> dict[str, str]:
    heads = {str(module.num_heads) for module in theirs.modules() if hasattr(module, "num_heads")}
    return {"heads": heads.pop()} if len(heads) == 1 else {}


def alike(
    theirs: nn.Module,
    state: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    build: Build,
    tried_on: Callable[[Network], Tensor] = lambda ours: ours.example(1),
) -> Network | None:
    """The network of one of nodelens's own families that has these weights and computes the same, if there is one.

    Args:
        tried_on: inputs for which both are to give the same logits, to rounding.
    """
    try:
        ours = build(state, metadata)
    except InputError:
        return None
    inputs = tried_on(ours)
    with torch.inference_mode():
        expected, found = theirs(inputs), ours(inputs)
    return ours if same_logits(found, expected) else None
