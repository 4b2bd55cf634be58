"""Tables and figures of a pruning study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nodelens.measures import dilution, site_statistics
from nodelens.networks import Layer
from nodelens.pruning.chance import kept_rows
from nodelens.pruning.decide import Decision
from nodelens.pruning.execution import DENSE
from nodelens.pruning.study import TEST, PruningStudy
from nodelens.pruning.vanished import vanished_rows
from nodelens.report.figures import STYLE, Panels, head_line, panels_of, save_figure
from nodelens.report.kept import kept_figure, kept_means, kept_table
from nodelens.report.palette import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, SKY
from nodelens.report.pruned_layer import pruned_layer_figure
from nodelens.report.tables import Row, TextTable, counted, mean_and_spread, rounded, with_spread

KEPT_TITLE = "Weights whose nodes share a label"
TABLE3 = ("n_clusters", "cluster_size", "diagonal", "noise")
LOOKS = {
    "andc": (BLUE, "-", "o"),
    "permuted": (AMBER, ":", "P"),
    "magnitude": (ORANGE, "-", "s"),
    "wanda": (GREEN, "-", "^"),
    "random": (GREY, "--", "v"),
    "field": (SKY, "-", "D"),
    "branch": (PURPLE, ":", "x"),
}


def report_pruning(study: PruningStudy) -> list[TextTable]:
    """Run a study (or read what was run) and write its tables and figures.

    Writes `tables/prune.csv` (every method, seed and epoch), `tables/prune.layers.csv` (Table 3),
    `tables/prune.kept.csv` (what chance would keep), `tables/prune.vanished.csv`, `figures/prune.kept`,
    `figures/figure6`, and with a curve `tables/prune.curve.csv` and `figures/prune.curve`.
    """
    run, settings = study.run, study.settings
    decisions = study.decisions()
    of_layers = layer_rows(study.layers, decisions)
    run.write_table("prune.layers", rounded(of_layers))
    of_weights = kept_rows(study.network, study.layers, decisions)
    run.write_table("prune.kept", rounded(of_weights))
    kept = kept_means(of_weights)
    gone = vanished_rows(study.layers, decisions)
    run.write_table("prune.vanished", gone)
    rows = study.prune()
    run.write_table("prune", rows)
    seeds, split = len(settings.seeds), study.decided_on
    shown = [
        layers_table(of_layers, f"The pruned layers, decided on the {split} split, mean of {counted(seeds, 'seed')}"),
        kept_table(kept, f"{KEPT_TITLE} (by chance: random labels), mean of {counted(seeds, 'seed')}"),
        vanished_table(gone, f"Nodes without a diagonal, mean of {counted(seeds, 'seed')}"),
        accuracy_table(rows, f"Test accuracy, mean of {counted(seeds, 'seed')}{' ± standard deviation' * (seeds > 1)}"),
    ]
    if settings.dilutions:
        curve = study.curve()
        run.write_table("prune.curve", curve)
        names = settings.layers
        pruned = ", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
        title = f"Pruning {pruned}: accuracy against dilution, {counted(seeds, 'seed')}"
        save_figure(curve_figure(curve, rows, title), run.path / "figures" / "prune.curve")
        shown.append(curve_table(curve, f"Test accuracy at each dilution, mean of {counted(seeds, 'seed')}"))
    title = (
        f"{KEPT_TITLE}\n(ANDC, decided on the {split} split, {counted(seeds, 'seed')}; hollow: labels drawn at random)"
    )
    save_figure(kept_figure(kept, title), run.path / "figures" / "prune.kept")
    figure = figure_of_layer(study, decisions[0])
    if figure is not None:
        save_figure(figure, run.path / "figures" / "figure6")
    for name, table in zip(("layers", "kept", "vanished", "accuracy", "curve"), shown, strict=False):
        run.write_text(f"tables/prune.{name}.md", table.markdown())
    return shown


def figure_of_layer(study: PruningStudy, decision: Decision) -> Figure | None:
    """Fig. 6 for the layer of which most is removed, of one seed; None where no layer lies between two sites."""
    measured, thresholds, masks = decision
    joining = [layer for layer in study.layers if layer.target is not None]
    if not joining:
        return None
    layer = max(joining, key=lambda layer: dilution(masks[layer.module]))
    source, target = thresholds[layer.name].source, thresholds[layer.name].target
    assert layer.target is not None
    assert target is not None
    return pruned_layer_figure(
        measured[layer.source].matrices.diagonals(source),
        measured[layer.target].matrices.diagonals(target),
        study.data.rest.label_names,
        f"{layer.name}: weights between nodes that share a label (blue), and removed ones (grey)\n"
        f"(some of {masks[layer.module].numel():,}, between nodes with common labels; thresholds {source:.2f} and "
        f"{target:.2f}; {dilution(masks[layer.module]):.1%} removed)",
    )


def layer_rows(layers: Sequence[Layer], decisions: Sequence[Decision]) -> list[Row]:
    """Table 3: for the two sites of every pruned layer its threshold, probe accuracy and statistics.

    Args:
        decisions: one per probe seed.

    Returns:
        A row per layer and site, `role` being `input` or `output`, with mean and `<name>_std` over the seeds;
        the dilution stands with the input.
    """
    rows = []
    for layer in layers:
        for role, site in (("input", layer.source), ("output", layer.target)):
            if site is None:
                continue
            of_seeds = []
            for measurement, at, mask in decisions:
                threshold = at[layer.name].source if role == "input" else at[layer.name].target
                assert threshold is not None
                measured = measurement[site]
                found = site_statistics(measured.matrices, threshold).scalars()
                values = {"threshold": threshold, "accuracy": measured.accuracy, **{n: found[n] for n in TABLE3}}
                of_seeds.append(values | ({"dilution": dilution(mask[layer.module])} if role == "input" else {}))
            facts = {
                "layer": layer.name,
                "role": role,
                "site": site,
                "nodes": decisions[0].measurement[site].site.nodes,
            }
            row: Row = {**facts, "split": decisions[0].measurement.split, "seeds": len(of_seeds)}
            for name in ("threshold", "accuracy", *TABLE3, "dilution"):
                row |= mean_and_spread(name, [values[name] for values in of_seeds if name in values])
            rows.append(row)
    return rows


def accuracy_rows(rows: Sequence[Row], split: str = TEST) -> list[Row]:
    """Mean and spread over the seeds of every method's accuracy, before and after every epoch of retraining."""
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        of_method = [row for row in rows if row["method"] == method]
        for wanted in dict.fromkeys(row.get("wanted") for row in of_method):
            of_dilution = [row for row in of_method if row.get("wanted") == wanted]
            for epoch in sorted({row["epoch"] for row in of_dilution}):
                chosen = [row for row in of_dilution if row["epoch"] == epoch]
                facts: Row = {"method": method, "epoch": epoch, "seeds": len(chosen), "split": split}
                facts |= {} if wanted is None else {"wanted": wanted}
                facts |= mean_and_spread("dilution", [row["dilution"] for row in chosen])
                found.append(facts | mean_and_spread("accuracy", [row[split] for row in chosen]))
    return found


