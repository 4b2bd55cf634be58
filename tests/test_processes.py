"""Several processes do what one does: real jobs on digits, started as a launcher starts them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from nodelens import processes
from nodelens.data import Augmentation
from nodelens.data.augment import augment, mix
from nodelens.data.draws import Draws
from nodelens.data.part import Part
from nodelens.errors import InputError, ProcessLostError
from nodelens.files import load_state, read_json, read_tensors
from nodelens.networks import build_network, load_network, masks_of
from nodelens.processes import alone, by_first, share, size
from nodelens.runs import RunDirectory
from nodelens.shards import placed
from nodelens.training import TrainSettings, batches, train
from nodelens.training.assigned import Assignment
from nodelens.training.enforced import EnforcedHeads
from processes_job import NORMALISATION, RECIPE, SITES, TRAINING, work

JOB = str(Path(__file__).with_name("processes_job.py"))
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node")
ALL = ("train", "muon", "measure", "prune", "search", "heads", "sums")
# Adam makes steps of its own length out of a gradient that is nothing but rounding: this one shifts all tokens alike.
ROUNDING_ONLY = "classifier.attention_pool.bias"
MUON = 1e-2
"""Muon finds its steps in bf16: noise of 1e-6 on the gradients moves this network's weights by 3e-3 of the largest.
Orthogonalising the halves of a matrix instead of the whole moves them by 3e-2 to 1e-1."""


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """All parts in this process, with one thread, as each of several processes has."""
    folder, threads = tmp_path_factory.mktemp("one"), torch.get_num_threads()
    torch.set_num_threads(1)
    work(folder, list(ALL))
    yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return launched(tmp_path_factory.mktemp("two"), *LAUNCH, "2")


def launched(folder: Path, *launcher: str, parts: tuple[str, ...] = ALL, **variables: str) -> Path:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run([*launcher, JOB, str(folder), *parts], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def together(processes: int, *command: str, folders: Sequence[Path] = ()) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each process of a job that nobody watches over."""
    started = begun(processes, *command, folders=folders)
    return [(process.wait(), output, errors) for process in started for output, errors in [process.communicate()]]


def completed(processes: int, *command: str) -> None:
    """Run a job of that many processes; what they say is shown where one fails."""
    found = together(processes, *command)
    assert [code for code, *_ in found] == [0] * processes, found


