"""The script that runs the reproduction in pieces on one GPU: carrying, going on, bringing back."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nodelens.networks import load_network

SCRIPTS = Path(__file__).parent.parent / "scripts"
TIME_IS_UP = 3


def script(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(SCRIPTS / "paper_scale.sh"), *map(str, arguments)]
    # The script's python3 is the one that runs the tests, whether or not its environment is activated.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    variables = {**os.environ, "PATH": path, **(environment or {})}
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some five MiB in two files, one of them deeper down."""
    source = tmp_path / "data"
    (source / "sub").mkdir(parents=True)
    (source / "large.parquet").write_bytes(os.urandom(4 * 2**20 + 17))
    (source / "sub" / "small.parquet").write_bytes(os.urandom(2**20))
    return source


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_a_folder_comes_back_from_its_parts(folder: Path, tmp_path: Path) -> None:
    parts, target = tmp_path / "parts", tmp_path / "there"
    done = script("split", folder, parts, 2)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in parts.iterdir())
    assert names == ["SHA256SUMS", "part-000", "part-001", "part-002"]
    assert max(path.stat().st_size for path in parts.iterdir()) == 2 * 2**20
    target.mkdir()
    (target / "older").touch()
    done = script("join", parts, target)
    assert done.returncode == 0, done.stderr
    assert contents(target) == contents(folder)
    assert not list(tmp_path.glob("*.partial"))


def test_a_part_that_is_missing_or_damaged_is_named(folder: Path, tmp_path: Path) -> None:
    parts, target = tmp_path / "parts", tmp_path / "there"
    assert script("split", folder, parts, 2).returncode == 0
    kept = (parts / "part-001").read_bytes()
    (parts / "part-001").unlink()
    done = script("join", parts, target)
    assert (done.returncode, done.stderr) == (2, f"paper_scale: part-001 is missing in {parts}; carry it too\n")
    (parts / "part-001").write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    done = script("join", parts, target)
    assert done.returncode == 2
    assert f"a part in {parts} is damaged; carry it again" in done.stderr
    assert not target.exists()
    (parts / "SHA256SUMS").unlink()
    assert "has no SHA256SUMS" in script("join", parts, target).stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["split", "nowhere", "parts"], "there is no folder nowhere to split"),
        (["split", str(SCRIPTS), "parts", "0"], "parts of 0 MiB: give a whole number of at least 1"),
        (["run", "--minutes", "soon"], "--minutes soon: give a number"),
        (["run", "everything"], "there is no step everything"),
        (["collect", "nowhere", "there"], "there are no runs in nowhere"),
        ([], "on one GPU, without a network if need be"),
    ],
)
def test_bad_input_is_a_sentence(arguments: list[str], sentence: str) -> None:
    done = script(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr


STUB = """
import signal, sys, time, pathlib
log = pathlib.Path(sys.argv[1])
with log.open("a") as file:
    file.write(" ".join(sys.argv[2:]) + "\\n")
calls = log.read_text().count("network")
if "--parts network " in " ".join(sys.argv[2:]) + " " and calls == 1:
    time.sleep(60)
if "enforced" in sys.argv:
    sys.exit(2)
"""


def test_a_call_ends_in_time_and_the_next_one_goes_on(tmp_path: Path) -> None:
    stub, log, runs = tmp_path / "stub.py", tmp_path / "log", tmp_path / "runs"
    stub.write_text(STUB)
    environment = {"NODELENS": f"{sys.executable} {stub} {log}", "LEAST_SECONDS": "1"}
    first = script("run", "--minutes", "0.05", "--out", runs, environment=environment)
    assert first.returncode == TIME_IS_UP, first.stderr
    assert "time is up in step network; call again to go on" in first.stdout
    assert list((runs / "steps").iterdir()) == []
    second = script("run", "--minutes", "1", "--out", runs, environment=environment)
    assert second.returncode == 2  # the stub's error in the last step
    assert "step enforced failed with code 2" in second.stderr
    finished = ["flowers", "heads", "network", "nodes", "pruning", "seeds", "vgg"]
    assert sorted(path.name for path in (runs / "steps").iterdir()) == finished
    calls = log.read_text().splitlines()
    assert calls[0] == calls[1] == f"reproduce all --scale paper --out {runs}/cct --parts network"
    assert sum("table1" in call and "--networks" not in call for call in calls) == 1
    listed = script("steps", "--out", runs).stdout.splitlines()
    assert [line.split()[1] for line in listed] == ["finished"] * 7 + ["open"]
    before = len(calls)
    third = script("run", "network", "nodes", "--out", runs, environment=environment)
    assert third.returncode == 0
    assert len(log.read_text().splitlines()) == before


def test_a_checkpoint_stands_for_the_network(tmp_path: Path) -> None:
    stub, log, runs = tmp_path / "stub.py", tmp_path / "log", tmp_path / "runs"
    stub.write_text(STUB.replace("time.sleep(60)", "pass"))
    environment = {"NODELENS": f"{sys.executable} {stub} {log}"}
    one, two = tmp_path / "a b.safetensors", tmp_path / "c.safetensors"
    one.write_text("one"), two.write_text("two")
    given = ["--checkpoint", str(one), "--second", str(two)]
    done = script("run", *given, "--out", runs, "network", "nodes", "seeds", environment=environment)
    assert done.returncode == 0, done.stderr
    assert "with a checkpoint there are none" in done.stdout
    network, nodes = log.read_text().splitlines()
    assert network == f"reproduce all --scale paper {' '.join(given)} --out {runs}/cct --parts network"
    assert " ".join(given) in nodes
    again = script("run", *given, "--out", runs, "network", "nodes", environment=environment)
    assert again.returncode == 0
    one.write_text("another")
    for other in (given, [*given, "--scale", "cpu"], []):
        done = script("run", *other, "--out", runs, "nodes", environment=environment)
        assert done.returncode == 2
        assert f"step nodes in {runs} was finished at another scale or of another checkpoint" in done.stderr
    assert len(log.read_text().splitlines()) == 2
    done = script("run", "--checkpoint", tmp_path, "--out", runs, "nodes", environment=environment)
    assert (done.returncode, done.stderr) == (2, f"paper_scale: {tmp_path} is no file; give a checkpoint\n")


def test_a_step_that_others_killed_has_failed(tmp_path: Path) -> None:
    stub = tmp_path / "stub.sh"
    stub.write_text("kill -KILL $$\n")
    done = script("run", "--minutes", "5", "--out", tmp_path / "runs", environment={"NODELENS": f"bash {stub}"})
    assert done.returncode == 137
    assert "step network failed with code 137" in done.stderr


def test_an_option_without_a_value_is_one_sentence(tmp_path: Path) -> None:
    done = script("run", "--minutes")
    assert done.returncode == 2
    assert "--minutes without a value" in done.stderr


def test_no_step_is_begun_that_would_be_stopped_at_once(tmp_path: Path) -> None:
    done = script("run", "--minutes", "0.1", "--out", tmp_path, environment={"NODELENS": "false"})
    assert done.returncode == TIME_IS_UP


def test_what_is_brought_back_is_small(tmp_path: Path) -> None:
    runs, back = tmp_path / "runs", tmp_path / "back"
    for run, rows in (("cct", 1000), ("cct/flowers102", 2500), ("vgg", 5000)):
        (runs / run / "tables").mkdir(parents=True)
        (runs / run / "tables" / "table1.csv").write_text(run)
        (runs / run / "checkpoints").mkdir()
        (runs / run / "checkpoints" / "resume.pt").touch()
        # 4, 10 and 20 MB, where 16 MiB may travel.
        save_file({"w": torch.randn(rows, 1000)}, runs / run / "model.safetensors", {"family": "cct"})
    done = script("collect", runs, back)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in back.iterdir())
    assert names == [
        "SHA256SUMS",
        "cct-flowers102.safetensors",
        "cct.safetensors",
        "results.tar.gz.00",
        "vgg.half.safetensors",
    ]
    assert max(path.stat().st_size for path in back.iterdir()) <= 16 * 2**20
    half = load_file(back / "vgg.half.safetensors")["w"]
    assert torch.equal(half, load_file(runs / "vgg" / "model.safetensors")["w"].half())
    with tarfile.open(back / "results.tar.gz.00") as archive:
        members = sorted(archive.getnames())
    assert members == [f"./{run}/tables/table1.csv" for run in ("cct/flowers102", "cct", "vgg")]


