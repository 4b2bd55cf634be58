"""Transformers that read texts: BERT (Devlin et al. 2019), and the smaller ones of its kind (Turc et al. 2019).

Each branch of a block is normalised *after* it was added to the residual stream. The networks that the hub publishes
are converted, see `nodelens.networks.hub`.

A token that only fills up a short text is a zero vector between the blocks. So a block sees which tokens are there,
and what enters it is all that it needs to know, as in every other network here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.attention import Attention
from nodelens.networks.dead import remove_hidden
from nodelens.networks.encoder import EncoderBlock, LayerNorm, Transformer, check_heads, initialise
from nodelens.networks.layers import Layer
from nodelens.networks.network import Stage
from nodelens.networks.sites import Site

HEAD_SIZE = 64
"""Nodes of an attention head in all published variants."""
EPSILON = 1e-12
"""Of the norms."""


@dataclass(frozen=True)
class BertConfig:
    """What determines a BERT that classifies texts.

    Attributes:
        labels: 0 for the encoder alone.
        vocabulary: number of different tokens.
        positions: tokens of the longest text.
        padding: the token that fills up a short text.
        types: kinds of tokens; a single text has only the first one's.
        dropout: of what is added to the residual stream, of the embeddings and of what is classified.
        image_size, channels: 0, it reads no images.
    """

    layers: int = 4
    width: int = 256
    heads: int = 4
    feedforward: int = 1024
    labels: int = 2
    vocabulary: int = 30522
    positions: int = 512
    padding: int = 0
    types: int = 2
    attention_dropout: float = 0.1
    dropout: float = 0.1
    image_size: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        check_heads(self.heads, self.width)


def bert_config(name: str, labels: int, image_size: int, channels: int) -> BertConfig | None:
    """Configuration of a variant by name; None when the name is not one of this family.

    `bert_4_256`: four layers of width 256, heads of 64 nodes and four times the width in the feed-forward part, as
    the published ones have. Of these, `bert_2_128` is the one called tiny, `bert_4_512` small, `bert_8_512` medium and
    `bert_12_768` base.

    Raises:
        InputError: no layer, or a width that heads of 64 nodes do not divide; or it is to read images.
    """
    match = re.fullmatch(r"bert_(\d+)_(\d+)", name)
    if match is None:
        return None
    layers, width = int(match[1]), int(match[2])
    if layers < 1 or width < HEAD_SIZE or width % HEAD_SIZE:
        raise InputError(f"{name}: give at least one layer, and a multiple of {HEAD_SIZE} as the width, as bert_4_256")
    if image_size or channels:
        raise InputError(f"{name} reads texts, not images; give a data set of texts, such as clinc150")
    return BertConfig(layers, width, width // HEAD_SIZE, 4 * width, labels)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> BertConfig | None:
    """Read the configuration off a state dict; None when it is no BERT.

    Heads and padding leave no trace in the shapes: without metadata, heads have 64 nodes, and token 0 fills up.
    """
    if "embeddings.words.weight" not in state or "blocks.0.attention.qkv.weight" not in state:
        return None
    vocabulary, width = state["embeddings.words.weight"].shape
    return BertConfig(
        layers=sum(bool(re.fullmatch(r"blocks\.\d+\.linear1\.weight", key)) for key in state),
        width=width,
        heads=int(metadata.get("heads", max(1, width // HEAD_SIZE))),
        feedforward=state["blocks.0.linear1.weight"].shape[0],
        labels=state["head.weight"].shape[0] if "head.weight" in state else 0,
        vocabulary=vocabulary,
        positions=state["embeddings.positions.weight"].shape[0],
        padding=int(metadata.get("padding", 0)),
        types=state["embeddings.types.weight"].shape[0],
    )


class Embeddings(nn.Module):
    """Vectors of the tokens: of the word, of its place and of the kind of text, added and normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.padding = config.padding
        self.words = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.positions, config.width)
        self.types = nn.Embedding(config.types, config.width)
        self.norm = LayerNorm(config.width, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Int[Tensor, "batch token"]) -> Float[Tensor, "batch token embedding"]:
        placed = self.positions.weight[: tokens.shape[1]] + self.types.weight[0]
        x = self.dropout(self.norm(self.words(tokens) + placed))
        return x * (tokens != self.padding).unsqueeze(-1)  # type: ignore[no-any-return]


