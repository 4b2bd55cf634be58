"""One study per table or figure of the paper: ours beside the paper's.

`nodelens.paper.scales` says which network stands for the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nodelens.errors import InputError
from nodelens.networks.families import OWN_HEAD
from nodelens.paper import values
from nodelens.paper.enforced import enforced
from nodelens.paper.heads import HEAD_STUDIES, head_study, reproduce_heads
from nodelens.paper.nodes import NODE_SITES, figure3, figure4
from nodelens.paper.pruning import output_layer, pruned_in, table3, table3_study
from nodelens.paper.scales import BLOCK_OUTPUTS, SCALES, Scale, measure_scale, with_probes
from nodelens.probing import Measurement, measurements_of
from nodelens.probing.store import load_measurements, measured_names, measured_splits
from nodelens.report.figures import save_figure, threshold_figure
from nodelens.report.growth import PAPER, growth_figure
from nodelens.report.heads import report_heads
from nodelens.report.measurement import SWEEP, report_measurement
from nodelens.report.pruning import accuracy_table, report_pruning
from nodelens.report.tables import (
    HEADINGS,
    NETWORK,
    PERMUTED,
    TABLE1,
    TABLE2,
    UNTRAINED,
    Row,
    TextTable,
    rounded,
    statistics_rows,
    statistics_table,
    sweep_rows,
    with_spread,
)
from nodelens.report.training import report_training
from nodelens.runs import RunDirectory


def table1(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Table 1: accuracy, clusters, diagonal and noise behind each block.

    `nodelens reproduce table1 --scale cpu`; expect the accuracy to rise with the block.
    """
    title = "Table 1: single-nodal performance behind each block"
    return _beside_paper(run, split, "table1", TABLE1, values.TABLE1, title)


