"""What training, probing and measuring cost against the network's own forward pass, and how busy they keep a device.

    python benchmarks/against_pass.py [--quick] [--network cct_7_3x2] [--images 2048] [--batch-size 256] [--rounds 5]
                                      [--precision auto] [--compile]

Compares, on a network with random weights and 32×32 images (CIFAR-100 where NODELENS_DATA has it, else noise), each
over the same images: the bare pass (`nodelens.training.accuracy`); steps of `nodelens train` (recipe cct-300), with
--compile compiled; `train_probes` and `measure_probes` at one site (block.7.linear2) and at all of them. On a GPU
probes of all sites are also trained in their turn, not beside the pass.
How: in one process that keeps freed memory, as the command line does, one warm-up each, then in turns, a GPU's queue
emptied before the clock is read; the median of the ratios to the bare pass in the same round. Utilisation: the FLOP of
the network's own products (of a pass a third of a training step's) as a share of the device's peak, where it is known.
The paper's scale on one GPU: --network cct_7_3x1 --images 20000 --precision bf16 --compile.
About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from unittest import mock

import torch
from timing import cifar_sized, print_table, ratio, take_turns

from nodelens.data import ImageSet, normalisation_of
from nodelens.data.resident import near
from nodelens.memory import keep_freed_memory
from nodelens.networks import build_network, select_sites
from nodelens.probing import Probes, ProbeSettings, measure_probes, probe_recipe, train_probes
from nodelens.processes import default_device
from nodelens.training import TrainSettings, accuracy, recipe, resolve_precision
from nodelens.training.batches import training_batches
from nodelens.training.precision import Precision
from nodelens.training.speed import peak_flops, step_flops
from nodelens.training.train import learner_of

PASS, STEPS = "bare pass", "training steps"


def training_steps(
    images: ImageSet, batch_size: int, network: str, precision: Precision, compiled: bool
) -> Callable[[], None]:
    """An epoch of `nodelens train`, without its files."""
    chosen, device = replace(recipe("cct-300", batch_size=batch_size), epochs=1), default_device()
    learning, learner = learner_of(TrainSettings(network, chosen, precision=precision, compile=compiled), images)
    learning.train()
    normalisation = normalisation_of(images)

    def run() -> None:
        for batch in training_batches(images, chosen, 0, normalisation, device):
            learner.learn(batch)

    return run


def in_their_turn(training: Callable[[], object]) -> Callable[[], object]:
    """Probes that do not compute beside the pass on a GPU, as those of a network that writes to what they read."""

    def run() -> object:
        # The module: the package exports a function of that name.
        with mock.patch.object(sys.modules["nodelens.probing.train"], "needs_turns", return_value=True):
            return training()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--network", default="cct_7_3x2")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--compile", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        asked.network, asked.images, asked.batch_size, asked.rounds = "cct_2_3x2", 100, 50, 1

    keep_freed_memory()
    torch.manual_seed(0)
    device, images = default_device(), cifar_sized(asked.images)
    precision = resolve_precision(asked.precision, device)
    network, normalisation = build_network(asked.network, 100, 32).to(device).eval(), normalisation_of(images)
    everywhere = network.sites()
    last = [site.name for site in everywhere if site.name.endswith(".linear2")][-1]
    probing = ProbeSettings(probe_recipe(1, batch_size=asked.batch_size), precision=precision)
    candidates: dict[str, Callable[[], object]] = {
        PASS: partial(accuracy, network, near(images, device), normalisation, precision, asked.batch_size),
        STEPS: training_steps(images, asked.batch_size, asked.network, precision, asked.compile),
    }
    for name, sites in ((last, select_sites(everywhere, last)), (f"all {len(everywhere)} sites", everywhere)):
        probes = Probes(sites, 100, (0,)).to(device).requires_grad_(False)
        training = partial(train_probes, network, sites, images, normalisation, probing)
        candidates[f"probes at {name}"] = training
        if device.type == "cuda" and len(sites) > 1:
            candidates[f"probes at {name}, in their turn"] = in_their_turn(training)
        candidates[f"measuring {name}"] = partial(
            measure_probes, network, probes, images, normalisation, precision, asked.batch_size
        )
    found = take_turns(candidates, asked.rounds)
    peak, of_step = peak_flops(device, precision), step_flops(network, (32, 32, 3))
    rows = []
    for name, times in found.items():
        rate = asked.images // asked.batch_size * asked.batch_size / median(times)
        used = "" if peak is None else f"{rate * of_step / (1 if name == STEPS else 3) / peak:.1%}"
        rows.append((name, median(times), rate, ratio(found, name, PASS), used))
    title = f"{asked.network}, {asked.images} {images.name} images, batches of {asked.batch_size}, {precision}"
    title += f"{', training compiled' * asked.compile}, {asked.rounds} rounds"
    print_table(title, ("what", "seconds", "images/s", "times the bare pass", "utilisation"), rows)


if __name__ == "__main__":
    main()