def present(x: Float[Tensor, "batch token embedding"]) -> Bool[Tensor, "batch token 1"]:
    """Which tokens there are: the others are zero vectors."""
    return (x != 0).any(dim=-1, keepdim=True)


class Block(nn.Module):
    """An encoder: attention, then the feed-forward part, each added to the stream, which is then normalised."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config.width, config.heads, config.attention_dropout, qkv_bias=True)
        self.norm1 = LayerNorm(config.width, EPSILON)
        self.linear1 = nn.Linear(config.width, config.feedforward)
        self.activation = nn.GELU()
        self.linear2 = nn.Linear(config.feedforward, config.width)
        self.norm2 = LayerNorm(config.width, EPSILON)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch token embedding"]:
        there = present(x)
        x = self.norm1(x + self.dropout(self.attention(x, there)))
        x = self.norm2(x + self.dropout(self.linear2(self.activation(self.linear1(x)))))
        return x * there


class Bert(Transformer):
    """A BERT that classifies texts by what its first token has become; without labels, that is what it gives.

    >>> network = Bert(BertConfig(layers=2, width=128, heads=2, feedforward=512, labels=2))  # the published bert-tiny
    >>> sum(p.numel() for p in network.parameters())
    4386178
    """

    family = "bert"
    output = "head"

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config: BertConfig = config
        self.checkpoint_metadata = {}
        self.embeddings = Embeddings(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.dropout = nn.Dropout(config.dropout)
        if config.labels:
            self.pooler = nn.Linear(config.width, config.width)
            self.head = nn.Linear(config.width, config.labels)
        for table in (self.embeddings.words, self.embeddings.positions, self.embeddings.types):
            nn.init.trunc_normal_(table.weight, std=0.02)
        initialise(self)

    def example(self, batch: int) -> Int[Tensor, "batch token"]:
        """Texts of arbitrary tokens, as long as any can be."""
        config = self.config
        draw = torch.Generator().manual_seed(0)
        tokens = torch.randint(config.vocabulary, (batch, config.positions), generator=draw)
        return tokens.masked_fill(tokens == config.padding, (config.padding + 1) % config.vocabulary)

    def stages(self) -> list[Stage]:
        """The tokens' vectors, each block, and the way from the first token to the logits."""
        return [self.embeddings, *self.blocks, self.read_out]

    def read_out(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch label"]:
        """Logits from the output of the last block."""
        if not self.config.labels:
            return x[:, 0]
        return self.head(self.dropout(self.pooler(x[:, 0]).tanh()))  # type: ignore[no-any-return]

    def encoders(self) -> list[EncoderBlock]:
        return [
            EncoderBlock(
                number,
                f"blocks.{number - 1}",
                self.config.width,
                self.config.feedforward,
                self.config.heads,
                ln="",
                qkv="attention.qkv",
                projection="attention.proj",
                norm="norm1",
                linear1="linear1",
                linear2="linear2",
                norm_behind="norm2",
            )
            for number in range(1, self.config.layers + 1)
        ]

    def sites(self) -> list[Site]:
        """Sites of every block, and the input of the layer to the labels."""
        if not self.config.labels:
            return super().sites()
        pooled = Site("pooler", self.config.width, "head", "input", "units", block=self.config.layers + 1)
        return [*super().sites(), pooled]

    def layers(self) -> list[Layer]:
        """Fully connected layers of every block, the pooler, and the layer to the labels, if there are labels."""
        if not self.config.labels:
            return super().layers()
        last = self.config.layers
        *of_blocks, _ = super().layers()
        pooler = Layer("pooler", "pooler", f"block.{last}.linear2", "pooler", last + 1, "pooler")
        return [*of_blocks, pooler, Layer("output", self.output, "pooler", None, last + 1, self.output)]

    def remove_dead(self, multiple: int = 1) -> None:
        """In every block: dead hidden nodes of the feed-forward part, and of attention what no longer matters."""
        for block in self.blocks:
            assert isinstance(block, Block)
            remove_hidden(block.linear1, block.linear2, block.activation, multiple)
            block.attention.remove_dead(multiple)
