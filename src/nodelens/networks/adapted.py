"""Networks of which nothing is known: their sites are found by running them once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.network import Config, Network
from nodelens.networks.sites import Site

IMAGES = 2
"""That the sites are found with: the axis of this size is the batch's."""


@dataclass(frozen=True)
class AdaptedConfig:
    """The input and output of a network."""

    labels: int
    image_size: int
    channels: int = 3


class Adapted(Network):
    """A network of somebody else's, whose sites are the outputs of its modules, by their paths.

    Attributes:
        network: somebody else's.
    """

    family = "adapted"

    def __init__(self, network: nn.Module, config: Config) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_metadata = {}
        self.network = network
        self._sites = found_sites(network, config)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch label"]:
        return self.network(images)  # type: ignore[no-any-return]

    def sites(self) -> list[Site]:
        """The outputs of the modules that run once, in the order in which they arise; see `found_sites`."""
        return self._sites


def adapt(network: nn.Module, image_size: int, channels: int = 3) -> Adapted:
    """Any classifier of images, to be measured.

    Its sites are the outputs of its modules, by their paths: `layer4.1.conv2`. For pruning and heads, more has to be
    known of a network: see docs/architecture.md.

    Args:
        network: from normalised images (batch, channel, height, width) to logits (batch, label) or features; it is
            used as it is and put in eval mode.
        image_size: side in pixels of its square input.
        channels: of its input.

    Raises:
        InputError: it cannot be run on such images, or gives no (batch, label).

    >>> network = adapt(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)), image_size=8)
    >>> [(site.name, site.nodes, site.layout, site.positions) for site in network.sites()]
    [('0', 4, 'channels', 36), ('1', 4, 'channels', 36), ('2', 144, 'units', 1), ('3', 10, 'units', 1)]
    """
    config = AdaptedConfig(0, image_size, channels)
    with _evaluating(network):
        logits = _run(network, config)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != IMAGES:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"a classifier gives (batch, label) for images, this {type(network).__name__} gives {found}")
    return Adapted(network, AdaptedConfig(logits.shape[1], image_size, channels)).eval()


def found_sites(network: nn.Module, config: Config) -> list[Site]:
    """The outputs of all modules but the network itself that can be measured.

    A module is left out that runs more than once or not at all, that hands on its input as it is (dropout), or whose
    output is no tensor of one of these shapes: (batch, node), (batch, token, node), (batch, node, side, side),
    (batch, side, side, node); the last are tokens.

    Raises:
        InputError: the network cannot be run on images of its size.
    """
    runs: dict[str, int] = {}
    sites: dict[str, Site] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            runs[name] = runs.get(name, 0) + 1
            shape = _layout(output)
            if shape is not None and not any(output is one for one in inputs):
                sites[name] = Site(name, shape[0], f"network.{name}", "output", *shape[1:])

        handles.append(module.register_forward_hook(hook))

    for name, module in network.named_modules():
        if name:
            watch(name, module)
    try:
        with _evaluating(network):
            _run(network, config)
    finally:
        for handle in handles:
            handle.remove()
    return [site for name, site in sites.items() if runs[name] == 1]


def _layout(output: Any) -> tuple[int, Any, int] | None:
    """Nodes, layout and positions of what a module hands on; None where it is nothing that a probe can read."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (IMAGES,):
        return None
    shape = output.shape
    if len(shape) == 2:
        return shape[1], "units", 1
    if len(shape) == 3:
        return shape[2], "tokens", 1
    if len(shape) == 4 and shape[2] == shape[3] != shape[1]:
        return shape[1], "channels", shape[2] * shape[3]
    if len(shape) == 4 and shape[1] == shape[2] != shape[3]:
        return shape[3], "tokens", 1
    return None


def _run(network: nn.Module, config: Config) -> Any:
    weight = next(network.parameters(), torch.empty(0))
    side = config.image_size
    images = torch.zeros(IMAGES, config.channels, side, side, device=weight.device, dtype=weight.dtype)
    try:
        with torch.no_grad():
            return network(images)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        wanted = f"images of {config.channels} × {side} × {side}"
        raise InputError(f"{type(network).__name__} cannot be run on {wanted}: {reason}") from error


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """In eval mode, and afterwards as it was."""
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, was in training.items():
            module.training = was
