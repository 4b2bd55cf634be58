"""Signals: between steps a command stops at once, within one it finishes it and writes its checkpoint."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nodelens.cli import main
from nodelens.data import load_images, normalisation_of
from nodelens.errors import InputError
from nodelens.files import load_state
from nodelens.interruption import Checkpoints, Interrupted, heeding_signals
from nodelens.networks import CCT, layers, sites
from nodelens.probing import ProbeSettings, probe_recipe
from nodelens.probing.train import train_probes
from nodelens.pruning.retrain import retrain, retraining
from nodelens.runs import RunDirectory
from nodelens.training import TrainSettings, recipe, train
from nodelens.training.batches import Batch, training_batches

NEVER = 1e9


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Those of before; and Ctrl-C is not ignored, as it is in a shell's background."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before:
        signal.signal(number, handler)


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def interrupted(work: Callable[[], object]) -> Interrupted:
    """Do some work that a signal must stop."""
    with pytest.raises(Interrupted) as stopped, heeding_signals():
        work()
    return stopped.value


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_between_steps_a_signal_stops_at_once(number: signal.Signals, code: int) -> None:
    def work() -> None:
        send(number)
        pytest.fail("went on")

    stopped = interrupted(work)
    assert str(stopped) == f"stopped by {number.name}; run the same command again to go on from here"
    assert stopped.exit_code == code
    assert not isinstance(stopped, Exception)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_within_a_step_a_signal_waits_for_the_checkpoint(number: signal.Signals) -> None:
    done: list[str] = []

    def work() -> None:
        with Checkpoints(lambda: done.append("checkpoint"), NEVER) as checkpoints:
            for step in range(5):
                if step == 2:
                    send(number)
                done.append(f"step {step}")
                checkpoints.after_step(ends_epoch=False)

    interrupted(work)
    assert done == ["step 0", "step 1", "step 2", "checkpoint"]


@pytest.mark.parametrize("moment", ["while the processes agree", "while the checkpoint is written"])
def test_a_signal_at_an_awkward_moment_waits_for_the_next_step(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def agreeing(asked: int) -> int:
        if moment == "while the processes agree" and done == ["step 0"]:
            send(signal.SIGTERM)
        return asked

    def save() -> None:
        done.append("checkpoint")
        if moment == "while the checkpoint is written" and len(done) == 2:
            send(signal.SIGTERM)

    def work() -> None:
        with Checkpoints(save, NEVER) as checkpoints:
            for step in range(5):
                done.append(f"step {step}")
                checkpoints.after_step(ends_epoch=step == 0)

    monkeypatch.setattr("nodelens.processes.largest", agreeing)
    interrupted(work)
    # The other processes hear of it after the step that follows; what was done last is in the checkpoint.
    assert done == ["step 0", "checkpoint", "step 1", "checkpoint"]


def test_a_signal_after_the_last_step_stops_before_what_follows() -> None:
    def work() -> None:
        with Checkpoints(None, NEVER) as checkpoints:
            checkpoints.after_step(ends_epoch=True)
            send(signal.SIGTERM)
        pytest.fail("went on")

    interrupted(work)


def test_a_scheduler_may_repeat_itself_but_a_second_ctrl_c_does_not_wait() -> None:
    sent: list[signal.Signals] = []

    def work() -> None:
        with Checkpoints(None, NEVER):
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
                send(number)
                sent.append(number)

    assert interrupted(work).exit_code == 143
    assert sent == [signal.SIGTERM, signal.SIGTERM]


def test_what_cleans_up_is_left_alone() -> None:
    cleaned: list[bool] = []

    def work() -> None:
        try:
            send(signal.SIGINT)
        finally:
            send(signal.SIGTERM)
            send(signal.SIGINT)
            cleaned.append(True)

    assert interrupted(work).exit_code == 130
    assert cleaned == [True]


def test_handlers_are_put_back_and_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = signal.getsignal(signal.SIGTERM)
    with heeding_signals():
        send(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_library_leaves_signals_alone() -> None:
    done: list[int] = []
    with pytest.raises(KeyboardInterrupt), Checkpoints(lambda: done.append(1), NEVER):
        send(signal.SIGINT)
    assert done == []


def test_the_time_between_checkpoints_is_that_of_a_clock_that_nobody_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    now, saved = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: pytest.fail("asked for the time of day"))
    with Checkpoints(lambda: saved.append(now[0]), 10.0) as checkpoints:
        for moment in (105.0, 110.5, 115.0, 120.0, 121.0):
            now[0] = moment
            checkpoints.after_step(ends_epoch=False)
    assert saved == [110.5, 121.0]


def signal_in_step(monkeypatch: pytest.MonkeyPatch, loop: str, step: int) -> None:
    """SIGTERM comes while a step of a training loop is under way."""

    def disturbed(*arguments: Any) -> Iterator[Batch]:
        for batch in training_batches(*arguments):
            if batch.step == step:
                send(signal.SIGTERM)
            yield batch

    monkeypatch.setattr(sys.modules[loop], "training_batches", disturbed)


def test_every_training_loop_finishes_its_step(cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, test = (load_images("digits", split).take(torch.arange(100), split) for split in ("train", "test"))
    normalisation = normalisation_of(images)
    short = recipe("digits", 2, 10)
    probes = ProbeSettings(probe_recipe(2, batch_size=10))
    again = retraining(2)
    again = replace(again, recipe=replace(again.recipe, batch_size=10))

    def train_network() -> object:
        return train(TrainSettings("cct_2_3x1_16", short), images, test, RunDirectory(tmp_path))

    def train_the_probes() -> object:
        return train_probes(cct, sites(cct)[:1], images, normalisation, probes, tmp_path / "probes.pt")

    def retrain_variants() -> object:
        state = tmp_path / "retrain.pt"
        return retrain({"one": cct}, layers(cct)[-1:], images, normalisation, again, evaluated={}, state=state)

    work = {
        "training.train": (train_network, "checkpoints/resume.pt"),
        "probing.train": (train_the_probes, "probes.pt"),
        "pruning.retrain": (retrain_variants, "retrain.pt"),
    }
    for loop, (run, file) in work.items():
        signal_in_step(monkeypatch, f"nodelens.{loop}", 3)
        interrupted(run)
        state = load_state(tmp_path / file)
        assert state is not None
        assert (state["learners"]["one"] if "learners" in state else state)["step"] == 4, loop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_line_says_one_sentence(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nodelens.cli.app", lambda **_: send(number))
    monkeypatch.setattr(sys, "argv", ["nodelens", "--debug", "train"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 128 + number
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"nodelens: stopped by {number.name}; run the same command again to go on from here\n"


def test_an_error_of_input_keeps_its_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(**_: object) -> None:
        raise InputError("no such thing")

    monkeypatch.setattr("nodelens.cli.app", fail)
    monkeypatch.setattr(sys, "argv", ["nodelens", "train"])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "nodelens: no such thing\n"
