"""A training step as nodelens takes it against a plain loop.

    python benchmarks/training.py [--quick] [--steps 4] [--rounds 7] [--batch-size 128] [--recipe cct-cpu] [--compile]
                                  [--masked]

Compares, on CCT-7/3x2 and 32×32 images (CIFAR-100 where NODELENS_DATA has it, else noise), both with the recipe's
augmentation of whole batches, so that only the step differs:
plain: fp32, eager, contiguous NCHW, attention with its matrix written out, AdamW one tensor at a time;
plain bf16: the same under autocast;
nodelens: `resolve_precision("auto")`, channels last, attention by what is faster, fused AdamW, freed memory kept. fp32
and bf16 are timed separately, and which of them is `auto` here is said; --compile adds both compiled, --masked both
with three quarters of the weights of every block masked (A-ANDC, 5 labels per node).
How: each in a process of its own, one warm-up of `--steps` steps each, then in turns; the median of the ratios within
a round.
Target: at least 3 times as fast as plain, 1.3 times as fast as plain bf16. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice, product
from statistics import median
from unittest.mock import patch

import torch
from timing import cifar_sized, in_own_process, print_table, ratio, take_turns
from torch.nn import functional as F

from nodelens.data import Normalisation
from nodelens.memory import keep_freed_memory
from nodelens.networks import build_network
from nodelens.networks.attention import attend_materialised
from nodelens.processes import default_device
from nodelens.training import Recipe, TrainSettings, recipe, resolve_precision
from nodelens.training.assigned import Assignment
from nodelens.training.batches import training_batches
from nodelens.training.precision import Precision, autocast
from nodelens.training.train import learner_of

NORMALISATION = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))

Steps = Callable[[], None]


def plain_steps(chosen: Recipe, steps: int, precision: Precision) -> Steps:
    """A loop as it stands in a tutorial."""
    images, device = cifar_sized(steps * chosen.batch_size, "train"), default_device()
    regularisation = {"attention_dropout": chosen.attention_dropout, "stochastic_depth": chosen.stochastic_depth}
    network = build_network("cct_7_3x2", 100, 32, **regularisation).to(device).train()
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-4, weight_decay=chosen.weight_decay, foreach=False, fused=False
    )

    def run() -> None:
        batches = training_batches(images, chosen, 0, NORMALISATION, device)
        with patch("nodelens.networks.attention.attend", attend_materialised):
            for batch in islice(batches, steps):
                optimizer.zero_grad()
                with autocast(device, precision):
                    logits = network(batch.images.contiguous())
                loss = F.cross_entropy(logits.float(), batch.targets)
                loss.backward()
                optimizer.step()

    return run


def nodelens_steps(chosen: Recipe, steps: int, precision: Precision, kind: str) -> Steps:
    """The steps of `nodelens train`, without its files; `compiled`, `masked` or neither."""
    keep_freed_memory()
    images, device = cifar_sized(steps * chosen.batch_size, "train"), default_device()
    assigned = Assignment(5) if kind == "masked" else None
    compiled = kind == "compiled"
    settings = TrainSettings("cct_7_3x2", chosen, precision=precision, compile=compiled, assigned=assigned)
    network, learner = learner_of(settings, images)
    network.train()

    def run() -> None:
        for batch in islice(training_batches(images, chosen, 0, NORMALISATION, device), steps):
            learner.learn(batch)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--steps", type=int, default=4, help="per repetition")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--recipe", default="cct-cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--masked", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        asked.steps, asked.rounds, asked.batch_size = 1, 1, 8

    chosen = replace(recipe(asked.recipe, batch_size=asked.batch_size), epochs=1)
    automatic = resolve_precision("auto", default_device())
    with ExitStack() as processes:
        candidates = {
            "plain": processes.enter_context(in_own_process(plain_steps, chosen, asked.steps, "fp32")),
            "plain bf16": processes.enter_context(in_own_process(plain_steps, chosen, asked.steps, "bf16")),
        }
        kinds = [""] + ["compiled"] * asked.compile + ["masked"] * asked.masked
        for kind, precision in product(kinds, ("fp32", "bf16")):
            name = " ".join(filter(None, ("nodelens", precision, kind, "(auto)" * (precision == automatic))))
            process = in_own_process(nodelens_steps, chosen, asked.steps, precision, kind)
            candidates[name] = processes.enter_context(process)
        found = take_turns(candidates, asked.rounds)
    per_step = {name: median(times) / asked.steps for name, times in found.items()}
    rows = [
        (
            name,
            1000 * seconds,
            asked.batch_size / seconds,
            ratio(found, "plain", name),
            ratio(found, "plain bf16", name),
        )
        for name, seconds in per_step.items()
    ]
    title = f"Training CCT-7/3x2, batches of {asked.batch_size}, recipe {asked.recipe}, {asked.rounds} rounds"
    header = ("loop", "ms per step", "images/s", "times as fast as plain", "times as fast as plain bf16")
    print_table(f"{title} of {asked.steps} steps", header, rows)


if __name__ == "__main__":
    main()
