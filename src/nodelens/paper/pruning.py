"""ANDC pruning, ours beside the paper's with the controls that it lacks: Table 3, and the text's output layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import torch
from jaxtyping import Int
from torch import Tensor

from nodelens.errors import InputError
from nodelens.measures import STATISTICS, permutation_null, shared_label_probability
from nodelens.networks import Network, block_patterns, layers
from nodelens.paper import values
from nodelens.paper.comparison import cells, lines_of
from nodelens.paper.scales import Scale, precision_of, scale_probes, trained_network
from nodelens.probing import Measurement
from nodelens.pruning.chance import kept_rows
from nodelens.pruning.retrain import recorded_augmentation, retraining, short_augmentation
from nodelens.pruning.settings import PruneSettings
from nodelens.pruning.study import PruningStudy, load_pruning_data
from nodelens.report.kept import kept_means
from nodelens.report.pruning import accuracy_table, curve_table, layer_rows, report_pruning
from nodelens.report.tables import PERMUTED, Row, TextTable, mean_and_spread, rounded
from nodelens.runs import RunDirectory
from nodelens.training import recipe
from nodelens.training.precision import Precision

BY_CHANCE = "dilution_by_chance"
COLUMNS = ("threshold", "accuracy", "n_clusters", "cluster_size", "diagonal", "noise", "dilution")


def table3(scale: Scale, run: RunDirectory, checkpoint: Path | None = None, seed: int = 0) -> list[TextTable]:
    """Table 3: thresholds, statistics and dilution of the last block's layers, and what they cost.

    `nodelens reproduce table3 --scale cpu`; the paper removes 77 to 85 % of each layer and keeps its accuracy. Random
    pruning and removing the whole branch stand beside: expect them to cost little too, where the skip carries most.
    Beside the statistics stand those of permuted labels, beside what is removed the share that would be if every node's
    labels were drawn at random (by chance), for the paper the least that its mean diagonals allow. Expect both alike.
    """
    study = table3_study(scale, run, checkpoint, seed)
    report_pruning(study)
    seeds, decisions = study.settings.seeds, study.decisions()
    kept = kept_means(kept_rows(study.network, study.layers, decisions))
    by_chance = {row["layer"]: 1 - row["kept_by_chance"] for row in kept}
    ours = [{**row, BY_CHANCE: by_chance[row["layer"]]} for row in layer_rows(study.layers, decisions)]
    nulls = [_permuted([decision.measurement for decision in decisions], row) for row in ours]
    rows, table = beside_paper(ours, nulls, len(seeds), study.decided_on)
    study.run.write_table("table3", rounded(rows))
    chance = removed_table(rows)
    for name, one in (("table3", table), ("table3.removed", chance)):
        study.run.write_text(f"tables/{name}.md", one.markdown())
    costs = f"What it costs: test accuracy ({len(seeds)} seeds; the paper keeps {values.NETWORK_ACCURACY})"
    return [table, chance, accuracy_table(study.prune(), costs)]


def table3_study(
    scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int, apart: RunDirectory | None = None
) -> PruningStudy:
    """The last block with the paper's thresholds; measured in `run`/prune, kept in `run`/prune/table3.

    Args:
        apart: instead of both, so that other studies of the network are free to be measured otherwise.
    """
    precision = precision_of(run)
    network = trained_network(scale, run, checkpoint, seed, precision)
    patterns = block_patterns(layers(network), None)
    last = patterns[0].removesuffix(".*")
    if not last.startswith("block."):
        raise InputError("Table 3 is about the last encoder block; this network has none")
    settings = replace(
        _settings(scale, network, run, seed, precision, tuple(patterns)),
        threshold=values.TABLE3["qkv", "input"]["threshold"],
        site_thresholds={
            f"{last}.attention": values.TABLE3["projection", "input"]["threshold"],
            f"{last}.projection": values.TABLE3["projection", "output"]["threshold"],
        },
    )
    return _study(network, scale, settings, run, "table3", apart)


def output_layer(scale: Scale, run: RunDirectory, checkpoint: Path | None = None, seed: int = 0) -> list[TextTable]:
    """Section 3, text: the output layer at threshold 0.4, and with 80 % of its weights removed.

    `nodelens reproduce output --scale cpu`; the paper keeps 0.809 with 80 % removed and 0.77 with 94.4 %, where random
    pruning keeps 0.53. Expect ANDC far above random. Beside it what the layer itself decides, in place of a probe.
    """
    precision = precision_of(run)
    network = trained_network(scale, run, checkpoint, seed, precision)
    settings = replace(
        _settings(scale, network, run, seed, precision, ("output",)),
        threshold=values.OUTPUT["threshold"],
        dilutions=(values.OUTPUT_DILUTION,),
    )
    study = _study(network, scale, settings, run, "output")
    report_pruning(study)
    by_itself = _study(network, scale, replace(settings, own_head=True, dilutions=()), run, "output_own_head")
    report_pruning(by_itself)
    lines = lines_of({name: value for name, value in values.OUTPUT.items() if name != "threshold"}, _decided(study))
    lines.append({"of": "own head", **_decided(by_itself)})
    study.run.write_table("output", rounded(lines))
    headings = ("threshold", "", "diag", "removed", "ANDC", "random")
    seeds = len(settings.seeds)
    table = TextTable(f"Text: the output layer ({study.decided_on} images, {seeds} seeds)", headings)
    table.add_group(*([f"{values.OUTPUT['threshold']:g}", *cells(line)] for line in lines))
    study.run.write_text("tables/output.md", table.markdown())
    title = f"Test accuracy with {values.OUTPUT_DILUTION:g} of it removed, {seeds} seeds"
    return [
        table,
        accuracy_table(study.prune(), "Test accuracy at that threshold"),
        accuracy_table(by_itself.prune(), "Test accuracy where the layer itself decides"),
        curve_table(study.curve(), title),
    ]


def _decided(study: PruningStudy) -> Row:
    """Of a study of one layer at one threshold: the labels per node, what is removed, and the accuracies retrained."""
    (row,) = layer_rows(study.layers, study.decisions())
    ours: Row = {name: row[name] for column in ("diagonal", "dilution") for name in (column, f"{column}_std")}
    rows = study.prune()
    last = max(int(found["epoch"]) for found in rows)
    for method in ("andc", "random"):
        reached = [found["test"] for found in rows if found["method"] == method and found["epoch"] == last]
        ours |= mean_and_spread(method, reached)
    return ours


def _settings(
    scale: Scale, network: Network, run: RunDirectory, seed: int, precision: Precision, patterns: tuple[str, ...]
) -> PruneSettings:
    """The paper's way to prune and retrain, at a scale."""
    seeds = tuple(range(seed, seed + scale.seeds))
    augmentation = recorded_augmentation(run) or short_augmentation(recipe(scale.recipe).augmentation)
    return PruneSettings(
        layers=patterns,
        seeds=seeds,
        retraining_images=scale.retraining_images,
        retraining=retraining(
            rest_learning_rate=scale.rest_learning_rate, precision=precision, augmentation=augmentation
        ),
        probe=scale_probes(scale, network, seeds, seed, precision),
    )


