"""Table 3: ANDC pruning of the last block, ours beside the paper's, with the controls that the paper lacks."""

from __future__ import annotations

from pathlib import Path

from nodelens.errors import InputError
from nodelens.networks import block_patterns, layers
from nodelens.paper import values
from nodelens.paper.scales import Scale, recorded_precision, trained_network
from nodelens.probing import ProbeSettings, probe_recipe
from nodelens.pruning.retrain import recorded_augmentation, retraining, short_augmentation
from nodelens.pruning.study import PruneSettings, PruningStudy, load_pruning_data
from nodelens.report.pruning import accuracy_table, layer_rows, report_pruning
from nodelens.report.tables import Row, TextTable, rounded
from nodelens.runs import RunDirectory
from nodelens.training import recipe, resolve_precision
from nodelens.training.precision import default_device

COLUMNS = ("threshold", "accuracy", "n_clusters", "cluster_size", "diagonal", "noise", "dilution")


def table3(scale: Scale, run: RunDirectory, checkpoint: Path | None = None, seed: int = 0) -> list[TextTable]:
    """Table 3: thresholds, statistics and dilution of the last block's layers, and what they cost.

    `nodelens reproduce table3 --scale cpu`; the paper removes 77 to 85 % of each layer and keeps its accuracy. Random
    pruning and removing the whole branch stand beside: expect them to cost little too, where the skip carries most.
    """
    study = table3_study(scale, run, checkpoint, seed)
    report_pruning(study)
    seeds = study.settings.seeds
    ours = layer_rows(
        [study.measurement(s) for s in seeds],
        study.layers,
        [study.thresholds(s) for s in seeds],
        [study.andc(s) for s in seeds],
    )
    rows, table = beside_paper(ours, len(seeds), study.decided_on)
    study.run.write_table("table3", rounded(rows))
    study.run.write_text("tables/table3.md", table.markdown())
    costs = f"What it costs: test accuracy ({len(seeds)} seeds; the paper keeps {values.NETWORK_ACCURACY})"
    return [table, accuracy_table(study.prune(), costs)]


def table3_study(scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int) -> PruningStudy:
    """The last block with the paper's thresholds; measured in `run`/prune, kept in `run`/prune/table3."""
    precision = resolve_precision(recorded_precision(run) or "auto", default_device())
    network = trained_network(scale, run, checkpoint, seed, precision)
    patterns = block_patterns(layers(network), None)
    last = patterns[0].removesuffix(".*")
    if not last.startswith("block."):
        raise InputError("Table 3 is about the last encoder block; this network has none")
    seeds = tuple(range(seed, seed + scale.seeds))
    augmentation = recorded_augmentation(run) or short_augmentation(recipe(scale.recipe).augmentation)
    settings = PruneSettings(
        tuple(patterns),
        threshold=0.35,
        site_thresholds={f"{last}.attention": 0.3, f"{last}.projection": 0.3},
        seeds=seeds,
        retraining_images=scale.retraining_images,
        retraining=retraining(3, 5e-4, scale.rest_learning_rate, precision, augmentation),
        probe=ProbeSettings(probe_recipe(scale.probe_epochs), seeds, seed, precision=precision),
    )
    data = load_pruning_data(network, scale.data, settings)
    measured = RunDirectory(run.path / "prune")
    return PruningStudy(network, data, settings, RunDirectory(measured.path / "table3"), measured)


def beside_paper(ours: list[Row], seeds: int, split: str) -> tuple[list[Row], TextTable]:
    """Every site's row with the paper's of block 7 and the difference.

    Args:
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
    for row in ours:
        layer, role = row["layer"].rpartition(".")[2], row["role"]
        paper = values.TABLE3[layer, role]
        measured = {name: row[name] for name in COLUMNS}
        difference = {
            name: measured[name] - paper[name] if measured[name] != "" and name in paper else "" for name in COLUMNS
        }
        lines = {"paper": paper, "ours": measured, "difference": difference}
        for of, line in lines.items():
            rows.append({"layer": layer, "role": role, "of": of, **{name: line.get(name, "") for name in COLUMNS}})
        cells = [
            [_cell(line.get(name, ""), places, of == "difference") for name, places in digits.items()]
            for of, line in lines.items()
        ]
        name = f"{layer} {role.removesuffix('put')}"
        table.add_group(*([name, of, *line] for of, line in zip(lines, cells, strict=True)))
    return rows, table


def _cell(value: float | str, places: int, signed: bool) -> str:
    if isinstance(value, str):
        return ""
    value = round(value, places) + 0.0  # no minus before a zero
    return f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
