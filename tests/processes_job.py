"""What test_processes.py runs in one, two and four processes: `processes_job.py FOLDER PART…`.

The parts, each into a folder of its own: `train`, `muon`, `measure`, `prune`, `search`, `heads`, without dropout so
that all numbers of processes agree; `sums`, the float64 sums of a measurement; `die`, the training, of which the last
process is killed.
"""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from nodelens.data import Augmentation, load_images, normalisation_of, normalise
from nodelens.files import save_state
from nodelens.heads.study import HeadData, HeadSettings, HeadStudy
from nodelens.networks import Network, apply_masks, build_network, masks_of, select_sites
from nodelens.probing import MeasureSettings, Probes, ProbeSettings, ProbingData, measure_network
from nodelens.probing.measure import LabelSums
from nodelens.processes import add_up, default_device, joined, rank, size
from nodelens.pruning.retrain import RetrainSettings
from nodelens.pruning.settings import PruneSettings, SearchSettings
from nodelens.pruning.study import HELD_OUT, PruningData, PruningStudy
from nodelens.report.search import report_search
from nodelens.runs import RunDirectory
from nodelens.training import Recipe, TrainSettings, train
from nodelens.training.batches import Batch, training_batches

# An odd batch, which no number of processes divides, and everything random but dropout.
RECIPE = Recipe(
    epochs=2,
    batch_size=33,
    learning_rate=2e-3,
    attention_dropout=0.0,
    stochastic_depth=0.0,
    augmentation=Augmentation(flip=0.5, crop_padding=1, rand_augment=5.0, erase=0.5, mixup=0.8, cutmix=1.0),
)
SITES = ("block.2.linear1", "block.2.linear2", "block.2.attention", "block.2.projection")


def images(split: str, count: int) -> Any:
    return load_images("digits", split).take(torch.arange(count), split)


TRAINING, TEST = images("train", 170), images("test", 300)  # three batches: one of four processes has none
NORMALISATION = normalisation_of(TRAINING)


def trained(run: RunDirectory, recipe: Recipe = RECIPE) -> None:
    train(TrainSettings("cct_2_3x1_16", recipe, seed=3), TRAINING, TEST, run, checkpoint_seconds=0.0)


def trained_by_muon(run: RunDirectory) -> None:
    trained(run, replace(RECIPE, optimizer="muon", momentum=0.95))


def die_at(step: int) -> None:
    """From now on the last process is killed when it comes to that step of training."""

    def until_then(*arguments: Any) -> Iterator[Batch]:
        for batch in training_batches(*arguments):
            if batch.step == step and rank() == size() - 1:
                os.kill(os.getpid(), signal.SIGKILL)
            yield batch

    sys.modules["nodelens.training.train"].training_batches = until_then  # type: ignore[attr-defined]


def network() -> Network:
    torch.manual_seed(0)
    made = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.0, stochastic_depth=0.0).eval()
    with torch.no_grad():
        for weight in made.parameters():
            weight += 0.2 * torch.randn_like(weight)
    return made.to(default_device())


def measured(run: RunDirectory) -> None:
    settings = ProbeSettings(replace(RECIPE, epochs=1), seeds=(0, 1))
    data = ProbingData(TRAINING, {"test": TEST}, NORMALISATION)
    measure_network(network(), data, MeasureSettings(SITES, ("test",), settings, untrained=False), run)


def summed(path: Path) -> None:
    """The sums of one pass, as `measure_probes` takes them, with probes that are the same for everybody."""
    probed = network()
    probes = Probes(select_sites(probed.sites(), SITES), 10, (0,)).requires_grad_(False)
    with torch.inference_mode():
        sums = LabelSums(probed, probes)
        for _, pixels, labels in TEST.own_batches(16):
            inputs = normalise(pixels, NORMALISATION.mean, NORMALISATION.std)
            sums.add_batch(inputs, labels, "fp32")
        add_up(sums.tensors())
    summed = {str(i): tensor for i, tensor in enumerate(sums.tensors()) if tensor.is_floating_point()}
    save_state(path, summed)


def pruned(run: RunDirectory) -> None:
    probe = ProbeSettings(replace(RECIPE, epochs=1))
    retraining = RetrainSettings(replace(RECIPE, epochs=1))
    settings = PruneSettings(
        layers=("block.2.*",), dilution=0.5, methods=("andc", "wanda"), seeds=(0,), retraining=retraining, probe=probe
    )
    data = PruningData(TRAINING, replace(TEST, split=HELD_OUT), TEST, NORMALISATION)
    study = PruningStudy(network(), data, settings, run, RunDirectory(run.path / "measured"))
    run.write_table("prune", study.prune())
    masked = network()
    apply_masks(masked, study.andc(0))
    masked, _ = study.retrain_one(masked, "masked", 0)
    for module, mask in masks_of(masked).items():
        # What the optimizer of this process has made of them, not what the layer or a file shows of them.
        assert not masked.get_submodule(module).parametrizations.weight.original[~mask].any()


def searched(run: RunDirectory) -> None:
    probe = ProbeSettings(replace(RECIPE, epochs=1))
    retraining = RetrainSettings(replace(RECIPE, epochs=1))
    asked = SearchSettings(keep=0.1, levels=(0.3, 0.6))
    settings = PruneSettings(
        layers=("block.*.linear1",),
        methods=("andc", "random"),
        seeds=(0,),
        retraining=retraining,
        probe=probe,
        search=asked,
    )
    data = PruningData(TRAINING, replace(TEST, split=HELD_OUT), TEST, NORMALISATION)
    report_search(PruningStudy(network(), data, settings, run, RunDirectory(run.path / "measured")))


def studied(run: RunDirectory) -> None:
    probe = ProbeSettings(replace(RECIPE, epochs=1))
    data = HeadData(ProbingData(TRAINING, {"train": TRAINING}, NORMALISATION), TEST)
    HeadStudy(network(), data, HeadSettings(probe=probe, draws=10), run).measure(silence=True, pruned=None)


def work(folder: Path, parts: list[str]) -> None:
    if "die" in parts:
        die_at(8)
        parts = ["train"]
    parts_of = {"train": trained, "muon": trained_by_muon, "measure": measured}
    parts_of |= {"prune": pruned, "search": searched, "heads": studied}
    for part, do in parts_of.items():
        if part in parts:
            with RunDirectory(folder / part).claimed():
                do(RunDirectory(folder / part))
    if "sums" in parts:
        summed(folder / "sums.pt")


if __name__ == "__main__":
    with joined():
        work(Path(sys.argv[1]), sys.argv[2:])
