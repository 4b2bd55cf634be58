"""What running it shows of a network of which nothing is known: its sites, and the layers that join them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.networks.found_heads import attends, heads_of, of_heads_alone, sharing_of
from nodelens.networks.layers import Layer
from nodelens.networks.masking import can_be_masked
from nodelens.networks.opened import OpenAttention
from nodelens.networks.running import logits_of, run_once
from nodelens.networks.sites import Site
from nodelens.networks.windows import found_windows

FOR_FILTERS = (
    *(nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.GroupNorm),
    *(nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d, nn.AvgPool2d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d),
)
"""Modules whose outputs are (batch, filter, place) or (batch, filter, row, column)."""


READ = ".input"
"""Ends the name of a site that a fully connected layer reads and no module has made."""


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
    """Sites and layers of a network, as running it once shows them.

    A module is left out that runs more than once or not at all, that hands on its input as it is (dropout), or whose
    output is no tensor of one of these shapes: (batch, node), (batch, token, node), (batch, node, side, side),
    (batch, side, side, node); the third has filters, the last tokens. Behind a convolution, the norms and poolings made
    for one, and what is computed element by element from their outputs, there are filters, of (batch, node, place) too.
    Where windows of an image lie on the axis of the batch, the tokens of all its windows are its tokens.

    A fully connected layer joins the site whose output it reads, flattened or not, and its own output, or what an
    activation that is a module makes of it. Where what it reads is no module's output, that is a site by itself,
    `<path>.input`. Left out are layers that compute something else than their weight and bias say, that share their
    weight, or that compute it of other parameters (weight norm).

    Attention heads are where a module says how many it has and hands on what a layer within it makes: the tokens that
    this layer reads belong to them, if `of_heads_alone`. So do those that a layer reads from such a module without one.

    Raises:
        InputError: the network cannot be run on the example.
    """
    seen = _Seen(network, len(example), found_windows(network, example))
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(partial(seen.enters, name)))
            handles.append(module.register_forward_hook(partial(seen.leaves, name), with_kwargs=True))
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

    @classmethod
    def now(cls, tensor: Tensor) -> _Made:
        return cls(tensor, _version(tensor))

    def is_now(self, tensor: Any) -> bool:
        """Whether this is the same tensor, in one shape or another, with nothing written to it since."""
        if not isinstance(tensor, Tensor) or _version(tensor) != self.version:
            return False
        flat = tensor.numel() == self.tensor.numel() and tensor.is_contiguous() and self.tensor.is_contiguous()
        return tensor is self.tensor or (flat and tensor.data_ptr() == self.tensor.data_ptr())


@dataclass
class _SeenLayer:
    """A fully connected layer that has run.

    Attributes:
        module: itself.
        read: what it read.
        source: the site of that; empty where no probe can read it.
        target: the site that its nodes are seen at.
        made: its output.
    """

    module: nn.Linear
    read: _Made
    source: str
    target: str
    made: _Made


class _Seen:
    """What hooks see of one pass."""

    def __init__(self, network: nn.Module, batch: int, windows: dict[str, int]) -> None:
        self._batch = batch
        self._windows = windows
        shared = Counter(id(one) for module in network.modules() for one in module._parameters.values())
        self._tied = {name for name, module in network.named_modules() if shared[id(getattr(module, "weight", 0))] > 1}
        self._runs: dict[str, int] = {}
        self._versions: dict[str, list[int]] = {}
        self._sites: dict[str, Site] = {}
        self._made: dict[str, _Made] = {}
        """What stands at each site."""
        self._layers: dict[str, _SeenLayer] = {}
        """In the order in which they ran."""
        self._of_heads: list[tuple[_Made, nn.Module]] = []
        """What modules with heads hand on, no layer of theirs behind these."""
        self._of_filters = _OfFilters()
        self._trying = False
        """While a module runs again."""

    def enters(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        """Before a module runs."""
        if self._trying:
            return
        self._versions[name] = [_version(one) for one in inputs]
        if isinstance(module, nn.Linear) and inputs:
            self._reads(name, inputs[0])

    def _reads(self, module: str, tensor: Any) -> None:
        """What a layer reads may have to be a site by itself."""
        site = self._site(module + READ, module, "input", tensor)
        if site is not None and site.layout != "channels":
            of = next((of for made, of in self._of_heads if tensor.ndim > 2 and made.is_now(tensor)), None)
            self._sites[site.name] = site if of is None else _of_its_heads(site, of)
            self._made[site.name] = _Made.now(tensor)

    def _site(
        self, name: str, module: str, reads: Literal["input", "output"], tensor: Any, of_filters: bool = False
    ) -> Site | None:
        """What stands at a module; None where no probe can read it."""
        windows = self._windows.get(module, 1)
        shape = _layout(tensor, self._batch * windows, of_filters)
        if shape is None or (windows > 1 and shape[1] != "tokens"):
            return None
        return Site(name, shape[0], f"network.{module}", reads, *shape[1:], windows=windows)

    def leaves(
        self, name: str, module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any
    ) -> None:
        """After a module ran."""
        if self._trying:
            return
        self._runs[name] = self._runs.get(name, 0) + 1
        versions = self._versions[name]
        if isinstance(module, nn.Linear) and inputs and _is_linear(module, inputs[0], output):
            read = _Made(inputs[0], versions[0])
            source = self._site_of(read, module.in_features)
            self._layers[name] = _SeenLayer(module, read, source, name, _Made.now(output))
        if attends(module):
            self._attended(name, module, inputs, keywords, output)
        site = self._site(name, name, "output", output, self._of_filters.seen(module, inputs, output))
        entered = zip(inputs, versions, strict=False)  # a module may call itself with others
        # What a module has written to in place is no longer what entered it.
        as_it_was = any(output is one and _version(output) == version for one, version in entered)
        if site is None or as_it_was:
            return
        if inputs and _by_element(module) and isinstance(inputs[0], Tensor) and inputs[0].shape == output.shape:
            self._activates(name, inputs[0], versions[0])
        self._sites[name] = site
        self._made[name] = _Made.now(output)

    def _site_of(self, read: _Made, width: int) -> str:
        """The first site with this tensor, of so many numbers for each input or token; empty where there is none."""
        for name, made in self._made.items():
            site = self._sites[name]
            if site.nodes * site.positions == width and made.version == read.version and made.is_now(read.tensor):
                return name
        return ""

    def _activates(self, name: str, entered: Tensor, version: int) -> None:
        """What a module makes of a layer's output is what the layer's nodes hand on."""
        for path, layer in self._layers.items():
            if layer.target == path and layer.made.tensor is entered and layer.made.version == version:
                layer.target = name

    def _attended(self, name: str, module: nn.Module, inputs: Sequence[Any], keywords: Any, output: Any) -> None:
        """After a module with heads: whether what one of its layers reads is theirs, or what it hands on itself."""
        first = output[0] if isinstance(output, tuple) and output else output
        inside = {path: layer for path, layer in self._layers.items() if path.startswith(f"{name}.")}
        if isinstance(module, OpenAttention):
            self._is_of_heads(f"{name}.out_proj", module)
            return
        # Where no layer made what it hands on, this may be the heads', or the last layer's with something added to it.
        made_by = [path for path, layer in inside.items() if layer.made.is_now(first)][:1]
        self._trying = True
        for path in made_by or ["", *list(inside)[-1:]]:
            if of_heads_alone(module, inputs, keywords, inside[path].module if path else None):
                self._is_of_heads(path, module, first)
                break
        self._trying = False

    def _is_of_heads(self, layer: str, module: nn.Module, handed_on: Tensor | None = None) -> None:
        """What a layer reads, or else what a module with heads hands on."""
        site = self._sites.get(layer + READ)
        if site is not None:
            self._sites[layer + READ] = _of_its_heads(site, module)
        elif not layer and handed_on is not None:
            self._of_heads.append((_Made.now(handed_on), module))

    def parts(self, logits: Any) -> Parts:
        """What was found, but for modules that ran more than once."""
        once = {name: site for name, site in self._sites.items() if self._runs[site.module.split(".", 1)[1]] == 1}
        last = next((name for name, layer in self._layers.items() if self._answers(name, layer, logits)), "")
        layers = []
        for name, layer in self._layers.items():
            # What runs more than once, as a shared activation, is no site: what a layer reads of it is one by itself.
            source = layer.source if layer.source in once else name + READ
            target = None if name == last else layer.target if layer.target in once else name
            if (
                self._runs[name] == 1
                and name not in self._tied
                and can_be_masked(layer.module)
                and source in once
                and (target is None or target in once)
            ):
                called = "output" if target is None and "output" not in self._layers else name
                layers.append(Layer(called, f"network.{name}", source, target, 0, f"network.{name}"))
        used = {layer.source for layer in layers}
        sites = [site for name, site in once.items() if not name.endswith(READ) or name in used or site.heads]
        return Parts(tuple(_numbered(sites)), tuple(layers), f"network.{last}" if last else "")

    def _answers(self, name: str, layer: _SeenLayer, logits: Any) -> bool:
        made = layer.made
        return made.tensor is logits and made.version == _version(logits) and self._runs[name] == 1


def _of_its_heads(site: Site, module: nn.Module) -> Site:
    """A site whose nodes the heads of an attention module share."""
    heads = heads_of(module, site.nodes)
    return replace(site, heads=heads, sharing=sharing_of(module, heads))


def _is_linear(layer: nn.Linear, read: Any, output: Any) -> bool:
    """Whether it computes what its weight and bias say: a subclass may do more, and so may a hook."""
    if not isinstance(read, Tensor) or not isinstance(output, Tensor) or not read.is_floating_point():
        return False
    noise = torch.randn(read.shape, generator=torch.Generator().manual_seed(0)).to(read)
    asked, found = (
        torch.cat([one.flatten().float() for one in pair])
        for pair in (
            (F.linear(read, layer.weight, layer.bias), F.linear(noise, layer.weight, layer.bias)),
            (output, layer.forward(noise)),
        )
    )
    return asked.shape == found.shape and torch.allclose(asked, found, rtol=1e-2, atol=1e-3 * float(asked.abs().max()))


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
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.is_nested:
        return None
    if output.shape[:1] != (batch,):
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
