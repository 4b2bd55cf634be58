"""Measurements in a run directory: `measure/<site>.safetensors`, one file per site.

A file holds the probes of all seeds (weight, pooling) and, per measured split, class means, counts and
accuracy, so that another split can be measured later without training again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import torch
from torch import Tensor

from nodelens.errors import InputError
from nodelens.files import exists, read_metadata, read_tensors
from nodelens.networks import Site
from nodelens.probing.measure import Measurement, SiteMeasurement
from nodelens.probing.probes import Probe, Probes
from nodelens.processes import by_first
from nodelens.runs import RunDirectory

MEASURED: str = "measure"
MEASURED_UNTRAINED: str = "measure/untrained"
"""Folders of a run directory: measurements of its network, and of the untrained network of the same kind."""


def site_file(site: str, folder: str) -> str:
    """Path of a site's file inside the run directory."""
    return f"{folder}/{site}.safetensors"


def save_probes(
    run: RunDirectory, folder: str, probes: Sequence[Probe], seeds: Sequence[int], label_names: Sequence[str]
) -> None:
    """Write trained probes, a file for every site; splits measured before with other probes are gone."""
    for probe in probes:
        metadata = {
            "site": json.dumps(dataclasses.asdict(probe.site)),
            "seeds": json.dumps(list(seeds)),
            "label_names": json.dumps(list(label_names)),
            "layer_norm": json.dumps(probe.layer_norm),
        }
        run.write_tensors(site_file(probe.site.name, folder), dict(probe.state_dict()), metadata)


def load_probes(run: RunDirectory, folder: str, sites: Sequence[Site]) -> Probes:
    """The probes of these sites, as they were trained."""
    first = read_metadata(run.path / site_file(sites[0].name, folder))
    seeds, labels = json.loads(first["seeds"]), len(json.loads(first["label_names"]))
    probes = Probes(sites, labels, seeds, json.loads(first["layer_norm"]))
    for site in sites:
        tensors = read_tensors(run.path / site_file(site.name, folder))
        _load_probe(probes[site.name], tensors, run)
    return probes.requires_grad_(False)


def _load_probe(probe: Probe, tensors: dict[str, Tensor], run: RunDirectory) -> None:
    own = probe.state_dict()
    if any(key not in tensors or tensors[key].shape != own[key].shape for key in own):
        raise InputError(f"the probe at {probe.site.name} in {run.path} is of another shape; choose another --out")
    probe.load_state_dict({key: tensors[key] for key in own})


def save_measurements(run: RunDirectory, folder: str, measurements: Sequence[Measurement], images: str) -> None:
    """Add one split (all seeds) to the files of its sites; `images` is the fingerprint of what was measured."""
    split = measurements[0].split
    for name in measurements[0]:
        path = site_file(name, folder)
        tensors = read_tensors(run.path / path)
        tensors[f"class_means.{split}"] = torch.stack([m[name].class_means for m in measurements])
        tensors[f"counts.{split}"] = measurements[0][name].counts
        tensors[f"accuracy.{split}"] = torch.tensor([m[name].accuracy for m in measurements], dtype=torch.float64)
        run.write_tensors(path, tensors, {**read_metadata(run.path / path), f"images.{split}": images})


def is_measured(run: RunDirectory, folder: str, site: str, split: str, images: str) -> bool:
    """Whether a site's file has a split, measured on the images of this fingerprint."""
    return measured_images(run, folder, site, split) == images


def measured_images(run: RunDirectory, folder: str, site: str, split: str) -> str | None:
    """Fingerprint of the images that a site's file has measured as a split; None where it has none, or is not there."""
    path = run.path / site_file(site, folder)
    return read_metadata(path).get(f"images.{split}") if exists(path) else None


@by_first
def measured_names(run: RunDirectory, folder: str = MEASURED) -> list[str]:
    """Names of the sites that have a file, in the network's order."""
    order = run.configuration().get("measure", {}).get("sites", [])
    rank = {name: i for i, name in enumerate(order)}
    names = [path.name.removesuffix(".safetensors") for path in (run.path / folder).glob("*.safetensors")]
    return sorted(names, key=lambda name: (rank.get(name, len(rank)), name))


def measured_splits(run: RunDirectory, folder: str = MEASURED) -> dict[str, list[str]]:
    """The splits that each site was measured on, sites in the network's order.

    Raises:
        InputError: a file is damaged.
    """
    found = {}
    for name in measured_names(run, folder):
        metadata = read_metadata(run.path / site_file(name, folder))
        found[name] = sorted(key.removeprefix("images.") for key in metadata if key.startswith("images."))
    return found


def load_measurements(
    run: RunDirectory, split: str, sites: Sequence[str] | None = None, folder: str = MEASURED
) -> list[Measurement]:
    """Read back what was measured on one split: one `Measurement` per probe seed.

    Raises:
        InputError: a site or the split was not measured; a file is damaged.
    """
    names = measured_names(run, folder) if sites is None else list(sites)
    if not names:
        raise InputError(f"{run.path} holds no measurements; run `nodelens measure {run.path}` first")
    loaded = {name: _load_site(run, folder, name, split) for name in names}
    label_names = next(iter(loaded.values()))[1]
    measured = run.settings("measure").get("network", "")
    network = measured if folder == MEASURED else ""
    return [
        Measurement(
            {name: of_seed[i] for name, (of_seed, _) in loaded.items()}, split, first.seed, label_names, network
        )
        for i, first in enumerate(next(iter(loaded.values()))[0])
    ]


def _load_site(run: RunDirectory, folder: str, name: str, split: str) -> tuple[list[SiteMeasurement], tuple[str, ...]]:
    path = run.path / site_file(name, folder)
    tensors, metadata = read_tensors(path), read_metadata(path)
    if f"class_means.{split}" not in tensors:
        known = sorted(key.removeprefix("accuracy.") for key in tensors if key.startswith("accuracy."))
        raise InputError(
            f"{name} was not measured on {split!r} in {run.path}; measured: {', '.join(known) or 'nothing yet'}"
        )
    try:
        return _of_seeds(tensors, metadata, split), tuple(json.loads(metadata["label_names"]))
    except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(f"{path} is damaged ({error!r}); delete it and measure again") from error


def _of_seeds(tensors: dict[str, Tensor], metadata: dict[str, str], split: str) -> list[SiteMeasurement]:
    site = Site(**json.loads(metadata["site"]))
    means, accuracy = tensors[f"class_means.{split}"], tensors[f"accuracy.{split}"]
    weight = tensors["weight"].reshape(means.shape)
    return [
        SiteMeasurement(site, split, seed, means[i], weight[i], float(accuracy[i]), tensors[f"counts.{split}"])
        for i, seed in enumerate(json.loads(metadata["seeds"]))
    ]
