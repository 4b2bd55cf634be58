"""Sequence pooling by the kernel of attention against two products: what a probe's read of a site costs.

    python benchmarks/pooling.py [--quick] [--batch-size 128] [--calls 10] [--rounds 7]

Compares attention's kernel with keys and values alike, the same in fp32, and scores and means as two products with what
`pool_tokens` chooses, beside the time of `pooling_gradient`, at the sites of a CCT-7/3x1: 256 tokens of 256 and 512
nodes; 1 query, 3 (as many seeds) and 6 (and a site behind a fully connected layer); fp32 and bf16.
How: in one process that keeps freed memory, one warm-up each, then in turns, `--calls` calls each, a GPU's queue
emptied before the clock is read; the median of the ratios within a round. "bound": reading the activations once, half
of the time of a copy. About three minutes on two cores.
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

from nodelens.memory import keep_freed_memory
from nodelens.probing.readout import pool_tokens, pooling_gradient
from nodelens.processes import default_device

TOKENS = 256


def by_kernel(activations: Tensor, queries: Tensor) -> Tensor:
    """`pool_tokens` by attention, each query a position."""
    tokens = activations.unsqueeze(1)
    asked = queries.to(tokens.dtype).expand(len(tokens), 1, -1, -1)
    return F.scaled_dot_product_attention(asked, tokens, tokens, scale=1.0).squeeze(1).transpose(0, 1).float()


def by_kernel_in_fp32(activations: Tensor, queries: Tensor) -> Tensor:
    return by_kernel(activations.float(), queries)


def by_products(activations: Tensor, queries: Tensor) -> Tensor:
    """`pool_tokens` by scores and means written out."""
    shares = (activations @ queries.T.to(activations.dtype)).float().softmax(dim=1)
    return (shares.transpose(1, 2).to(activations.dtype) @ activations).float().transpose(0, 1)


WAYS = {"kernel": by_kernel, "kernel in fp32": by_kernel_in_fp32, "products": by_products, "pool_tokens": pool_tokens}


def repeated(work: Callable[..., object], calls: int, *inputs: Tensor) -> None:
    with torch.inference_mode():
        for _ in range(calls):
            work(*inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    if asked.quick:
        asked.batch_size, asked.calls, asked.rounds = 2, 1, 1

    keep_freed_memory()
    torch.manual_seed(0)
    device, rows = default_device(), []
    for dtype, nodes, count in product((torch.float32, torch.bfloat16), (256, 512), (1, 3, 6)):
        activations = torch.randn(asked.batch_size, TOKENS, nodes, device=device, dtype=dtype)
        queries = torch.randn(count, nodes, device=device) / nodes**0.5
        gradient = torch.randn(count, asked.batch_size, nodes, device=device)
        ways = {name: partial(repeated, way, asked.calls, activations, queries) for name, way in WAYS.items()}
        ways["gradient"] = partial(repeated, pooling_gradient, asked.calls, activations, queries, gradient)
        found = take_turns(ways | {"copy": partial(repeated, torch.clone, asked.calls, activations)}, asked.rounds)
        milliseconds = [1000 * median(times) / asked.calls for times in found.values()]
        milliseconds[-1] /= 2
        best = min(ratio(found, name, "pool_tokens") for name in WAYS)
        rows.append((str(dtype).removeprefix("torch."), nodes, count, *milliseconds, best))
    title = f"Pooling {TOKENS} tokens, batches of {asked.batch_size}, {asked.rounds} rounds"
    header = ("dtype", "nodes", "queries", *(f"{name}, ms" for name in (*ways, "bound")), "best / pool_tokens")
    print_table(title, header, rows)


if __name__ == "__main__":
    main()
