"""Sites: the named places of a frozen network where nodes are measured.

A family of networks says which sites it has by returning a list of `Site`; everything else in nodelens
(probes, measures, masks) only ever sees sites. A site is the input or the output of one submodule, so one
forward hook reads it and nothing in the network has to change.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from nodelens.errors import InputError

Reader = Callable[[str, Tensor], None]
"""Called with a site's name and its activations, ``(batch, tokens, nodes)`` or ``(batch, nodes, height, width)``."""


@dataclass(frozen=True)
class Site:
    """A place whose nodes can be measured.

    Attributes:
        name: e.g. ``block.7.linear2``; blocks count from 1 as in the paper.
        nodes: number of nodes (units of a fully connected layer, filters of a convolution).
        module: path of the submodule that is read (``network.get_submodule``).
        reads: whether the site is what enters that submodule or what leaves it.
        layout: ``tokens`` for ``(batch, tokens, nodes)``, ``units`` for ``(batch, nodes)``,
            ``channels`` for ``(batch, nodes, height, width)``.
        positions: spatial positions that one node owns: ``height * width`` for ``channels``, otherwise 1.
        heads: number of attention heads that share the nodes in equal runs; 0 where there are none.
        block: 1-based encoder block (or convolution) that the site belongs to.
        stream: name of the residual stream that the site lies on, or is normalised from: skip connections carry
            each of its nodes on to the same node of the next site there; empty where there is none.
        prefix: tokens before those of the image, such as a class token.
        own_head: whether the network's own layer to the labels reads the site: that is its classifier head, and no
            probe is trained.
        windows: parts of an image whose tokens lie one after another on the axis of the batch,
            ``(batch · windows, tokens, nodes)``; a probe reads the tokens of all of them.
        sharing: how many neighbouring heads share keys and values; 1 where each has its own.
    """

    name: str
    nodes: int
    module: str
    reads: Literal["input", "output"]
    layout: Literal["tokens", "units", "channels"] = "tokens"
    positions: int = 1
    heads: int = 0
    block: int = 0
    stream: str = ""
    prefix: int = 0
    own_head: bool = False
    windows: int = 1
    sharing: int = 1


def select_sites(available: Sequence[Site], patterns: str | Sequence[str]) -> list[Site]:
    """The sites that match any of the glob patterns, in the network's order.

    `block.*.linear2` matches the blocks' outputs but not `block.7.linear2.no_skip`: a star stays within
    one dotted part, as in a path.

    Raises:
        InputError: a pattern that matches nothing.
    """
    chosen = matching([site.name for site in available], patterns, "site")
    return [site for site in available if site.name in chosen]


def matching(names: Sequence[str], patterns: str | Sequence[str], kind: str) -> set[str]:
    """The names that match any of the patterns; `kind` is what an error calls them.

    Raises:
        InputError: a pattern that matches nothing.
    """
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matched = {name for name in names if _matches(name, pattern)}
        if not matched:
            known = ", ".join([*names[:9], *["…"] * (len(names) > 9)])
            raise InputError(f"no {kind} matches {pattern!r}; this network has {len(names)}: {known}")
        chosen |= matched
    return chosen


def _matches(name: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    parts, globs = name.split("."), pattern.split(".")
    return len(parts) == len(globs) and all(map(fnmatch.fnmatchcase, parts, globs))


@contextmanager
def reading(network: nn.Module, sites: Sequence[Site], reader: Reader) -> Iterator[None]:
    """Call ``reader(site.name, activations)`` at each site while the block runs, at the moment it arises.

    The reader sees the tensor that the network itself goes on with and must not write to it.
    """
    handles = []
    try:
        for site in sites:
            module = network.get_submodule(site.module)
            if site.reads == "input":
                handles.append(module.register_forward_pre_hook(_input_hook(site, reader)))
            else:
                handles.append(module.register_forward_hook(_output_hook(site, reader)))
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def entering(network: nn.Module, modules: Iterable[str], reader: Reader) -> Iterator[None]:
    """Call ``reader(path, tensor)`` with what enters each of these submodules while the block runs."""

    def hook(path: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        return lambda module, inputs: reader(path, inputs[0])

    with ExitStack() as hooks:
        for path in modules:
            hooks.enter_context(network.get_submodule(path).register_forward_pre_hook(hook(path)))
        yield


def _input_hook(site: Site, reader: Reader) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        reader(site.name, _in_layout(site, inputs[0]))

    return hook


def _output_hook(site: Site, reader: Reader) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        reader(site.name, _in_layout(site, output))

    return hook


def _in_layout(site: Site, activations: Tensor) -> Tensor:
    """Tokens that lie in a square, (batch, row, column, node), or in windows, one after another."""
    if site.windows > 1:
        activations = activations.view(-1, site.windows, *activations.shape[1:])
    return activations.flatten(1, -2) if site.layout == "tokens" and activations.ndim > 3 else activations