def test_weights_too_large_to_travel_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "vgg").mkdir()
    save_file({"w": torch.zeros(100, 100)}, tmp_path / "vgg" / "model.safetensors")
    command = [sys.executable, str(SCRIPTS / "small_weights.py"), str(tmp_path), str(tmp_path), "10000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "is left out" in done.stdout
    assert not (tmp_path / "vgg.safetensors").exists()


def test_the_script_is_clean() -> None:
    beside = Path(sys.executable).with_name("shellcheck")
    shellcheck = str(beside) if beside.exists() else shutil.which("shellcheck")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, str(SCRIPTS / "paper_scale.sh")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_whole_script_in_miniature(tmp_path: Path) -> None:
    """The steps but the last two, at the smoke scale, in calls of one minute; some minutes on one core."""
    environment = {"NODELENS": f"{sys.executable} -m nodelens"}
    steps = ("network", "nodes", "heads", "pruning", "flowers", "vgg")
    arguments = ("run", "--scale", "smoke", "--minutes", "1", "--out", tmp_path / "runs", *steps)
    calls = [script(*arguments, environment=environment)]
    while calls[-1].returncode == TIME_IS_UP and len(calls) < 60:
        calls.append(script(*arguments, environment=environment))
    assert calls[-1].returncode == 0, calls[-1].stderr[-2000:]
    page = (tmp_path / "runs" / "cct" / "reproduction.md").read_text()
    assert "Not finished: enforced." in page
    assert script("collect", tmp_path / "runs", tmp_path / "back").returncode == 0
    assert load_network(tmp_path / "back" / "cct.safetensors").config.labels == 10
    # With what was brought back it goes on elsewhere: the network is not trained again.
    with tarfile.open(tmp_path / "back" / "results.tar.gz.00") as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    elsewhere = tmp_path / "elsewhere" / "cct"
    shutil.copy(tmp_path / "back" / "cct.safetensors", elsewhere / "model.safetensors")
    for table in elsewhere.glob("tables/table1*"):
        table.unlink()
    log = (elsewhere / "log.jsonl").read_bytes()
    command = ["-m", "nodelens", "reproduce", "table1", "--scale", "smoke", "--out", str(elsewhere)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "training cct_3_3x1_64" not in done.stdout + done.stderr
    assert (elsewhere / "log.jsonl").read_bytes() == log
    assert list(elsewhere.glob("tables/table1*"))
