"""Killed, asked to end, out of space, not allowed to write, started twice: nothing is lost, one sentence is said."""

from __future__ import annotations

import ast
import ctypes
import gc
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

import nodelens as package
from command_line import nodelens
from killing import (
    Command,
    Undisturbed,
    assert_same_files,
    ended,
    final_files,
    kill_and_finish,
    start_working,
    survive_kills,
    undisturbed,
    wait_until,
)
from nodelens.data import load_images, normalisation_of
from nodelens.networks import CCT
from nodelens.probing import MeasureSettings, ProbeSettings, ProbingData, measure_network, probe_recipe
from nodelens.probing.study import measurements_of
from nodelens.runs import RunDirectory

NAMES = ("train", "measure", "prune", "heads")
COMMON = ("--data", "digits", "--precision", "fp32")

JUMPING_CLOCK = """
import itertools, time
true_time, jumps = time.time, itertools.cycle([0.0, 3e7, -3e7, 1e9, -1e9])
time.time = lambda: true_time() + next(jumps)
time.time_ns = lambda: int(time.time() * 1e9)
"""
"""Each look at the time of day is a year or thirty apart from the one before."""
CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A shell's background job is born with it ignored."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a tiny network trained on digits."""
    run = tmp_path_factory.mktemp("source") / "trained"
    done = Command(("train", "cct_2_3x1_16", *COMMON, "--epochs", "2")).finish(run)
    assert done.code == 0, done.error
    return run


@pytest.fixture(scope="module")
def commands(source: Path) -> dict[str, Command]:
    """Each command on digits with a tiny network: some seconds of work, with several checkpoints."""
    train = Command(("train", "cct_2_3x1_16", *COMMON, "--epochs", "5", "--keep-every", "2"))
    studies = {
        "measure": ("--sites", "block.*.linear2", "--split", "test,train", "--epochs", "8", "--permutations", "2"),
        "prune": ("--block", "2", "--seeds", "2", "--epochs", "2", "--probe-epochs", "4", "--baseline", "random"),
        "heads": ("--seeds", "1", "--epochs", "8", "--draws", "10"),
    }
    search = ("--layers", "block.*.linear1", "--keep-accuracy", "0.1", "--gradual", "--baseline", "random")
    short = ("--seeds", "1", "--epochs", "1", "--probe-epochs", "4", "--learning-rate", "1e-2")
    return {"train": train, "search": Command(("prune", str(source), *COMMON, *search, *short))} | {
        name: Command((name, str(source), *COMMON, *arguments)) for name, arguments in studies.items()
    }


@pytest.fixture(scope="module")
def whole(commands: dict[str, Command], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Undisturbed]:
    """What each command writes when nothing happens to it; run when it is first asked for."""
    found: dict[str, Undisturbed] = {}

    def of(name: str) -> Undisturbed:
        if name not in found:
            found[name] = undisturbed(commands[name], tmp_path_factory.mktemp("whole") / name)
        return found[name]

    return of


def stop(command: Command, run: Path, number: signal.Signals) -> None:
    """Send a signal once the command has written a checkpoint; it must end as it promises to."""
    process = start_working(command, run, prelude=CTRL_C)
    wait_until(lambda: any(run.rglob("*.pt")), process)
    process.send_signal(number)
    end = ended(process)
    assert end.code == 128 + number, end
    assert end.output == ""
    assert end.error.splitlines()[-1] == (
        f"nodelens: stopped by {number.name}; run the same command again to go on from here"
    )
    assert "Traceback" not in end.error
    assert any(run.rglob("*.pt"))


@pytest.mark.parametrize("name", NAMES)
def test_a_command_disturbed_in_every_way_ends_with_the_same_files(
    name: str,
    commands: dict[str, Command],
    whole: Callable[[str], Undisturbed],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, run, expected = commands[name], tmp_path / "run", whole(name)
    process = start_working(command, run)
    wait_until(lambda: any(run.rglob("config.json")), process)  # the directory is claimed
    process.send_signal(signal.SIGSTOP)  # so that it has not ended before the second one asks
    assert nodelens(*command.arguments, "--out", str(run)) == 2
    assert capsys.readouterr().err == (
        f"nodelens: another process is working in {run}; wait for it or choose another --out\n"
    )
    process.send_signal(signal.SIGCONT)
    wait_until(lambda: any(run.rglob("*.pt")), process)
    process.kill()
    assert ended(process).code == -signal.SIGKILL
    stop(command, run, signal.SIGINT if name == "train" else signal.SIGTERM)
    kill_and_finish(command, run, [0.3 * expected.seconds], prelude=JUMPING_CLOCK)
    assert_same_files(run, expected.files)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMES, "search"])
def test_twenty_kills_at_random_moments(
    name: str, commands: dict[str, Command], whole: Callable[[str], Undisturbed], tmp_path: Path
) -> None:
    assert survive_kills(commands[name], whole(name), tmp_path, kills=20, seed=2) == 20


