"""What is written and printed after a study of the heads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Samples
from nodelens.errors import InputError
from nodelens.heads.epochs import EpochSymmetry
from nodelens.heads.study import HeadSettings, HeadStudy, has_pictures
from nodelens.networks import Network
from nodelens.processes import by_first
from nodelens.report.expert_tables import (
    expert_rows,
    experts_table,
    silenced_label_rows,
    silenced_rows,
    silenced_table,
    superclass_rows,
    superclasses_table,
    symmetry_rows,
    symmetry_table,
)
from nodelens.report.field_figures import (
    clearest_images,
    field_pictures,
    fields_figure,
    overlap_figure,
    overlap_rows,
    overlap_table,
    views,
)
from nodelens.report.figures import save_figure
from nodelens.report.head_figures import depth_figure, head_label_figure, ratio_figure, symmetry_figure, training_figure
from nodelens.report.head_tables import (
    beside_chance,
    depth_rows,
    label_rows,
    labels_table,
    order_table,
    p_text,
    ratio_rows,
    sharing_rows,
    sharing_table,
)
from nodelens.report.tables import Row, TextTable, counted, mean_and_spread, rounded
from nodelens.runs import RunDirectory

OPTIONAL = ("sharing", "superclasses", "fields", "overlap", "silenced", "silenced.labels")
"""Tables and figures that only some networks, data sets or flags give."""


def report_heads(
    study: HeadStudy, silence: bool = False, images: Sequence[int] = (), pruned: Network | None = None
) -> list[TextTable]:
    """Tables and figures of a study; everything is measured that the run directory does not have yet.

    Writes `tables/heads.<what>.<split>.csv` and `.md` (depth, order, ratio, sharing, labels, experts, symmetry,
    superclasses, overlap, silenced, silenced.labels), and `figures/heads.<what>.<split>`.

    Args:
        silence: also silence each head, and all but each, in the network itself.
        images: test images of Fig. 11, by number; the clearest where none are given.
        pruned: the same network after pruning, for Fig. 11.
    """
    check_shown(study.network, study.data.test, images, pruned)
    study.measure(silence, pruned)
    return _report_measured(study, silence, images, pruned)


@by_first
def _report_measured(study: HeadStudy, silence: bool, images: Sequence[int], pruned: Network | None) -> list[TextTable]:
    settings = study.settings
    rule = {"ratio": settings.ratio, "threshold": settings.threshold, "draws": settings.draws}
    of = {"blocks": settings.blocks, "split": settings.split, "superclasses": len(study.data.superclass_names)}
    study.run.report(
        "heads",
        of | rule,
        [f"{folder}/heads.{name}.{settings.split}.*" for folder in ("tables", "figures") for name in OPTIONAL],
    )
    shown = [*report_depth(study), *report_experts(study)]
    if study.pictured:
        shown += report_fields(study, images, pruned)
    if silence:
        title = "The network's test accuracy, and its change for own labels and the rest with heads silenced"
        rows = silenced_rows(study)
        shown.append(_write(study, "silenced", rows, silenced_table(rows, title)))
        study.run.write_table(f"heads.silenced.labels.{study.settings.split}", rounded(silenced_label_rows(study)))
    return shown


def check_shown(network: Network, test: Samples, images: Sequence[int], pruned: Network | None) -> None:
    """
    Raises:
        InputError: there are no such images, or none at all, whose fields could be shown.
    """
    if not has_pictures(network, test) and (images or pruned is not None):
        why = (
            "it is not known where its tokens lie in an image"
            if isinstance(test, ImageSet)
            else f"{test.name} has none"
        )
        raise InputError(f"no image can be shown of this network: {why}; leave out --images and --pruned")
    for image in images:
        if not 0 <= image < len(test):
            raise InputError(f"--images {image} does not exist; the test images are 0 to {len(test) - 1}")


def how(study: HeadStudy) -> str:
    """The split and threshold of a study, and how many probes each site has."""
    return how_measured(study.settings, study.seeds)


def how_measured(settings: HeadSettings, seeds: int) -> str:
    """The same, where several networks were studied."""
    of_seeds = counted(seeds, "probe seed")
    return f"nodes on the {settings.split} split, threshold {settings.threshold:g}, {of_seeds}"


def report_depth(study: HeadStudy) -> list[TextTable]:
    """Labels per head, order parameters and the sweep over the ratio, for every block."""
    rows, settings = depth_rows(study), study.settings
    title = f"Labels of each head (h), of {len(study.data.label_names)}, ratio {settings.ratio:g} ({how(study)})"
    owned = _write(study, "depth", rows, labels_table(rows, title))
    order = order_table(rows, f"Participation of the leading head, label-head information in bits ({how(study)})")
    study.run.write_text(f"tables/heads.order.{settings.split}.md", order.markdown())
    study.run.write_table(f"heads.ratio.{settings.split}", rounded(ratio_rows(study)))
    _save(study, "ratio", figure_of_ratios(study))
    _save(
        study,
        "depth",
        depth_figure(rows, f"Symmetry breaking along the blocks, ratio {settings.ratio:g} ({how(study)})"),
    )
    shared = sharing_rows(study)
    if not shared:
        return [owned, order]
    title = f"Heads that share keys and values: correlation of how often labels appear in two of them ({how(study)})"
    return [owned, order, _write(study, "sharing", shared, sharing_table(shared, title))]


def report_experts(study: HeadStudy) -> list[TextTable]:
    """Appearances and accuracy of every label in every head, and what the network gains by it."""
    of_labels = [row for site in study.sites for row in label_rows(study, site)]
    study.run.write_table(f"heads.labels.{study.settings.split}", rounded(of_labels))
    _save(study, "appearances", figure_of_labels(study, "appearances"))
    _save(study, "accuracies", figure_of_labels(study, "accuracy"))
    _save(study, "symmetry", figure_of_symmetry(study))
    experts = [row for site in study.sites for row in expert_rows(study, site)]
    broken, filled = symmetry_rows(study), superclass_rows(study)
    heading = f"Accuracy of each head's labels, there and in the others; best: share best there ({how(study)})"
    tables = [
        _write(study, "experts", experts, experts_table(experts, heading)),
        _write(study, "symmetry", broken, symmetry_table(broken, "The network's test accuracy with symmetry breaking")),
    ]
    if any(row["labels"] for row in filled):
        title = "Super-classes that hold exactly k of a head's labels; p: at least k, by chance"
        tables.append(_write(study, "superclasses", filled, superclasses_table(filled, title)))
    return tables


def report_fields(study: HeadStudy, images: Sequence[int] = (), pruned: Network | None = None) -> list[TextTable]:
    """Fig. 11 for the last block, and the overlap of the fields with the image for every block."""
    rows = overlap_rows(study, pruned)
    _save(study, "fields", figure_of_fields(study, images, pruned))
    _save(study, "overlap", figure_of_overlaps(study, pruned))
    heading = "Overlap |r| of the attention output fields with the image (in brackets: with another image)"
    return [_write(study, "overlap", rows, overlap_table(rows, heading))]


def figure_of_labels(study: HeadStudy, quantity: str) -> Figure:
    """Fig. 7 (`appearances`) or Fig. 8 (`accuracy`) of the study's last block."""
    last = study.sites[-1]
    what = f"{quantity.capitalize()} of every label in each head of block {last.block}"
    title = f"{what}, ratio {study.settings.ratio:g}\n({how(study)})"
    return head_label_figure(label_rows(study, last), quantity, title)


