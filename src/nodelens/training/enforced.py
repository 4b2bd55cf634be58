"""Symmetry breaking among the heads, enforced: labels are given to heads before training (paper, discussion).

The paper proposes "enhanced learning parameters for each head's subset". Here an image weighs more in what a head
learns when its label was given to that head: the gradient that reaches the head's output is multiplied. Adam
divides a gradient by its usual size, so what counts is how much an image weighs beside the others, and a gain
makes no head learn faster as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nodelens.data.datasets import ImageSet
from nodelens.errors import InputError
from nodelens.networks import Network, Site
from nodelens.training.batches import ASSIGNMENT, Batch, seed_of

SUPERCLASS, RANDOM = "superclass", "random"


@dataclass(frozen=True)
class EnforcedHeads:
    """Which labels are given to which head, and how much more they weigh there.

    Attributes:
        how: `superclass` deals whole super-classes to the heads, `random` single labels, in equal numbers as far
            as possible; `file` takes `labels`.
        labels: of each head, by name; labels may be given to several heads or to none.
        gain: factor of the gradient that reaches a head from images of its labels, above 1.
        blocks: 1-based encoder blocks; empty for all.
    """

    how: str
    labels: tuple[tuple[str, ...], ...] = ()
    gain: float = 2.0
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 < self.gain < float("inf"):
            raise InputError(f"a gain of {self.gain:g} gives no head its labels; give a factor above 1, such as 2")


def enforced_heads(how: str, gain: float = 2.0, blocks: Sequence[int] = ()) -> EnforcedHeads:
    """What `--assign-heads` asks for.

    Args:
        how: `superclass`, `random`, or a JSON file with a list of label names for each head.

    Raises:
        InputError: the file does not exist or is no list of lists of names; a gain of 1 or less.
    """
    if how in (SUPERCLASS, RANDOM):
        return EnforcedHeads(how, (), gain, tuple(blocks))
    try:
        content = json.loads(Path(how).read_text())
        labels = tuple(tuple(map(str, of_head)) for of_head in content)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"--assign-heads {how} is neither superclass nor random nor a JSON file with a list of label names for "
            "each head"
        ) from error
    return EnforcedHeads("file", labels, gain, tuple(blocks))


def labels_of_heads(
    enforced: EnforcedHeads, heads: int, images: ImageSet, seed: int = 0
) -> Bool[Tensor, "_head label"]:
    """Which labels are given to each head.

    Raises:
        InputError: no super-classes, fewer of them (or of labels) than heads, a file that names unknown labels or
            does not have a list for each head.
    """
    if enforced.how == "file":
        return _named(enforced.labels, heads, images)
    if enforced.how == SUPERCLASS and not images.superclass_names:
        raise InputError(f"{images.name} has no super-classes to give to heads; choose random or a file")
    group_of_label = images.superclass_of_label if enforced.how == SUPERCLASS else range(len(images.label_names))
    groups = torch.tensor(list(group_of_label))
    number = int(groups.max()) + 1
    if number < heads:
        raise InputError(f"{images.name} has {number} subsets of labels, too few for {heads} heads")
    generator = torch.Generator().manual_seed(seed_of(seed, ASSIGNMENT, heads))
    head_of_group = torch.randperm(number, generator=generator) % heads
    return head_of_group[groups] == torch.arange(heads)[:, None]


def _named(labels: Sequence[Sequence[str]], heads: int, images: ImageSet) -> Bool[Tensor, "_head label"]:
    if len(labels) != heads:
        raise InputError(f"the file gives labels to {len(labels)} heads, but a block has {heads}")
    unknown = sorted({name for of_head in labels for name in of_head} - set(images.label_names))
    if unknown:
        raise InputError(f"the file gives {unknown[0]!r} to a head, which is no label of {images.name}")
    return torch.tensor([[name in set(of_head) for name in images.label_names] for of_head in labels])


class HeadGains:
    """Multiplies the gradients that reach the heads of a network in training; called with every batch before it."""

    def __init__(self, network: Network, enforced: EnforcedHeads, images: ImageSet, seed: int) -> None:
        """
        Raises:
            InputError: a network without heads, a block that it has not, or as `labels_of_heads`.
        """
        self.gain = enforced.gain
        self.targets: Tensor | None = None
        for site in _chosen(network, enforced.blocks):
            given = labels_of_heads(enforced, site.heads, images, seed).float()
            network.get_submodule(site.module).register_forward_pre_hook(self._hook(given, site.nodes // site.heads))

    def __call__(self, batch: Batch) -> None:
        """Remember which labels the images of the next step have."""
        self.targets = batch.targets

    def _hook(self, given: Float[Tensor, "head label"], size: int) -> Any:
        def multiply(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
            if self.targets is None or not module.training:
                return None
            # A mixed image counts by its shares.
            factor = 1 + (self.gain - 1) * (self.targets @ given.to(self.targets.device).T)
            return (_Multiplied.apply(inputs[0], factor.repeat_interleave(size, dim=1)), *inputs[1:])

        return multiply


class _Multiplied(torch.autograd.Function):
    """The identity; on the way back the gradient of each image and node is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Float[Tensor, "batch node"]) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (factor,) = ctx.saved_tensors
        return gradients[0] * factor[:, None].to(gradients[0].dtype), None


def _chosen(network: Network, blocks: Sequence[int]) -> list[Site]:
    sites = [site for site in network.sites() if site.heads]
    if not sites:
        raise InputError(f"a network of the family {network.family} has no attention heads to give labels to")
    missing = sorted(set(blocks) - {site.block for site in sites})
    if missing:
        raise InputError(f"there is no block {missing[0]} whose heads could be given labels")
    return [site for site in sites if not blocks or site.block in blocks]