class Killed(BaseException):
    """Stands for a kill within the process: nothing in the package may catch it."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, write: int, after: bool) -> Iterator[list[Path]]:
    """Kill the command where it gives its n-th file its name, before or after; yields what was written."""
    rename, written = os.replace, []

    def interrupted(temporary: Path, path: Path) -> None:
        written.append(path)
        if len(written) == write and not after:
            raise Killed
        rename(temporary, path)
        if len(written) == write:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", interrupted)
        yield written


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_at_every_write(
    name: str, after: bool, commands: dict[str, Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arguments(run: Path) -> list[str]:
        shorter = [] if name == "prune" else ["--epochs", "2"]
        return [*commands[name].arguments, *shorter, "--out", str(run)]

    with killed_at(monkeypatch, 0, after) as written:
        assert nodelens(*arguments(tmp_path / "whole")) == 0
    expected = final_files(tmp_path / "whole")
    for write, path in enumerate(written, start=1):
        run = tmp_path / str(write)
        with killed_at(monkeypatch, write, after), pytest.raises(Killed):
            nodelens(*arguments(run))
        assert nodelens(*arguments(run)) == 0
        assert_same_files(run, expected, f"killed at write {write}, {path.name}")


def mounted(*arguments: object) -> bool:
    """Mount a file system, or change its options; whether that is allowed here."""
    return subprocess.run(["mount", *map(str, arguments)], capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mounted("-t", "tmpfs", "-o", "size=1m", "tmpfs", folder):
        pytest.skip("mounting needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(file: Path) -> None:
    """Write until the disk is full."""
    with file.open("wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass


def test_a_disk_that_fills_up_while_a_network_is_trained(
    small_disk: Path, commands: dict[str, Command], whole: Callable[[str], Undisturbed]
) -> None:
    command, run, expected = commands["train"], small_disk / "run", whole("train")
    process = start_working(command, run)
    wait_until(lambda: any(run.rglob("*.pt")), process)
    with pytest.raises(OSError, match="No space left"):
        fill(small_disk / "ballast")
    end = ended(process)
    assert end.code == 2, end
    said = end.error.splitlines()[-1]
    assert said.startswith(f"nodelens: the disk is full: {run}")
    assert said.endswith(" was not written; free some space and run the command again")
    assert "Traceback" not in end.error
    (small_disk / "ballast").unlink()
    again = command.finish(run)
    assert again.code == 0, again.error
    assert_same_files(run, expected.files)


FIRST_FILES = {
    "train": "checkpoints/resume.pt",
    "measure": "measure/block.1.linear2.safetensors",
    "prune": "block.2.all/checkpoints/prune-0.pt",
    "heads": "heads/accuracies/block.2.attention.safetensors",
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("name", NAMES)
def test_a_file_for_which_there_is_no_space(
    name: str, commands: dict[str, Command], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / FIRST_FILES[name]
    file.parent.mkdir(parents=True)
    file.with_name(f".{file.name}.partial").symlink_to("/dev/full")
    assert nodelens(*commands[name].arguments, "--out", str(tmp_path)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == f"nodelens: the disk is full: {file} was not written; free some space and run the command again"
    assert not file.exists()


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Nobody may write into a folder: root needs a file system of its own for that."""
    if os.geteuid() != 0:
        folder.chmod(0o555)
        try:
            yield
        finally:
            folder.chmod(0o755)
        return
    if not mounted("--bind", folder, folder):
        pytest.skip("root may not mount here")
    try:
        if not mounted("-o", "remount,bind,ro", folder):
            pytest.skip("root may not mount here")
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_directory_that_cannot_be_written(
    name: str, commands: dict[str, Command], source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = final_files(source)
    with read_only(source):
        code = nodelens(*commands[name].arguments, "--out", str(source))
    assert code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith(f"nodelens: {source}")
    assert said[0].endswith("; choose another folder")
    assert final_files(source) == before


def test_a_network_in_a_read_only_folder_is_measured_elsewhere(source: Path, tmp_path: Path) -> None:
    arguments = ("measure", str(source), *COMMON, "--sites", "block.2.ln", "--epochs", "1", "--permutations", "0")
    with read_only(source):
        assert nodelens(*arguments, "--out", str(tmp_path)) == 0
    assert (tmp_path / "measure" / "block.2.ln.safetensors").exists()


def test_nothing_asks_for_the_time_of_day() -> None:
    wall_clock = {"time.time", "time.time_ns", "time.localtime", "datetime.now", "datetime.utcnow", "date.today"}
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in wall_clock, f"{path.name}:{node.lineno}"
            if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime"):
                # A span of time is no clock.
                assert [name.name for name in node.names] == ["timedelta"], f"{path.name}:{node.lineno}"


def resident_megabytes() -> float:
    """Memory that this process holds, without what was freed and is only kept for the next array."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def held() -> dict[str, int]:
    """What a leak would pile up: tensors, open files, threads."""
    gc.collect()
    tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
    return {"tensors": tensors, "files": len(os.listdir("/proc/self/fd")), "threads": threading.active_count()}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not say what a process holds")
@pytest.mark.parametrize("times", [20, pytest.param(2000, marks=pytest.mark.slow)])
def test_measuring_again_and_again_does_not_hold_more(times: int, cct: CCT, tmp_path: Path) -> None:
    training, test = (load_images("digits", split).take(torch.arange(128), split) for split in ("train", "test"))
    data = ProbingData(training, {"test": test}, normalisation_of(training))
    wanted = MeasureSettings(("block.*.linear2",), ("test",), ProbeSettings(probe_recipe(1, batch_size=64)))

    def measure(number: int) -> None:
        run = RunDirectory(tmp_path / str(number))
        measure_network(cct, data, wanted, run)
        for measurements in measurements_of(run, "test").values():
            measurements[0]["block.2.linear2"].statistics()

    for number in range(10):
        measure(number)
    megabytes, before = resident_megabytes(), held()
    for number in range(10, 10 + times):
        measure(number)
    grown = resident_megabytes() - megabytes
    print(f"{times} measurements: {grown:.2f} MB more")
    assert held() == before
    assert grown < 8