def figure_of_symmetry(study: HeadStudy) -> Figure:
    """Fig. 9 of the study's last two blocks."""
    two = {site.block: label_rows(study, site) for site in study.sites[-2:]}
    return symmetry_figure(two, f"The network's accuracy for every label\n({how(study)})")


def figure_of_ratios(study: HeadStudy) -> Figure:
    """Fig. 10 of all the study's blocks."""
    title = f"Labels owned by a head against the ratio\n({how(study)})"
    return ratio_figure(ratio_rows(study), len(study.data.label_names), title)


def figure_of_fields(study: HeadStudy, images: Sequence[int] = (), pruned: Network | None = None) -> Figure:
    """Fig. 11 of the study's last block."""
    last, choice = study.sites[-1], "chosen" if images else "the clearest"
    pictures = field_pictures(study, last, images or clearest_images(study, last), pruned)
    return fields_figure(pictures, f"Attention output fields of block {last.block} ({choice} images)")


def figure_of_overlaps(study: HeadStudy, pruned: Network | None = None) -> Figure:
    """How rare a picture as in Fig. 11 is, in the study's last block."""
    last, images = study.sites[-1], len(study.data.test)
    title = f"Overlap of the attention output fields of block {last.block} with the image, {images} images"
    return overlap_figure(views(study, last, pruned), title)