def pruned_in(run: RunDirectory) -> RunDirectory:
    """Where the studies of a run's network are, those of `nodelens prune` too."""
    return RunDirectory(run.path / "prune")


def _study(
    network: Network,
    scale: Scale,
    settings: PruneSettings,
    run: RunDirectory,
    name: str,
    apart: RunDirectory | None = None,
) -> PruningStudy:
    """Measured in `run`/prune, which all studies share, kept in `run`/prune/NAME; or both apart."""
    data, measured = load_pruning_data(network, scale.data, settings), pruned_in(run)
    kept = RunDirectory(measured.path / name)
    return PruningStudy(network, data, settings, apart or kept, apart or measured)


def _permuted(measured: Sequence[Measurement], row: Row) -> Row:
    """The statistics of a row of Table 3 with permuted labels, mean over the seeds."""
    nulls = [permutation_null(of_seed[row["site"]].matrices, row["threshold"]).mean for of_seed in measured]
    return {name: fmean(null[name] for null in nulls) for name in STATISTICS if name in COLUMNS}


def least_by_chance(layer: str) -> float:
    """The least share of the paper's layer that random labels can leave unjoined, by its mean diagonals (Table 3).

    Two nodes are the likelier to share a label the more evenly the labels are spread over the nodes.
    """
    into, out = (_evenly(values.TABLE3[layer, role]["diagonal"]) for role in ("input", "output"))
    return 1 - float(shared_label_probability(out, into, values.LABELS).mean())


