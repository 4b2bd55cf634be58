"""Networks of which nothing is known: their sites and layers are found by running them once."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.dead import remove_hidden
from nodelens.networks.found import found_parts
from nodelens.networks.layers import Layer
from nodelens.networks.network import Config, Network
from nodelens.networks.opened import opened
from nodelens.networks.running import logits_of, run_once, same_logits
from nodelens.networks.sites import Site


@dataclass(frozen=True)
class AdaptedConfig:
    """The output of a network, and its input.

    Attributes:
        image_size: side in pixels of the images that it reads; 0 where its inputs are no square images.
        channels: of these images, or 0.
        padding: the number that fills up a short text; None where no token is such.
    """

    labels: int
    image_size: int = 0
    channels: int = 0
    padding: int | None = None


class Adapted(Network):
    """A network of somebody else's, whose sites are the outputs of its modules, by their paths, its layers too.

    Attributes:
        network: somebody else's, see `opened`.
    """

    family = "adapted"

    def __init__(self, network: nn.Module, config: Config, example: Shaped[Tensor, "batch ..."]) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_metadata = {}
        self.network = opened(network)
        self._parts = found_parts(network, example)
        self._example = example[:1].clone()

    def example(self, batch: int) -> Shaped[Tensor, "batch ..."]:
        """Noise, where it reads images; otherwise the first of the inputs that it was shown, so many times."""
        if self.config.image_size:
            return super().example(batch)
        return self._example.expand(batch, *self._example.shape[1:]).clone()

    def forward(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch label"]:
        # It may write to what it is given, which others are still to read.
        return logits_of(self.network(inputs.clone()))  # type: ignore[no-any-return]

    def sites(self) -> list[Site]:
        """The outputs of the modules that run once, in the order in which they arise; see `found_parts`."""
        return list(self._parts.sites)

    def layers(self) -> list[Layer]:
        """The fully connected layers that run once, by their paths; that to the labels is called `output`."""
        return list(self._parts.layers)

    def output_layer(self) -> str:
        """Path of the fully connected layer whose output is the network's as it is; empty where there is none."""
        return self._parts.output_layer

    def remove_dead(self, multiple: int = 1) -> None:
        """Remove dead nodes between two fully connected layers, in place; see `Network.remove_dead`.

        Nobody knows what else reads these nodes, or whether one is computed of others: they stay where the logits of
        its example inputs change.
        """
        inputs = self.example(2)
        if inputs.is_floating_point():
            inputs = inputs.to(next(self.parameters()).dtype)
        expected = logits_of(run_once(self.network, inputs))
        before = {layer.target: layer for layer in self.layers() if layer.target}
        of_site = {site.name: site.module for site in self.sites()}
        for layer in self.layers():
            if layer.source not in before:
                continue
            paths, between = (before[layer.source].module, layer.module), of_site[layer.source]
            whole: list[Any] = [self.get_submodule(path) for path in paths]
            try:
                activation = None if between == paths[0] else self.get_submodule(between)
                self._put(paths, _without_dead(whole[0], whole[1], activation, multiple))
                same = same_logits(logits_of(run_once(self.network, inputs)), expected)
            except InputError:  # somebody else reads as many nodes as there were
                same = False
            if not same:
                self._put(paths, whole)

    def _put(self, paths: Iterable[str], modules: Iterable[nn.Module]) -> None:
        for path, module in zip(paths, modules, strict=True):
            self.set_submodule(path, module)


def _without_dead(
    first: nn.Linear, second: nn.Linear, activation: nn.Module | None, multiple: int
) -> tuple[nn.Linear, nn.Linear]:
    """Two fully connected layers without the dead nodes between them; the given ones stay as they are."""

    def between(bias: Tensor) -> Tensor:
        return bias if activation is None else run_once(activation, bias[None])[0]

    smaller = copy.deepcopy(first), copy.deepcopy(second)
    remove_hidden(*smaller, between, multiple)
    return smaller


def adapt(network: nn.Module, example: Shaped[Tensor, "batch ..."], padding: int | None = None) -> Adapted:
    """Any classifier, to be measured and pruned.

    Its sites are the outputs of its modules, by their paths: `layer4.1.conv2`; its layers the fully connected ones,
    and the heads of its attention where these can be told: see `nodelens.networks.found`.

    Args:
        network: from inputs to logits (batch, label), or to an object with such `logits`; it is used as it is and put
            in eval mode, but for torch's own transformer layers (see `nodelens.networks.opened`).
        example: at least two of its inputs, such as ``torch.zeros(2, 3, 32, 32)``; only their shape and kind matter.
        padding: of texts, (batch, token), the number that fills up a short one; no probe reads the tokens there.

    Raises:
        InputError: it cannot be run on them, gives no (batch, label), or what torch makes of padding counts for it.

    >>> import torch
    >>> classifier = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    >>> network = adapt(classifier, torch.zeros(2, 3, 8, 8))
    >>> [(site.name, site.nodes, site.layout, site.positions) for site in network.sites()]
    [('0', 4, 'channels', 36), ('1', 4, 'channels', 36), ('2', 144, 'units', 1), ('3', 10, 'units', 1)]
    """
    if not isinstance(example, Tensor):
        raise InputError(f"an example is a tensor of torch, not a {type(example).__name__}; give torch.as_tensor(it)")
    if len(example) < 2:
        raise InputError("one input does not show which axis is the batch's; give at least two")
    logits = logits_of(run_once(network, example))
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"a classifier gives (batch, label), this {type(network).__name__} gives {found}")
    if not bool(torch.isfinite(logits).all()):
        raise InputError(f"{type(network).__name__} makes NaN or infinite logits of the example")
    shape = example.shape[1:]
    size, channels = (shape[1], shape[0]) if len(shape) == 3 and shape[1] == shape[2] else (0, 0)
    adapted = Adapted(network, AdaptedConfig(logits.shape[1], size, channels, padding), example).eval()
    encoders = any(isinstance(module, nn.TransformerEncoder) for module in network.modules())
    if encoders and not same_logits(logits_of(run_once(network, example)), logits):
        raise InputError(
            f"{type(network).__name__} depends on what its nn.TransformerEncoder makes of padding, which torch sets to "
            "zero in eval mode alone; leave padding out, as in a mean over the other tokens"
        )
    return adapted
