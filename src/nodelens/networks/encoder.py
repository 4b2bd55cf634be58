"""What encoder blocks of transformers have in common: their parts, and what their sites and layers are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.layers import Layer
from nodelens.networks.network import Network
from nodelens.networks.sites import Site


@dataclass(frozen=True)
class EncoderBlock:
    """One encoder block of a network: where its parts are.

    Attributes:
        number: from 1.
        path: of the block (``network.get_submodule``); the others are paths within it.
        ln: the LayerNorm before attention; empty where none stands there, and the block's input is what `qkv` reads.
        qkv: the layer to queries, keys and values.
        projection: the layer after attention.
        norm: the LayerNorm before `linear1`.
        linear1: the first layer of the feed-forward part.
        linear2: the second.
        added: what the two branches pass before they are added to the residual stream; empty where nothing is.
        norm_behind: the LayerNorm on the residual stream behind `linear2`, where there is one: what enters it is then
            the site `linear2`.
        prefix: tokens before those of the image.
    """

    number: int
    path: str
    width: int
    feedforward: int
    heads: int
    ln: str
    qkv: str
    projection: str
    norm: str
    linear1: str
    linear2: str
    added: tuple[str, str] = ("", "")
    prefix: int = 0
    norm_behind: str = ""

    def sites(self) -> list[Site]:
        """Its sites, in the order of the data's way (paper, Fig. 1 and Table 3)."""
        after_projection, after_linear2 = (
            scaled or layer for scaled, layer in zip(self.added, (self.projection, self.linear2), strict=True)
        )

        def site(name: str, nodes: int, part: str, reads: str, heads: int = 0, stream: str = "") -> Site:
            path = f"{self.path}.{part}" if part else self.path
            of_block = {"heads": heads, "block": self.number, "stream": stream, "prefix": self.prefix}
            return Site(f"{self._name}.{name}", nodes, path, reads, **of_block)  # type: ignore[arg-type]

        def on_stream(name: str, part: str, reads: str) -> Site:
            return site(name, self.width, part, reads, stream="residual")

        return [
            on_stream("ln", self.ln, "output") if self.ln else on_stream("ln", self.qkv, "input"),
            site("qkv", 3 * self.width, self.qkv, "output"),
            site("attention", self.width, self.projection, "input", self.heads),
            on_stream("projection.no_skip", after_projection, "output"),
            on_stream("projection", self.norm, "input"),
            on_stream("norm", self.norm, "output"),
            site("linear1", self.feedforward, self.linear2, "input"),
            on_stream("linear2.no_skip", after_linear2, "output"),
            on_stream("linear2", self.norm_behind, "input" if self.norm_behind else "output"),
        ]

    def layers(self) -> list[Layer]:
        """QKV, projection, Linear1 and Linear2 (paper, Table 3)."""
        joined = [
            ("qkv", self.qkv, "ln", "qkv"),
            ("projection", self.projection, "attention", "projection"),
            ("linear1", self.linear1, "norm", "linear1"),
            ("linear2", self.linear2, "linear1", "linear2"),
        ]
        at = self._name
        return [
            Layer(f"{at}.{name}", f"{self.path}.{part}", f"{at}.{source}", f"{at}.{target}", self.number, self.path)
            for name, part, source, target in joined
        ]

    @property
    def _name(self) -> str:
        return f"block.{self.number}"


class Transformer(Network):
    """A network of encoder blocks.

    Attributes:
        output: path of the layer to the labels.
    """

    output: ClassVar[str]

    def encoders(self) -> list[EncoderBlock]:
        """Its blocks, in the order of the data's way."""
        raise NotImplementedError

    def forward(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch label"]:
        x = inputs
        for stage in self.stages():
            x = stage(x)
        return x

    def sites(self) -> list[Site]:
        """All sites, block by block in the order of the data's way (paper, Fig. 1 and Table 3)."""
        return [site for block in self.encoders() for site in block.sites()]

    def layers(self) -> list[Layer]:
        """QKV, projection, Linear1 and Linear2 of every block (paper, Table 3), and the layer to the labels, if any."""
        blocks = self.encoders()
        last = len(blocks)
        output = Layer("output", self.output, f"block.{last}.linear2", None, last + 1, self.output)
        return [*(layer for block in blocks for layer in block.layers()), *[output] * bool(self.config.labels)]


def check_heads(heads: int, width: int) -> None:
    """
    Raises:
        InputError: a width of so many nodes cannot be shared out evenly among so many heads.
    """
    if heads < 1 or width % heads:
        raise InputError(f"{heads} heads do not divide a width of {width}")


def initialise(network: nn.Module) -> None:
    """Fully connected layers as transformers begin with: normal weights of 0.02, cut off at two, and no biases."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class StochasticDepth(nn.Module):
    """Add a residual branch; in training drop it for whole samples, and scale the others up so that the mean stays."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(
        self, x: Float[Tensor, "batch token embedding"], branch: Float[Tensor, "batch token embedding"]
    ) -> Float[Tensor, "batch token embedding"]:
        if not self.training or self.probability == 0.0:
            return x + branch
        kept = 1.0 - self.probability
        return torch.addcmul(x, branch, branch.new_empty(len(branch), 1, 1).bernoulli_(kept).div_(kept))


class LayerNorm(nn.LayerNorm):
    """A LayerNorm whose output has the format of its input.

    Autocast computes norms in float32 on a GPU, and on a CPU in what enters them. Where they stand *on* the residual
    stream, it would be float32 from the first block on: twice as much to read for all that follows.
    """

    def forward(self, x: Float[Tensor, "*batch embedding"]) -> Float[Tensor, "*batch embedding"]:
        return super().forward(x).to(x.dtype)
