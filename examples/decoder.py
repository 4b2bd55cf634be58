"""A small decoder of today's kind that has learnt nothing, in the layout of the hub, for `nodelens train --from`.

    python examples/decoder.py clinc150 runs/llama
    nodelens train --from hf:runs/llama --data clinc150 --recipe text --out runs/decoder
    nodelens measure runs/decoder --sites 'model.model.layers.*.mlp.down_proj'
    nodelens heads runs/decoder --silence

Four blocks of a Llama of transformers: rotary positions, a gated feed-forward part, four heads of which two at a time
share their keys and values. Its tokens are the words that occur at least twice in the training texts.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from nodelens.data.texts import FIRST, LAST, PADDING, UNKNOWN, learnt_tokeniser, load_texts

LENGTH, WIDTH, HIDDEN, HEADS, BLOCKS = 32, 128, 344, 4, 4


def save_decoder(data: str, folder: Path, seed: int = 0) -> None:
    """Write an untrained decoder and its tokeniser.

    Args:
        data: the data set whose training texts give the words.
    """
    tokeniser = learnt_tokeniser(load_texts(data, "train").texts)
    folder.mkdir(parents=True, exist_ok=True)
    rules = folder / "tokenizer.json"
    rules.write_text(tokeniser.definition)
    named = {"pad_token": PADDING, "unk_token": UNKNOWN, "cls_token": FIRST, "sep_token": LAST}
    words = PreTrainedTokenizerFast(tokenizer_file=str(rules), model_max_length=LENGTH, **named)
    words.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=tokeniser.size,
        hidden_size=WIDTH,
        intermediate_size=HIDDEN,
        num_hidden_layers=BLOCKS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS // 2,
        max_position_embeddings=LENGTH,
        pad_token_id=tokeniser.padding,
        bos_token_id=words.cls_token_id,
        eos_token_id=words.sep_token_id,
    )
    LlamaModel(config).save_pretrained(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    save_decoder(asked.data, asked.folder, asked.seed)
