"""Attention with its matrix written out against the fused kernel: what `nodelens.networks.attention` chooses by.

    python benchmarks/attention.py [--quick] [--batch-size 128] [--calls 5] [--rounds 7]

Compares `attend_materialised` with `torch.nn.functional.scaled_dot_product_attention` at the size of CCT-7 (4 heads of
64 nodes): 64 and 256 tokens, fp32 and bf16, dropout 0 and 0.1, forward alone (no gradients) and forward + backward.
How: in one process, one warm-up each, then in turns, `--calls` calls each; the median of the ratios within a round.
Above 1 the fused kernel is faster. Dropout in a forward alone never happens and is left out. About two minutes on
two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from statistics import median

import torch
from timing import print_table, ratio, take_turns
from torch import Tensor
from torch.nn import functional as F

from nodelens.networks.attention import attend, attend_materialised
from nodelens.processes import default_device

HEADS, SIZE = 4, 64
WAYS: dict[str, Callable[..., Tensor]] = {
    "written out": lambda q, k, v, dropout: attend_materialised(q, k, v, dropout),
    "fused": lambda q, k, v, dropout: F.scaled_dot_product_attention(q, k, v, dropout_p=dropout),
    "attend": lambda q, k, v, dropout: attend(q, k, v, dropout),
}


def forward(way: Callable[..., Tensor], qkv: Tensor, dropout: float, calls: int) -> None:
    with torch.inference_mode():
        for _ in range(calls):
            way(*qkv.unbind(0), dropout)


def forward_backward(way: Callable[..., Tensor], qkv: Tensor, dropout: float, calls: int) -> None:
    for _ in range(calls):
        leaf = qkv.detach().requires_grad_()
        way(*leaf.unbind(0), dropout).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    if asked.quick:
        asked.batch_size, asked.calls, asked.rounds = 2, 1, 1

    torch.manual_seed(0)
    cases = [(forward, 0.0), (forward_backward, 0.0), (forward_backward, 0.1)]
    rows = []
    for tokens, dtype, (work, dropout) in product((64, 256), (torch.float32, torch.bfloat16), cases):
        # Laid out as the QKV layer leaves it: heads interleaved within each token.
        qkv = torch.randn(asked.batch_size, tokens, 3, HEADS, SIZE, dtype=dtype, device=default_device())
        qkv = qkv.permute(2, 0, 3, 1, 4)
        found = take_turns(
            {name: partial(work, way, qkv, dropout, asked.calls) for name, way in WAYS.items()}, asked.rounds
        )
        milliseconds = [1000 * median(times) / asked.calls for times in found.values()]
        what = work.__name__.replace("_", " + ")
        rows.append(
            (tokens, str(dtype).removeprefix("torch."), what, dropout, *milliseconds,
             ratio(found, "written out", "fused"), ratio(found, "fused", "attend"))
        )  # fmt: skip
    header = ("tokens", "dtype", "what", "dropout", "written out, ms", "fused, ms", "attend, ms",
              "written out / fused", "fused / attend")  # fmt: skip
    print_table(
        f"Attention, batches of {asked.batch_size}, {HEADS} heads of {SIZE}, {asked.rounds} rounds", header, rows
    )


if __name__ == "__main__":
    main()
