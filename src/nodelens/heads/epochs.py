"""The heads along training: probes anew for every saved epoch of a run, each kept as soon as it is measured."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodelens.data.datasets import holdout
from nodelens.data.examples import Samples
from nodelens.errors import InputError
from nodelens.heads.study import HeadData, HeadSettings, chosen_sites, symmetry_over_seeds
from nodelens.measures import SymmetryBreaking
from nodelens.networks import Network, fingerprint, load_network
from nodelens.probing import Measurement, MeasureSettings, ProbingData, load_measurements, measure_network
from nodelens.probing.study import untrained_twin
from nodelens.processes import by_first
from nodelens.runs import RunDirectory

EPOCHS = "heads/epochs"
"""Folder of the measurements in the run directory; its `config.json` says how the probes are trained."""
BEGINNING = 0
"""The network before its first step, as an epoch."""


@dataclass(frozen=True)
class EpochSymmetry:
    """The heads after some epochs of training.

    Attributes:
        test_accuracy: the network's own; None where it was not logged.
        measurements: one per probe seed.
    """

    epoch: int
    test_accuracy: float | None
    measurements: list[Measurement]

    def symmetry(self, site: str, settings: HeadSettings) -> list[SymmetryBreaking]:
        """The order parameters and labels owned at one site, beside chance, for every seed."""
        return symmetry_over_seeds(self.measurements, site, settings)


@by_first
def saved_epochs(trained: RunDirectory, every: int = 1) -> dict[int, Path]:
    """The files of a run's kept epochs: those that `every` divides, and the last.

    Raises:
        InputError: the run kept none, or `every` is below 1.
    """
    if every < 1:
        raise InputError(f"--every {every} takes no epoch; give at least 1")
    kept = {}
    for path in sorted(trained.checkpoints.glob("epoch_*.safetensors")):
        number = re.fullmatch(r"epoch_(\d+)", path.stem)
        if number:
            kept[int(number[1])] = path
    if not kept:
        raise InputError(f"{trained.path} kept no epochs; train with --keep-every 1 to see the heads along training")
    return {epoch: path for epoch, path in sorted(kept.items()) if epoch % every == 0 or epoch == max(kept)}


def fewer_images(data: HeadData, most: int | None) -> HeadData:
    """The same data with at most so many images to learn and to measure, every label's share alike.

    Raises:
        InputError: fewer images than labels.
    """
    if most is None:
        return data
    if most < len(data.label_names):
        raise InputError(f"--training-images {most} is less than one image for each of {len(data.label_names)} labels")
    training = _at_most(data.probing.training, most)
    measured = {split: _at_most(images, most) for split, images in data.probing.measured.items()}
    return dataclasses.replace(data, probing=ProbingData(training, measured, data.probing.normalisation))


def _at_most(images: Samples, most: int) -> Samples:
    if most >= len(images):
        return images
    chosen = holdout(images, most / len(images))[1]
    return dataclasses.replace(chosen, split=images.split)


def study_epochs(
    network: Network,
    data: HeadData,
    settings: HeadSettings,
    trained: RunDirectory,
    run: RunDirectory,
    every: int = 1,
) -> list[EpochSymmetry]:
    """Measure the heads after every saved epoch, and before the first where the run says how it began.

    Args:
        network: the trained one.
        trained: the run that kept the epochs.
        run: where the measurements are kept, `heads/epochs/epoch_<number>/`.

    Raises:
        InputError: no epochs were kept, or the run directory holds another measurement of them.
    """
    names = tuple(site.name for site in chosen_sites(network, settings.blocks))
    wanted = MeasureSettings(names, (settings.split,), settings.probe, untrained=False)
    probe = dataclasses.asdict(settings.probe)
    RunDirectory(run.path / EPOCHS).configure("measure", {"probe": probe, "network": fingerprint(network)})
    reached = {event["epoch"]: event.get("test_accuracy") for event in trained.events("train")}
    epochs = saved_epochs(trained, every)
    found = []
    for epoch in [*([BEGINNING] if _beginning_is_known(trained) else []), *epochs]:
        kept = RunDirectory(run.path / EPOCHS / f"epoch_{epoch:04d}")
        then = _network_after(epoch, epochs, network, trained)
        measure_network(then, data.probing, wanted, kept)
        measurements = load_measurements(kept, settings.split, names)
        found.append(EpochSymmetry(epoch, reached.get(epoch), measurements))
    return found


def _beginning_is_known(trained: RunDirectory) -> bool:
    """Whether the run began with the untrained network that follows from its seed alone."""
    recorded = trained.settings("train")
    return "seed" in recorded and not any(recorded.get(other) for other in ("assigned", "initial"))


def _network_after(epoch: int, epochs: Mapping[int, Path], network: Network, trained: RunDirectory) -> Network:
    if epoch == BEGINNING:
        return untrained_twin(network, trained.settings("train")["seed"])
    return load_network(epochs[epoch])
