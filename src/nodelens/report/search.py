"""Tables of a search for the highest dilution that keeps the accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nodelens.pruning.search import DilutionSearch, Found, Sensitivity
from nodelens.pruning.settings import SearchSettings
from nodelens.pruning.study import HELD_OUT, TEST, PruningStudy
from nodelens.report.tables import Row, TextTable, averaged, counted, rounded
from nodelens.runs import RunDirectory

REACHED = ("dilution", "pruned", HELD_OUT, TEST)
HEADINGS = ("removed", "pruned", "held out", "test", "kept")


def report_search(study: PruningStudy) -> list[TextTable]:
    """Search for the highest total dilution that keeps the accuracy (or read what was found), for every seed.

    Writes `tables/search.csv` (every network tried, the dense one first), `tables/search.layers.csv` (dilution and
    threshold of every layer), `tables/search.controls.csv` (the other methods with as much removed) and
    `tables/search.sensitivity.csv`; the network found with the first seed becomes `model.safetensors`.
    """
    run, settings = study.run, study.settings
    asked, rows = settings.search or SearchSettings(), SearchRows()
    for seed in settings.seeds:
        search = DilutionSearch(study, asked, seed)
        sensitivity, found = search.search()
        if seed == settings.seeds[0]:
            reached = found.accepted()
            study.write_model(found.network, reached[TEST] if reached else None)
        rows.add(search, sensitivity, found)
        rows.write(run)
    shown = rows.tables(study, asked)
    for name, table in shown.items():
        run.write_text(f"tables/{name}.md", table.markdown())
    # What each layer costs alone is long; the file has it.
    return [table for name, table in shown.items() if name != "search.sensitivity"]


@dataclass
class SearchRows:
    """What the searches of all seeds gave, row by row."""

    trials: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    controls: list[Row] = field(default_factory=list)
    sensitivity: list[Row] = field(default_factory=list)

    def add(self, search: DilutionSearch, sensitivity: Sensitivity, found: Found) -> None:
        """Take what one seed's search gave, and retrain the controls. Where nothing could go, the dense row stands."""
        seed = {"seed": search.seed}
        self.trials += [{**seed, **row} for row in (search.dense, *found.trials)]
        for layer in (layer.name for layer in search.study.layers):
            threshold = found.thresholds[layer].source if layer in found.thresholds else ""
            share = found.dilutions.get(layer, 0.0)
            self.layers.append({**seed, "layer": layer, "dilution": share, "threshold": threshold})
        reached = found.accepted() or search.dense
        own = {"method": search.method, **{key: reached[key] for key in (*REACHED, "accepted")}}
        self.controls += [{**seed, **row} for row in (own, *search.controls(found))]
        self.sensitivity += [
            {**seed, "layer": layer, "dilution": level, "loss": loss}
            for layer, losses in sensitivity.losses.items()
            for level, loss in losses
        ]

    def write(self, run: RunDirectory) -> None:
        """Write all rows so far."""
        run.write_table("search", rounded(self.trials))
        run.write_table("search.layers", self.layers)  # all digits: `nl.prune` gives the same masks from them
        run.write_table("search.controls", rounded(self.controls))
        run.write_table("search.sensitivity", rounded(self.sensitivity))

    def tables(self, study: PruningStudy, asked: SearchSettings) -> dict[str, TextTable]:
        """The tables to be read, by the name of their file."""
        method, seeds = study.settings.model_of, len(study.settings.seeds)
        way = f"{method}, {'gradual' if asked.gradual else 'one shot'}"
        title = (
            f"Search ({way}): {asked.keep:g} below dense retrained alike, decided on the {study.decided_on} split "
            "(trial: the loss that each layer alone may cost @ the share that may go of it)"
        )
        removed = averaged([row["dilution"] for row in self.controls if row["method"] == method])
        of_layers = f"Removed of each layer, mean of {counted(seeds, 'seed')}; {removed} of all weights of these layers"
        shown = {
            "search": trials_table(self.trials, title),
            "search.layers": layers_table(self.layers, of_layers),
        }
        if any(row["method"] != method for row in self.controls):
            title = (
                f"As many weights of each layer removed by other methods, in one shot, mean of {counted(seeds, 'seed')}"
            )
            shown["search.controls"] = controls_table(self.controls, title)
        shown["search.sensitivity"] = sensitivity_table(self.sensitivity)
        return shown


def trials_table(rows: Sequence[Row], title: str) -> TextTable:
    """What each network tried reached, seed by seed."""
    table = TextTable(title, ("seed", "trial", *HEADINGS))
    for seed in dict.fromkeys(row["seed"] for row in rows):
        lines = []
        for row in (row for row in rows if row["seed"] == seed):
            cells = (f"{row[column]:.4f}" for column in REACHED)
            lines.append([str(seed), row["trial"], *cells, "yes" if row["accepted"] else "no"])
        table.add_group(*lines)
    return table


def controls_table(rows: Sequence[Row], title: str) -> TextTable:
    """What every method reached with as many weights removed, over the seeds."""
    table = TextTable(title, ("method", *HEADINGS), names=1)
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
        cells = (averaged([row[column] for row in of_method]) for column in REACHED)
        table.add_group((method, *cells, f"{sum(row['accepted'] for row in of_method)} of {len(of_method)}"))
    return table


def layers_table(rows: Sequence[Row], title: str) -> TextTable:
    """Share removed of each layer, and ANDC's threshold where it prunes, over the seeds."""
    table = TextTable(title, ("layer", "removed", "threshold"), names=1)
    for layer in dict.fromkeys(row["layer"] for row in rows):
        of_layer = [row for row in rows if row["layer"] == layer]
        thresholds = [row["threshold"] for row in of_layer if row["threshold"] != ""]
        table.add_group((layer, averaged([row["dilution"] for row in of_layer]), averaged(thresholds)))
    return table


def sensitivity_table(rows: Sequence[Row]) -> TextTable:
    """What pruning each layer alone costs, a column for each dilution; empty where no threshold gives it."""
    levels = sorted({row["dilution"] for row in rows})
    title = "Accuracy lost when a layer alone is pruned, before retraining, by the share removed"
    table = TextTable(title, ("layer", *(f"{level:g}" for level in levels)), names=1)
    for layer in dict.fromkeys(row["layer"] for row in rows):
        lost = [[row["loss"] for row in rows if (row["layer"], row["dilution"]) == (layer, at)] for at in levels]
        table.add_group((layer, *(averaged(losses, 4) for losses in lost)))
    return table