def accuracy_table(rows: Sequence[Row], title: str) -> TextTable:
    """Every method's accuracy against the number of epochs of retraining."""
    averaged = accuracy_rows(rows)
    epochs = sorted({row["epoch"] for row in averaged})
    headings = ("method", "removed", "pruned", *(f"epoch {epoch}" for epoch in epochs[1:]))
    table = TextTable(title, headings, names=1)
    for method in dict.fromkeys(row["method"] for row in averaged):
        of_method = {row["epoch"]: row for row in averaged if row["method"] == method}
        cells = [with_spread(of_method[e]["accuracy"], of_method[e]["accuracy_std"]) for e in epochs]
        table.add_group((method, f"{of_method[epochs[0]]['dilution']:.3f}", *cells))
    return table


def curve_table(rows: Sequence[Row], title: str) -> TextTable:
    """Every method's accuracy at every dilution, before and after retraining."""
    averaged = accuracy_rows(rows)
    epochs = sorted({row["epoch"] for row in averaged})
    steps = [0, epochs[-1]] if len(epochs) > 1 else [0]
    dilutions = sorted({row["wanted"] for row in averaged})
    table = TextTable(title, ("method", "epoch", *(f"{wanted:g}" for wanted in dilutions)))
    for method in dict.fromkeys(row["method"] for row in averaged):
        lines = []
        for epoch in steps:
            found = {r["wanted"]: r for r in averaged if r["method"] == method and r["epoch"] == epoch}
            cells = [
                with_spread(found[w]["accuracy"], found[w]["accuracy_std"]) if w in found else "" for w in dilutions
            ]
            lines.append([method, str(epoch), *cells])
        table.add_group(*lines)
    return table


