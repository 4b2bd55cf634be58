"""One study per table or figure of the paper: ours beside the paper's.

A scale says which network stands for the paper's CCT-7/3x1 on CIFAR-100:

    smoke   CCT-3/3x1 of width 64 on the digits of scikit-learn      about 2 minutes on two cores
    cpu     CCT-7/3x2 on CIFAR-100, 12 epochs                        some hours on two cores
    paper   CCT-7/3x1 on CIFAR-100, 300 epochs                       a GPU
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodelens.data import load_images
from nodelens.errors import InputError
from nodelens.networks import Network, load_network
from nodelens.paper import values
from nodelens.probing import (
    Measurement,
    MeasureSettings,
    ProbeSettings,
    load_probing_data,
    measure_network,
    measurements_of,
    probe_recipe,
)
from nodelens.report.figures import save_figure, threshold_figure
from nodelens.report.measurement import SWEEP, report_measurement
from nodelens.report.tables import (
    HEADINGS,
    NETWORK,
    TABLE1,
    TABLE2,
    Row,
    TextTable,
    rounded,
    statistics_rows,
    statistics_table,
    sweep_rows,
    with_spread,
)
from nodelens.runs import RunDirectory
from nodelens.training import TrainSettings, recipe, resolve_precision, train
from nodelens.training.precision import Precision, default_device

THRESHOLD = 0.3
BLOCK_OUTPUTS = "block.*.linear2"


@dataclass(frozen=True)
class Scale:
    """The network that a study measures, and how long its probes are trained."""

    network: str
    data: str
    recipe: str
    probe_epochs: int
    seeds: int = 3


SCALES = {
    "smoke": Scale("cct_3_3x1_64", "digits", "digits", probe_epochs=91),
    "cpu": Scale("cct_7_3x2", "cifar100", "cct-cpu", probe_epochs=6),
    "paper": Scale("cct_7_3x1", "cifar100", "cct-300", probe_epochs=50),
}


def trained_network(
    scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int, precision: Precision
) -> Network:
    """The checkpoint's network, or the scale's network trained now (or before) into the run directory."""
    if checkpoint is not None:
        return load_network(checkpoint)
    training, test = (load_images(scale.data, split) for split in ("train", "test"))
    train(TrainSettings(scale.network, recipe(scale.recipe), seed, precision), training, test, run)
    return load_network(run.path)


def measure_scale(
    scale: Scale,
    run: RunDirectory,
    *,
    checkpoint: Path | None = None,
    sites: tuple[str, ...] = (BLOCK_OUTPUTS,),
    splits: tuple[str, ...] = ("test",),
    seed: int = 0,
) -> None:
    """Train the network where there is none, and measure its sites, with an untrained twin beside."""
    precision = resolve_precision(_recorded_precision(run) or "auto", default_device())
    network = trained_network(scale, run, checkpoint, seed, precision)
    probe = ProbeSettings(
        probe_recipe(scale.probe_epochs),
        seeds=tuple(range(scale.seeds)),
        order_seed=seed,
        precision=precision,
    )
    data = load_probing_data(network, scale.data, splits)
    measure_network(network, data, MeasureSettings(sites, splits, probe), run)


def _recorded_precision(run: RunDirectory) -> str | None:
    sections = run.configuration()
    recorded: str | None = sections.get("train", {}).get("settings", {}).get("precision")
    return recorded or sections.get("measure", {}).get("settings", {}).get("probe", {}).get("precision")


def table1(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Table 1: accuracy, clusters, diagonal and noise behind each block.

    `nodelens reproduce table1 --scale cpu`; expect the accuracy to rise with the block.
    """
    return _beside_paper(run, split, TABLE1, values.TABLE1, "Table 1: single-nodal performance behind each block")


