"""What the benchmarks share: data, tables, processes of their own. How they time: `nodelens.timing`."""

from __future__ import annotations

import multiprocessing
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from nodelens.data import ImageSet, load_images
from nodelens.progress import console
from nodelens.timing import Seconds, machine, ratio, seconds, take_turns

__all__ = [
    "Seconds",
    "cifar_sized",
    "forget_peak",
    "in_fresh_process",
    "in_own_process",
    "machine",
    "peak_megabytes",
    "print_table",
    "ratio",
    "seconds",
    "take_turns",
]

console.quiet = True


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table in Markdown, under its title and the machine's facts."""
    print(f"\n**{title}**\n{machine()}\n")
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells) + " |")
    print(flush=True)


def peak_megabytes() -> float:
    """Most memory that this process has held since it began or since `forget_peak`."""
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def forget_peak() -> None:
    """From now on the peak counts anew, where the system can do that (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def in_fresh_process(script: str, *arguments: str) -> list[float]:
    """The numbers that a script prints on its last line when run with these arguments."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


@contextmanager
def in_own_process(build: Callable[..., Callable[[], object]], *arguments: object) -> Iterator[Callable[[], None]]:
    """What `build(*arguments)` returns, built and called in a process of its own, whose memory nothing else shares.

    The process waits while others take their turns. `build` stands at the top of a module.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, build, arguments), daemon=True)
    process.start()
    there.close()
    here.recv()

    def call() -> None:
        here.send(True)
        here.recv()

    yield call
    here.send(False)
    process.join()


def _serve(requests: Connection, build: Callable[..., Callable[[], object]], arguments: tuple[object, ...]) -> None:
    work = build(*arguments)
    requests.send(None)
    while requests.recv():
        work()
        requests.send(None)


def cifar_sized(images: int, split: str = "test") -> ImageSet:
    """CIFAR-100 where NODELENS_DATA has it, else noise of the same size; labels in turn, so that all occur."""
    labels = torch.arange(images) % 100
    if (Path(os.environ.get("NODELENS_DATA", "/nowhere")) / "cifar100").is_dir():
        return replace(load_images("cifar100", split).take(np.arange(images), split), labels=labels)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    names = tuple(map(str, range(100)))
    return ImageSet("noise", split, pixels, np.arange(images), labels, names, (), (), f"noise-{images}")
