"""Compact convolutional transformers (CCT), with the parameter names of the published checkpoints.

Architecture: Hassani et al. 2021, "Escaping the big data paradigm with compact transformers". A few
convolutions make the tokens, encoder blocks follow, a learned sequence pooling reads them out. In every
block the second LayerNorm sits *on* the residual stream; published checkpoints need it so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.attention import Attention
from nodelens.networks.dead import remove_hidden
from nodelens.networks.encoder import EncoderBlock, LayerNorm, StochasticDepth, Transformer, check_heads, initialise
from nodelens.networks.network import Stage


@dataclass(frozen=True)
class CCTConfig:
    """What determines a CCT: CCT-L/KxC has L layers and C convolutions of size K.

    Attributes:
        heads: attention heads of every block, or one number for each of them.
    """

    layers: int = 7
    kernel: int = 3
    convolutions: int = 1
    width: int = 256
    heads: int | Sequence[int] = 4
    feedforward: int = 512
    labels: int = 100
    image_size: int = 32
    channels: int = 3
    attention_dropout: float = 0.1
    stochastic_depth: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.heads, int):
            # From a file it comes as a list; one number for all blocks stays one number.
            several = tuple(self.heads)
            object.__setattr__(self, "heads", several[0] if len(several) == 1 else several)
        if len(self.heads_of_blocks) != self.layers:
            raise InputError(f"{self.layers} blocks need one number of heads or as many, not {self.heads}")
        for heads in self.heads_of_blocks:
            check_heads(heads, self.width)

    @property
    def heads_of_blocks(self) -> tuple[int, ...]:
        """Attention heads, block by block."""
        return (self.heads,) * self.layers if isinstance(self.heads, int) else tuple(self.heads)

    @property
    def conv_stride(self) -> int:
        return max(1, self.kernel // 2 - 1)

    @property
    def grid(self) -> int:
        """Side of the square of tokens."""
        side = self.image_size
        for _ in range(self.convolutions):
            side = (side + 2 * max(1, self.kernel // 2) - self.kernel) // self.conv_stride + 1
            side = (side + 2 - 3) // 2 + 1
        return side

    @property
    def tokens(self) -> int:
        return self.grid**2


SIZES = {2: (128, 2, 128), 4: (128, 2, 128), 6: (256, 4, 512), 7: (256, 4, 512), 14: (384, 6, 1152)}
"""Layers of a published variant -> (width, heads, feedforward)."""


def cct_config(name: str, labels: int, image_size: int, channels: int) -> CCTConfig | None:
    """Configuration of a variant by name, `cct_7_3x1`; None when the name is not one of this family.

    `cct_3_3x1_64` is a smaller network of the same kind: three layers, width 64, four heads.
    """
    match = re.fullmatch(r"cct_(\d+)_(\d+)x(\d+)(?:_(\d+))?", name)
    if match is None:
        return None
    layers, kernel, convolutions, width = (int(group) if group else 0 for group in match.groups())
    if min(layers, kernel, convolutions) < 1:
        raise InputError(f"{name}: a CCT has at least one layer, a kernel and a convolution, such as cct_3_3x1_64")
    if width:
        size = (width, 4, 2 * width)
    elif layers in SIZES:
        size = SIZES[layers]
    else:
        known = ", ".join(map(str, SIZES))
        raise InputError(f"{name}: CCT comes with {known} layers; for another depth give a width, cct_3_3x1_64")
    return CCTConfig(layers, kernel, convolutions, *size, labels, image_size, channels)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> CCTConfig | None:
    """Read the configuration off a state dict in the published format; None when it is not a CCT.

    The number of heads leaves no trace in the shapes; it is taken from the metadata or from the published
    variant of the same width.
    """
    if "tokenizer.conv_layers.0.0.weight" not in state or "classifier.fc.weight" not in state:
        return None
    convolutions = sum(bool(re.fullmatch(r"tokenizer\.conv_layers\.\d+\.0\.weight", key)) for key in state)
    layers = sum(bool(re.fullmatch(r"classifier\.blocks\.\d+\.linear1\.weight", key)) for key in state)
    first = state["tokenizer.conv_layers.0.0.weight"]
    labels, width = state["classifier.fc.weight"].shape
    known_heads = {size[0]: size[1] for size in SIZES.values()}
    heads = int(metadata.get("heads", known_heads.get(width, 4)))
    kernel = first.shape[-1]
    reduction = (2 * max(1, kernel // 2 - 1)) ** convolutions
    positions = state.get("classifier.positional_emb", torch.zeros(1, 64, 1)).shape[1]
    image_size = math.isqrt(positions) * reduction
    feedforward = state["classifier.blocks.0.linear1.weight"].shape[0] if layers else width
    return CCTConfig(layers, kernel, convolutions, width, heads, feedforward, labels, image_size, first.shape[1])


class Tokenizer(nn.Module):
    """Convolutions that turn an image into a sequence of tokens."""

    def __init__(self, config: CCTConfig) -> None:
        super().__init__()
        widths = [config.channels, *[64] * (config.convolutions - 1), config.width]
        self.conv_layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(a, b, config.kernel, config.conv_stride, max(1, config.kernel // 2), bias=False),
                    # The same as the ReLU before the pooling, on a quarter of the values.
                    nn.MaxPool2d(3, 2, 1),
                    nn.ReLU(),
                )
                for a, b in pairwise(widths)
            )
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        return self.conv_layers(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Block(nn.Module):
    """An encoder: attention, then the two fully connected layers, each beside a skip connection."""

    def __init__(self, config: CCTConfig, heads: int, stochastic_depth: float) -> None:
        super().__init__()
        self.pre_norm = LayerNorm(config.width)
        self.self_attn = Attention(config.width, heads, config.attention_dropout)
        self.norm1 = LayerNorm(config.width)
        self.linear1 = nn.Linear(config.width, config.feedforward)
        self.activation = nn.GELU()
        self.linear2 = nn.Linear(config.feedforward, config.width)
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch token embedding"]:
        x = self.norm1(self.drop_path(x, self.self_attn(self.pre_norm(x))))
        return self.drop_path(x, self.linear2(self.activation(self.linear1(x))))  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Encoder blocks, sequence pooling, output layer."""

    def __init__(self, config: CCTConfig) -> None:
        super().__init__()
        self.positional_emb = nn.Parameter(torch.empty(1, config.tokens, config.width))
        rates = torch.linspace(0, config.stochastic_depth, config.layers, device="cpu").tolist()
        each = zip(config.heads_of_blocks, rates, strict=True)
        self.blocks = nn.ModuleList(Block(config, heads, rate) for heads, rate in each)
        self.norm = LayerNorm(config.width)
        self.attention_pool = nn.Linear(config.width, 1)
        self.fc = nn.Linear(config.width, config.labels)
        nn.init.trunc_normal_(self.positional_emb, std=0.2)
        initialise(self)

    def place(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch token embedding"]:
        """Tell the tokens where they are; under autocast the residual stream keeps the tokens' format."""
        return x + self.positional_emb.to(x.dtype)

    def read_out(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch label"]:
        """Logits from the output of the last block."""
        x = self.norm(x)
        weights = self.attention_pool(x).softmax(dim=1)
        return self.fc((weights.transpose(1, 2) @ x).squeeze(1))  # type: ignore[no-any-return]


class CCT(Transformer):
    """A compact convolutional transformer.

    >>> network = CCT(CCTConfig(labels=100))
    >>> sum(p.numel() for p in network.parameters())
    3783269
    """

    family = "cct"
    output = "classifier.fc"

    def __init__(self, config: CCTConfig) -> None:
        super().__init__()
        self.config: CCTConfig = config
        self.checkpoint_metadata = {}
        self.tokenizer = Tokenizer(config)
        self.classifier = Classifier(config)

    def stages(self) -> list[Stage]:
        """The tokens, each block, and the way from the last block to the logits."""
        return [self._tokens, *self.classifier.blocks, self.classifier.read_out]

    def _tokens(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        return self.classifier.place(self.tokenizer(images))

    def positional_embeddings(self) -> dict[str, int]:
        """The one of the image's tokens; no others stand before them."""
        return {"classifier.positional_emb": 0}

    def beside_weights(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The heads of every block, where they are not those of the published variant of this width."""
        assumed, heads = infer_config(state, {}), self.config.heads_of_blocks
        return {} if assumed is None or assumed.heads_of_blocks == heads else {"heads": heads}

    def encoders(self) -> list[EncoderBlock]:
        return [
            EncoderBlock(
                number,
                f"classifier.blocks.{number - 1}",
                self.config.width,
                self.config.feedforward,
                heads,
                ln="pre_norm",
                qkv="self_attn.qkv",
                projection="self_attn.proj",
                norm="norm1",
                linear1="linear1",
                linear2="linear2",
            )
            for number, heads in enumerate(self.config.heads_of_blocks, 1)
        ]

    def remove_dead(self, multiple: int = 1) -> None:
        """In every block: dead hidden nodes of the feed-forward part, and of attention what no longer matters."""
        for block in self.classifier.blocks:
            assert isinstance(block, Block)
            remove_hidden(block.linear1, block.linear2, block.activation, multiple)
            block.self_attn.remove_dead(multiple)