def begun(processes: int, *command: str, folders: Sequence[Path] = ()) -> list[subprocess.Popen[str]]:
    """The processes of a job that nobody watches over, each in a folder of its own if so told."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment["WORLD_SIZE"] = str(processes)
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=folders[rank] if folders else None,
        )
        for rank in range(processes)
    ]


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Every element to a share of its tensor's largest."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key == ROUNDING_ONLY or not value.numel():
            continue
        difference = (found[key].double() - value.double()).abs().max()
        assert difference <= tolerance * value.double().abs().max(), key


def tolerance_of(file: Path) -> float:
    return MUON if file.parts[0] == "muon" else 1e-4


def assert_same_work(folder: Path, one: Path) -> None:
    files = sorted(path.relative_to(one) for path in one.rglob("*.safetensors"))
    assert files == sorted(path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    assert len(files) == 31
    for file in files:
        found, expected = read_tensors(folder / file), read_tensors(one / file)
        for key in [key for key in expected if key.startswith(("counts", "accuracy")) or key.endswith(".mask")]:
            assert torch.equal(found.pop(key), expected.pop(key)), (file, key)
        assert_close(found, expected, tolerance_of(file))


def assert_same_sums(folder: Path, one: Path) -> None:
    found, expected = load_state(folder / "sums.pt"), load_state(one / "sums.pt")
    assert found is not None
    assert expected is not None
    assert all(value.dtype == torch.float64 for value in found.values())
    assert_close(found, expected, 1e-14)


def test_two_processes_do_what_one_does(one: Path, two: Path) -> None:
    assert_same_work(two, one)
    assert_same_sums(two, one)
    assert RunDirectory(two / "train").configuration()["train"]["processes"] == 2
    first, second = (RunDirectory(folder / "train").events("train") for folder in (one, two))
    for before, after in zip(first, second, strict=True):
        assert after["loss"] == pytest.approx(before["loss"], abs=2e-5)
        assert after["test_accuracy"] == before["test_accuracy"]
    rows = read_json(two / "prune" / "checkpoints" / "prune-0.json")["rows"]
    assert [row["dilution"] for row in rows] == [
        row["dilution"] for row in read_json(one / "prune" / "checkpoints" / "prune-0.json")["rows"]
    ]


def test_masked_weights_stay_zero_in_two_processes(two: Path) -> None:
    pruned = load_network(two / "prune")
    masks = masks_of(pruned)
    assert len(masks) == 4
    for module, mask in masks.items():
        weight = pruned.get_submodule(module).weight
        assert not weight[~mask].any()
        assert weight[mask].any()


@pytest.mark.slow
def test_four_processes_do_what_one_does(one: Path, tmp_path: Path) -> None:
    launched(tmp_path, *LAUNCH, "4")
    assert_same_work(tmp_path, one)
    assert_same_sums(tmp_path, one)


@pytest.mark.slow
def test_a_network_in_shards_is_trained_and_measured_as_a_whole_one(one: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    launcher = (sys.executable, "-m", "accelerate.commands.launch", "--use_fsdp", "--fsdp_version", "2")
    launcher = (*launcher, "--fsdp_reshard_after_forward", "true", "--num_processes", "2")
    launched(tmp_path, *launcher, parts=("train", "muon", "measure"))
    files = [
        *(Path(part, "model.safetensors") for part in ("train", "muon")),
        *(path.relative_to(one) for path in (one / "measure").glob("measure/*")),
    ]
    assert len(files) == 2 + len(SITES)
    for file in files:
        assert_close(read_tensors(tmp_path / file), read_tensors(one / file), tolerance_of(file))
    lost = subprocess.run([*launcher, JOB, str(tmp_path / "lost"), "die"], capture_output=True, text=True)
    assert lost.returncode == 1
    # Unless the launcher, which looks ten times a second, ends the process that is left before it notices.
    said = "ProcessLostError: another process of this job has ended; what is finished is kept"
    assert said in lost.stderr or "closing signal SIGTERM" in lost.stderr
    assert (tmp_path / "lost" / "train" / "checkpoints" / "resume.pt").exists()
    launched(tmp_path / "lost", *launcher, parts=("train",))
    again, whole = (folder / "train" / "model.safetensors" for folder in (tmp_path / "lost", tmp_path))
    assert again.read_bytes() == whole.read_bytes()


def test_another_version_of_fsdp_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.setattr("nodelens.shards.size", lambda: 2)
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"}.items():
        monkeypatch.setenv(name, value)
    network = build_network("cct_2_3x1_16", 10, 8, 1)
    with pytest.raises(InputError, match="by the second version of FSDP; configure fsdp_version: 2"):
        placed(network, network.stages())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"compile": True}, "--compile"),
        ({"enforced": EnforcedHeads("random", weight=1.0)}, "labels given to heads"),
        ({"assigned": Assignment(2)}, "labels assigned to nodes"),
    ],
)
def test_what_a_network_in_shards_cannot_be_trained_with(
    changes: dict[str, Any], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    settings = replace(TrainSettings("cct_2_3x1_16", RECIPE), **changes)
    with pytest.raises(InputError, match=f"in shards cannot be trained with {named}; start it without FSDP"):
        train(settings, TRAINING, TRAINING, RunDirectory(tmp_path))
    assert not any(tmp_path.iterdir())


def test_a_lost_process_ends_the_job_which_then_goes_on_to_the_same_files(two: Path, tmp_path: Path) -> None:
    (code, output, errors), (killed, *_) = together(2, JOB, str(tmp_path), "die")
    assert (code, killed) == (1, -9)
    assert "another process of this job has ended; what is finished is kept" in errors
    assert not output
    assert (tmp_path / "train" / "checkpoints" / "resume.pt").exists()
    assert not (tmp_path / "train" / "model.safetensors").exists()
    launched(tmp_path, *LAUNCH, "2", parts=("train",))
    run, undisturbed = RunDirectory(tmp_path / "train"), RunDirectory(two / "train")
    assert run.model.read_bytes() == undisturbed.model.read_bytes()
    resumed, whole = (
        [{**event, "images_per_second": 0} for event in directory.events("train")] for directory in (run, undisturbed)
    )
    assert resumed == whole


def test_a_signal_to_one_process_stops_all_at_the_same_step(tmp_path: Path) -> None:
    run, undisturbed = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "undisturbed")
    command = ("-m", "nodelens", "train", "cct_2_3x1_16", "--data", "digits", "--epochs", "4", "--precision", "fp32")
    completed(2, *command, "--out", str(undisturbed.path))
    processes = begun(2, *command, "--out", str(run.path))
    while not any(run.checkpoints.glob("*.pt")):
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.01)
    processes[1].send_signal(signal.SIGTERM)
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [143, 143]
    assert "stopped by SIGTERM; run the same command again" in said[0]
    assert not any("Traceback" in errors for errors in said)
    assert not run.model.exists()
    completed(2, *command, "--out", str(run.path))
    assert run.model.read_bytes() == undisturbed.model.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads of the process are read from Linux")
@pytest.mark.parametrize(("arguments", "code"), [(["train", "--help"], 0), (["train", "alexnet"], 2)])
def test_processes_leave_their_group_before_they_end(tmp_path: Path, arguments: list[str], code: int) -> None:
    program = """
