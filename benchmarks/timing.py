"""What the benchmarks share: data, tables, processes of their own. How they time: `nodelens.timing`."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
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


def cifar_sized(images: int, split: str = "test") -> ImageSet:
    """CIFAR-100 where NODELENS_DATA has it, else noise of the same size; labels in turn, so that all occur."""
    labels = torch.arange(images) % 100
    if (Path(os.environ.get("NODELENS_DATA", "/nowhere")) / "cifar100").is_dir():
        return replace(load_images("cifar100", split).take(np.arange(images), split), labels=labels)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
    names = tuple(map(str, range(100)))
    return ImageSet("noise", split, pixels, np.arange(images), labels, names, (), (), f"noise-{images}")
