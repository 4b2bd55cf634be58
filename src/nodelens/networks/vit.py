"""Vision transformers (ViT) with the parameter names of timm's published checkpoints.

Architecture: Dosovitskiy et al. 2021, "An image is worth 16x16 words"; LayerScale (Touvron et al. 2021), register
tokens (Darcet et al. 2024) and pooling by the mean where a checkpoint has them. That covers timm's ViT, DeiT, AugReg
and DINO; what a network computes otherwise shows in parameters that are missing or unknown.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks.attention import Attention
from nodelens.networks.cct import SIZES as CCT_SIZES
from nodelens.networks.dead import remove_hidden
from nodelens.networks.encoder import EncoderBlock, LayerNorm, StochasticDepth, Transformer, check_heads, initialise
from nodelens.networks.network import Stage

HEAD_SIZE = 64
"""Nodes of an attention head in all of timm's published variants."""
SIZES = {"tiny": (12, 192), "small": (12, 384), "base": (12, 768), "large": (24, 1024)}
"""Published variant -> (layers, width); heads of 64 nodes, and four times the width in the feed-forward part."""
EPSILON = 1e-6
"""Of the norms."""


@dataclass(frozen=True)
class ViTConfig:
    """What determines a ViT.

    Attributes:
        patch: side in pixels of the squares that become tokens.
        labels: 0 for a network that ends with what is pooled, as those that learnt without labels do.
        class_token: whether a learned token is put before those of the image.
        registers: number of further learned tokens behind it.
        placed_prefix: whether the positional embedding covers those tokens too.
        pool: what is read out: the class token, or the mean over the image's tokens.
        pooled_norm: normalise what was pooled, instead of the tokens before.
        layer_scale: a learned factor for each node of a branch before it is added to the residual stream.
    """

    layers: int = 12
    patch: int = 16
    width: int = 192
    heads: int = 3
    feedforward: int = 768
    labels: int = 1000
    image_size: int = 224
    channels: int = 3
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.1
    class_token: bool = True
    registers: int = 0
    placed_prefix: bool = True
    pool: Literal["token", "mean"] = "token"
    pooled_norm: bool = False
    qkv_bias: bool = True
    layer_scale: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise InputError(f"patches of {self.patch} pixels do not divide images of {self.image_size}")
        check_heads(self.heads, self.width)

    @property
    def tokens(self) -> int:
        """Number of tokens of the image, without the class token."""
        return (self.image_size // self.patch) ** 2

    @property
    def prefix(self) -> int:
        """Tokens before those of the image."""
        return int(self.class_token) + self.registers


def vit_config(name: str, labels: int, image_size: int, channels: int) -> ViTConfig | None:
    """Configuration of a variant by name; None when the name is not one of this family.

    `vit_tiny_patch16`, `vit_base_patch4`, …: the published sizes, with patches of that many pixels. `vit_7_patch4`:
    seven layers of the size of a CCT-7's, and `vit_3_patch2_64` three of width 64 with four heads.
    """
    match = re.fullmatch(r"vit_(tiny|small|base|large|\d+)_patch(\d+)(?:_(\d+))?", name)
    if match is None:
        return None
    size, patch, width = match[1], int(match[2]), int(match[3] or 0)
    if size in SIZES and not width:
        layers, width = SIZES[size]
        shape = (width, width // HEAD_SIZE, 4 * width)
    elif size.isdecimal() and (width or int(size) in CCT_SIZES):
        layers = int(size)
        shape = (width, 4, 2 * width) if width else CCT_SIZES[layers]
    else:
        known = ", ".join(map(str, CCT_SIZES))
        raise InputError(
            f"{name}: sizes are {', '.join(SIZES)}, {known} layers, or a depth and a width: vit_3_patch2_64"
        )
    if min(layers, patch) < 1:
        raise InputError(f"{name}: a ViT has at least one layer, and patches of a pixel, such as vit_3_patch2_64")
    return ViTConfig(layers, patch, *shape, labels=labels, image_size=image_size, channels=channels)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> ViTConfig | None:
    """Read the configuration off a state dict in timm's format; None when it is not a ViT.

    The number of heads leaves no trace in the shapes: without metadata, heads have 64 nodes.

    Raises:
        InputError: the tokens form no square.
    """
    if "patch_embed.proj.weight" not in state or "blocks.0.attn.qkv.weight" not in state or "pos_embed" not in state:
        return None
    width, channels, patch = state["patch_embed.proj.weight"].shape[:3]
    class_token = "cls_token" in state
    registers = state["reg_token"].shape[1] if "reg_token" in state else 0
    prefix, placed = int(class_token) + registers, state["pos_embed"].shape[1]
    placed_prefix = prefix > 0 and math.isqrt(placed) ** 2 != placed
    side = math.isqrt(placed - prefix * placed_prefix)
    if side**2 != placed - prefix * placed_prefix:
        raise InputError(f"its {placed} positions are not those of a square of tokens and {prefix} before it")
    pooled_norm = "fc_norm.weight" in state
    return ViTConfig(
        layers=sum(bool(re.fullmatch(r"blocks\.\d+\.mlp\.fc1\.weight", key)) for key in state),
        patch=patch,
        width=width,
        heads=int(metadata.get("heads", max(1, width // HEAD_SIZE))),
        feedforward=state["blocks.0.mlp.fc1.weight"].shape[0] if "blocks.0.mlp.fc1.weight" in state else width,
        labels=state["head.weight"].shape[0] if "head.weight" in state else 0,
        image_size=side * patch,
        channels=channels,
        class_token=class_token,
        registers=registers,
        placed_prefix=placed_prefix,
        pool="token" if class_token and not pooled_norm else "mean",
        pooled_norm=pooled_norm,
        qkv_bias="blocks.0.attn.qkv.bias" in state,
        layer_scale="blocks.0.ls1.gamma" in state,
    )


class Patches(nn.Module):
    """Squares of an image, each through the same layer: the tokens."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(config.channels, config.width, config.patch, config.patch)

    def forward(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class LayerScale(nn.Module):
    """A learned factor for each node."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch token embedding"]:
        return x * self.gamma


class FeedForward(nn.Module):
    """The two fully connected layers of a block."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.feedforward)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.feedforward, config.width)

    def forward(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch token embedding"]:
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """An encoder: attention, then the feed-forward part, each normalised before and beside a skip connection."""

    def __init__(self, config: ViTConfig, stochastic_depth: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.width, EPSILON)
        self.attn = Attention(config.width, config.heads, config.attention_dropout, config.qkv_bias)
        self.norm2 = LayerNorm(config.width, EPSILON)
        self.mlp = FeedForward(config)
        self.ls1, self.ls2 = (LayerScale(config.width) if config.layer_scale else nn.Identity() for _ in range(2))
        self.drop_path = StochasticDepth(stochastic_depth)

    def forward(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch token embedding"]:
        x = self.drop_path(x, self.ls1(self.attn(self.norm1(x))))
        return self.drop_path(x, self.ls2(self.mlp(self.norm2(x))))  # type: ignore[no-any-return]


class ViT(Transformer):
    """A vision transformer.

    >>> network = ViT(ViTConfig(layers=12, width=192, heads=3, feedforward=768))  # timm's vit_tiny_patch16_224
    >>> sum(p.numel() for p in network.parameters())
    5717416
    """

    family = "vit"
    output = "head"
    cls_token: nn.Parameter | None
    reg_token: nn.Parameter | None
    norm: nn.Module
    fc_norm: nn.Module

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config: ViTConfig = config
        self.checkpoint_metadata = {}
        width = config.width
        self.patch_embed = Patches(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, width)) if config.class_token else None
        self.reg_token = nn.Parameter(torch.empty(1, config.registers, width)) if config.registers else None
        placed = config.tokens + config.prefix * config.placed_prefix
        self.pos_embed = nn.Parameter(torch.empty(1, placed, width))
        rates = torch.linspace(0, config.stochastic_depth, config.layers, device="cpu").tolist()
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates)
        self.norm, self.fc_norm = LayerNorm(width, EPSILON), nn.Identity()
        if config.pooled_norm:
            self.norm, self.fc_norm = self.fc_norm, self.norm
        self.head = nn.Linear(width, config.labels) if config.labels else nn.Identity()
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for token in self._prefix():
            nn.init.normal_(token, std=1e-6)
        initialise(self)

    def stages(self) -> list[Stage]:
        """The tokens, each block, and the way from the last block to the logits."""
        return [self._tokens, *self.blocks, self._read_out]

    def _tokens(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch token embedding"]:
        x = self.patch_embed(images)
        before = [token.to(x.dtype).expand(len(x), -1, -1) for token in self._prefix()]
        places = self.pos_embed.to(x.dtype)
        if not self.config.placed_prefix:
            return torch.cat([*before, x + places], dim=1)
        return torch.cat([*before, x], dim=1) + places

    def _prefix(self) -> list[nn.Parameter]:
        return [token for token in (self.cls_token, self.reg_token) if token is not None]

    def _read_out(self, x: Float[Tensor, "batch token embedding"]) -> Float[Tensor, "batch label"]:
        of_image = self.config.pool == "mean"
        pooled = self.norm(x[:, self.config.prefix :]).mean(dim=1) if of_image else self.norm(x[:, 0])
        return self.head(self.fc_norm(pooled))  # type: ignore[no-any-return]

    def positional_embeddings(self) -> dict[str, int]:
        """The one of the tokens, with as many before the grid as the network has class and distillation tokens."""
        return {"pos_embed": self.config.prefix * self.config.placed_prefix}

    def beside_weights(self, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """The number of heads, where they have not 64 nodes."""
        assumed, heads = infer_config(state, {}), self.config.heads
        return {} if assumed is None or assumed.heads == heads else {"heads": heads}

    def encoders(self) -> list[EncoderBlock]:
        return [
            EncoderBlock(
                number,
                f"blocks.{number - 1}",
                self.config.width,
                self.config.feedforward,
                self.config.heads,
                ln="norm1",
                qkv="attn.qkv",
                projection="attn.proj",
                norm="norm2",
                linear1="mlp.fc1",
                linear2="mlp.fc2",
                added=("ls1", "ls2") if self.config.layer_scale else ("", ""),
                prefix=self.config.prefix,
            )
            for number in range(1, self.config.layers + 1)
        ]

    def remove_dead(self, multiple: int = 1) -> None:
        """In every block: dead hidden nodes of the feed-forward part, and of attention what no longer matters."""
        for block in self.blocks:
            assert isinstance(block, Block)
            remove_hidden(block.mlp.fc1, block.mlp.fc2, block.mlp.act, multiple)
            block.attn.remove_dead(multiple)
