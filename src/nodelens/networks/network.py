"""What nodelens needs of a network: a configuration, and the sites that it says it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from nodelens.networks.layers import Layer
from nodelens.networks.sites import Site

Stage = Callable[[Tensor], Tensor]


@runtime_checkable
class Config(Protocol):
    """The fields that every family's frozen configuration dataclass has."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def labels(self) -> int: ...
    @property
    def image_size(self) -> int: ...
    @property
    def channels(self) -> int: ...


def longest_text(network: Network) -> int:
    """Tokens that a network reads at most; 0 where it reads no texts."""
    return getattr(network.config, "positions", 0)


def real_tokens(network: nn.Module, inputs: Shaped[Tensor, "batch ..."]) -> Bool[Tensor, "batch token"] | None:
    """`Network.real_tokens`; None for a network that does not say."""
    return network.real_tokens(inputs) if isinstance(network, Network) else None


def fitting(real: Bool[Tensor, "batch token"] | None, activations: Tensor) -> Bool[Tensor, "batch token"] | None:
    """Nothing where the activations are of no tokens, or of others, as behind a layer that joins some."""
    is_of_them = real is not None and activations.ndim == 3 and real.shape == activations.shape[:2]
    return real if is_of_them else None


def of_real_tokens(activations: Tensor, real: Bool[Tensor, "batch token"] | None) -> Tensor:
    """Activations of the real tokens alone, (token, node); all, as they are, where `real` does not fit."""
    return activations if fitting(real, activations) is None else activations[real]


def mean_over_tokens(
    activations: Float[Tensor, "batch token node"], real: Bool[Tensor, "batch token"] | None
) -> Float[Tensor, "batch node"]:
    """The mean over a text's real tokens; over all where `real` does not fit."""
    counted = fitting(real, activations)
    if counted is None:
        return activations.mean(dim=1)
    weights = counted.to(activations.dtype)
    return torch.einsum("btn,bt->bn", activations, weights / weights.sum(dim=1, keepdim=True))


class Network(nn.Module):
    """A network that can be measured.

    Attributes:
        family: key of the family in `nodelens.networks.families.FAMILIES`.
        config: the family's configuration; builds the same network untrained.
        checkpoint_metadata: what the checkpoint that it was loaded from says of itself; empty where there was none.
    """

    family: ClassVar[str]
    config: Config
    checkpoint_metadata: Mapping[str, str] = {}

    def example(self, batch: int) -> Shaped[Tensor, "batch ..."]:
        """Arbitrary inputs of the right shape and kind: noise, where it reads images."""
        config = self.config
        shape = (batch, config.channels, config.image_size, config.image_size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def real_tokens(self, inputs: Shaped[Tensor, "batch ..."]) -> Bool[Tensor, "batch token"] | None:
        """Which tokens are a text's own; the others, `config.padding`, fill it up, and no probe reads them.

        None where all are, as in images.
        """
        padding = getattr(self.config, "padding", None)
        return None if padding is None or inputs.ndim != 2 or inputs.is_floating_point() else inputs != padding

    def sites(self) -> list[Site]:
        """The places where nodes can be measured, in the order of the data's way."""
        raise NotImplementedError

    def layers(self) -> list[Layer]:
        """The fully connected layers that join two sites or a site and the labels, in the order of the data's way."""
        return []

    def output_layer(self) -> str:
        """Path of the fully connected layer whose outputs are the labels; empty where there is none."""
        return next((layer.module for layer in self.layers() if layer.target is None), "")

    def stages(self) -> Sequence[Stage]:
        """The forward pass cut into consecutive steps; together they are the network.

        Networks that differ only from some stage on can share the stages before it.
        """
        return [self]

    def remove_dead(self, multiple: int = 1) -> None:
        """Remove dead nodes from the modules, in place, without changing what the network computes.

        Its layers are then smaller than `config` says, so it can be run but no longer measured or stored;
        `nodelens.pruning.compact` works on a copy. A family without fully connected layers has nothing to do.

        Args:
            multiple: so many dead nodes stay that the number of those that stay is a multiple of it.
        """

    def beside_weights(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Settings that change the logits and that nobody would assume who sees the weights alone.

        Args:
            state: the network's weights, with the names of the published checkpoints.
        """
        return {}

    def positional_embeddings(self) -> Mapping[str, int]:
        """Positional embeddings of a square grid of tokens, (1, token, embedding): weight -> tokens before the grid."""
        return {}

    def in_encoder(self, name: str) -> str:
        """Name of a weight in the same network without a layer to labels."""
        return name

    def settings(self) -> dict[str, Any]:
        """The configuration as plain numbers and words."""
        return asdict(self.config)
