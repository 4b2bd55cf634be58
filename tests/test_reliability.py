"""Killed, asked to end, out of space, not allowed to write, started twice: nothing is lost, one sentence is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from killing import Command, survive_kills

COMMON = ("--data", "digits", "--precision", "fp32")
STUDIES = ("measure", "prune", "heads")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    """Each command on digits with a tiny network; work of a second or two, half of it with checkpoints."""
    train = Command(("train", "cct_2_3x1_16", *COMMON, "--epochs", "5", "--keep-every", "2"))
    source = tmp_path_factory.mktemp("source") / "trained"
    done = Command((*train.arguments, "--epochs", "2")).finish(source)
    assert done.code == 0, done.error
    studied = {
        "measure": ("--sites", "block.*.linear2", "--split", "test,train", "--epochs", "8", "--permutations", "2"),
        "prune": ("--block", "2", "--seeds", "2", "--epochs", "2", "--probe-epochs", "4", "--baseline", "random"),
        "heads": ("--seeds", "1", "--epochs", "8", "--draws", "10"),
    }
    return {"train": train} | {
        name: Command((name, str(source), *COMMON, *arguments)) for name, arguments in studied.items()
    }


@pytest.mark.parametrize("name", ["train", *STUDIES])
def test_a_command_killed_at_a_random_moment_ends_with_the_same_files(
    name: str, commands: dict[str, Command], tmp_path: Path
) -> None:
    assert survive_kills(commands[name], tmp_path, kills=2, seed=1) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train", *STUDIES])
def test_a_command_killed_at_twenty_random_moments(name: str, commands: dict[str, Command], tmp_path: Path) -> None:
    assert survive_kills(commands[name], tmp_path, kills=20, seed=2) == 20
