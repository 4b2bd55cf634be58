"""Commands as processes of their own, killed at random moments and started again until they end."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

WAIT_SECONDS = 300.0
KILLS_OF_A_RUN = 8
"""After so many the run may end: where hardly anything is kept between two kills it never would."""


@dataclass(frozen=True)
class Ended:
    """What a command left behind when it had ended."""

    code: int
    output: str
    error: str


@dataclass(frozen=True)
class Command:
    """A command of nodelens without its run directory."""

    arguments: tuple[str, ...]

    def start(self, run: Path, *, prelude: str = "") -> subprocess.Popen[str]:
        """Start `nodelens ARGUMENTS --out RUN`, with one thread, so that every run takes its sums in the same order.

        Args:
            prelude: Python that the process executes first.
        """
        script = f"{prelude}\nfrom nodelens.cli import main\nmain()"
        begin = ["-c", script] if prelude else ["-m", "nodelens"]
        return subprocess.Popen(
            [sys.executable, *begin, *self.arguments, "--out", str(run)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def finish(self, run: Path, *, prelude: str = "") -> Ended:
        """Run the command to its end."""
        return ended(self.start(run, prelude=prelude))


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a process."""
    output, error = process.communicate(timeout=WAIT_SECONDS)
    return Ended(process.returncode, output, error)


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until something is so, or the process has ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.002)


def start_working(command: Command, run: Path, *, prelude: str = "") -> subprocess.Popen[str]:
    """Start a command and wait until it has claimed its run directory: it has loaded everything and begins."""
    lock = run / ".lock"
    lock.unlink(missing_ok=True)  # of a process that is dead
    process = command.start(run, prelude=prelude)
    wait_until(lock.exists, process)
    return process


def final_files(run: Path) -> dict[str, bytes]:
    """Every file of a finished run, but for the lock; of the log and the table of the epochs all but the speeds."""
    found = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file() and path.name != ".lock"):
        content = path.read_bytes()
        if path.name in ("log.jsonl", "training.csv"):
            content = without_speeds(path)
        found[path.relative_to(run).as_posix()] = content
    return found


def without_speeds(path: Path) -> bytes:
    """The events of a log, or the rows of a table, without the images per second."""
    with path.open(newline="") as file:
        rows = [json.loads(line) for line in file] if path.suffix == ".jsonl" else list(csv.DictReader(file))
    return json.dumps([{key: row[key] for key in row if key != "images_per_second"} for row in rows]).encode()


def assert_same_files(run: Path, expected: dict[str, bytes], how: str = "") -> None:
    """Not one file more or less than expected, and each the same bit for bit."""
    found = final_files(run)
    assert found.keys() == expected.keys(), how
    different = [name for name in found if found[name] != expected[name]]
    assert not different, f"{how}: {different}"


def survive_kills(command: Command, folder: Path, kills: int, seed: int) -> int:
    """Kill a command with SIGKILL at random moments of its work; every run must end with the same files.

    Returns:
        Number of kills.
    """
    print(f"kills at the random moments of seed {seed}")
    process = start_working(command, folder / "whole")
    began = time.monotonic()
    whole = ended(process)
    seconds = time.monotonic() - began
    assert whole.code == 0, whole.error
    expected, moments, killed = final_files(folder / "whole"), random.Random(seed), 0
    while killed < kills:
        run = folder / f"after {killed} kills"
        killed += _kill_and_finish(command, run, kills - killed, [moments.uniform(0, seconds) for _ in range(kills)])
        assert_same_files(run, expected, f"seed {seed}, {run.name}")
    return killed


def _kill_and_finish(command: Command, run: Path, kills: int, moments: list[float]) -> int:
    """Start a command until it ends, killing it at most so many times; returns how many times it was."""
    killed = 0
    while True:
        process = start_working(command, run)
        if killed < min(kills, KILLS_OF_A_RUN):
            try:
                process.wait(moments[killed])
            except subprocess.TimeoutExpired:
                process.kill()
        end = ended(process)
        if end.code != -signal.SIGKILL:
            assert end.code == 0, end.error
            return killed
        killed += 1