def table2(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Table 2: signal, noise and SNR behind each block.

    `nodelens reproduce table2 --scale cpu`; expect the SNR of the last block to be the largest.
    """
    return _beside_paper(run, split, TABLE2, values.TABLE2, "Table 2: signal-to-noise ratio behind each block")


def figure5(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Fig. 5: SNR and SNR_min of the last two blocks against the threshold.

    `nodelens reproduce figure5 --scale cpu`; the paper finds the largest SNR_min of block 7 at about 0.3.
    """
    found = _block_measurements(run, split)
    rows = sweep_rows(found, SWEEP)
    last = list(found["network"][0])[-2:][::-1]
    save_figure(threshold_figure(rows, last), run.path / "figures" / f"figure5.{split}")
    headings = ("site", "paper", "ours", "SNR_min there", "untrained")
    table = TextTable(f"Fig. 5: the threshold with the largest SNR_min ({split} images)", headings, names=1)
    for position, site in enumerate(last):
        best, twin = (_best_threshold(rows, site, who) for who in ("network", "untrained"))
        published = values.FIGURE5_BEST_THRESHOLD[7 - position]
        cells = (
            site,
            f"{published:g}",
            f"{best['threshold']:g}",
            f"{best['snr_min']:.2f}",
            f"{twin['snr_min']:.2f} at {twin['threshold']:g}",
        )
        table.add_group(cells)
    return rows, table


def _best_threshold(rows: Sequence[Row], site: str, who: str) -> Row:
    return max((row for row in rows if row["site"] == site and row["of"] == who), key=lambda row: row["snr_min"])


def _block_measurements(run: RunDirectory, split: str) -> dict[str, list[Measurement]]:
    found = measurements_of(run, split)
    outputs = [site for site in found["network"][0] if site.endswith(".linear2")]
    return {
        who: [replace(m, by_site={site: m[site] for site in outputs}) for m in measurements]
        for who, measurements in found.items()
    }


def _beside_paper(
    run: RunDirectory,
    split: str,
    columns: Sequence[str],
    published: Mapping[int, Mapping[str, float]],
    title: str,
) -> tuple[list[Row], TextTable]:
    """Every block's statistics with the paper's figure for the block at the same distance from the last."""
    found = _block_measurements(run, split)
    measured = statistics_rows(found, THRESHOLD)
    last = max(m.site.block for m in found["network"][0].values())
    seeds = len(found["network"])
    how = f"({split} images, {seeds} probe seed{'s' * (seeds > 1)})"
    table = TextTable(f"{title} {how}", ("block", "", *(HEADINGS[name] for name in columns)))
    rows = []
    for block in range(last, 0, -1):
        of_block = [row for row in measured if row["site"] == f"block.{block}.linear2"]
        lines = _comparison(of_block, columns, published.get(block + 7 - last, {}))
        rows += [{"block": block, **line} for line in lines]
        table.add_group(*([str(block), line["of"], *(_cell(line, name) for name in columns)] for line in lines))
    return rows, table


def _comparison(measured: Sequence[Row], columns: Sequence[str], published: Mapping[str, float]) -> list[Row]:
    """Lines of one block: paper, ours, the difference, and the two nulls."""
    ours = next(row for row in measured if row["of"] == NETWORK)
    nulls = [row for row in measured if row["of"] != NETWORK]
    difference = {name: ours[name] - published[name] if name in published else "" for name in columns}
    spreads = {f"{name}_std": "" for name in columns}
    lines: list[Row] = [
        {"of": "paper", **{name: published.get(name, "") for name in columns}, **spreads},
        {"of": "ours", **_only(ours, columns)},
        {"of": "difference", **difference, **spreads},
    ]
    return lines + [{"of": row["of"], **_only(row, columns)} for row in nulls]


def _only(row: Row, columns: Sequence[str]) -> Row:
    names = [*columns, *(f"{name}_std" for name in columns)]
    return {name: row[name] for name in names}


def _cell(line: Row, name: str) -> str:
    value = line[name]
    if value == "":
        return ""
    if line["of"] == "paper":
        return f"{value:g}"
    if line["of"] == "difference":
        return f"{value:+.3g}"
    return with_spread(value, line[f"{name}_std"] if line["of"] == "ours" else 0.0)


STUDIES: dict[str, Callable[[RunDirectory, str], tuple[list[Row], TextTable]]] = {
    "table1": table1,
    "table2": table2,
    "figure5": figure5,
}


def reproduce(
    study: str,
    scale: str,
    run: RunDirectory,
    *,
    checkpoint: Path | None = None,
    seed: int = 0,
    splits: Sequence[str] = ("test",),
) -> list[TextTable]:
    """Run a study; its rows go to `tables/<study>.<split>.csv` and `.md`, what it shows is returned for printing.

    Raises:
        InputError: an unknown study or scale.
    """
    for name, known in ((study, STUDIES), (scale, SCALES)):
        if name not in known:
            raise InputError(f"{name!r} cannot be reproduced; known: {', '.join(known)}")
    measure_scale(SCALES[scale], run, checkpoint=checkpoint, splits=tuple(splits), seed=seed)
    shown = []
    for split in splits:
        rows, table = STUDIES[study](run, split)
        run.write_table(f"{study}.{split}", rounded(rows))
        run.write_text(f"tables/{study}.{split}.md", table.markdown())
        shown.append(table)
    return shown


def quickstart(run: RunDirectory, seed: int = 0) -> list[TextTable]:
    """Train the smoke scale's network, measure all its sites, and show the block outputs as Tables 1 and 2.

    `nodelens quickstart`; two to three minutes on two cores; expect a test accuracy of at least 0.97.
    """
    scale = replace(SCALES["smoke"], seeds=1)
    measure_scale(scale, run, sites=("*",), seed=seed)
    report_measurement(run, ("test",))
    rows = statistics_rows(_block_measurements(run, "test"), THRESHOLD)
    return [
        statistics_table(rows, TABLE1, "Table 1: what the nodes behind each block know (10 labels)"),
        statistics_table(rows, TABLE2, "Table 2: signal and noise per label"),
    ]
