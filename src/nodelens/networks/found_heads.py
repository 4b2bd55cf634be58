"""Whether the nodes at a place are those of attention heads: tried, not guessed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nodelens.networks.running import FAILURES

HEADS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "heads")
"""What the authors of an attention module call the number of its heads."""

WIDTHS = ("head_dim", "head_size", "d_head")
"""What they call the number of a head's nodes."""

KEYS = ("num_key_value_heads", "num_kv_heads", "kv_heads", "n_kv_heads")
"""What they call the number of heads that have keys and values of their own, which others share."""

GROUPS = ("num_key_value_groups",)
"""What they call the number of heads that share these."""

TRIED = (1 / 6, 1 / 2, 5 / 6)
"""Where among a layer's outputs those lie that are changed: of one that makes all three, a query, a key and a value."""

ROUNDING = 1e-4
"""Of the largest change: below it there is none."""


def attends(module: nn.Module) -> bool:
    """Whether a module says how many attention heads it has, or how many nodes each."""
    return bool(_told(module, HEADS) or _told(module, WIDTHS))


def heads_of(module: nn.Module, nodes: int) -> int:
    """Number of attention heads to which as many nodes belong, as a module says; 0 where they cannot be shared so."""
    heads, width = _told(module, HEADS), _told(module, WIDTHS)
    if heads:
        return heads if nodes % heads == 0 else 0
    return nodes // width if width and nodes % width == 0 else 0


def sharing_of(module: nn.Module, heads: int) -> int:
    """How many heads share keys and values, as a module says; 1 where each has its own."""
    keys = min(heads, _told(module, KEYS) or heads)
    return _told(module, GROUPS) or (heads // keys if keys else 1)


def _told(module: nn.Module, names: Iterable[str]) -> int:
    found = (getattr(module, name, 0) for name in names)
    return next((number for number in found if type(number) is int and number > 0), 0)


def of_heads_alone(
    module: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any], behind: nn.Linear | None
) -> bool:
    """Whether the heads of a module share what it finds in equal runs of nodes, each head its own alone.

    The module runs some ten times on the same inputs, with other weights of its fully connected layers. With all of
    them zero, its inputs must no longer reach what it finds; and a row of one of them, changed, may change the nodes of
    one head, or of those that share its keys and values, and must once change several nodes of one head alone, as a
    query does. So there are none where heads are mixed, added to what entered, or followed by something else.

    Args:
        arguments, keywords: it was called with.
        behind: the fully connected layer within it that reads what the heads find; None where the module hands that on.
    """
    again = _Again(module, arguments, keywords, behind)
    usual = again.found({}, otherwise=True)  # where tokens differ, even if those given are all alike
    heads = 0 if usual is None or usual.ndim < 3 else heads_of(module, usual.shape[-1])
    if usual is None or not heads:
        return False
    weights = again.reached_weights()
    nothing = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    if not _alike(again.found(nothing), again.found(nothing, otherwise=True)):
        return False
    group, by_one = sharing_of(module, heads), False
    for name, weight in weights.items():
        for place in TRIED:
            changed = weight.clone()
            changed[int(place * len(weight))] += _noise(weight[0])
            found = again.found({name: changed}, otherwise=True)
            if found is None or found.shape != usual.shape:
                return False
            change = (found - usual).abs().reshape(-1, heads, usual.shape[-1] // heads).amax(dim=0)
            of_nodes = change > ROUNDING * change.max()
            moved = of_nodes.any(dim=1).nonzero().flatten().tolist()
            if len({head // group for head in moved}) > 1:
                return False
            by_one |= len(moved) == 1 and (int(of_nodes.sum()) > 1 or of_nodes.shape[1] == 1)
    return by_one


class _Again:
    """Runs an attention module again."""

    def __init__(
        self, module: nn.Module, arguments: Sequence[Any], keywords: Mapping[str, Any], behind: nn.Linear | None
    ) -> None:
        self._module, self._arguments, self._keywords, self._behind = module, arguments, keywords, behind
        self._inside = {name: one for name, one in module.named_modules() if isinstance(one, nn.Linear)}
        self._read: dict[nn.Module, Tensor] = {}

    def found(self, weights: dict[str, Tensor], otherwise: bool = False) -> Tensor | None:
        """What its heads find with some weights changed, or on changed inputs too; None where that is no one tensor."""
        handles = [layer.register_forward_pre_hook(self._reads) for layer in self._inside.values()]
        self._read = {}
        try:
            arguments, keywords = self._inputs(otherwise)
            output = functional_call(self._module, weights, arguments, keywords)
        except FAILURES:
            return None
        finally:
            for handle in handles:
                handle.remove()
        first = output[0] if isinstance(output, tuple) and output else output
        found = first if self._behind is None else self._read.get(self._behind)
        return found if isinstance(found, Tensor) else None

    def reached_weights(self) -> dict[str, Tensor]:
        """Those of layers inside whose inputs change with the module's, or that do not run and may lend theirs.

        Not of layers of positions alone.
        """
        self.found({})
        usual = self._read
        self.found({}, otherwise=True)
        return {
            f"{path}.{name}": weight
            for path, layer in self._inside.items()
            if layer is not self._behind and not _alike(usual.get(layer), self._read.get(layer))
            for name, weight in layer.named_parameters()
            if weight.ndim == 2
        }

    def _reads(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            self._read[layer] = inputs[0].clone()

    def _inputs(self, otherwise: bool) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies, since the module may write to them; changed in the first tensor of numbers, not in masks.

        Without a cache of transformers, which by now has the keys and values of the pass.
        """
        every = [*self._arguments, *self._keywords.values()]
        every = [None if hasattr(one, "get_seq_length") else one for one in every]
        own = [one.clone() if isinstance(one, Tensor) else one for one in every]
        first = next((i for i, one in enumerate(own) if isinstance(one, Tensor) and one.is_floating_point()), None)
        if otherwise and first is not None:
            own[first] += _noise(own[first])
        count = len(self._arguments)
        return tuple(own[:count]), dict(zip(self._keywords, own[count:], strict=True))


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and one.shape == other.shape and torch.allclose(one, other)


def _noise(like: Tensor) -> Tensor:
    noise = torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)
    return noise * like.std(correction=0).clamp(min=0.1)