def table2(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Table 2: signal, noise and SNR behind each block.

    `nodelens reproduce table2 --scale cpu`; expect the SNR of the last block to be the largest.
    """
    title = "Table 2: signal-to-noise ratio behind each block"
    return _beside_paper(run, split, "table2", TABLE2, values.TABLE2, title)


def figure5(run: RunDirectory, split: str) -> tuple[list[Row], TextTable]:
    """Fig. 5: SNR and SNR_min of the last two blocks against the threshold.

    `nodelens reproduce figure5 --scale cpu`; the paper finds the largest SNR_min of block 7 at about 0.3.
    """
    found = _block_measurements(run, split)
    rows = sweep_rows(found, SWEEP)
    last = list(found["network"][0])[-2:][::-1]
    save_figure(threshold_figure(rows, last), run.path / "figures" / f"figure5.{split}")
    headings = ("site", "paper", "ours", "SNR_min there", "permuted", "untrained")
    table = TextTable(f"Fig. 5: the threshold with the largest SNR_min ({split} images)", headings, names=1)
    for position, site in enumerate(last):
        best, *nulls = (_best_threshold(rows, site, who) for who in (NETWORK, PERMUTED, UNTRAINED))
        published = values.FIGURE5_BEST_THRESHOLD[values.BLOCKS - position]
        cells = (
            site,
            f"{published:g}",
            f"{best['threshold']:g}",
            f"{best['snr_min']:.2f}",
            *(f"{null['snr_min']:.2f} at {null['threshold']:g}" for null in nulls),
        )
        table.add_group(cells)
    return rows, table


def _best_threshold(rows: Sequence[Row], site: str, who: str) -> Row:
    return max((row for row in rows if row["site"] == site and row["of"] == who), key=lambda row: row["snr_min"])


def _block_measurements(run: RunDirectory, split: str) -> dict[str, list[Measurement]]:
    # By name: other sites may have been measured on other splits.
    return measurements_of(run, split, [site for site in measured_names(run) if site.endswith(".linear2")])


def _beside_paper(
    run: RunDirectory,
    split: str,
    study: str,
    columns: Sequence[str],
    published: Mapping[int, Mapping[str, float]],
    title: str,
) -> tuple[list[Row], TextTable]:
    """Every block's statistics with the paper's figure for the block at the same distance from the last.

    Draws them along the blocks as `figures/<study>.<split>`.
    """
    found = _block_measurements(run, split)
    measured, own = statistics_rows(found, values.THRESHOLD), _own_head_row(run, split)
    last = max(m.site.block for m in found["network"][0].values())
    seeds = len(found["network"])
    how = f"({split} images, {seeds} probe seed{'s' * (seeds > 1)})"
    table = TextTable(f"{title} {how}", ("block", "", *(HEADINGS[name] for name in columns)))
    rows, drawn = [], [*measured, *([own] if own else [])]
    for block in range(last, 0, -1):
        of_block = [row for row in measured if row["site"] == f"block.{block}.linear2"]
        lines = _comparison(of_block, columns, published.get(block + values.BLOCKS - last, {}))
        drawn += [{**line, "site": f"block.{block}.linear2"} for line in lines if line["of"] == PAPER]
        if block == last and own:
            lines.append({"of": "own head", **_only(own, columns)})
        rows += [{"block": block, **line} for line in lines]
        table.add_group(*([str(block), line["of"], *(_cell(line, name) for name in columns)] for line in lines))
    save_figure(growth_figure(drawn, columns), run.path / "figures" / f"{study}.{split}")
    return rows, table


def _own_head_row(run: RunDirectory, split: str) -> Row | None:
    """Statistics of the nodes that the network's own classifier head reads, where they were measured."""
    if split not in measured_splits(run).get(OWN_HEAD, ()):
        return None
    found = {NETWORK: load_measurements(run, split, [OWN_HEAD])}
    return statistics_rows(found, values.THRESHOLD, permutations=0)[0]


def _comparison(measured: Sequence[Row], columns: Sequence[str], published: Mapping[str, float]) -> list[Row]:
    """Lines of one block: paper, ours, the difference, and the two nulls."""
    ours = next(row for row in measured if row["of"] == NETWORK)
    nulls = [row for row in measured if row["of"] != NETWORK]
    difference = {name: ours[name] - published[name] if name in published else "" for name in columns}
    spreads = {f"{name}_std": "" for name in columns}
    lines: list[Row] = [
        {"of": PAPER, **{name: published.get(name, "") for name in columns}, **spreads},
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
    if line["of"] == PAPER:
        return f"{value:g}"
    if line["of"] == "difference":
        return f"{value:+.3g}"
    return with_spread(value, line[f"{name}_std"] if line["of"] == "ours" else 0.0)


@dataclass(frozen=True)
class NodeStudy:
    """A study of a measurement's nodes.

    Attributes:
        compare: makes rows and table of one split.
        sites: what it looks at.
        untrained: whether the untrained network stands beside.
    """

    compare: Callable[[RunDirectory, str], tuple[list[Row], TextTable]]
    sites: tuple[str, ...] = (BLOCK_OUTPUTS,)
    untrained: bool = True


NODE_STUDIES = {
    "table1": NodeStudy(table1, (BLOCK_OUTPUTS, OWN_HEAD)),
    "table2": NodeStudy(table2, (BLOCK_OUTPUTS, OWN_HEAD)),
    "figure3": NodeStudy(figure3, NODE_SITES, untrained=False),
    "figure4": NodeStudy(figure4, NODE_SITES, untrained=False),
    "figure5": NodeStudy(figure5),
}

PRUNING_STUDIES = {"table3": table3, "output": output_layer}

STUDIES = (*NODE_STUDIES, *PRUNING_STUDIES, "enforced", *HEAD_STUDIES)


SPLIT_STUDIES = (*NODE_STUDIES, *HEAD_STUDIES)
"""Studies that can be made on another split than the paper's."""


def scale_of(
    name: str, seeds: int | None = None, probe_optimizer: str = "adamw", probe_images: str | None = None
) -> Scale:
    """A scale by name, its number of seeds changed on request, and how its probes are trained.

    Raises:
        InputError: an unknown scale, optimizer or recipe, or no seed at all.
    """
    if name not in SCALES:
        raise InputError(f"there is no scale {name!r}; known: {', '.join(SCALES)}")
    if seeds is not None and seeds < 1:
        raise InputError(f"nothing would be measured with --seeds {seeds}; give at least 1")
    chosen = with_probes(SCALES[name], probe_optimizer, probe_images)
    return chosen if seeds is None else replace(chosen, seeds=seeds)


def reproduce(
    study: str,
    scale: Scale,
    run: RunDirectory,
    *,
    checkpoint: Path | None = None,
    seed: int = 0,
    splits: Sequence[str] | None = None,
) -> list[TextTable]:
    """Run a study; its rows go to `tables/<study>.<split>.csv` and `.md`, what it shows is returned for printing.

    Args:
        splits: images of the nodal matrices; by default the paper's: test, and for the heads train.

    Raises:
        InputError: an unknown study.
    """
    if study not in STUDIES:
        raise InputError(f"{study!r} cannot be reproduced; known: {', '.join((*STUDIES, 'all'))}")
    if study == "enforced":
        return enforced(scale, run, checkpoint, seed)
    if study in PRUNING_STUDIES:
        with pruned_in(run).claimed():
            return PRUNING_STUDIES[study](scale, run, checkpoint, seed)
    if study in HEAD_STUDIES:
        found = (reproduce_heads(study, scale, run, checkpoint, seed, split) for split in splits or ["train"])
        return [table for tables in found for table in tables]
    chosen, splits = NODE_STUDIES[study], splits or ["test"]
    measure_scale(
        scale,
        run,
        checkpoint=checkpoint,
        sites=chosen.sites,
        splits=tuple(splits),
        seed=seed,
        untrained=chosen.untrained,
    )
    shown = []
    for split in splits:
        rows, table = chosen.compare(run, split)
        run.write_table(f"{study}.{split}", rounded(rows))
        run.write_text(f"tables/{study}.{split}.md", table.markdown())
        shown.append(table)
    return shown


def quickstart(run: RunDirectory, seed: int = 0) -> list[TextTable]:
    """Train the smoke scale's network, measure all its sites, study its heads and prune its last block.

    `nodelens quickstart`; two minutes on two cores; expect a test accuracy of at least 0.97.

    Returns:
        The block outputs as Tables 1 and 2, the labels that heads own, and what pruning costs.
    """
    scale = replace(SCALES["smoke"], seeds=1)
    measure_scale(scale, run, sites=("*",), seed=seed)
    report_training(run)
    report_measurement(run, ("test",))
    owned, *_ = report_heads(head_study(scale, run, None, seed))
    apart = RunDirectory(pruned_in(run).path / "quickstart")
    with apart.claimed():
        study = table3_study(scale, run, None, seed, apart)
        report_pruning(study)
    rows = statistics_rows(_block_measurements(run, "test"), values.THRESHOLD)
    return [
        statistics_table(rows, TABLE1, "Table 1: what the nodes behind each block know (10 labels)"),
        statistics_table(rows, TABLE2, "Table 2: signal and noise per label"),
        owned,
        accuracy_table(study.prune(), "Test accuracy with the last block pruned, retrained for three epochs"),
    ]
