"""Training: the batches, the loop, and that a killed run ends where an undisturbed one does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nodelens.data import Augmentation, ImageSet, load_images, normalisation_of, normalise
from nodelens.errors import InputError
from nodelens.files import read_tensors
from nodelens.networks import build_network, load_network, masks_of, stored
from nodelens.probing import learnt_flip
from nodelens.report.training import report_training, training_events
from nodelens.runs import RunDirectory
from nodelens.training import (
    Assignment,
    Recipe,
    TrainSettings,
    accuracy,
    assigned_masks,
    recipe,
    resolve_precision,
    train,
)
from nodelens.training.batches import Batch, steps_per_epoch, training_batches
from nodelens.training.precision import autocast

loop = sys.modules["nodelens.training.train"]
CPU = torch.device("cpu")
# Dropout, mixing and a crop: everything random that a resumed run must repeat.
RECIPE = Recipe(
    epochs=3,
    batch_size=32,
    learning_rate=2e-3,
    warmup_epochs=0.5,
    attention_dropout=0.1,
    stochastic_depth=0.1,
    augmentation=Augmentation(flip=0.5, crop_padding=1, mixup=0.8, cutmix=1.0, mix_probability=0.5),
)
SETTINGS = TrainSettings("cct_2_3x1_16", RECIPE, seed=3)


class Killed(BaseException):
    """Stands for a kill within the process: nothing in the package may catch it."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def training(cache: Path) -> ImageSet:
    return load_images("digits", "train", cache=cache).take(torch.arange(170), "train-170")


@pytest.fixture(scope="module")
def test_images(cache: Path) -> ImageSet:
    return load_images("digits", "test", cache=cache).take(torch.arange(90), "test-90")


@pytest.fixture(scope="module")
def undisturbed(training: ImageSet, test_images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    run = RunDirectory(tmp_path_factory.mktemp("undisturbed"))
    train(SETTINGS, training, test_images, run)
    return run


def events(run: RunDirectory) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]
    assert all(line.pop("images_per_second") > 0 for line in lines)
    return lines


def assert_same_run(run: RunDirectory, other: RunDirectory) -> None:
    assert run.model.read_bytes() == other.model.read_bytes()
    assert events(run) == events(other)
    assert not list(run.checkpoints.glob("*"))


def kill_after_batches(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    def interrupted(*arguments: Any) -> Iterator[Batch]:
        for done, batch in enumerate(training_batches(*arguments)):
            if done == batches:
                raise Killed
            yield batch

    monkeypatch.setattr(loop, "training_batches", interrupted)


def kill_at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    original, calls = getattr(owner, name), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, interrupted)


def kill_while_renaming(monkeypatch: pytest.MonkeyPatch, name: str, time: int) -> None:
    original, times = os.replace, []

    def interrupted(source: Any, target: Path) -> None:
        times.extend([target] * (Path(target).name == name))
        if len(times) == time:
            raise Killed
        original(source, target)

    monkeypatch.setattr(os, "replace", interrupted)


