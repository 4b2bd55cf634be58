"""What training does on a GPU, as far as it can be told without one: where the images lie, that nothing waits."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from nodelens.data import Augmentation, ImageSet, load_images, normalisation_of
from nodelens.data.normalisation import Normalisation
from nodelens.data.part import whole
from nodelens.data.resident import ResidentImages, moved, near
from nodelens.networks import build_network, reading
from nodelens.probing import ProbeSettings, probe_recipe, train_probes
from nodelens.progress import console
from nodelens.replay import WARM_UP, Replayed, nothing_waits, replayed
from nodelens.runs import RunDirectory
from nodelens.training import TrainSettings, accuracy, recipe, train
from nodelens.training.batches import Batch, prepare, training_batches
from nodelens.training.enforced import EnforcedHeads
from nodelens.training.learner import Learner
from nodelens.training.precision import Precision, autocast
from nodelens.training.speed import Speed, peak_of, step_flops, utilisation
from pretend_gpu import pretend_gpu
from processes_job import trained, work
from test_processes import assert_close, assert_same_work

CPU = torch.device("cpu")
RECIPE = replace(recipe("cct-300"), batch_size=16, epochs=2)
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which the same is tested")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return load_images("digits", "train").take(torch.arange(0, 300, 3), "some")


def test_images_on_a_device_make_the_same_batches(digits: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    resident = moved(digits, CPU)
    assert len(resident) == len(digits) == 100
    for mine, theirs in zip(resident.own_batches(30), digits.own_batches(30), strict=True):
        assert mine[0] == theirs[0]
        assert all(torch.equal(a, b) for a, b in zip(mine[1:], theirs[1:], strict=True))
    assert near(digits, CPU) is digits
    normalisation = normalisation_of(digits)
    expected = list(training_batches(digits, RECIPE, 3, normalisation, CPU))
    monkeypatch.setattr("nodelens.training.batches.near", lambda images, device: resident)
    monkeypatch.setattr(digits.__class__, "batch", None)  # the host is not asked
    found = list(training_batches(digits, RECIPE, 3, normalisation, CPU))
    assert len(found) == len(expected) == 12
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.targets, b.targets)


def test_a_large_set_is_moved_in_pieces(digits: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodelens.data.resident.MOVED_AT_ONCE", 7)
    assert torch.equal(moved(digits, CPU).pixels, digits.batch(np.arange(100)))


def test_accuracy_is_the_same_wherever_the_images_lie(digits: ImageSet) -> None:
    network = build_network("cct_2_3x1_16", 10, 8, 1)
    normalisation = normalisation_of(digits)
    assert accuracy(network, moved(digits, CPU), normalisation) == accuracy(network, digits, normalisation)


def test_no_step_depends_on_a_value_on_the_device() -> None:
    """Fake tensors have no values: reading one (.item(), a shape that depends on one) would raise."""
    known = tuple(map(str, range(10)))
    network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.1, stochastic_depth=0.1)
    with FakeTensorMode(allow_non_fake_inputs=True):
        images = ResidentImages(torch.zeros(40, 8, 8, 1, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64), known)
        learner = Learner(network.train(), RECIPE, 0, "bf16")
        statistics = normalisation_of_grey()
        chosen = torch.arange(32).view(2, 16)
        prepared = prepare(images, chosen, whole(16), RECIPE, 0, range(2), statistics, CPU)
        for step, *batch in zip(range(2), *(part.split(16) for part in prepared), strict=True):
            learner.learn(Batch(step, 0, *batch, 1e-3, ends_epoch=False))
        with pytest.raises(Exception, match=r"data.dependent|_local_scalar_dense"):
            learner.mean_loss(1, 2)


def normalisation_of_grey() -> Normalisation:
    return Normalisation((0.5,), (0.25,))


@NO_GPU
def test_what_is_pretended_of_a_gpu() -> None:
    with pretend_gpu() as gpu:
        there = torch.arange(4.0).to("cuda")
        assert there.device == torch.device("cuda", 0)
        with pytest.raises(RuntimeError, match="cuda:0 and cpu"):
            there + torch.ones(4)
        squares = there.requires_grad_() ** 2
        squares.sum().backward()
        assert not gpu.waits
        assert there.grad is not None
        assert torch.equal(there.grad.cpu(), 2 * torch.arange(4.0))
        assert squares[2].item() == 4.0
        assert gpu.waits == {"aten._to_copy.default": 1, "aten._local_scalar_dense.default": 1}
        with autocast(torch.device("cuda"), "bf16"):
            assert nn.Linear(4, 2).to("cuda")(there).dtype == torch.bfloat16
            assert nn.LayerNorm(4).to("cuda")(there.bfloat16()).dtype == torch.float32


@NO_GPU
def test_a_gpu_does_what_a_cpu_does(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    parts = ["train", "muon", "measure", "prune", "search", "heads"]
    work(tmp_path / "cpu", parts)
    with pretend_gpu() as gpu:
        work(tmp_path / "gpu", parts)
    torch.set_num_threads(threads)
    assert gpu.launches["aten._fused_adamw_.default"] > 50  # it was not left out
    assert_same_work(tmp_path / "gpu", tmp_path / "cpu")


@NO_GPU
def test_a_training_on_a_gpu_goes_on_to_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def until(step: int) -> Callable[..., Iterator[Batch]]:
        def batches(*arguments: Any) -> Iterator[Batch]:
            for batch in training_batches(*arguments):
                if batch.step == step:
                    raise KeyboardInterrupt
                yield batch

        return batches

    loop = sys.modules["nodelens.training.train"]
    with pretend_gpu():
        trained(RunDirectory(tmp_path / "whole"))
        monkeypatch.setattr(loop, "training_batches", until(7))
        with pytest.raises(KeyboardInterrupt):
            trained(RunDirectory(tmp_path / "killed"))
        monkeypatch.undo()
        trained(RunDirectory(tmp_path / "killed"))
    whole, killed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


@NO_GPU
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_waits_for_nothing_on_a_gpu_and_16_batches_are_prepared_in_a_few_calls(
    optimizer: str, digits: ImageSet
) -> None:
    cuda, statistics = torch.device("cuda"), normalisation_of(digits)
    four = replace(RECIPE, batch_size=4, epochs=1, optimizer=optimizer)  # 25 batches: 16 together, then 9
    with pretend_gpu() as gpu:
        network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.1, stochastic_depth=0.1).to(cuda)
        learner, launches = Learner(network.train(), four, 0, "bf16"), []
        batches = training_batches(digits, four, 0, statistics, cuda)
        gpu.waits.clear()
        for _ in range(25):
            before = gpu.launches.total()
            batch = next(batches)
            launches.append(gpu.launches.total() - before)
            learner.learn(batch)
        assert not gpu.waits
    assert [step for step, count in enumerate(launches) if count] == [0, 16]
    one = replace(four, batch_size=100)
    with pretend_gpu() as gpu:
        next(training_batches(digits, one, 0, statistics, cuda))
    assert launches[0] < 2 * gpu.launches.total()  # sixteen batches, and hardly more than for one


@NO_GPU
def test_a_step_is_replayed_with_new_inputs() -> None:
    weight = torch.tensor([2.0, 3.0])
    with pretend_gpu() as gpu:
        there, calls = weight.to("cuda"), []

        def work(x: Tensor) -> Tensor:
            calls.append(1)
            return (x * there).sum() + torch.ones((), device="cuda")

        replayed = Replayed(work, torch.zeros(2).to("cuda"))
        recorded, launches = len(calls), gpu.launches.total()
        for x in (torch.tensor([1.0, 1.0]), torch.tensor([5.0, -1.0])):
            assert replayed(x.to("cuda")).cpu().item() == (x * weight).sum() + 1
        assert len(calls) == recorded
        assert gpu.launches.total() - launches < 10
        with pytest.raises(RuntimeError, match="synchronizing CUDA operation"):
            Replayed(lambda x: x.sum().item(), torch.zeros(2).to("cuda"))


@NO_GPU
def test_labels_given_to_heads_are_learnt_in_replayed_steps(digits: ImageSet, tmp_path: Path) -> None:
    settings = TrainSettings("cct_2_3x1_16", RECIPE, enforced=EnforcedHeads("random", weight=1.0))
    on_cpu = train(settings, digits, digits, RunDirectory(tmp_path / "cpu")).state_dict()
    with pretend_gpu() as gpu:
        found = train(settings, digits, digits, RunDirectory(tmp_path / "gpu")).state_dict()
        on_gpu = {name: weight.cpu() for name, weight in found.items()}
    assert gpu.launches["aten.max_pool2d_with_indices_backward.default"] == WARM_UP + 1  # of twelve steps
    assert_close(on_gpu, dict(on_cpu), 1e-3)


def test_averages_of_batch_normalisation_are_moved_once_a_step(digits: ImageSet) -> None:
    found: list[dict[str, Tensor]] = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        with pretend_gpu() if device == "cuda" and not torch.cuda.is_available() else nullcontext():
            there, plain = torch.device(device), replace(RECIPE, augmentation=Augmentation(flip=0.0))
            learner = Learner(network.to(there).train(), plain, 0, "fp32")
            for batch in training_batches(digits, plain, 0, normalisation_of(digits), there):
                learner.learn(batch)
            assert isinstance(learner._forward_backward, Replayed) == (device == "cuda")
            found.append({name: value.detach().cpu() for name, value in network.state_dict().items()})
    assert found[0]["1.num_batches_tracked"] == 12
    assert_close(found[1], found[0], 1e-3)


@NO_GPU
@pytest.mark.parametrize("waits", [False, True])
def test_probes_of_a_network_that_waits_are_not_replayed(
    waits: bool, digits: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "quiet", False)
    torch.manual_seed(0)
    network = build_network("cct_2_3x1_16", 10, 8, 1).eval()
    if waits:
        network.tokenizer.register_forward_pre_hook(lambda _, images: float(images[0].sum()) and None)
    settings = ProbeSettings(probe_recipe(2, batch_size=40), seeds=(0, 1))
    sites, found = [site for site in network.sites() if site.block == 2], []
    normalisation = normalisation_of(digits)
    for device in ("cpu", "cuda"):
        with pretend_gpu() if device == "cuda" else nullcontext(), console.capture() as said:
            probes = train_probes(copy.deepcopy(network).to(device), sites, digits, normalisation, settings)
            found.append({name: weight.cpu() for name, weight in probes.state_dict().items()})
        assert ("launched one by one" in said.get()) == (waits and device == "cuda")
    assert_close(found[1], found[0], 1e-3)


@NO_GPU
def test_the_residual_stream_keeps_its_format_on_a_gpu() -> None:
    formats: dict[str, torch.dtype] = {}
    with pretend_gpu():
        cuda = torch.device("cuda")
        network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.1, stochastic_depth=0.1).to(cuda)
        stream = [site for site in network.sites() if site.stream]
        with (
            reading(network, stream, lambda name, activations: formats.update({name: activations.dtype})),
            autocast(cuda, "bf16"),
        ):
            network(torch.randn(2, 1, 8, 8).to(cuda))
    assert formats == {site.name: torch.bfloat16 for site in stream}


@GPU
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_no_step_waits_for_the_gpu(optimizer: str, digits: ImageSet) -> None:
    cuda, chosen = torch.device("cuda"), replace(RECIPE, optimizer=optimizer)
    network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.1, stochastic_depth=0.1).to(cuda)
    learner = Learner(network.train(), chosen, 0, "bf16")
    batches = training_batches(digits, chosen, 0, normalisation_of(digits), cuda)
    learner.learn(next(batches))
    with nothing_waits():
        for batch in batches:
            learner.learn(batch)
    assert learner.step == 12


@GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_replayed_steps_are_those_launched_one_by_one(precision: Precision, digits: ImageSet) -> None:
    cuda, normalisation, found = torch.device("cuda"), normalisation_of(digits), []
    for replay in (True, False):
        torch.manual_seed(0)
        network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.1, stochastic_depth=0.1).to(cuda)
        learner = Learner(network.train(), RECIPE, 0, precision, replay=replay)
        for batch in training_batches(digits, RECIPE, 0, normalisation, cuda):
            learner.learn(batch)
        assert isinstance(learner._forward_backward, Replayed) == replay
        found.append({name: weight.cpu() for name, weight in network.state_dict().items()})
    assert_close(found[0], found[1], 1e-3 if precision == "fp32" else 3e-2)


@GPU
def test_several_functions_are_replayed_one_after_another_and_in_turns() -> None:
    def doubled(x: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, torch.rand(3, device="cuda")

    x, drawn = torch.arange(3.0, device="cuda"), []
    for _ in range(3):  # each forgotten before the next
        assert torch.equal(Replayed(doubled, x)(x + 1)[0], 2 * (x + 1))
    first, second = Replayed(doubled, x), Replayed(lambda y: doubled(y + 1), x)
    for step in range(3):
        for one, expected in ((first, 2 * (x + step)), (second, 2 * (x + step + 1))):
            found, numbers = one(x + step)
            assert torch.equal(found, expected)
            drawn += numbers.tolist()
    assert len(set(drawn)) == 18


@GPU
def test_what_waits_is_launched_one_by_one_with_the_same_random_numbers() -> None:
    def waiting(x: Tensor) -> Tensor:
        return x + torch.rand(3, device="cuda") * bool(x.sum() > -1)

    x = torch.zeros(3, device="cuda")
    work = replayed(waiting, x)
    assert work is waiting
    torch.manual_seed(3)
    expected = torch.rand(3, device="cuda")
    torch.manual_seed(3)
    assert torch.equal(work(x), expected)


@GPU
def test_a_gpu_has_the_images(digits: ImageSet) -> None:
    resident = near(digits, torch.device("cuda"))
    assert isinstance(resident, ResidentImages)
    assert resident.pixels.is_cuda
    assert torch.equal(resident.pixels.cpu(), digits.batch(np.arange(100)))


def test_products_of_a_step_are_counted() -> None:
    first, second = nn.Linear(48, 10), nn.Linear(10, 5)
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), second)
    # Forward, the gradients of both weights, and that of the second layer's input.
    assert step_flops(network, (4, 4, 3)) == 2 * (480 + 50) + 2 * (480 + 50) + 2 * 50
    assert all(weight.grad is None for weight in network.parameters())


def test_norms_that_are_shared_by_processes_do_not_hinder_the_count() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    expected = step_flops(network, (8, 8, 3))
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert step_flops(shared, (8, 8, 3)) == expected > 0
    assert all(module.training for module in shared.modules())


def test_speed_says_which_share_of_the_peak_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[float] = iter([0.0, 10.0, 12.0, 12.0, 14.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    peak = peak_of("NVIDIA H100 80GB HBM3")
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
    speed = Speed(100, utilisation(network, (4, 4, 3), peak))
    speed.count()
    speed.restart()
    for _ in range(4):
        speed.count()
    assert speed.facts()["images_per_second"] == 200.0
    assert peak is not None
    of_one = utilisation(network, (4, 4, 3), peak / 1e9)  # of a device so slow that the share is not rounded away
    assert of_one == pytest.approx(step_flops(network, (4, 4, 3)) / (peak / 1e9))
    slow = Speed(100, of_one)
    slow.count()
    assert slow.facts()["mfu"] == pytest.approx(100 / 2 * of_one, abs=5e-5)
    assert utilisation(network, (4, 4, 3), None) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H200", 989e12), ("NVIDIA H100 PCIe", 756e12), ("NVIDIA A100-SXM4-80GB", 312e12), ("Tesla T4", None)],
)
def test_the_peak_follows_from_the_name(name: str, peak: float | None) -> None:
    assert peak_of(name) == peak


COMPILED = """
import sys, torch
from nodelens.data import load_images
from nodelens.runs import RunDirectory
from nodelens.training import TrainSettings, recipe, train
from dataclasses import replace
loop = sys.modules["nodelens.training.train"]  # of the same name as the function that the package exports
out, stop = sys.argv[1], int(sys.argv[2])
images = load_images("digits", "train").take(torch.arange(96), "few")
short = replace(recipe("digits", 2), batch_size=32, attention_dropout=0.1, stochastic_depth=0.1)
original = loop.training_batches
def some(*arguments):
    for done, batch in enumerate(original(*arguments)):
        if done == stop:
            raise SystemExit(3)
        yield batch
loop.training_batches = some
settings = TrainSettings("cct_2_3x1_16", short, seed=1, compile=True)
train(settings, images, images, RunDirectory(__import__("pathlib").Path(out)), checkpoint_seconds=0.0)
"""


@pytest.mark.slow
def test_a_compiled_run_goes_on_to_the_same_network(tmp_path: Path) -> None:
    # In processes of their own: the checks of shapes that the tests wrap around every function do not compile.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def run(name: str, stop: int) -> int:
        arguments = [sys.executable, "-c", COMPILED, str(tmp_path / name), str(stop)]
        return subprocess.run(arguments, env=environment, capture_output=True, check=False).returncode

    assert run("whole", 99) == 0
    assert run("killed", 4) == 3
    assert run("killed", 99) == 0
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]
