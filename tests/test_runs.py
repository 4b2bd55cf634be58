"""The run directory: nothing half-written, nothing mixed up."""

import csv
import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from nodelens import provenance
from nodelens.errors import InputError
from nodelens.files import load_state, read_json, read_metadata, read_tensors, save_state, write_atomically
from nodelens.runs import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def fail_with(number: int) -> Callable[..., None]:
    def fail(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_a_write_replaces_all_or_nothing(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "folder" / "result.json"
    write_atomically(file, b"first")
    write_atomically(file, b"second, longer")
    assert file.read_bytes() == b"second, longer"
    assert files(tmp_path) == ["deep/folder/result.json"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    write_atomically(file, b"old")
    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail_with(errno.ENOSPC))
        with pytest.raises(InputError) as raised:
            write_atomically(file, b"new")
    assert str(raised.value) == f"the disk is full: {file} was not written; free some space and run the command again"
    assert file.read_bytes() == b"old"
    assert files(tmp_path) == ["model.safetensors"]
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "table.csv"
    monkeypatch.setattr(os, "fsync", fail_with(errno.EACCES))
    with pytest.raises(InputError, match=r"table\.csv cannot be written \(Permission denied\); choose another folder"):
        write_atomically(file, b"")
    assert files(tmp_path) == []
    (tmp_path / "occupied").write_text("a file where a folder is needed")
    with pytest.raises(InputError, match=r"occupied.* cannot be written"):
        write_atomically(tmp_path / "occupied" / "table.csv", b"")
    with (
        pytest.raises(InputError, match=r"occupied.* cannot be written"),
        RunDirectory(tmp_path / "occupied").claimed(),
    ):
        pass


def test_the_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    for step in ("fsync", "replace"):
        original = getattr(os, step)

        def watched(*arguments: object, step: str = step, original: Callable[..., object] = original) -> object:
            order.append(step)
            return original(*arguments)

        monkeypatch.setattr(os, step, watched)
    write_atomically(tmp_path / "result", b"content")
    assert order == ["fsync", "replace"]


def test_what_a_killed_write_left_does_not_pile_up(tmp_path: Path) -> None:
    script = (
        "import os, sys, pathlib\n"
        "from nodelens import files\n"
        "os.replace = lambda *arguments: os._exit(9)\n"
        "files.write_atomically(pathlib.Path(sys.argv[1]), b'half')\n"
    )
    file = tmp_path / "resume.pt"
    killed = subprocess.run([sys.executable, "-c", script, str(file)], check=False)
    assert killed.returncode == 9
    assert not file.exists()
    write_atomically(file, b"whole")
    assert files(tmp_path) == ["resume.pt"]
    assert file.read_bytes() == b"whole"


def test_equal_content_makes_equal_files(run: RunDirectory) -> None:
    tensors = {
        "b": torch.arange(6.0).reshape(2, 3).T,
        "a": torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
    }
    metadata = {f"key {i}": f"wört {i}" for i in range(8)}
    run.write_tensors("first.safetensors", tensors, metadata)
    contents = set()
    for _ in range(6):
        run.write_tensors("again.safetensors", tensors, metadata)
        contents.add((run.path / "again.safetensors").read_bytes())
    assert contents == {(run.path / "first.safetensors").read_bytes()}
    found = read_tensors(run.path / "first.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert read_metadata(run.path / "first.safetensors") == metadata
    # A reader of another make agrees.
    with safe_open(run.path / "first.safetensors", framework="np") as file:
        assert file.get_tensor("b").tolist() == [[0, 3], [1, 4], [2, 5]]


@pytest.mark.parametrize("reader", [read_tensors, read_metadata])
def test_tensors_that_cannot_be_read(reader: Callable[[Path], object], run: RunDirectory) -> None:
    with pytest.raises(InputError, match=r"nothing\.safetensors does not exist"):
        reader(run.path / "nothing.safetensors")
    run.write_tensors("cut.safetensors", {"a": torch.ones(100)}, {})
    file = run.path / "cut.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"cut\.safetensors is truncated or not a safetensors file"):
        reader(file)


def test_a_configuration_is_its_settings(run: RunDirectory) -> None:
    settings = {"seed": 1, "crop": (0.8, 1.0), "recipe": {"epochs": 3}}
    run.configure("train", settings, threads=2)
    run.configure("train", {"recipe": {"epochs": 3}, "crop": [0.8, 1.0], "seed": 1}, threads=8)
    run.configure("measure", {"seed": 5})
    sections = run.configuration()
    assert sections["train"]["settings"] == {"seed": 1, "crop": [0.8, 1.0], "recipe": {"epochs": 3}}
    assert sections["train"]["threads"] == 2  # of the process that began
    assert sections["measure"]["settings"] == {"seed": 5}
    assert sections["train"]["versions"].keys() == {"python", "nodelens", "torch", "torchvision", "numpy"}
    assert sections == read_json(run.path / "config.json")


@pytest.mark.parametrize(
    ("settings", "different"),
    [
        ({"seed": 2, "recipe": {"epochs": 3}}, "seed"),
        ({"seed": 1, "recipe": {"epochs": 4}}, "recipe.epochs"),
        ({"seed": 2, "recipe": {"epochs": 4}}, "recipe.epochs, seed"),
        ({"recipe": {"epochs": 3}}, "seed"),
        ({"seed": 1, "recipe": {"epochs": 3}, "precision": "bf16"}, "precision"),
    ],
)
def test_another_configuration_is_refused_by_the_names_that_differ(
    settings: dict[str, object], different: str, run: RunDirectory
) -> None:
    run.configure("train", {"seed": 1, "recipe": {"epochs": 3}})
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(InputError) as raised:
        run.configure("train", settings)
    assert f"{run.path} belongs to another train configuration (different: {different})" in str(raised.value)
    assert (run.path / "config.json").read_bytes() == before


def test_a_setting_that_is_none_is_one_that_was_not_made(run: RunDirectory) -> None:
    run.configure("train", {"seed": 1})
    run.configure("train", {"seed": 1, "assigned": None})
    with pytest.raises(InputError, match=r"\(different: assigned\)"):
        run.configure("train", {"seed": 1, "assigned": 2})
    run.configure("train", {"seed": 1})


def test_the_commit_is_that_of_a_checkout_not_of_a_folder_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "site-packages" / "runs.py"
    installed.parent.mkdir()
    installed.touch()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(installed))
    assert provenance.source_commit() is None
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "ours"], check=True)
    theirs = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    assert provenance.source_commit() == theirs.stdout.strip()
    (tmp_path / "elsewhere").touch()
    assert provenance.source_commit() == theirs.stdout.strip()
    installed.write_text("changed")
    assert provenance.source_commit() == f"{theirs.stdout.strip()} with changes"