def _write(study: HeadStudy, name: str, rows: Sequence[Row], table: TextTable) -> TextTable:
    name = f"heads.{name}.{study.settings.split}"
    study.run.write_table(name, rounded(rows))
    study.run.write_text(f"tables/{name}.md", table.markdown())
    return table


def _save(study: HeadStudy, name: str, figure: Figure) -> list[Path]:
    return save_figure(figure, study.run.path / "figures" / f"heads.{name}.{study.settings.split}")


@by_first
def report_epochs(found: Sequence[EpochSymmetry], settings: HeadSettings, run: RunDirectory) -> list[TextTable]:
    """The order parameters over the epochs: `tables/heads.training.<split>.csv`, `.md`, and a figure."""
    rows, name = training_rows(found, settings), f"heads.training.{settings.split}"
    run.write_table(name, rounded(rows))
    title = f"The heads along training, ratio {settings.ratio:g} ({how_measured(settings, len(found[0].measurements))}"
    table = training_table(rows, f"{title}; in brackets: by chance)")
    run.write_text(f"tables/{name}.md", table.markdown())
    figure = training_figure(rows, f"{title}; dotted: by chance)")
    save_figure(figure, run.path / "figures" / name)
    return [table]


def training_rows(found: Sequence[EpochSymmetry], settings: HeadSettings) -> list[Row]:
    """A row per epoch and block: accuracy of the probe on the measured images, labels owned and order parameters."""
    rows = []
    for after in found:
        for site in after.measurements[0]:
            symmetry = after.symmetry(site, settings)
            of_site = [measurement[site] for measurement in after.measurements]
            row: Row = {"epoch": after.epoch, "block": of_site[0].site.block, "seeds": len(of_site)}
            row |= {"network": "" if after.test_accuracy is None else after.test_accuracy}
            row |= mean_and_spread("accuracy", [one.accuracy for one in of_site])
            at = symmetry[0].ratios.index(settings.ratio)
            row |= beside_chance("owned", [one.owned[at] for one in symmetry])
            row |= beside_chance("participation", [one.participation for one in symmetry])
            rows.append(row | beside_chance("information", [one.information for one in symmetry]))
    return rows


def training_table(rows: Sequence[Row], title: str) -> TextTable:
    """Epoch by epoch, the last block first; in brackets what chance gives, p of the information in bits."""
    headings = ("epoch", "block", "net", "probe", "owned", "particip.", "bits", "p")
    table = TextTable(title, headings)
    for epoch in dict.fromkeys(row["epoch"] for row in rows):
        lines = []
        for row in reversed([row for row in rows if row["epoch"] == epoch]):
            network = "" if row["network"] == "" else f"{row['network']:.3f}"
            owned = f"{row['owned']:.1f} ({row['owned_null']:.1f})"
            order = (f"{row[name]:.2f} ({row[f'{name}_null']:.2f})" for name in ("participation", "information"))
            cells = (network, f"{row['accuracy']:.3f}", owned, *order, p_text(row["information_p"]))
            lines.append([str(epoch), str(row["block"]), *cells])
        table.add_group(*lines)
    return table
