"""Symmetry breaking among the heads, enforced: labels are given to heads before training (paper, discussion).

A term of the loss asks every head to tell its own labels apart: the mean of its output over the tokens is compared,
by its direction, with a fixed random direction for each of them. Nothing that is learnt is added to the network, and
images of other labels say nothing to the head.

The paper proposes "enhanced learning parameters for each head's subset". Taken literally, as a gradient that weighs
more for images of the head's labels, this is no gradient of any loss: heads and output layer then push against each
other for ever, and a CCT-2/3x2 hardly learnt CIFAR-100 at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.data.examples import Samples
from nodelens.errors import InputError
from nodelens.networks import Network, Site, mean_over_tokens, reading, real_tokens
from nodelens.shards import device_of
from nodelens.training.batches import ASSIGNMENT, seed_of

SUPERCLASS, RANDOM = "superclass", "random"

TEMPERATURE = 0.1
"""Of the cosines between a head's output and its labels' directions."""


@dataclass(frozen=True)
class EnforcedHeads:
    """Which labels are given to which head, and how much telling them apart weighs.

    Attributes:
        how: `superclass` deals whole super-classes to the heads, `random` single labels, in equal numbers as far
            as possible; `file` takes `labels`.
        labels: of each head, by name; labels may be given to several heads or to none.
        weight: of the term beside the cross-entropy, above 0.
        blocks: 1-based encoder blocks; empty for all.
    """

    how: str
    labels: tuple[tuple[str, ...], ...] = ()
    weight: float = 0.5
    blocks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise InputError(f"a weight of {self.weight:g} gives no head its labels; give one above 0, such as 0.5")


def enforced_heads(how: str, weight: float = EnforcedHeads.weight, blocks: Sequence[int] = ()) -> EnforcedHeads:
    """What `--assign-heads` asks for.

    Args:
        how: `superclass`, `random`, or a JSON file with a list of label names for each head.

    Raises:
        InputError: the file does not exist or is no list of lists of names; a weight that is not positive.
    """
    if how in (SUPERCLASS, RANDOM):
        return EnforcedHeads(how, (), weight, tuple(blocks))
    try:
        content = json.loads(Path(how).read_text())
        labels = tuple(tuple(map(str, of_head)) for of_head in content)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"--assign-heads {how} is neither superclass nor random nor a JSON file with a list of label names for "
            "each head"
        ) from error
    return EnforcedHeads("file", labels, weight, tuple(blocks))


def labels_of_heads(enforced: EnforcedHeads, heads: int, images: Samples, seed: int = 0) -> Bool[Tensor, "_head label"]:
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


def _named(labels: Sequence[Sequence[str]], heads: int, images: Samples) -> Bool[Tensor, "_head label"]:
    if len(labels) != heads:
        raise InputError(f"the file gives labels to {len(labels)} heads, but a block has {heads}")
    unknown = sorted({name for of_head in labels for name in of_head} - set(images.label_names))
    if unknown:
        raise InputError(f"the file gives {unknown[0]!r} to a head, which is no label of {images.name}")
    return torch.tensor([[name in set(of_head) for name in images.label_names] for of_head in labels])


class HeadTerm:
    """The term of the loss by which heads learn the labels that they were given; 0 where a block has none.

    It is that of the batch which the network has just read, and is asked for while it is `attached`.
    """

    def __init__(self, network: Network, enforced: EnforcedHeads, images: Samples, seed: int) -> None:
        """
        Raises:
            InputError: a network without heads, a block that it has not, or as `labels_of_heads`.
        """
        self.weight = enforced.weight
        self._network, self._sites = network, {site.name: site for site in _chosen(network, enforced.blocks)}
        self._given: dict[str, Bool[Tensor, "head label"]] = {}
        self._directions: dict[str, Float[Tensor, "head label node"]] = {}
        self._outputs: dict[str, Float[Tensor, "batch head node"]] = {}
        self._real: Bool[Tensor, "batch token"] | None = None
        device = device_of(network)
        for site in self._sites.values():
            given = labels_of_heads(enforced, site.heads, images, seed)
            generator = torch.Generator().manual_seed(seed_of(seed, ASSIGNMENT, site.block))
            drawn = torch.randn(*given.shape, site.nodes // site.heads, generator=generator)
            self._given[site.name] = given.to(device)
            self._directions[site.name] = F.normalize(drawn, dim=2).to(device)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Read what the heads put out while the block runs; afterwards the network is as it was."""
        with (
            self._network.register_forward_pre_hook(self._before),
            reading(self._network, list(self._sites.values()), self._remember),
        ):
            yield
        self._outputs.clear()

    def __call__(self, targets: Float[Tensor, "batch label"]) -> Float[Tensor, ""]:
        """The term of the batch that the network has just read, mean over its images and the blocks.

        Args:
            targets: share of each label of an image; a mixed image counts by its shares.
        """
        terms = [
            own_label_loss(self._outputs.pop(name), targets, self._directions[name], given)
            for name, given in self._given.items()
        ]
        return self.weight * torch.stack(terms).mean()

    def _before(self, network: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._real = real_tokens(network, inputs[0])

    def _remember(self, name: str, activations: Tensor) -> None:
        if self._network.training:
            mean = mean_over_tokens(activations.float(), self._real)
            self._outputs[name] = mean.reshape(len(mean), self._sites[name].heads, -1)


def own_label_loss(
    outputs: Float[Tensor, "batch head node"],
    targets: Float[Tensor, "batch label"],
    directions: Float[Tensor, "head label node"],
    given: Bool[Tensor, "head label"],
) -> Float[Tensor, ""]:
    """Cross-entropy of every head among the labels given to it, over images of these, mean over all images.

    Its logits are the cosines between what the head puts out and the labels' directions, over `TEMPERATURE`.
    """
    cosines = torch.einsum("bhn,hln->bhl", F.normalize(outputs, dim=2), directions)
    logits = (cosines / TEMPERATURE).masked_fill(~given, -1e9)  # finite, for a head that has none
    log_shares = logits.log_softmax(dim=2).masked_fill(~given, 0.0)
    return -torch.einsum("bl,bhl->", targets, log_shares) / len(targets)


def _chosen(network: Network, blocks: Sequence[int]) -> list[Site]:
    sites = [site for site in network.sites() if site.heads]
    if not sites:
        raise InputError(f"a network of the family {network.family} has no attention heads to give labels to")
    missing = sorted(set(blocks) - {site.block for site in sites})
    if missing:
        raise InputError(f"there is no block {missing[0]} whose heads could be given labels")
    return [site for site in sites if not blocks or site.block in blocks]
