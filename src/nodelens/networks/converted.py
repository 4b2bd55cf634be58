"""Weights under the names that transformers gives them, brought under those of nodelens's own families."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# What transformers calls a weight -> what nodelens does; of each replacement in turn. Two generations of the package.
BERT = (
    (r"^embeddings\.word_embeddings\.", "embeddings.words."),
    (r"^embeddings\.position_embeddings\.", "embeddings.positions."),
    (r"^embeddings\.token_type_embeddings\.", "embeddings.types."),
    (r"^embeddings\.LayerNorm\.", "embeddings.norm."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.self\.", ".attention."),
    (r"\.attention\.output\.dense\.", ".attention.proj."),
    (r"\.attention\.output\.LayerNorm\.", ".norm1."),
    (r"\.intermediate\.dense\.", ".linear1."),
    (r"\.output\.dense\.", ".linear2."),
    (r"\.output\.LayerNorm\.", ".norm2."),
    (r"^pooler\.dense\.", "pooler."),
    (r"^classifier\.", "head."),
)
VIT = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(?:encoder\.layer|layers)\.", "blocks."),
    (r"\.attention\.attention\.", ".attention."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.attention\.(query|key|value|[qkv]_proj)\.", r".attn.\1."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "norm."),
    (r"^classifier\.", "head."),
)
NAMES = {"bert": BERT, "vit": VIT}
QUERIES = re.compile(r"\.(query|q_proj)\.")
KEYS_OR_VALUES = re.compile(r"\.(key|value|k_proj|v_proj)\.")


def converted_state(kind: str, state: Mapping[str, Tensor], labelled: bool = True) -> dict[str, Tensor] | None:
    """The weights as one of nodelens's own families calls them; None where none is of that kind.

    Args:
        kind: the `model_type` of transformers.
        labelled: whether they are those of a classifier, or of an encoder alone, of which no pooler is wanted.

    >>> parts = ("query", "key", "value")
    >>> theirs = {f"bert.encoder.layer.0.attention.self.{part}.bias": torch.ones(2) for part in parts}
    >>> {name: tuple(tensor.shape) for name, tensor in converted_state("bert", theirs).items()}
    {'blocks.0.attention.qkv.bias': (6,)}
    """
    if kind not in NAMES:
        return None
    wanted = {key: tensor for key, tensor in state.items() if labelled or not key.startswith("pooler.")}
    # In a classifier, the encoder's names follow the kind's.
    renamed = {_renamed(key.removeprefix(f"{kind}."), NAMES[kind]): tensor for key, tensor in wanted.items()}
    found = {}
    for key, tensor in renamed.items():
        if QUERIES.search(key):  # one layer of queries, keys and values for each three
            found[QUERIES.sub(".qkv.", key)] = torch.cat([tensor, *(renamed[one] for one in _beside(key))])
        elif not KEYS_OR_VALUES.search(key):
            found[key] = tensor
    return found


def _renamed(key: str, names: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in names:
        key = re.sub(pattern, replacement, key)
    return key


def _beside(queries: str) -> tuple[str, str]:
    """The names of the keys' and the values' weights beside those of the queries."""
    if ".query." in queries:
        return queries.replace(".query.", ".key."), queries.replace(".query.", ".value.")
    return queries.replace(".q_proj.", ".k_proj."), queries.replace(".q_proj.", ".v_proj.")