@pytest.mark.parametrize("content", ["", '{"train": ', "[1, 2]", "\udcff"])
def test_a_damaged_configuration_is_a_sentence(content: str, run: RunDirectory) -> None:
    (run.path / "config.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(InputError, match=r"config\.json is damaged"):
        run.configure("train", {})


def test_a_missing_json_file_is_a_sentence(run: RunDirectory) -> None:
    assert run.configuration() == {}
    with pytest.raises(InputError, match=r"config\.json does not exist; is .*run a run directory\?"):
        read_json(run.path / "config.json")


def test_events_of_a_command(run: RunDirectory) -> None:
    assert run.events("train") == []
    logged = [{"command": "train", "step": 1, "loss": 0.5}, {"command": "measure"}, {"command": "train", "step": 2}]
    for event in logged:
        run.log(event)
    assert run.events("train") == [logged[0], logged[2]]
    assert run.events("measure") == [logged[1]]


def test_events_after_a_crash_that_cut_a_line_off(run: RunDirectory) -> None:
    run.log({"command": "train", "step": 1})
    run.log({"command": "train", "step": 2})
    log = run.path / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-5])
    assert [event["step"] for event in run.events("train")] == [1]
    run.log({"command": "train", "step": 2})
    assert [event["step"] for event in run.events("train")] == [1, 2]


def test_a_resumed_command_forgets_what_it_will_log_again(run: RunDirectory) -> None:
    run.forget_events_after("train", 3)
    assert not (run.path / "log.jsonl").exists()
    for step in range(6):
        run.log({"command": "train", "step": step})
    run.log({"command": "measure", "step": 9})
    with (run.path / "log.jsonl").open("a") as file:
        file.write('{"command": "train", "st')
    run.forget_events_after("train", 3)
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert lines == [{"command": "train", "step": step} for step in range(4)] + [{"command": "measure", "step": 9}]
    run.forget_events_after("train", -1)
    assert run.events("train") == []
    assert len(run.events("measure")) == 1


def test_a_log_that_cannot_be_written(run: RunDirectory) -> None:
    (run.path / "log.jsonl").mkdir()
    with pytest.raises(InputError, match=r"log\.jsonl cannot be written"):
        run.log({"command": "train"})


def test_a_table_reads_back(run: RunDirectory) -> None:
    rows = [
        {"label": 'aquarium "fish", small', "share": 0.1, "n": 3},
        {"label": "two\nlines; größer", "share": 1 / 3, "n": -1},
    ]
    path = run.write_table("table1", rows)
    assert path == run.path / "tables" / "table1.csv"
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [{**row, "share": float(row["share"]), "n": int(row["n"])} for row in found] == rows
    assert run.write_table("empty", []).read_text().strip() == ""


def test_resume_state_reads_back(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints" / "resume.pt"
    assert load_state(file) is None
    save_state(file, {"step": 3, "weights": {"a": torch.arange(3.0)}, "rates": [0.1, None]})
    found = load_state(file)
    assert found is not None
    assert found.keys() == {"step", "weights", "rates"}
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    assert (found["step"], found["rates"]) == (3, [0.1, None])
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"resume\.pt is damaged \(\w+\); delete it to start over"):
        load_state(file)


def test_a_directory_made_for_a_refused_command_goes_again(tmp_path: Path) -> None:
    def refuse(path: Path, file: str = "") -> None:
        with RunDirectory(path).claimed():
            if file:
                RunDirectory(path).write_text(file, "x")
            raise InputError("refused")

    with pytest.raises(InputError, match="refused"):
        refuse(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    # What was there, or came to hold something, stays.
    (tmp_path / "old").mkdir()
    with pytest.raises(InputError, match="refused"):
        refuse(tmp_path / "old")
    assert (tmp_path / "old").is_dir()
    with pytest.raises(InputError, match="refused"):
        refuse(tmp_path / "held", "log.txt")
    assert (tmp_path / "held" / "log.txt").read_text() == "x"


def test_a_claim_ends_with_its_block_even_on_an_error(run: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), run.claimed():
        raise ZeroDivisionError
    with (
        run.claimed(),
        pytest.raises(InputError, match="another process is working in"),
        RunDirectory(run.path).claimed(),
    ):
        pass
    with run.claimed():
        pass
