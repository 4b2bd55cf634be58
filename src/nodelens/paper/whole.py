"""The whole paper in one run directory: every table and figure, cheapest first, and one page about all numbers.

`nodelens reproduce all --scale cpu`. The parts share one trained network and one set of probes (pruning has its own,
which never see the images that decide). A finished part is not run again, and one that was interrupted goes on. At
the smoke scale it takes some minutes on one core, at the cpu scale some ten hours on two, on a GPU see docs/gpu.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodelens.errors import InputError
from nodelens.files import exists, read_json
from nodelens.networks import Network, fingerprint, load_network
from nodelens.paper.numbers import Number, over_networks
from nodelens.paper.page import page_rows, page_table, page_text
from nodelens.paper.readers import READERS, numbers_of
from nodelens.paper.scales import (
    SECOND,
    Scale,
    measure_scale,
    of_checkpoint,
    precision_of,
    trained_network,
    with_second,
)
from nodelens.paper.studies import reproduce
from nodelens.probing import load_probing_data
from nodelens.processes import default_device
from nodelens.progress import console
from nodelens.report.tables import TextTable, rounded
from nodelens.report.training import report_training
from nodelens.runs import RunDirectory
from nodelens.training import accuracy

NETWORK = "network"
CHEAPEST_FIRST = (
    NETWORK,
    "table1",
    "table2",
    "figure3",
    "figure4",
    "figure5",
    "figure7",
    "table4",
    "figure10",
    "figure8",
    "figure9",
    "figure11",
    "output",
    "table3",
    "table5",
    "enforced",
)
"""The parts in the order in which they are run: what the first network's probes give, pruning, further networks."""


@dataclass(frozen=True)
class Plan:
    """What is reproduced.

    Attributes:
        name: of the scale.
        checkpoint: the network to measure; None trains the scale's.
        second: the network of Table 5 to measure; None trains the scale's, where that is another one.
        seed: of the first network.
        networks: how many networks are trained and measured, with one seed after the other. The page shows those of
            earlier calls too.
        only: parts to run; None for all. The page shows whatever is finished.
    """

    name: str
    scale: Scale
    checkpoint: Path | None = None
    second: Path | None = None
    seed: int = 0
    networks: int = 1
    only: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise InputError(f"nothing would be trained with --networks {self.networks}; give at least 1")
        if self.networks > 1 and (self.checkpoint or self.second):
            raise InputError("a checkpoint is one network; leave out --networks")
        unknown = [part for part in self.only or () if part not in CHEAPEST_FIRST]
        if unknown:
            raise InputError(f"{unknown[0]!r} is no part of the paper; known: {', '.join(CHEAPEST_FIRST)}")

    @property
    def parts(self) -> list[str]:
        """The parts to run, cheapest first."""
        return [part for part in CHEAPEST_FIRST if self.only is None or part in self.only]

    def directory(self, run: RunDirectory, network: int) -> RunDirectory:
        """Where the network of this number (0, 1, …) is kept: the first one in the run itself."""
        return run if network == 0 else RunDirectory(run.path / f"seed-{self.seed + network}")


def reproduce_all(plan: Plan, run: RunDirectory) -> list[TextTable]:
    """Run every part that is not finished, and write `reproduction.md` and `tables/reproduction.csv`.

    Returns:
        The table of all numbers: the paper's, ours, the difference, and whether it is held.

    Raises:
        InputError: the run directory belongs to another scale, seed or checkpoint; what the parts raise.
    """
    if plan.checkpoint is not None:
        plan = dataclasses.replace(plan, scale=of_checkpoint(plan.scale, load_network(plan.checkpoint)))
    if plan.second is not None:
        plan = dataclasses.replace(plan, scale=with_second(plan.scale, load_network(plan.second)))
    run.configure("reproduce", _identity(plan))
    for network in range(plan.networks):
        of_network = plan.directory(run, network)
        for part in plan.parts:
            if part in _parts_of(network) and part not in _finished(of_network):
                with of_network.claimed() if network else nullcontext():  # the run itself is its caller's
                    _run_part(part, plan, of_network, plan.seed + network)
                write_page(plan, run)
    return [write_page(plan, run)]


def _parts_of(network: int) -> Sequence[str]:
    """Free and enforced networks are trained with several seeds by themselves."""
    return [part for part in CHEAPEST_FIRST if part != "enforced" or network == 0]


def _with_earlier(plan: Plan, run: RunDirectory) -> Plan:
    """The plan with as many networks as earlier calls have begun to study."""
    networks = plan.networks
    while exists(plan.directory(run, networks).path / "reproduction.json"):
        networks += 1
    return dataclasses.replace(plan, networks=networks)


