"""Windows: parts of an image that a network puts one after another on the axis of the batch, as Swin does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from nodelens.networks.found_heads import attends
from nodelens.networks.running import run_once


def found_windows(network: nn.Module, example: Shaped[Tensor, "batch ..."]) -> dict[str, int]:
    """Windows of each input where what enters and leaves a module is (batch · window, token, node).

    Found by changing the first input: all of its windows must change, and no others. What is several times as long for
    another reason, as (token, batch, node), does not pass; nor do the heads of an attention, (batch · head, token,
    node), which are told by what enters the attention.

    Returns:
        The number of windows, at least two, by the module's path; empty for inputs that are no images.

    Raises:
        InputError: the network cannot be run on the example.
    """
    if example.ndim != 4 or not example.is_floating_point():
        return {}
    batch = len(example)
    changed = example.clone()
    changed[0] += torch.randn(changed[0].shape, generator=torch.Generator().manual_seed(0)).to(changed)
    before = _of_several(network, example)
    after = _of_several(network, changed) if before else {}
    found = {}
    for name, tensor in before.items():
        count, other = len(tensor) // batch, after.get(name)
        if other is not None and other.shape == tensor.shape:
            same = torch.isclose(tensor, other).flatten(1).all(dim=1)
            if bool(same[count:].all()) and not bool(same[:count].any()):
                found[name] = count
    attentions = [name for name, module in network.named_modules() if attends(module)]
    return {name: count for name, count in found.items() if _around(name, found, attentions) in (None, count)}


def _around(name: str, found: Mapping[str, int], attentions: Sequence[str]) -> int | None:
    """Windows of what enters the innermost attention around a module; None where there is none."""
    around = [one for one in attentions if name.startswith(f"{one}.")]
    return found.get(max(around, key=len), 1) if around else None


def _of_several(network: nn.Module, example: Tensor) -> dict[str, Tensor]:
    """What modules read, (several times the batch, token, node), if they read nothing else and keep that order."""
    found: dict[str, Tensor] = {}

    def leaves(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        read, made = (next(iter(one), None) if isinstance(one, tuple) else one for one in (inputs, output))
        if (
            isinstance(read, Tensor)
            and isinstance(made, Tensor)
            and read.ndim > 2
            and read.is_floating_point()
            and len(read) == len(made)
            and len(read) > len(example)
            and len(read) % len(example) == 0
        ):
            found[name] = read.clone()

    handles = [module.register_forward_hook(partial(leaves, name)) for name, module in network.named_modules()]
    try:
        run_once(network, example)
    finally:
        for handle in handles:
            handle.remove()
    return found
