"""The images, or texts, that excite each node most and least, from one pass over a few hundred of them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Examples, Samples
from nodelens.data.normalisation import AsTheyAre, Normalisation, normalisation_from
from nodelens.data.texts import TextExamples
from nodelens.networks import (
    Network,
    Site,
    fingerprint,
    load_network,
    longest_text,
    reading,
    real_tokens,
    select_sites,
)
from nodelens.networks import sites as sites_of
from nodelens.probing import MEASURED, Probes, load_probes
from nodelens.progress import progress
from nodelens.report.thumbnails import thumbnails
from nodelens.runs import RunDirectory

IMAGES = 400
"""So many images, spread over the split, are shown to the network."""

BATCH = 100
"""So many at a time."""

EACH = 4
"""So many images per node excite it most, and as many least."""


@dataclass
class Extremes:
    """The largest pooled activations of each node so far, and whose they are; `sign` -1 for the smallest."""

    sign: int
    values: Float[Tensor, "kept node"]
    images: Int64[Tensor, "kept node"]

    def add(self, activations: Float[Tensor, "batch node"], first: int) -> None:
        """Take in the activations of images `first`, `first + 1`, …"""
        numbers = torch.arange(first, first + len(activations))[:, None].expand(activations.shape)
        values = torch.cat([self.values, self.sign * activations])
        images = torch.cat([self.images, numbers])
        self.values, chosen = values.topk(min(EACH, len(values)), dim=0)
        self.images = images.gather(0, chosen)


def add_excitation(run: RunDirectory, images: Samples, network: dict[str, Any]) -> None:
    """Add to a described network, and to its sites, the images, or texts, that excite each node most and least.

    Leaves it as it is where the run does not hold the network that was measured.

    Args:
        network: as `describe_networks` gives it; gets `pictures` (`texts` of texts), and `excitation` by seed and site.
    """
    loaded, measured = _measured_network(run), run.settings("measure")
    scale = AsTheyAre() if isinstance(images, Examples) else normalisation_from(measured.get("normalisation", {}))
    if loaded is None or scale is None or not _takes(loaded, images):
        return
    held = {
        (view["seed"], one["name"]): one["nodes"]
        for view in network["views"]
        for one in view["sites"]
        if one["factors"]
    }
    probes = load_probes(run, MEASURED, select_sites(sites_of(loaded), sorted({name for _, name in held})))
    count = min(IMAGES, len(images))
    shown = images.take(np.linspace(0, len(images) - 1, count).round().astype(np.int64), images.split)
    found = {key: both for key, both in _extremes(loaded, probes, shown, scale).items() if key in held}
    used = sorted({int(i) for both in found.values() for extremes in both for i in extremes.images.flatten()})
    network["pictures"] = _pictures(shown, used) | {"labels": shown.labels[used].tolist(), "split": images.split}
    place = np.zeros(count, dtype="<u2")
    place[used] = np.arange(len(used))
    excitation: dict[int, dict[str, Any]] = {}
    for (seed, name), both in found.items():
        most, least = (_text(place[extremes.images[:, : held[seed, name]].T.numpy()]) for extremes in both)
        excitation.setdefault(seed, {})[name] = {"each": min(EACH, count), "most": most, "least": least}
    network["excitation"] = excitation


def _measured_network(run: RunDirectory) -> Network | None:
    if not (run.path / "model.safetensors").exists():
        return None
    network = load_network(run.path)
    measured = run.settings("measure").get("network")
    return network if fingerprint(network) == measured else None


def _pictures(shown: Samples, used: Sequence[int]) -> dict[str, Any]:
    """Images or texts at these positions, as the page shows them."""
    if isinstance(shown, ImageSet):
        return thumbnails(shown, used)
    assert isinstance(shown, TextExamples)  # or nothing was taken
    return {"texts": [shown.texts[i] for i in used]}


def _takes(network: Network, images: Samples) -> bool:
    if isinstance(images, TextExamples):
        return images.image_shape[0] <= longest_text(network)
    size = network.config.image_size
    return images.image_shape == (size, size, network.config.channels)


def _extremes(
    network: Network, probes: Probes, images: Samples, scale: Normalisation
) -> Mapping[tuple[int, str], Sequence[Extremes]]:
    """For each seed and site the images that excite its nodes most, and those that do least."""
    none, nobody = (torch.empty(0, 1, dtype=dtype) for dtype in (torch.float32, torch.int64))
    found = {
        (seed, site.name): [
            Extremes(sign, none.expand(0, site.nodes), nobody.expand(0, site.nodes)) for sign in (1, -1)
        ]
        for site in probes.sites
        for seed in probes.seeds
    }
    done, real = 0, None

    def reader(site: str, activations: Tensor) -> None:
        for seed, pooled in zip(probes.seeds, probes[site].pool(activations, real), strict=True):
            for extremes in found[seed, site]:
                extremes.add(_of_nodes(pooled, probes[site].site), done)

    with (
        torch.inference_mode(),
        reading(network, probes.sites, reader),
        progress("exciting images", len(images)) as bar,
    ):
        while done < len(images):
            batch = np.arange(done, min(done + BATCH, len(images)))
            inputs = scale.applied(images.batch(batch), torch.device("cpu"))
            real = real_tokens(network, inputs)
            network(inputs)
            done += len(batch)
            bar.reach(done)
    return found


def _of_nodes(pooled: Float[Tensor, "batch input"], site: Site) -> Float[Tensor, "batch node"]:
    """How active each node is; a filter, on average over its positions."""
    return pooled.reshape(len(pooled), site.nodes, site.positions).mean(dim=2)


def _text(numbers: np.ndarray) -> str:
    return base64.b64encode(numbers.astype("<u2").tobytes()).decode()