import atexit
from pathlib import Path
from nodelens.cli import main

def threads():
    return [name for task in Path("/proc/self/task").iterdir() if "gloo" in (name := (task / "comm").read_text())]

atexit.register(lambda: print("still there:", threads()))
main()
"""
    found = together(2, "-c", program, *arguments, "--out", str(tmp_path / "run"))
    assert [ended for ended, *_ in found] == [code] * 2
    assert all("still there: []" in output for _, output, _ in found), found


def test_the_run_directory_need_be_on_the_first_machine_only(two: Path, tmp_path: Path) -> None:
    machines = [tmp_path / "first", tmp_path / "second"]
    machines[1].mkdir()
    shutil.copytree(two / "train", machines[0] / "net")
    command = ("-m", "nodelens", "measure", "net", "--data", "digits", "--sites", "block.2.linear2", "--epochs", "1")
    found = together(2, *command, "--no-untrained", folders=machines)
    assert [code for code, *_ in found] == [0, 0], found
    assert (machines[0] / "net" / "measure" / "block.2.linear2.safetensors").exists()
    assert not list(machines[1].iterdir())


def test_bad_input_is_said_once(tmp_path: Path) -> None:
    command = ("-m", "nodelens", "train", "alexnet", "--data", "digits", "--out", str(tmp_path / "run"))
    found = together(2, *command, "--precision", "fp32")
    assert [code for code, *_ in found] == [2, 2]
    said = "".join(output + errors for _, output, errors in found)
    assert said.count("nodelens: unknown network 'alexnet'") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize("processes", [2, 3, 5])
@pytest.mark.parametrize("images", [10, 33])
def test_parts_of_a_batch_are_the_batch(processes: int, images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = RECIPE.augmentation
    cropped = Augmentation(resized_crop=(0.5, 1.0), mixup=1.0)
    pixels, labels = TRAINING.batch(torch.arange(images)), torch.eye(10)[TRAINING.labels[:images]]
    for how in (everything, cropped):
        seen = []
        for number in range(1 + processes):
            part = Part(images, 0, -(-images // 2))
            if number:
                monkeypatch.setattr("nodelens.processes.size", lambda: processes)
                monkeypatch.setattr("nodelens.processes.rank", lambda number=number: number - 1)
                part = batches.own_part(images)
            draws = Draws((torch.Generator().manual_seed(5),), part)
            augmented = augment(part.of(pixels), how, NORMALISATION.mean, NORMALISATION.std, draws)
            seen.append((part, *mix(augmented, part.of(labels), how, draws)))
        monkeypatch.undo()
        (_, whole, targets), *parts = seen
        assert sum(len(part) for part, *_ in parts) == images
        for part, found, shares in parts:
            assert len(part) == len(found)
            torch.testing.assert_close(found, part.of(whole), rtol=0, atol=2e-6)
            assert torch.equal(shares, part.of(targets))


def test_a_batch_too_small_for_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "size", lambda: 4)
    with pytest.raises(InputError, match="a batch of 6 images cannot be shared by 4 processes"):
        batches.own_part(6)
    assert batches.own_part(7) == Part(7, 0, 4)


def test_memory_that_ran_out_is_no_lost_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "size", lambda: 2)

    def raises(error: Exception) -> Callable[..., Any]:
        def call(*_: Any, **__: Any) -> None:
            raise error

        return call

    full = torch.OutOfMemoryError("CUDA out of memory")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "cat", raises(full))
        with pytest.raises(torch.OutOfMemoryError):
            processes.add_up([torch.ones(2)])
        patch.setattr(torch, "cat", raises(RuntimeError("sizes of tensors must match")))
        with pytest.raises(RuntimeError, match="must match"):
            processes.add_up([torch.ones(2)])
    monkeypatch.setattr(dist, "all_reduce", raises(full))
    for collective in (lambda: processes.add_up([torch.ones(2)]), lambda: processes.largest(3)):
        with pytest.raises(torch.OutOfMemoryError):
            collective()
    monkeypatch.setattr(dist, "all_reduce", raises(RuntimeError("connection closed by peer")))
    with pytest.raises(ProcessLostError, match="another process of this job has ended"):
        processes.add_up([torch.ones(2)])


def test_without_a_launcher_there_is_one_process() -> None:
    assert size() == 1
    assert share(range(5)) == range(5)
    with alone():
        assert by_first(len)("three") == 5