def layers_table(rows: Sequence[Row], title: str) -> TextTable:
    """Table 3, in the paper's form."""
    table = TextTable(title, ("layer", "Th", "Acc", "N_c", "C_s", "diag", "n", "removed"), names=1)
    digits = {"threshold": 2, "accuracy": 3, "n_clusters": 2, "cluster_size": 2, "diagonal": 2, "noise": 1}
    for layer in dict.fromkeys(row["layer"] for row in rows):
        lines = []
        for row in (row for row in rows if row["layer"] == layer):
            values = [f"{row[name]:.{places}f}" for name, places in digits.items()]
            removed = f"{row['dilution']:.3f}" if row["dilution"] != "" else ""
            lines.append([f"{layer} {row['nodes']} {row['role']}", *values, removed])
        # Both lines name their layer: a group would leave out the second.
        for line in lines:
            table.add_group(line)
    return table


def vanished_table(rows: Sequence[Mapping[str, Any]], title: str) -> TextTable:
    """How many nodes have no diagonal, mean over the seeds."""
    table = TextTable(title, ("site", "nodes", "without a diagonal"), names=1)
    for site in dict.fromkeys(row["site"] for row in rows):
        of_site = [row for row in rows if row["site"] == site]
        counts = [row["vanished"] for row in of_site]
        table.add_group((site, str(of_site[0]["nodes"]), f"{fmean(counts):.1f}"))
    return table


def curve_figure(
    rows: Sequence[Row], controls: Sequence[Row], title: str, tolerance: float = 0.005, into: Panels = None
) -> Figure:
    """Accuracy against dilution, before and after retraining, for every method; bands: one standard deviation.

    Args:
        rows: of `PruningStudy.curve`.
        controls: of `PruningStudy.prune`: the dense network and the removed branch are drawn as levels.
        tolerance: height of the band below the dense network's accuracy.
        into: two axes to draw into (one where nothing was retrained); a new figure by default.
    """
    averaged, levels = accuracy_rows(rows), accuracy_rows(controls)
    last = max(row["epoch"] for row in averaged)
    moments = {0: "pruned"} | ({last: f"after {counted(last, 'epoch')} of retraining"} if last else {})
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, 1, len(moments), (8.4 if last else 5.0, 3.4), sharey=True)
        axes = panels[0]
        for part, (epoch, name) in zip(axes, moments.items(), strict=True):
            draw_levels(part, [row for row in levels if row["epoch"] == epoch], tolerance)
            draw_curves(part, [row for row in averaged if row["epoch"] == epoch])
            part.set_title(name, loc="left", fontsize=9)
            part.set_xlabel("share of weights removed from every layer")
            part.xaxis.set_major_locator(MaxNLocator(5))
            part.set_ylim(bottom=0)
        axes[0].set_ylabel("test accuracy")
        if into is None:
            figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, loc="outside right center")
        else:
            axes[0].legend(frameon=False, loc="lower left")
        head_line(figure, title, into)
    return figure


def draw_levels(axes: Axes, rows: Sequence[Row], tolerance: float) -> None:
    """The accuracy of the dense network, with the tolerance below it, and of the one without the branch."""
    for row in rows:
        if row["method"] == DENSE:
            axes.axhspan(row["accuracy"] - tolerance, row["accuracy"], color=GREY, alpha=0.25, linewidth=0)
            axes.axhline(row["accuracy"], color=GREY, linewidth=0.8, label="dense")
        elif row["method"] == "branch":
            colour, line, _ = LOOKS["branch"]
            axes.axhline(row["accuracy"], color=colour, linestyle=line, linewidth=1.2, label="branch removed")


def draw_curves(axes: Axes, rows: Sequence[Row]) -> None:
    """Every method's accuracy at one epoch against the dilution."""
    for method, (colour, line, marker) in LOOKS.items():
        points = sorted((row for row in rows if row["method"] == method), key=lambda row: row["wanted"])
        if points:
            x, y, spread = (np.array([row[key] for row in points]) for key in ("wanted", "accuracy", "accuracy_std"))
            axes.plot(x, y, line, color=colour, marker=marker, markersize=4, linewidth=1.4, label=method)
            axes.fill_between(x, y - spread, y + spread, color=colour, alpha=0.2, linewidth=0)