# Five steps make an epoch.
MOMENTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "before the first step": lambda m: kill_after_batches(m, 0),
    "in the first epoch": lambda m: kill_after_batches(m, 3),
    "at the first epoch's end": lambda m: kill_after_batches(m, 5),
    "in the last epoch": lambda m: kill_after_batches(m, 13),
    "while an epoch's checkpoint is written": lambda m: kill_at_call(m, os, "replace", 7),
    "after an event, before its checkpoint": lambda m: kill_at_call(m, loop, "save_state", 10),
    "before an event": lambda m: kill_at_call(m, RunDirectory, "log", 2),
    "before the model is written": lambda m: kill_at_call(m, RunDirectory, "write_tensors", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_if_it_had_not_been(
    moment: str, undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        MOMENTS[moment](monkeypatch)
        with pytest.raises(Killed):
            train(SETTINGS, training, test_images, run, checkpoint_seconds=0.0)
    assert not run.model.exists()
    network = train(SETTINGS, training, test_images, run, checkpoint_seconds=0.0)
    assert_same_run(run, undisturbed)
    assert not network.training
    assert all(torch.equal(w, read_tensors(run.model)[key]) for key, w in network.state_dict().items())


def test_a_killed_run_goes_on_by_muon(
    training: ImageSet, test_images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, recipe=replace(RECIPE, optimizer="muon", momentum=0.95))
    whole, killed = RunDirectory(tmp_path / "whole"), RunDirectory(tmp_path / "killed")
    train(settings, training, test_images, whole)
    kill_after_batches(monkeypatch, 8)
    with pytest.raises(Killed):
        train(settings, training, test_images, killed, checkpoint_seconds=0.0)
    monkeypatch.undo()
    train(settings, training, test_images, killed)
    assert_same_run(killed, whole)


def test_the_accuracy_is_looked_at_seldom_if_so_asked(
    training: ImageSet, test_images: ImageSet, undisturbed: RunDirectory, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)
    train(SETTINGS, training, test_images, run, test_every=2)
    assert run.model.read_bytes() == undisturbed.model.read_bytes()
    known = {event["epoch"]: event["test_accuracy"] for event in training_events(undisturbed)}
    assert [event.get("test_accuracy") for event in training_events(run)] == [None, known[2], known[3]]
    report_training(run)
    assert (tmp_path / "tables" / "training.csv").read_text().splitlines()[1].count(",") == 5
    with pytest.raises(InputError, match="--test-every 0: give a number of epochs, at least 1"):
        train(SETTINGS, training, test_images, RunDirectory(tmp_path / "other"), test_every=0)
    assert not (tmp_path / "other").exists()


def test_a_resumed_run_goes_on_where_it_was(
    training: ImageSet, test_images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after_batches(monkeypatch, 8)
    with pytest.raises(Killed):
        train(SETTINGS, training, test_images, RunDirectory(tmp_path), checkpoint_seconds=0.0)
    seen: list[int] = []

    def watched(*arguments: Any) -> Iterator[Batch]:
        for batch in training_batches(*arguments):
            seen.append(batch.step)
            yield batch

    monkeypatch.setattr(loop, "training_batches", watched)
    train(SETTINGS, training, test_images, RunDirectory(tmp_path))
    assert seen == list(range(8, 15))


def test_a_finished_run_is_not_trained_again(
    undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_after_batches(monkeypatch, 0)
    before = (undisturbed.path / "log.jsonl").read_bytes()
    network = train(SETTINGS, training, test_images, undisturbed)
    assert not network.training
    weights = read_tensors(undisturbed.model)
    assert all(torch.equal(w, weights[key]) for key, w in network.state_dict().items())
    assert (undisturbed.path / "log.jsonl").read_bytes() == before


def test_weights_left_out_by_assigned_labels_are_never_there(
    training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, assigned=Assignment(2, ("block.*.*", "output")), keep_every=1)
    undisturbed, killed = RunDirectory(tmp_path / "undisturbed"), RunDirectory(tmp_path / "killed")
    network = train(settings, training, test_images, undisturbed)
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_after_batches(monkeypatch, 8)
        with pytest.raises(Killed):
            train(settings, training, test_images, killed, checkpoint_seconds=0.0)
    train(settings, training, test_images, killed)
    assert killed.model.read_bytes() == undisturbed.model.read_bytes()
    assert events(killed) == events(undisturbed)
    expected = assigned_masks(network, settings.assigned, settings.seed)
    assert len(expected) == 9
    files = [undisturbed.model, *sorted(undisturbed.checkpoints.glob("epoch_*.safetensors"))]
    assert len(files) == 4
    for trained in (network, *map(load_network, files)):
        found = masks_of(trained)
        assert found.keys() == expected.keys()
        for module, mask in expected.items():
            weight = trained.get_submodule(module).weight
            assert torch.equal(found[module], mask)
            assert not weight[~mask].any()
            assert weight[mask].all()


def test_a_run_that_an_earlier_version_began_goes_on(
    undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_after_batches(monkeypatch, 8)
        with pytest.raises(Killed):
            train(SETTINGS, training, test_images, run, checkpoint_seconds=0.0)
    sections = run.configuration()
    del sections["train"]["settings"]["assigned"]
    run.write_json("config.json", sections)
    with pytest.raises(InputError, match=r"\(different: assigned\)"):
        train(replace(SETTINGS, assigned=Assignment(2)), training, test_images, run)
    train(SETTINGS, training, test_images, run)
    assert_same_run(run, undisturbed)


def test_a_network_that_cannot_be_built_leaves_no_configuration(
    training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    for settings in (replace(SETTINGS, network="vgg11"), replace(SETTINGS, assigned=Assignment(11))):
        with pytest.raises(InputError):
            train(settings, training, test_images, RunDirectory(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_seed_is_another_network(
    undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    short = replace(SETTINGS, seed=4, recipe=replace(RECIPE, epochs=1))
    first = train(short, training, test_images, RunDirectory(tmp_path / "a")).state_dict()
    again = train(short, training, test_images, RunDirectory(tmp_path / "b")).state_dict()
    other = train(replace(short, seed=5), training, test_images, RunDirectory(tmp_path / "c")).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not any(torch.equal(first[key], other[key]) for key in first)


def test_what_a_run_leaves(undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet) -> None:
    log = events(undisturbed)
    assert [(event["epoch"], event["step"]) for event in log] == [(1, 5), (2, 10), (3, 15)]
    assert [event["learning_rate"] for event in log] == [RECIPE.rate(step, 5) for step in (4, 9, 14)]
    section = undisturbed.configuration()["train"]
    assert section["settings"]["recipe"]["augmentation"]["mixup"] == 0.8
    assert section["settings"]["data"]["fingerprint"] == training.fingerprint
    assert section["settings"]["data"]["test_split"] == "test-90"
    assert torch.__version__.startswith(section["versions"]["torch"])
    network = load_network(undisturbed.path, labels=10)
    normalisation = normalisation_of(training)
    correct = 0
    for i in range(len(test_images)):
        image = normalise(test_images.batch(np.array([i])), normalisation.mean, normalisation.std)
        correct += int(network(image)[0].argmax() == test_images.labels[i])
    assert log[-1]["test_accuracy"] == round(correct / 90, 5)
    assert float(network.checkpoint_metadata["test_accuracy"]) == round(correct / 90, 5)
    assert accuracy(network, test_images, normalisation, batch_size=7) == correct / 90


def test_weights_of_epochs_are_kept_on_request(training: ImageSet, test_images: ImageSet, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    network = train(replace(SETTINGS, keep_every=2, recipe=replace(RECIPE, epochs=4)), training, test_images, run)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "epoch_0002.safetensors",
        "epoch_0004.safetensors",
    ]
    last = load_network(run.checkpoints / "epoch_0004.safetensors")
    assert all(torch.equal(w, last.state_dict()[key]) for key, w in network.state_dict().items())


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("seed", {"seed": 4}),
        ("network", {"network": "cct_3_3x1_16"}),
        ("precision", {"precision": "bf16"}),
        (r"recipe\.weight_decay", {"recipe": replace(RECIPE, weight_decay=0.07)}),
        (
            r"recipe\.augmentation.*, seed",
            {"recipe": replace(RECIPE, augmentation=Augmentation()), "seed": 0},
        ),
    ],
)
def test_another_configuration_in_the_same_directory(
    field: str, changes: dict[str, Any], undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet
) -> None:
    before = undisturbed.configuration()
    with pytest.raises(InputError, match=rf"belongs to another train configuration \(different: {field}\)"):
        train(replace(SETTINGS, **changes), training, test_images, undisturbed)
    assert undisturbed.configuration() == before


def test_other_data_in_the_same_directory(undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet) -> None:
    other = training.take(torch.arange(169, -1, -1), training.split)
    with pytest.raises(InputError, match=r"\(different: data\.fingerprint\)"):
        train(SETTINGS, other, test_images, undisturbed)


def test_a_loss_that_diverges_is_a_sentence(training: ImageSet, test_images: ImageSet, tmp_path: Path) -> None:
    wild = replace(RECIPE, optimizer="sgd", learning_rate=1e25, warmup_epochs=0.0)
    with pytest.raises(InputError, match=r"the loss became (nan|inf) in epoch 1: .* lower the learning rate"):
        train(replace(SETTINGS, recipe=wild), training, test_images, RunDirectory(tmp_path))
    # Nothing was kept, so another rate can be tried in the same place.
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    train(replace(SETTINGS, recipe=replace(RECIPE, epochs=1)), training, test_images, RunDirectory(tmp_path))
    assert RunDirectory(tmp_path).settings("train")["recipe"]["epochs"] == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_precisions_learn(precision: str, training: ImageSet, test_images: ImageSet, tmp_path: Path) -> None:
    plain = Recipe(
        epochs=12, batch_size=17, learning_rate=6e-3, attention_dropout=0.0, stochastic_depth=0.0,
        augmentation=Augmentation(flip=0.0),
    )  # fmt: skip
    run = RunDirectory(tmp_path)
    network = train(TrainSettings("cct_2_3x1_16", plain, precision=precision), training, test_images, run)
    log = events(run)
    assert log[-1]["loss"] < 0.75 * log[0]["loss"]
    # Ten labels: chance is 0.1, with a standard error of 0.03.
    assert log[-1]["test_accuracy"] > 0.4
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}


def test_bf16_computes_in_bf16(training: ImageSet) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(64, 64, bias=False)
    x = torch.randn(8, 64)
    with autocast(CPU, "bf16"):
        assert layer(x).dtype == torch.bfloat16
    with autocast(CPU, "fp32"):
        assert layer(x).dtype == torch.float32


def test_precision_by_name() -> None:
    assert resolve_precision("auto", CPU) in ("fp32", "bf16")
    assert [resolve_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    with pytest.raises(InputError, match="unknown precision 'fp16'; choose auto, fp32 or bf16"):
        resolve_precision("fp16", CPU)


def test_an_epoch_sees_every_image_once(training: ImageSet) -> None:
    plain = replace(RECIPE, batch_size=17, augmentation=Augmentation(flip=0.0), label_smoothing=0.0)
    normalisation = normalisation_of(training)
    batches = list(training_batches(training, plain, 0, normalisation, CPU))
    everything = normalise(training.batch(torch.arange(170)), normalisation.mean, normalisation.std)
    orders = []
    for epoch in range(3):
        of_epoch = [batch for batch in batches if batch.epoch == epoch]
        assert [batch.ends_epoch for batch in of_epoch] == [False] * 9 + [True]
        images = torch.cat([batch.images for batch in of_epoch])
        labels = torch.cat([batch.targets for batch in of_epoch]).argmax(1)
        # Which image is it? The nearest of all; some digits may be exactly alike.
        distance = torch.cdist(images.flatten(1).double(), everything.flatten(1).double())
        order = distance.argmin(1)
        assert distance.amin(1).max() < 1e-5
        assert sorted(order.tolist()) == list(range(170))
        assert torch.equal(labels, training.labels[order])
        orders.append(order)
    assert not torch.equal(orders[0], orders[1])


def test_batches_from_any_step_on_are_those_of_the_whole_run(training: ImageSet) -> None:
    normalisation = normalisation_of(training)
    whole = list(training_batches(training, RECIPE, 7, normalisation, CPU))
    assert [batch.step for batch in whole] == list(range(15))
    for first in (0, 4, 5, 14, 15):
        rest = list(training_batches(training, RECIPE, 7, normalisation, CPU, first))
        assert len(rest) == 15 - first
        for a, b in zip(rest, whole[first:], strict=True):
            assert torch.equal(a.images, b.images)
            assert torch.equal(a.targets, b.targets)
            assert (a.step, a.epoch, a.learning_rate, a.ends_epoch) == (b.step, b.epoch, b.learning_rate, b.ends_epoch)


def test_targets_are_smoothed_shares(training: ImageSet) -> None:
    smooth = replace(RECIPE, label_smoothing=0.3, augmentation=Augmentation())
    batch = next(iter(training_batches(training, smooth, 0, normalisation_of(training), CPU)))
    values = sorted(batch.targets[0].tolist())
    assert values == pytest.approx([0.03] * 9 + [0.73])
    mixed = next(iter(training_batches(training, RECIPE, 0, normalisation_of(training), CPU)))
    torch.testing.assert_close(mixed.targets.sum(1), torch.ones(32))


def test_a_split_smaller_than_a_batch(training: ImageSet, test_images: ImageSet, tmp_path: Path) -> None:
    few = training.take(torch.arange(31), "few")
    with pytest.raises(
        InputError, match=r"digits few has 31 images, less than a batch of 32; give a smaller --batch-size"
    ):
        train(SETTINGS, few, test_images, RunDirectory(tmp_path))
    assert steps_per_epoch(training, RECIPE) == 5


def test_images_that_are_not_square(training: ImageSet, test_images: ImageSet, tmp_path: Path) -> None:
    oblong = replace(training, pixels=np.asarray(training.pixels)[:, :, :6])
    with pytest.raises(InputError, match="digits has images of 8 × 6 pixels; give --image-size"):
        train(SETTINGS, oblong, test_images, RunDirectory(tmp_path))


def test_a_trained_network_without_its_log_is_one_sentence(undisturbed: RunDirectory, tmp_path: Path) -> None:
    shutil.copytree(undisturbed.path, tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    log = run.path / "log.jsonl"
    log.write_bytes(b"12\n\xff\n" + log.read_bytes())
    assert training_events(run) == training_events(undisturbed)
    log.unlink()
    with pytest.raises(InputError, match="says nothing of its training"):
        report_training(run)


def test_a_checkpoint_says_whether_its_network_learnt_mirrored_images(
    undisturbed: RunDirectory, training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    assert learnt_flip(load_network(undisturbed.path)) == 0.5
    never = replace(SETTINGS, recipe=replace(RECIPE, epochs=1, augmentation=Augmentation(flip=0.0)))
    train(never, training, test_images, RunDirectory(tmp_path))
    assert learnt_flip(load_network(tmp_path)) == 0.0
    assert learnt_flip(build_network("cct_2_3x1_16", 10, 8, 1)) == 0.5


def test_tensorboard_that_is_not_installed(
    training: ImageSet, test_images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r'TensorBoard is not installed; run pip install "nodelens\[tensorboard\]"'):
        train(SETTINGS, training, test_images, RunDirectory(tmp_path), tensorboard=True)


def command(cache: Path, out: Path, *more: str) -> tuple[list[str], dict[str, str]]:
    arguments = ["train", "cct_2_3x1_16", "--data", "digits", "--epochs", "6", "--precision", "fp32", "--out", str(out)]
    # The same number of threads as here: sums are taken in the same order.
    environment = {**os.environ, "NODELENS_CACHE": str(cache), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    return [sys.executable, "-m", "nodelens", *arguments, *more], environment


def test_a_network_that_others_trained_is_not_taken_for_the_run_s(
    training: ImageSet, test_images: ImageSet, tmp_path: Path
) -> None:
    run = RunDirectory(tmp_path)
    tensors, metadata = stored(build_network("cct_2_3x1_32", 10, 8, 1))
    save_file(tensors, run.model, metadata)
    before = run.model.read_bytes()
    with pytest.raises(InputError, match="holds a network that was not trained there; choose another --out"):
        train(SETTINGS, training, test_images, run)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert run.model.read_bytes() == before


def test_a_real_kill_on_the_command_line(cache: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "killed")
    arguments, environment = command(cache, run.path)
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoint = run.checkpoints / "resume.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert checkpoint.exists()
    assert not run.model.exists()

    with run.claimed():
        refused = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"nodelens: another process is working in {run.path}; wait for it or choose another --out\n"
    )

    finished = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    undisturbed = RunDirectory(tmp_path / "undisturbed")
    splits = [load_images("digits", split, cache=cache) for split in ("train", "test")]
    train(TrainSettings("cct_2_3x1_16", recipe("digits", 6)), *splits, undisturbed)
    assert_same_run(run, undisturbed)
    last = events(undisturbed)[-1]
    assert finished.stdout == f"test accuracy {last['test_accuracy']:.4f} after 6 epochs; run directory {run.path}\n"


def test_a_compiled_network_learns_the_same(cache: Path, tmp_path: Path) -> None:
    # In processes of their own: the checks of shapes that the tests wrap around every function do not compile.
    runs = [RunDirectory(tmp_path / name) for name in ("eager", "compiled")]
    for run, more in zip(runs, ([], ["--compile"]), strict=True):
        arguments, environment = command(cache, run.path, "--epochs", "1", "--batch-size", "700", *more)
        subprocess.run(arguments, env=environment, check=True, capture_output=True)
    (eager,), (compiled,) = (events(run) for run in runs)
    assert compiled["loss"] == pytest.approx(eager["loss"], abs=1e-5)
    weights, after = (read_tensors(run.model) for run in runs)
    assert list(after) == list(weights)
    apart = torch.cat([(after[name] - weight).abs().flatten() for name, weight in weights.items()])
    # Two steps of Adam: where a gradient is nothing but rounding, its sign may differ, and with it a whole step.
    assert (apart < 1e-6).double().mean() > 0.99
    assert float(apart.max()) <= 2 * 2 * eager["learning_rate"] * 1.01
