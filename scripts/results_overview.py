"""The measured networks at one glance: how their signal-to-noise ratio grows, as a figure and as a table.

Both are made from the tables in `docs/results`, and stand on its first page. A second figure compares the probes that
the network of 300 epochs was measured by.

    python scripts/results_overview.py docs/results
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from nodelens.networks.families import OWN_HEAD
from nodelens.paper import values
from nodelens.report.figures import STYLE, legend_below, panels_of, save_figure
from nodelens.report.growth import LINES, PAPER, along, draw_growth, name_sites
from nodelens.report.palette import BLUE, GREEN, PURPLE
from nodelens.report.stored import stored_rows
from nodelens.report.tables import PERMUTED, UNTRAINED, Row

RESTING = "by probes that come to rest"
UNTRAINED_RESTING = f"{UNTRAINED}, {RESTING}"
SHOWN = {**LINES, RESTING: (GREEN, "-"), UNTRAINED_RESTING: ("#7FCFB9", "--")}


@dataclass(frozen=True)
class Measured:
    """A network of the results: where its tables are, below the folder of the results, and which sites are shown."""

    name: str
    data: str
    page: str
    log: str
    tables: str = "tables"
    penalty: str = "penalty/tables"
    heads: str = ""
    own_head: str = ""
    sites: str = "*"


NETWORKS = (
    Measured(
        "CCT-7/3x1, 300 epochs",
        "CIFAR-100",
        "cct_7_3x1_300",
        "training/log.jsonl",
        "numbers",
        penalty="at_rest/tables",
        heads="tables",
    ),
    Measured("CCT-7/3x1, six minutes", "CIFAR-100", "paper", "training/log.jsonl", heads="tables"),
    Measured(
        "CCT-7/7x2",
        "Flowers-102",
        "flowers102/start",
        "training/224/log.jsonl",
        "nodes/tables",
        penalty="at_rest/tables",
        heads="nodes/tables",
    ),
    Measured(
        "CCT-7/3x2, AdamW",
        "CIFAR-100",
        "cct_7_3x2_own",
        "training/log.jsonl",
        heads="heads/tables",
        own_head="own_head/tables",
    ),
    Measured("CCT-7/3x2, Muon", "CIFAR-100", "cct_7_3x2_muon", "training/log.jsonl"),
    Measured("ViT-7", "CIFAR-100", "vit_7_patch4", "training/log.jsonl", heads="heads/tables"),
    Measured("ResNet-18", "CIFAR-100", "resnet18_3x3", "tables/training.csv"),
    Measured("VGG-16", "CIFAR-100", "vgg16_bn_512", "tables/training.csv", penalty="penalty"),
    Measured(
        "BERT, 4 blocks",
        "CLINC150",
        "bert_4_128/network-0",
        "log.jsonl",
        penalty="../penalty/network-0/tables",
        heads="tables",
    ),
    Measured("Llama, 4 blocks", "CLINC150", "llama_4_128", "log.jsonl", heads="tables", sites="*.layers.*"),
)


def ratios(results: Path, network: Measured) -> list[Row]:
    """Rows of every site, in network order, `of` the network, its nulls, and again by probes that come to rest."""
    folder = results / network.page
    default, penalised = _statistics(folder / network.tables), _statistics(folder / network.penalty)
    resting = [
        {**row, "of": RESTING if row["of"] == "network" else UNTRAINED_RESTING}
        for row in penalised
        if row["site"] != OWN_HEAD and row["of"] != PERMUTED
    ]
    # No probe is trained at the own head: it is the same in both.
    own = [row for row in penalised if row["site"] == OWN_HEAD]
    if network.own_head:
        own = _statistics(folder / network.own_head)
    every = [*default, *(own if all(row["site"] != OWN_HEAD for row in default) else []), *resting]
    return [row for row in every if row["site"] == OWN_HEAD or fnmatch(row["site"], network.sites)]


def _statistics(folder: Path, table: str = "table2") -> list[Row]:
    """The rows of a measurement, or of a table that was made from one."""
    measured, made = folder / "statistics.test.csv", folder / f"{table}.test.csv"
    if measured.exists():
        return stored_rows(measured)
    if not made.exists():
        return []
    rows = sorted(stored_rows(made), key=lambda row: row["block"])
    called = {"ours": "network", "own head": "network", PERMUTED: PERMUTED, UNTRAINED: UNTRAINED}
    return [
        {
            **row,
            "site": OWN_HEAD if row["of"] == "own head" else f"block.{row['block']:g}.linear2",
            "of": called[row["of"]],
        }
        for row in sorted(rows, key=lambda row: row["of"] == "own head")
        if row["of"] in called
    ]


def accuracy(results: Path, network: Measured) -> float:
    """The network's test accuracy after its last epoch."""
    log = results / network.page / network.log
    if log.suffix == ".csv":
        return float(stored_rows(log)[-1]["test_accuracy"])
    return float(json.loads(log.read_text().splitlines()[-1])["test_accuracy"])


