"""What the explorer holds of a network: its views, the factors of every node, and what Python computed from them.

A network was measured on one split of its data or several, with probes of one seed or several: each pair is a view.
What would make the page too large is left out and named.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodelens.errors import InputError
from nodelens.measures import site_statistics
from nodelens.networks import load_network
from nodelens.networks.found import READ
from nodelens.probing import (
    MEASURED,
    MEASURED_UNTRAINED,
    Measurement,
    SiteMeasurement,
    load_measurements,
    measured_splits,
)
from nodelens.report.factors import Factors, shares, view_name
from nodelens.report.stored import stored_rows
from nodelens.report.tables import NETWORK, PERMUTED, UNTRAINED
from nodelens.runs import RunDirectory

CHECKED = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Thresholds at which the page shows Python's statistics beside its own."""

CHECKED_ELSEWHERE = (0.3,)
"""The same for other splits and seeds than those that the page opens with."""


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
    own = [Explored(run, NETWORK if alone else run_name(run, runs), MEASURED) for run in runs]
    twins = [Explored(e.run, UNTRAINED if alone else f"{e.name}, untrained", MEASURED_UNTRAINED) for e in own]
    return [one for one in (*own, *twins) if measured_splits(one.run, one.folder)]


def opening_split(networks: Sequence[Explored], asked: str | None) -> str:
    """The split that was asked for, else the test split, else another that every run was measured on.

    Raises:
        InputError: a run was not measured on it, or the runs have no split in common.
    """
    own = {one.name: _splits(one) for one in networks if one.folder == MEASURED}
    common = sorted(set.intersection(*own.values())) if own else []
    if asked in common or (asked is None and (common or not own)):
        return asked or ("test" if "test" in common or not common else common[0])
    measured = "; ".join(f"{name}: {', '.join(sorted(splits))}" for name, splits in own.items()) or "nothing yet"
    wanted = "on one split together" if asked is None else f"on {asked!r}"
    raise InputError(
        f"not every network was measured {wanted}; measured are {measured}. Run `nodelens measure RUN --split SPLIT` "
        "where it is missing, for a pruned network with an --out of its own, and report that"
    )


def _splits(explored: Explored) -> set[str]:
    return {split for splits in measured_splits(explored.run, explored.folder).values() for split in splits}


@dataclass(frozen=True)
class View:
    """A network as it was measured on one split, with the probes of one seed (`index` among the seeds).

    Attributes:
        rank: 0 for what the page opens with, 1 for another split, 2 for another seed: what has room last.
    """

    explored: Explored
    split: str
    index: int
    rank: int

    def measurement(self, sites: Sequence[str]) -> Measurement:
        """The view's numbers of these sites."""
        return load_measurements(self.explored.run, self.split, sites, self.explored.folder)[self.index]


def describe_networks(networks: Sequence[Explored], split: str, factors: Factors) -> list[dict[str, Any]]:
    """Every network and its views that have room, as the page's script reads them.

    Args:
        split: what the page opens with.

    Raises:
        InputError: a file of a measurement is damaged.
    """
    described: dict[str, dict[str, Any]] = {one.name: {"name": one.name} for one in networks}
    for view in sorted(_views(networks, split), key=lambda view: view.rank):
        network, found = described[view.explored.name], _described_view(view, factors)
        network.setdefault("labels", found.pop("labels"))
        if any(site["factors"] for site in found["sites"]):
            network.setdefault("views", []).append(found)
    for one in networks:
        described[one.name]["layers"] = _layers(one.run)
    return [network for network in described.values() if network.get("views")]


def _views(networks: Sequence[Explored], first: str) -> Iterator[View]:
    for one in networks:
        for split in sorted(_splits(one), key=lambda split: (split != first, split)):
            seeds = len(load_measurements(one.run, split, _measured_on(one, split)[:1], one.folder))
            for index in range(seeds):
                yield View(one, split, index, 2 if index else int(split != first))


def _measured_on(explored: Explored, split: str) -> list[str]:
    """The sites that were measured on a split, in the network's order."""
    return [n for n, splits in measured_splits(explored.run, explored.folder).items() if split in splits]


def _described_view(view: View, factors: Factors) -> dict[str, Any]:
    names = _measured_on(view.explored, view.split)
    nulls = _nulls(view.explored, view.split)
    measurement = view.measurement(_most_telling_first(names))
    called = view_name(view.explored.name, view.split, measurement.seed)
    thresholds = CHECKED_ELSEWHERE if view.rank else CHECKED
    sites: dict[str, dict[str, Any]] = {}
    for one, share in zip(measurement.values(), shares(list(measurement.values())), strict=True):
        held = factors.add(called, view.explored.name, one, share)
        sites[one.site.name] = _site(one, held, thresholds) | {"nulls": _of_all(held, one, nulls)}
    return {
        "split": view.split,
        "seed": measurement.seed,
        "labels": measurement.label_names,
        "sites": [sites[name] for name in names],
    }


def _site(measured: SiteMeasurement, held: dict[str, Any] | None, thresholds: Sequence[float]) -> dict[str, Any]:
    site = measured.site
    nodes = held["nodes"] if held else site.nodes
    # The drawing of a network whose blocks nobody knows has a row for each of its modules.
    block = 0 if site.name.endswith(READ) else site.block
    facts = {"name": site.name, "block": block, "nodes": nodes, "of": site.nodes, "heads": site.heads}
    statistics = [_scalars(measured, nodes, threshold) for threshold in thresholds] if held else []
    return {**facts, "accuracy": measured.accuracy, "factors": held, "python": statistics}


def _of_all(held: dict[str, Any] | None, measured: SiteMeasurement, nulls: Mapping[str, Any]) -> Mapping[str, Any]:
    """The nulls of a site; none where the page holds a part of its nodes, with which they cannot be compared."""
    whole = held is not None and held["nodes"] == measured.site.nodes
    found: Mapping[str, Any] = nulls.get(measured.site.name, {}) if whole else {}
    return found


def _scalars(measured: SiteMeasurement, nodes: int, threshold: float) -> dict[str, float | None]:
    found = site_statistics(measured.matrices.select(range(nodes)), threshold)
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
    if explored.folder != MEASURED:
        return
    path = explored.run.path / "tables" / f"sweep.{split}.csv"
    for row in stored_rows(path) if path.exists() else []:
        if row.get("of") in (PERMUTED, UNTRAINED):
            yield row


def run_name(run: RunDirectory, runs: Sequence[RunDirectory]) -> str:
    """The folder's name, with as much of its path as tells it from the others."""
    same = [other for other in runs if other.path.resolve().name == run.path.resolve().name]
    return run.path.resolve().name if len(same) == 1 else str(run.path)
