"""How things are timed here: alternating repetitions in one process, the first ones thrown away.

Machines drift (clock rates, neighbours), so what is compared takes turns, and what is reported is the median
over the rounds of the ratio within a round.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

from nodelens.hardware import MATRIX_UNITS

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
    units = " with AMX" if MATRIX_UNITS else ""
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
