"""How the benchmarks here time: alternating repetitions in one process, the first ones thrown away.

Machines drift (clock rates, neighbours), so what is compared takes turns, and what is reported is the median
over the rounds of the ratio within a round.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from nodelens.data import ImageSet, load_images
from nodelens.progress import console

console.quiet = True

Seconds = dict[str, list[float]]
"""Name of a candidate -> seconds per repetition."""


def machine() -> str:
    """What a time depends on besides the code."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
    return f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def processor() -> str:
    """The processor's name and, if it has them, its matrix units."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    units = " with AMX" if "amx_bf16" in flags else ""
    return (names[0] if names else platform.processor() or platform.machine()) + units


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call; a GPU's queue is emptied before and after."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def take_turns(candidates: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> Seconds:
    """Time the candidates in turns; every other round goes backwards, so that none is always first."""
    found: Seconds = {name: [] for name in candidates}
    for turn in range(warm_up + rounds):
        names = list(candidates)[:: 1 if turn % 2 == 0 else -1]
        for name in names:
            taken = seconds(candidates[name])
            if turn >= warm_up:
                found[name].append(taken)
    return found


def ratio(found: Seconds, of: str, to: str) -> float:
    """Median over the rounds of one candidate's seconds divided by another's in the same round."""
    return median(a / b for a, b in zip(found[of], found[to], strict=True))


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
