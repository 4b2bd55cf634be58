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

WAIT_SECONDS = 1200.0
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
    try:
        output, error = process.communicate(timeout=WAIT_SECONDS)
    finally:
        process.kill()  # where it has not ended, nothing else would end it
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
    """Every file of a finished run: bit for bit, but for the speeds in the log and the commit of the sources."""
    comparable = {"log.jsonl": _without_speeds, "training.csv": _without_speeds, "config.json": _without_commit}
    return {
        path.relative_to(run).as_posix(): comparable.get(path.name, Path.read_bytes)(path)
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def _without_speeds(path: Path) -> bytes:
    with path.open(newline="") as file:
        rows = [json.loads(line) for line in file] if path.suffix == ".jsonl" else list(csv.DictReader(file))
    return json.dumps([{key: row[key] for key in row if key != "images_per_second"} for row in rows]).encode()


def _without_commit(path: Path) -> bytes:
    sections = json.loads(path.read_text())
    return json.dumps({name: {**section, "commit": None} for name, section in sections.items()}).encode()


def assert_same_files(run: Path, expected: dict[str, bytes], how: str = "") -> None:
    """Not one file more or less than expected, and each the same bit for bit."""
    found = final_files(run)
    assert found.keys() == expected.keys(), how
    different = [name for name in found if found[name] != expected[name]]
    assert not different, f"{how}: {different}"


@dataclass(frozen=True)
class Undisturbed:
    """What a command writes when nothing happens to it, and the seconds of its work."""

    files: dict[str, bytes]
    seconds: float


def undisturbed(command: Command, run: Path) -> Undisturbed:
    """Run a command to its end."""
    process = start_working(command, run)
    began = time.monotonic()
    whole = ended(process)
    assert whole.code == 0, whole.error
    return Undisturbed(final_files(run), time.monotonic() - began)


def survive_kills(command: Command, whole: Undisturbed, folder: Path, kills: int, seed: int) -> int:
    """Kill a command with SIGKILL at random moments of its work; every run must end with the same files.

    Returns:
        Number of kills.
    """
    print(f"kills at the random moments of seed {seed}")
    moments, killed = random.Random(seed), 0
    while killed < kills:
        run = folder / f"after {killed} kills"
        killed += kill_and_finish(command, run, [moments.uniform(0, whole.seconds) for _ in range(kills - killed)])
        assert_same_files(run, whole.files, f"seed {seed}, {run.name}")
    return killed


def kill_and_finish(command: Command, run: Path, moments: list[float], *, prelude: str = "") -> int:
    """Start a command until it ends, killing it after each of so many seconds of work; returns how often it was.

    Args:
        prelude: Python that every process executes first.
    """
    killed = 0
    while True:
        process = start_working(command, run, prelude=prelude)
        if killed < min(len(moments), KILLS_OF_A_RUN):
            try:
                process.wait(moments[killed])
            except subprocess.TimeoutExpired:
                process.kill()
        end = ended(process)
        if end.code != -signal.SIGKILL:
            assert end.code == 0, end.error
            return killed
        killed += 1