def table(results: Path) -> Iterator[str]:
    """Lines in Markdown: the ratio behind the first and the last block, and the labels that the last heads own."""
    yield "| network | data | accuracy | SNR, default probes | SNR, probes at rest | own head | labels owned |"
    yield "| :-- | :-- | --: | :-- | :-- | --: | --: |"
    ratio = f"**{values.TABLE2[1]['snr']:.2f} to {values.TABLE2[values.BLOCKS]['snr']:.2f}**"
    owned = f"{sum(labels for labels, _ in values.TABLE4[values.BLOCKS])} of {values.LABELS}"
    yield f"| **the paper's CCT-7/3x1** | CIFAR-100 | {values.NETWORK_ACCURACY} | {ratio} |  |  | {owned} |"
    for network in NETWORKS:
        rows = ratios(results, network)
        cells = [
            f"[{network.name}]({network.page.split('/')[0]}/README.md)",
            network.data,
            f"{accuracy(results, network):.3f}",
            _beside_untrained(rows, "network", UNTRAINED),
            _beside_untrained(rows, RESTING, UNTRAINED_RESTING),
            _own(rows),
            _owned(results, network),
        ]
        yield f"| {' | '.join(cells)} |"


def _beside_untrained(rows: list[Row], kind: str, untrained: str) -> str:
    trained, fresh = _first_and_last(rows, kind), _first_and_last(rows, untrained)
    return f"**{trained}** ({fresh})" if fresh else trained and f"**{trained}**"


def _first_and_last(rows: list[Row], kind: str) -> str:
    body = [site for site in along(rows) if site != OWN_HEAD]
    known = {row["site"]: row["snr"] for row in rows if row["of"] == kind}
    return f"{known[body[0]]:.2f} to {known[body[-1]]:.2f}" if body[-1] in known else ""


def _own(rows: list[Row]) -> str:
    return next((f"{row['snr']:.2f}" for row in rows if row["site"] == OWN_HEAD and row["of"] == "network"), "")


def _owned(results: Path, network: Measured) -> str:
    path = results / network.page / network.heads / "heads.depth.train.csv"
    if not network.heads:
        return ""
    last = max(stored_rows(path), key=lambda row: row["block"])
    return f"{last['owned']:.0f} of {last['labels']:.0f} ({last['owned_null']:.0f})"


PROBED = "cct_7_3x1_300"
PROBES = {
    "AdamW, 2 epochs": ("two_epochs/tables", "#9ECAE1", "-"),
    "AdamW, 6 epochs": ("numbers", BLUE, "-"),
    "AdamW, 50 epochs": ("fifty_epochs/tables", "#08306B", "-"),
    "AdamW, 2 epochs, the network's own images": ("augmented/tables", PURPLE, "-"),
    "SGD, at rest": ("at_rest/tables", GREEN, "-"),
    "untrained, AdamW, 50 epochs": ("fifty_epochs/tables", "#8C8C8C", "--"),
    "untrained, SGD, at rest": ("at_rest/tables", "#7FCFB9", "--"),
}
"""Kinds of probes by which one network was measured: its tables, below the network's folder, and how they are drawn."""
BY_PROBES = {"accuracy": "accuracy of the probe", "diagonal": "labels per node", "snr": "signal-to-noise ratio"}


def by_probes(folder: Path) -> list[Row]:
    """Rows of one network's blocks, `of` the paper and each kind of probes."""
    rows: list[Row] = []
    for table, published in (("table1", values.TABLE1), ("table2", values.TABLE2)):
        rows += _paper_rows(published)
        for kind, (place, *_) in PROBES.items():
            measured = UNTRAINED if kind.startswith(UNTRAINED) else "network"
            found = _statistics(folder / place, table)
            rows += [{**row, "of": kind} for row in found if row["of"] == measured and row["site"] != OWN_HEAD]
    return rows


def _paper_rows(published: Mapping[int, Mapping[str, float]]) -> list[Row]:
    return [{"site": f"block.{block}.linear2", "of": PAPER, **row} for block, row in sorted(published.items())]


def growth_by_network(results: Path) -> Figure:
    """The ratio along every network."""
    figure, panels = panels_of(None, 5, 2, (10.5, 13.5))
    for axes, network in zip(panels.flat, NETWORKS, strict=True):
        rows = ratios(results, network)
        sites = along(rows)
        if network.name.startswith("CCT-7/3x"):
            rows += _paper_rows(values.TABLE2)
        draw_growth(axes, rows, sites, "snr", SHOWN)
        name_sites(axes, sites)
        axes.set_title(f"{network.name} ({network.data}, {accuracy(results, network):.3f})", loc="left", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("signal-to-noise ratio")
    legend_below(figure, panels, columns=3, called={"network": "network, by default probes"})
    return figure


def growth_by_probes(folder: Path) -> Figure:
    """Accuracy, diagonal and ratio along one network, by each kind of probes."""
    rows = by_probes(folder)
    sites, shown = along(rows), {PAPER: LINES[PAPER]}
    shown |= {kind: (colour, line) for kind, (_, colour, line) in PROBES.items()}
    figure, panels = panels_of(None, 1, len(BY_PROBES), (10.5, 3.8))
    for axes, (name, title) in zip(panels.flat, BY_PROBES.items(), strict=True):
        draw_growth(axes, [row for row in rows if name in row], sites, name, shown)
        name_sites(axes, sites)
        axes.set_title(title, loc="left", fontsize=9)
    legend_below(figure, panels, columns=4)
    return figure


def main(results: Path, out: Path) -> None:
    """Write the figures `growth` and `probes` (PNG, SVG) into a folder, print the table."""
    with matplotlib.rc_context(STYLE):
        save_figure(growth_by_network(results), out / "growth")
        save_figure(growth_by_probes(results / PROBED), out / "probes")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[1]))
