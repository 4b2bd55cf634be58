"""Sequence pooling by the kernel of attention against two products: what a probe's read of a site costs.

    python benchmarks/pooling.py [--quick] [--batch-size 128] [--calls 10] [--rounds 7]

Compares `pool_tokens` (attention's kernel, keys and values alike) with scores and means as two products, and the time
of `pooling_gradient`, at the sites of a CCT-7/3x1: 256 tokens of 256 and 512 nodes; 1 query, 3 (as many seeds) and 6
(and a site behind a fully connected layer); fp32 and bf16.
How: in one process, one warm-up each, then in turns, `--calls` calls each, a GPU's queue emptied before the clock is
read; the median of the ratios within a round. "of the bound": the share of the kernel's time that reading the
activations once takes, by a copy in the same rounds. About three minutes on two cores.
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

from nodelens.probing.readout import pool_tokens, pooling_gradient
from nodelens.processes import default_device

TOKENS = 256


def pool_by_products(activations: Tensor, queries: Tensor) -> Tensor:
    """`pool_tokens` by scores and means written out."""
    shares = (activations @ queries.T.to(activations.dtype)).float().softmax(dim=1)
    return (shares.transpose(1, 2).to(activations.dtype) @ activations).float().transpose(0, 1)


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

    torch.manual_seed(0)
    device, rows = default_device(), []
    for dtype, nodes, count in product((torch.float32, torch.bfloat16), (256, 512), (1, 3, 6)):
        activations = torch.randn(asked.batch_size, TOKENS, nodes, device=device, dtype=dtype)
        queries = torch.randn(count, nodes, device=device) / nodes**0.5
        gradient = torch.randn(count, asked.batch_size, nodes, device=device)
        found = take_turns(
            {
                "kernel": partial(repeated, pool_tokens, asked.calls, activations, queries),
                "products": partial(repeated, pool_by_products, asked.calls, activations, queries),
                "gradient": partial(repeated, pooling_gradient, asked.calls, activations, queries, gradient),
                "copy": partial(repeated, torch.clone, asked.calls, activations),
            },
            asked.rounds,
        )
        milliseconds = [1000 * median(found[name]) / asked.calls for name in ("kernel", "products", "gradient")]
        name = str(dtype).removeprefix("torch.")
        bound = 0.5 * ratio(found, "copy", "kernel")  # a copy writes as much as it reads
        rows.append((name, nodes, count, *milliseconds, ratio(found, "products", "kernel"), f"{bound:.0%}"))
    title = f"Pooling {TOKENS} tokens, batches of {asked.batch_size}, {asked.rounds} rounds"
    header = (
        "dtype",
        "nodes",
        "queries",
        "kernel, ms",
        "products, ms",
        "gradient, ms",
        "products / kernel",
        "of the bound",
    )
    print_table(title, header, rows)


if __name__ == "__main__":
    main()
