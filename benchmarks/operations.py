"""How many operations a device is asked for in one step.

    python benchmarks/operations.py [--network cct_7_3x1] [--precision bf16]

Counts, for a batch of 8 images of CIFAR-100's size and the recipe cct-300: augmentation of a batch alone and as one of
sixteen; a pass; a training step, uncompiled, by AdamW and by Muon; probes and measuring at one site (block.7.linear2)
and at all. Views are left out: they compute nothing.
How: on the CPU, by what torch dispatches in the second call; some are others on a GPU (attention is one operation
there, where a CPU may write it out). Each takes a host some microseconds, which bounds a GPU that is done sooner.
A few seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from timing import print_table
from torch.utils._python_dispatch import TorchDispatchMode

from nodelens.data import Normalisation
from nodelens.data.part import whole
from nodelens.data.resident import ResidentImages
from nodelens.networks import build_network, select_sites, settings_of
from nodelens.probing import Probes, probe_recipe
from nodelens.probing.measure import LabelSums
from nodelens.probing.reads import reads
from nodelens.probing.train import probe_gradients
from nodelens.training import recipe
from nodelens.training.batches import Batch, prepare
from nodelens.training.learner import Learner
from nodelens.training.optimizer import Optimizers, make_optimizer
from nodelens.training.precision import autocast

IMAGES, LABELS, TOGETHER = 8, 100, 16
CPU = torch.device("cpu")
NOTHING = ("empty", "detach", "_unsafe_view", "profiler")
"""Parts of the names of operations that compute nothing, though they return no view."""


class Counted(TorchDispatchMode):
    """Counts what is dispatched.

    Attributes:
        operations: those that compute.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        views = any(argument.alias_info and not argument.alias_info.is_write for argument in func._schema.arguments)
        self.operations += not (views or any(name in str(func) for name in NOTHING))
        return func(*args, **(kwargs or {}))


def counted(work: Callable[[], object]) -> int:
    """Operations of the second call."""
    work()
    with Counted() as found:
        work()
    return found.operations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="cct_7_3x1")
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    asked = parser.parse_args()

    chosen, normalisation = replace(recipe("cct-300"), batch_size=IMAGES), Normalisation((0.5,) * 3, (0.25,) * 3)
    pixels = torch.randint(0, 256, (IMAGES, 32, 32, 3), dtype=torch.uint8)
    images = ResidentImages(pixels, torch.arange(IMAGES), tuple(map(str, range(LABELS))))

    def augmented(batches: int) -> None:
        order = torch.arange(IMAGES).expand(batches, -1)
        prepare(images, order, whole(IMAGES), chosen, 0, range(batches), normalisation, CPU)

    batch = Batch(0, 0, torch.randn(IMAGES, 3, 32, 32), torch.full((IMAGES, LABELS), 1 / LABELS), 1e-3, False)
    regularisation = {"attention_dropout": chosen.attention_dropout, "stochastic_depth": chosen.stochastic_depth}

    def learner(optimizer: Literal["adamw", "muon"]) -> Learner:
        known = {name: value for name, value in regularisation.items() if name in settings_of(asked.network)}
        made = build_network(asked.network, LABELS, 32, **known).train()
        return Learner(made, replace(chosen, optimizer=optimizer), 0, asked.precision)

    by_adamw, by_muon = learner("adamw"), learner("muon")
    network = build_network(asked.network, LABELS, 32).eval()

    @torch.inference_mode()
    def read() -> None:
        with autocast(CPU, asked.precision):
            network(batch.images)

    found: dict[str, float] = {
        "augmentation of a batch": counted(lambda: augmented(1)),
        f"augmentation of a batch, {TOGETHER} together": counted(lambda: augmented(TOGETHER)) / TOGETHER,
        "a pass": counted(read),
        "a training step": counted(lambda: by_adamw.learn(batch)),
        "a training step, by Muon": counted(lambda: by_muon.learn(batch)),
    }
    everywhere = network.sites()
    last = [site.name for site in everywhere if site.name.endswith(".linear2")][-1]
    for name, sites in ((last, select_sites(everywhere, last)), (f"all {len(everywhere)} sites", everywhere)):
        probes = Probes(sites, LABELS, (0, 1, 2))
        optimizer, sums = make_optimizer(probes, probe_recipe()), LabelSums(network, probes)

        def learn(probes: Probes = probes, optimizer: Optimizers = optimizer) -> None:
            probe_gradients(network, reads(network, probes), batch, asked.precision)
            optimizer.step()
            optimizer.zero_grad()

        @torch.inference_mode()
        def measure(sums: LabelSums = sums) -> None:
            sums.add_batch(batch.images, torch.arange(IMAGES), asked.precision)

        found[f"probes of three seeds at {name}"] = counted(learn)
        found[f"measuring {name}"] = counted(measure)
    title = f"{asked.network}, recipe cct-300, {asked.precision}"
    print_table(title, ("what", "operations"), [(what, round(count)) for what, count in found.items()])


if __name__ == "__main__":
    main()
