"""What the explorer holds of a network: the factors of every node, and what Python computed from them.

A node is two vectors, so a page can hold a whole network: class means and probe weights of every site as
float32, node after node. What would make the page too large is left out and named.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nodelens.errors import InputError
from nodelens.measures import site_statistics
from nodelens.networks import load_network
from nodelens.probing import NETWORK, UNTRAINED, SiteMeasurement, load_measurements, measured_splits
from nodelens.report.stored import stored_rows
from nodelens.report.tables import PERMUTED
from nodelens.runs import RunDirectory

CHECKED = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Thresholds at which the page shows Python's statistics beside its own."""

FACTOR_BYTES = 23_500_000
"""Room for factors, as text: a seven-block CCT with all its sites and 100 labels takes 22.9 MB."""


@dataclass
class Factors:
    """The factors that a page holds, as base64 text, while they have room.

    Attributes:
        texts: for each site that has room, its class means and then its weights, (node, label), float32.
        left_out: sites that have no room, or that the explorer cannot show.
    """

    room: int = FACTOR_BYTES
    texts: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, network: str, measured: SiteMeasurement) -> int | None:
        """Index of the site's text; None if it was left out."""
        size = 4 * math.ceil(2 * measured.weight.numel() * 4 / 3)
        # A filter's matrix is a sum of outer products: the page would need an array of labels x labels.
        if measured.site.positions > 1 or size > self.room:
            self.left_out.append(f"{network}: {measured.site.name}")
            return None
        self.room -= size
        both = torch.stack([measured.class_means.T, measured.weight.T]).float().contiguous()
        self.texts.append(base64.b64encode(both.numpy().astype("<f4").tobytes()).decode())
        return len(self.texts) - 1


@dataclass(frozen=True)
class Explored:
    """A network in the explorer: a run directory's own, or its untrained twin.

    Attributes:
        name: what the page calls it.
        folder: where in the run its measurements lie.
    """

    run: RunDirectory
    name: str
    folder: str


def explored_networks(runs: Sequence[RunDirectory]) -> list[Explored]:
    """The networks that these runs measured: each run's own first, then the untrained ones."""
    alone = len(runs) == 1
    own = [Explored(run, "network" if alone else _name(run, runs), NETWORK) for run in runs]
    twins = [Explored(e.run, "untrained" if alone else f"{e.name}, untrained", UNTRAINED) for e in own]
    return [one for one in (*own, *twins) if measured_splits(one.run, one.folder)]


def chosen_split(networks: Sequence[Explored], asked: str | None) -> str:
    """The split that was asked for, else the test split, else another that every run was measured on.

    Raises:
        InputError: a run was not measured on it, or the runs have no split in common.
    """
    own = {one.name: _splits(one) for one in networks if one.folder == NETWORK}
    common = sorted(set.intersection(*own.values())) if own else []
    if asked in common or (asked is None and (common or not own)):
        return asked or ("test" if "test" in common or not common else common[0])
    measured = "; ".join(f"{name}: {', '.join(sorted(splits))}" for name, splits in own.items()) or "nothing yet"
    wanted = "on one split together" if asked is None else f"on {asked!r}"
    raise InputError(f"not every network was measured {wanted}; measured are {measured}")


def _splits(explored: Explored) -> set[str]:
    return {split for splits in measured_splits(explored.run, explored.folder).values() for split in splits}


def describe_networks(networks: Sequence[Explored], split: str, factors: Factors) -> list[dict[str, Any]]:
    """Every network that has sites measured on the split, as the page's script reads it.

    Raises:
        InputError: a file of a measurement is damaged.
    """
    described = (_network(one, split, factors) for one in networks)
    return [network for network in described if network["sites"]]


def _network(explored: Explored, split: str, factors: Factors) -> dict[str, Any]:
    names = [n for n, splits in measured_splits(explored.run, explored.folder).items() if split in splits]
    sites: dict[str, dict[str, Any]] = {}
    labels: tuple[str, ...] = ()
    nulls = _nulls(explored, split)
    for name in _most_telling_first(names):
        measurement = load_measurements(explored.run, split, [name], explored.folder)[0]
        labels = measurement.label_names
        described = _site(measurement[name], factors.add(explored.name, measurement[name]))
        sites[name] = described | {"nulls": nulls.get(name, {})}
    return {
        "name": explored.name,
        "labels": labels,
        "layers": _layers(explored.run),
        "sites": [sites[name] for name in names],
    }


def _site(measured: SiteMeasurement, text: int | None) -> dict[str, Any]:
    site = measured.site
    facts = {"name": site.name, "block": site.block, "nodes": site.nodes, "heads": site.heads}
    statistics = [] if text is None else [_scalars(measured, threshold) for threshold in CHECKED]
    return {**facts, "accuracy": measured.accuracy, "seed": measured.seed, "factors": text, "python": statistics}


def _scalars(measured: SiteMeasurement, threshold: float) -> dict[str, float | None]:
    found = site_statistics(measured.matrices, threshold)
    return {"threshold": threshold, **{name: _finite(value) for name, value in found.scalars().items()}}


def _finite(value: float) -> float | None:
    """JSON has no infinite number; the page reads none as infinite."""
    return value if math.isfinite(value) else None


def _most_telling_first(names: Sequence[str]) -> list[str]:
    """Outputs of blocks first, later blocks before earlier ones: what is left out last."""
    last_of_block = {_block(name): name for name in names}
    place = {name: i for i, name in enumerate(names)}
    return sorted(names, key=lambda name: (last_of_block[_block(name)] != name, -place[name]))


def _block(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _layers(run: RunDirectory) -> list[dict[str, Any]]:
    recorded = run.configuration().get("measure", {}).get("layers")
    if recorded is None and (run.path / "model.safetensors").exists():
        recorded = [
            {"name": one.name, "source": one.source, "target": one.target} for one in load_network(run.path).layers()
        ]
    return [{key: layer[key] for key in ("name", "source", "target")} for layer in recorded or []]


def _nulls(explored: Explored, split: str) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Per site and null (permuted labels, untrained network) its statistics at the thresholds of the sweep."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for row in _sweep(explored, split):
        values = {key: _finite(v) for key, v in row.items() if isinstance(v, float) and not key.endswith("_std")}
        found.setdefault(row["site"], {}).setdefault(row["of"], []).append(values)
    return found


def _sweep(explored: Explored, split: str) -> Iterator[Mapping[str, Any]]:
    if explored.folder != NETWORK:
        return
    path = explored.run.path / "tables" / f"sweep.{split}.csv"
    for row in stored_rows(path) if path.exists() else []:
        if row.get("of") in (PERMUTED, "untrained"):
            yield row


def _name(run: RunDirectory, runs: Sequence[RunDirectory]) -> str:
    """The folder's name, with as much of its path as tells it from the others."""
    same = [other for other in runs if other.path.resolve().name == run.path.resolve().name]
    return run.path.resolve().name if len(same) == 1 else str(run.path)
