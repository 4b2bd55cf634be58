"""What one pass shows of a network of which nothing is known: its sites, and the layers that join them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.layers import Layer
from nodelens.networks.sites import Site

FOR_FILTERS = (
    *(nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.GroupNorm),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
"""Modules whose outputs are (batch, filter, place) or (batch, filter, row, column)."""


READ = ".input"
"""Ends the name of a site that a fully connected layer reads and no module has made."""

HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads")
"""What the authors of an attention module call the number of its heads."""


@dataclass(frozen=True)
class Parts:
    """What is known of a network of which nothing was known.

    Attributes:
        sites: the outputs of its modules, in the order in which they arise.
        layers: its fully connected layers between them.
        output_layer: path of the one whose output the network gives as it is; empty where there is none, as in one
            that takes the mean of two.
    """

    sites: tuple[Site, ...]
    layers: tuple[Layer, ...]
    output_layer: str


def found_parts(network: nn.Module, example: Shaped[Tensor, "batch ..."]) -> Parts:
    """Sites and layers of a network, as one pass shows them.

    A module is left out that runs more than once or not at all, that hands on its input as it is (dropout), or whose
    output is no tensor of one of these shapes: (batch, node), (batch, token, node), (batch, node, side, side),
    (batch, side, side, node); the third has filters, the last tokens. Behind a convolution, the norms and poolings made
    for one, and what is computed element by element from their outputs, there are filters, of (batch, node, place) too.

    A fully connected layer joins the site whose output it reads, flattened or not, and its own output, or what an
    activation that is a module makes of it. Where no module has made what it reads, that is a site by itself,
    `<path>.input`. If it is of tokens, its nodes belong to attention heads where the layer is the last one of a module
    that says how many heads it has, or reads what such a module has made.

    Raises:
        InputError: the network cannot be run on the example.
    """
    seen = _Seen(len(example))
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(seen.enters, name)))
            handles.append(module.register_forward_hook(partial(seen.leaves, name)))
    try:
        logits = logits_of(run_once(network, example))
    finally:
        for handle in handles:
            handle.remove()
    return seen.parts(logits)


@dataclass
class _Made:
    """A tensor at a moment: what is written to it in place afterwards makes another one of it."""

    tensor: Tensor
    version: int

    def is_now(self, tensor: Any) -> bool:
        """Whether this is the same tensor, in one shape or another, with nothing written to it since."""
        if not isinstance(tensor, Tensor) or _version(tensor) != self.version:
            return False
        flat = tensor.numel() == self.tensor.numel() and tensor.is_contiguous() and self.tensor.is_contiguous()
        return tensor is self.tensor or (flat and tensor.data_ptr() == self.tensor.data_ptr())


class _Seen:
    """What hooks see of one pass."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._runs: dict[str, int] = {}
        self._versions: dict[str, list[int]] = {}
        self._sites: dict[str, Site] = {}
        self._made: dict[str, _Made] = {}
        """What stands at each site."""
        self._source: dict[str, str] = {}
        """Site that each fully connected layer reads."""
        self._target: dict[str, str] = {}
        """Site that its nodes are seen at."""
        self._outputs: dict[str, Any] = {}
        """Of the fully connected layers, in the order in which they run."""
        self._of_heads: list[tuple[_Made, int]] = []
        """What these have made."""
        self._of_filters = _OfFilters()

    def enters(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a module runs."""
        self._versions[name] = [_version(one) for one in inputs]
        if isinstance(module, nn.Linear) and inputs:
            self._source[name] = self._site_of(inputs[0], module.in_features) or self._own_input(name, inputs[0])

    def _site_of(self, tensor: Tensor, width: int) -> str:
        """The site where this tensor was made, with so many numbers for each input or token; empty where none is."""
        for name, made in self._made.items():
            site = self._sites[name]
            if site.nodes * site.positions == width and made.is_now(tensor):
                return name
        return ""

    def _own_input(self, name: str, tensor: Tensor) -> str:
        shape = _layout(tensor, self._batch, of_filters=False)
        if shape is None or shape[1] == "channels":
            return ""
        site = name + READ
        heads = next((heads for made, heads in self._of_heads if tensor.ndim == 3 and made.is_now(tensor)), 0)
        self._sites[site] = Site(site, shape[0], f"network.{name}", "input", *shape[1:], heads=heads)
        self._made[site] = _Made(tensor, _version(tensor))
        return site

    def leaves(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """After a module ran."""
        self._runs[name] = self._runs.get(name, 0) + 1
        if isinstance(module, nn.Linear):
            self._outputs[name] = output
        if heads := _heads_of(module):
            self._attended(name, heads, output)
        shape = _layout(output, self._batch, self._of_filters.seen(module, inputs, output))
        entered = zip(inputs, self._versions[name], strict=False)  # a module may call itself with others
        # What a module has written to in place is no longer what entered it.
        as_it_was = any(output is one and _version(output) == version for one, version in entered)
        if shape is None or as_it_was:
            return
        if isinstance(module, nn.Linear):
            self._target[name] = name
        elif inputs and _by_element(module) and isinstance(inputs[0], Tensor) and inputs[0].shape == output.shape:
            self._activates(name, inputs[0], self._versions[name][0])
        self._sites[name] = Site(name, shape[0], f"network.{name}", "output", *shape[1:])
        self._made[name] = _Made(output, _version(output))

    def _activates(self, name: str, entered: Tensor, version: int) -> None:
        """What a module makes of a layer's output is what the layer's nodes hand on."""
        for layer, site in self._target.items():
            if layer == site and self._made[layer].tensor is entered and self._made[layer].version == version:
                self._target[layer] = name

    def _attended(self, name: str, heads: int, output: Any) -> None:
        """After a module with heads: the last of its layers reads them, or else who reads what it has made."""
        inside = [layer for layer in self._outputs if layer.rpartition(".")[0] == name]
        last = inside[-1] + READ if inside else ""
        if last in self._sites and len(inside) > 1:
            of_tokens = self._made[last].tensor.ndim == 3
            self._sites[last] = replace(self._sites[last], heads=heads if of_tokens else 0)
        elif isinstance(first := output[0] if isinstance(output, tuple) and output else output, Tensor):
            self._of_heads.append((_Made(first, _version(first)), heads))

    def parts(self, logits: Any) -> Parts:
        """What was found, but for modules that ran more than once."""
        once = {name: site for name, site in self._sites.items() if self._runs[site.module.split(".", 1)[1]] == 1}
        sites = dict(zip(once, _numbered(once.values()), strict=True))
        answering = [name for name, output in self._outputs.items() if output is logits and self._runs[name] == 1]
        last = answering[0] if answering else ""
        layers = []
        for name in self._outputs:
            source, target = self._source.get(name), None if name == last else self._target.get(name, name)
            # An activation that several layers share is no site; the nodes are then seen before it.
            target = name if target is not None and target not in sites else target
            if source in sites and (target is None or target in sites) and self._runs[name] == 1:
                called = "output" if target is None and "output" not in self._outputs else name
                layers.append(Layer(called, f"network.{name}", source, target, 0, f"network.{name}"))
        return Parts(tuple(sites.values()), tuple(layers), f"network.{last}" if last else "")


def _heads_of(module: nn.Module) -> int:
    """Number of its attention heads; 0 where it has none."""
    found = (getattr(module, name, 0) for name in HEADS)
    return next((heads for heads in found if isinstance(heads, int) and heads > 0), 0)


def _numbered(sites: Iterable[Site]) -> list[Site]:
    """Sites whose heads share the nodes alike are blocks, counted from 1; others have no heads."""
    found, block = [], 0
    for site in sites:
        heads = site.heads if site.nodes % max(1, site.heads) == 0 else 0
        block += heads > 0
        found.append(replace(site, heads=heads, block=block if heads else 0))
    return found


def _by_element(module: nn.Module) -> bool:
    """Whether it may compute element by element: it has neither weights nor parts."""
    return next(module.parameters(), None) is None and next(module.children(), None) is None


class _OfFilters:
    """Which of the tensors that a pass makes are of filters whatever their sizes: (batch, filter, …)."""

    def __init__(self) -> None:
        self._known: list[Tensor] = []

    def seen(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> bool:
        """Whether what a module has made is; it is remembered."""
        found = isinstance(output, Tensor) and (self._is_known(output) or self._made_by(module, inputs, output))
        if found:
            self._known.append(output)
        return found

    def _made_by(self, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> bool:
        if isinstance(module, FOR_FILTERS):
            return output.ndim > 2
        without_weights = next(module.parameters(), None) is None
        return without_weights and any(self._is_known(one) and one.shape == output.shape for one in inputs)

    def _is_known(self, tensor: Any) -> bool:
        return any(tensor is one for one in self._known)


def _version(tensor: Any) -> int:
    """How often it was written to; 0 where that is not counted."""
    return tensor._version if isinstance(tensor, Tensor) and not tensor.is_inference() else 0


def _layout(output: Any, batch: int, of_filters: bool) -> tuple[int, Any, int] | None:
    """Nodes, layout and positions of what a module hands on; None where it is nothing that a probe can read."""
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (batch,):
        return None
    shape = output.shape
    if of_filters:
        return shape[1], "channels", shape[2:].numel()
    if len(shape) == 2:
        return shape[1], "units", 1
    if len(shape) == 3:
        return shape[2], "tokens", 1
    if len(shape) == 4 and shape[2] == shape[3] != shape[1]:
        return shape[1], "channels", shape[2] * shape[3]
    if len(shape) == 4 and shape[1] == shape[2] != shape[3]:
        return shape[3], "tokens", 1
    return None


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
            return network(example.to(device))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError, IndexError) as error:
        reason, shape = " ".join(str(error).split()), tuple(example.shape)
        raise InputError(f"{type(network).__name__} cannot be run on inputs of {shape}: {reason}") from error
    finally:
        for module, was in training.items():
            module.training = was


def logits_of(output: Any) -> Any:
    """Those of an object that has some, as the networks of the hub return; otherwise the output itself."""
    return getattr(output, "logits", output)