def _evenly(mean: float) -> Int[Tensor, " node"]:
    """A hundred nodes with so many labels in the mean, as evenly as whole numbers allow.

    >>> _evenly(2.21).unique(return_counts=True)
    (tensor([2, 3]), tensor([79, 21]))
    """
    return torch.arange(101).mul(round(100 * mean)).div(100, rounding_mode="floor").diff()


def beside_paper(ours: list[Row], nulls: Sequence[Row], seeds: int, split: str) -> tuple[list[Row], TextTable]:
    """Every site's row with the paper's of block 7, the difference, and permuted labels.

    Args:
        ours: with the share that random labels would remove, `dilution_by_chance`.
        nulls: of each row the statistics of permuted labels.
        split: on which ours were measured; the network has usually learnt `train-held-out` images, so that the
            probes are more accurate on them than on the paper's test images.
    """
    headings = ("last block", "", "Th", "Acc", "N_c", "C_s", "diag", "n", "removed")
    table = TextTable(f"Table 3: ANDC pruning of the last block ({split} images, {seeds} seeds)", headings)
    digits = {
        "threshold": 2,
        "accuracy": 3,
        "n_clusters": 2,
        "cluster_size": 2,
        "diagonal": 2,
        "noise": 1,
        "dilution": 2,
    }
    rows = []
    for row, chance in zip(ours, nulls, strict=True):
        layer, role = row["layer"].rpartition(".")[2], row["role"]
        paper = values.TABLE3[layer, role]
        names = (*COLUMNS, *(f"{name}_std" for name in COLUMNS))
        lines = lines_of(paper, {name: row[name] for name in names if row[name] != ""}, chance, called=PERMUTED)
        removed = {"paper": least_by_chance(layer), "ours": row[BY_CHANCE]} if "dilution" in paper else {}
        lines = [{**line, BY_CHANCE: removed.get(line["of"], "")} for line in lines]
        rows += [{"layer": layer, "role": role, **line} for line in lines]
        name = f"{layer} {role.removesuffix('put')}"
        table.add_group(*([name, line["of"], *_cells(line, digits)] for line in lines))
    return rows, table


def removed_table(rows: Sequence[Row]) -> TextTable:
    """What is removed of every layer, beside what would be if every node's labels were drawn at random.

    Args:
        rows: of `beside_paper`.
    """
    title = "Removed, and by chance: labels drawn at random, as many (of the paper's layers at least so much)"
    table = TextTable(title, ("layer", "paper", "by chance", "ours", "by chance"), names=1)
    with_input = [row for row in rows if row[BY_CHANCE] != ""]
    for paper, ours in zip(with_input[::2], with_input[1::2], strict=True):
        shares = (of[name] for of in (paper, ours) for name in ("dilution", BY_CHANCE))
        table.add_group((ours["layer"], *(_cell(share, 2, False) for share in shares)))
    return table


def _cells(line: Row, digits: Mapping[str, int]) -> list[str]:
    return [_cell(line.get(name, ""), places, line["of"] == "difference") for name, places in digits.items()]


def _cell(value: float | str, places: int, signed: bool) -> str:
    if isinstance(value, str):
        return ""
    value = round(value, places) + 0.0  # no minus before a zero
    return f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
