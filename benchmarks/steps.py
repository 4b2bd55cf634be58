"""What a training step costs a GPU and its host: launched one by one, compiled, replayed; by AdamW and by Muon.

    python benchmarks/steps.py [--quick] [--network cct_7_3x1] [--steps 40] [--profile]

Trains a network with random weights on images of CIFAR-100's size (noise, where NODELENS_DATA has none) in bf16, each
way with a network of its own: recipe cct-300 (AdamW, batches of 128), and cct-fast (batches of 256) by torch's Muon and
by that of stacked matrices. How: in one process, after the steps that compile and record, the same batch again and
again; then steps with batches that are augmented, and the optimizer's step alone. "host": until the host has asked for
everything, so where it is as long as the step, the host may be what bounds it. With --profile the kernels of the last
way, by the time that they take.
One to two minutes on a GPU. On a CPU, where nothing is replayed, only --quick makes sense.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from timing import cifar_sized, print_table
from torch.profiler import ProfilerActivity, profile

from nodelens.data import ImageSet, normalisation_of
from nodelens.networks import build_network
from nodelens.processes import default_device
from nodelens.training import Recipe, TrainSettings, recipe
from nodelens.training.batches import training_batches
from nodelens.training.learner import Learner
from nodelens.training.muon import StackedMuon
from nodelens.training.speed import peak_flops, step_flops
from nodelens.training.train import learner_of

CIFAR, EPOCHS = 50_000, 300


@dataclass(frozen=True)
class Way:
    """One way to compute the steps."""

    name: str
    recipe: str
    compiled: bool = False
    replayed: bool = False
    stacked: bool = True


WAYS = (
    Way("launched", "cct-300"),
    Way("replayed", "cct-300", replayed=True),
    Way("compiled, launched", "cct-300", compiled=True),
    Way("compiled, replayed", "cct-300", compiled=True, replayed=True),
    Way("compiled, replayed, torch's Muon", "cct-fast", compiled=True, replayed=True, stacked=False),
    Way("compiled, replayed, stacked Muon", "cct-fast", compiled=True, replayed=True),
)


def finish() -> None:
    """Wait until the device is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def milliseconds(work: Callable[[], object], times: int) -> tuple[float, float]:
    """Of a call, and until the host has asked for it."""
    finish()
    began = time.perf_counter()
    for _ in range(times):
        work()
    asked = time.perf_counter()
    finish()
    return 1e3 * (time.perf_counter() - began) / times, 1e3 * (asked - began) / times


def learner_in(way: Way, chosen: Recipe, network_name: str, images: ImageSet) -> Learner:
    """What `nodelens train` learns with, but for what the way says."""
    network, learner = learner_of(TrainSettings(network_name, chosen, precision="bf16", compile=way.compiled), images)
    network.train()
    if not way.replayed:
        learner = Learner(network, chosen, 0, "bf16", forward=learner.forward, replay=False)
    if not way.stacked:
        for optimizer in learner.optimizer.each:
            if isinstance(optimizer, StackedMuon):
                optimizer.__class__ = torch.optim.Muon  # the same state, one matrix after another
    return learner


def print_kernels(work: Callable[[], object], times: int = 3, shown: int = 25) -> None:
    """The kernels of a call by the time that they take."""
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        for _ in range(times):
            work()
        finish()
    kernels = [event for event in seen.key_averages() if str(event.device_type).endswith("CUDA")]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    rows = [(event.key[:70], event.count / times, event.self_device_time_total / times / 1e3) for event in kernels]
    total = sum(row[2] for row in rows)
    print_table(f"Kernels of a step, {total:.3g} ms in all", ("kernel", "times", "ms"), rows[:shown])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--network", default="cct_7_3x1")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        asked.network, asked.steps = "cct_2_3x1_16", 2

    device = default_device()
    images = cifar_sized(16_384, "train")
    peak, of_image = peak_flops(device, "bf16"), step_flops(build_network(asked.network, 100, 32), (32, 32, 3))
    rows = []
    for way in WAYS:
        chosen = recipe(way.recipe, batch_size=16 if asked.quick else None)
        learner = learner_in(way, chosen, asked.network, images)
        batches = training_batches(images, replace(chosen, epochs=10**6), 0, normalisation_of(images), device)
        batch = next(batches)
        began = time.perf_counter()
        for _ in range(2):
            learner.learn(batch)
        finish()
        first = time.perf_counter() - began
        same, host = milliseconds(lambda learner=learner, batch=batch: learner.learn(batch), asked.steps)
        gradients_stay = next(learner.network.parameters()).grad is not None  # as those of replayed steps do
        optimizer = milliseconds(learner.optimizer.step, asked.steps)[0] if gradients_stay else ""
        augmented, _ = milliseconds(
            lambda learner=learner, batches=batches: learner.learn(next(batches)), 16 * -(-asked.steps // 16)
        )
        rate = 1e3 * chosen.batch_size / augmented
        used = "" if peak is None else f"{rate * of_image / peak:.1%}"
        minutes = CIFAR * EPOCHS / rate / 60
        rows.append((way.name, chosen.batch_size, first, same, host, optimizer, augmented, rate, used, minutes))
    header = ("steps", "batch", "first two, s", "same batch, ms", "host, ms", "optimizer, ms", "augmented, ms")
    print_table(
        f"{asked.network}, bf16, {asked.steps} steps",
        (*header, "images/s", "utilisation", f"{EPOCHS} epochs of CIFAR-100, min"),
        rows,
    )
    if asked.profile:
        print_kernels(lambda: learner.learn(batch))


if __name__ == "__main__":
    main()