def _identity(plan: Plan) -> dict[str, Any]:
    network = None if plan.checkpoint is None else fingerprint(load_network(plan.checkpoint))
    second = plan.scale.second and dataclasses.replace(plan.scale.second, differs="")
    # What is said of a scale is not what is done.
    scale = dataclasses.replace(plan.scale, differs="", second=second)
    given = {} if plan.second is None else {"second": fingerprint(load_network(plan.second))}
    return {"scale": dataclasses.asdict(scale), "seed": plan.seed, "checkpoint": network, **given}


def _run_part(part: str, plan: Plan, run: RunDirectory, seed: int) -> None:
    """Run one part, or go on with it, and remember that it is finished."""
    console.print(f"{part} …", highlight=False)
    if part == NETWORK:
        _prepare(plan, run, seed)
    elif part == "table5" and plan.scale.second is not None:
        reproduce(part, plan.scale, run, checkpoint=plan.second, seed=seed)
        place = _place(part, plan, run)
        with place.claimed():
            _write_accuracy(plan.scale.second, place, plan.second, seed)
    else:
        # What trains networks of its own has no use for the checkpoint.
        reproduce(part, plan.scale, run, checkpoint=None if part == "enforced" else plan.checkpoint, seed=seed)
    run.write_json("reproduction.json", {"finished": _finished(run) | {part: True}})


def _prepare(plan: Plan, run: RunDirectory, seed: int) -> None:
    """What the parts share: the network, and the probes of all its sites on one pass."""
    _write_accuracy(plan.scale, run, plan.checkpoint, seed)
    if plan.checkpoint is None:
        report_training(run)
    measure_scale(plan.scale, run, checkpoint=plan.checkpoint, sites=("*",), seed=seed, untrained=False)


def _write_accuracy(scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int) -> None:
    precision = precision_of(run)
    network = trained_network(scale, run, checkpoint, seed, precision)
    name = scale.network if checkpoint is None else checkpoint.stem
    row = {"network": name, "data": scale.data, "accuracy": _test_accuracy(network, scale)}
    run.write_table("network", rounded([row]))


def _test_accuracy(network: Network, scale: Scale) -> float:
    """The network's test accuracy, from the checkpoint or measured."""
    known = network.checkpoint_metadata.get("test_accuracy")
    if known is not None:
        return float(known)
    data = load_probing_data(network, scale.data, ("test",))
    return accuracy(network.to(default_device()), data.measured["test"], data.normalisation)


def _finished(run: RunDirectory) -> dict[str, Any]:
    path = run.path / "reproduction.json"
    found: dict[str, Any] = read_json(path)["finished"] if exists(path) else {}
    return found


def _place(part: str, plan: Plan, run: RunDirectory) -> RunDirectory:
    """Where a part's tables are."""
    return RunDirectory(run.path / SECOND) if part == "table5" and plan.scale.second is not None else run


def found_numbers(plan: Plan, run: RunDirectory) -> list[Number]:
    """The numbers of all finished parts, over all networks."""
    of_networks = []
    for network in range(plan.networks):
        directory = plan.directory(run, network)
        finished = [part for part in CHEAPEST_FIRST if part in _finished(directory) and part in READERS]
        of_networks.append([n for part in finished for n in numbers_of(part, _place(part, plan, directory))])
    return over_networks(of_networks)


def write_page(plan: Plan, run: RunDirectory) -> TextTable:
    """Write the page about the finished parts of all networks: `reproduction.md`, `tables/reproduction.csv`."""
    plan = _with_earlier(plan, run)
    numbers = found_numbers(plan, run)
    missing = [
        part if plan.networks == 1 else f"{part} of network {network + 1}"
        for network in range(plan.networks)
        for part in _parts_of(network)
        if part not in _finished(plan.directory(run, network))
    ]
    run.write_table("reproduction", rounded(page_rows(numbers, plan.scale)))
    run.write_text("reproduction.md", page_text(numbers, plan.scale, _how(plan), missing))
    return page_table(numbers)


def _how(plan: Plan) -> str:
    network = f"the checkpoint {plan.checkpoint.name}" if plan.checkpoint else f"{plan.scale.network} trained here"
    networks = f"{plan.networks} networks" if plan.networks > 1 else "one network"
    data = plan.scale.data if plan.second is None else f"{plan.scale.data}; Table 5: the checkpoint {plan.second.name}"
    probes = f"{plan.scale.seeds} seeds of the probes, {plan.scale.probe_epochs} epochs of {plan.scale.probe_optimizer}"
    probes += f" on images augmented as by {plan.scale.probe_images}" if plan.scale.probe_images else ""
    return f"Scale {plan.name}: {network}, {networks}, {probes}; data {data}."
