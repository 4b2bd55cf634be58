"""Fig. 11: attention output fields as images, and how often they look like the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from jaxtyping import Float32, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nodelens.heads.fields import attention_fields, field_overlap, luminance
from nodelens.heads.study import HeadStudy
from nodelens.measures import HeadSpecialization
from nodelens.networks import Network, Site
from nodelens.report.figures import STYLE, Panels, head_line, panels_of
from nodelens.report.palette import BLUE, GREEN, GREY, ORANGE, PURPLE
from nodelens.report.tables import Row, TextTable

SHOWN = 2
"""Images that are shown when none are chosen, as many as in Fig. 11."""
CLEAR = (0.5, 0.7, 0.9)
"""Overlaps from which on a picture is counted."""
ALL_HEADS, EXPERT, OTHERS, PRUNED = "all heads", "expert head", "other heads", "all heads, pruned"
LOOKS = {ALL_HEADS: (BLUE, "-"), EXPERT: (ORANGE, "-"), OTHERS: (GREEN, "-"), PRUNED: (PURPLE, "--")}


@dataclass(frozen=True, eq=False)
class FieldPicture:
    """An image and the fields that it raises at one site.

    Attributes:
        image: its number in the split.
        head: the one in which its label appears most, from 0; `owned` if that one specialises in the label.
        fields: one per head.
        pruned: mean over all heads of the pruned network, where there is one.
    """

    image: int
    label: str
    pixels: UInt8[Tensor, "height width channel"]
    head: int
    owned: bool
    fields: Float32[Tensor, "head row column"]
    pruned: Float32[Tensor, "row column"] | None = None


def leading_heads(found: HeadSpecialization) -> Tensor:
    """For each label the head in which it appears most; the first of several."""
    return found.appearances.argmax(dim=0)


def clearest_images(study: HeadStudy, site: Site, count: int = SHOWN) -> list[int]:
    """Correctly classified test images, of different labels, whose expert head shows them best.

    Labels that a head owns come first; where there are too few, the head in which the label appears most stands in.
    """
    found, measured = study.specialization(site), study.overlaps()[site.name]
    labels = study.data.test.labels
    heads = leading_heads(found)[labels]
    overlap = measured.overlap[1:].gather(0, heads[None])[0]
    rank = overlap + 2.0 * found.broken[labels] + 4.0 * measured.correct
    chosen: dict[int, int] = {}
    for image in rank.argsort(descending=True, stable=True).tolist():
        chosen.setdefault(int(labels[image]), image)
        if len(chosen) == count:
            break
    return list(chosen.values())


def field_pictures(
    study: HeadStudy, site: Site, images: Sequence[int], pruned: Network | None = None
) -> list[FieldPicture]:
    """The images with the fields of every head, and of the pruned network's heads together."""
    test, found = study.images, study.specialization(site)
    shown = test.take(torch.tensor(images, dtype=torch.int64), "shown")
    normalisation, precision = study.data.probing.normalisation, study.settings.probe.precision
    fields = attention_fields(study.network, site, shown, normalisation, precision)
    after = None if pruned is None else attention_fields(pruned, site, shown, normalisation, precision).mean(dim=1)
    pixels, heads = shown.batch(torch.arange(len(images))), leading_heads(found)
    pictures = []
    for i, label in enumerate(shown.labels.tolist()):
        head, name = int(heads[label]), test.label_names[label]
        owned, then = int(found.head_of_label[label]) >= 0, None if after is None else after[i]
        pictures.append(FieldPicture(images[i], name, pixels[i], head, owned, fields[i], then))
    return pictures


def fields_figure(pictures: Sequence[FieldPicture], title: str, into: Panels = None) -> Figure:
    """Fig. 11: a row per image: itself, the mean over all heads, its expert head, the others, the pruned network.

    Above each field stands its overlap |r| with the image's luminance; each field has its own range of grey.
    """
    columns = 2 + len(pictures[0].fields) + (pictures[0].pruned is not None)
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, len(pictures), columns, (1.5 * columns, 1.85 * len(pictures) + 0.4))
        for row, picture in zip(panels, pictures, strict=True):
            _draw_pixels(row[0], picture)
            for axes, (name, field) in zip(row[1:], _named_fields(picture), strict=True):
                _draw_field(axes, name, field, picture)
        head_line(figure, title, into)
    return figure


def _named_fields(picture: FieldPicture) -> list[tuple[str, Tensor]]:
    """The fields of a row in its order."""
    first = picture.head
    others = [head for head in range(len(picture.fields)) if head != first]
    expert = f"head {first + 1}, {'expert' if picture.owned else 'leading'}"
    named = [(ALL_HEADS, picture.fields.mean(dim=0)), (expert, picture.fields[first])]
    named += [(f"head {head + 1}", picture.fields[head]) for head in others]
    return named if picture.pruned is None else [*named, (PRUNED, picture.pruned)]


def _draw_pixels(axes: Axes, picture: FieldPicture) -> None:
    pixels = picture.pixels.numpy()
    axes.imshow(pixels[..., 0] if pixels.shape[-1] == 1 else pixels, cmap="gray", interpolation="nearest")
    axes.set_title(f"{picture.label}\n(image {picture.image})", fontsize=8)
    axes.axis("off")


def _draw_field(axes: Axes, name: str, field: Float32[Tensor, "side side"], picture: FieldPicture) -> None:
    overlap = float(field_overlap(field[None, None], luminance(picture.pixels[None], len(field)))[0, 0])
    axes.imshow(field.numpy(), cmap="gray", interpolation="nearest")
    axes.set_title(f"{name}\n|r| = {overlap:.2f}", fontsize=8)
    axes.axis("off")


def views(study: HeadStudy, site: Site, pruned: Network | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """Overlaps of all heads together, of the expert head and of the others, over the test images, beside chance.

    Expert and others: for images whose label a head owns.
    """
    found, measured, labels = study.specialization(site), study.overlaps()[site.name], study.data.test.labels
    owner = found.head_of_label[labels]
    owned = owner >= 0
    is_expert = owner[owned] == torch.arange(site.heads)[:, None]
    both = measured.overlap, measured.by_chance
    shown = {ALL_HEADS: tuple(values[0] for values in both)}
    for name, chosen in ((EXPERT, is_expert), (OTHERS, ~is_expert)):
        shown[name] = tuple(values[1:][:, owned][chosen] for values in both)
    if pruned is not None:
        after = study.overlaps(pruned)[site.name]
        shown[PRUNED] = (after.overlap[0], after.by_chance[0])
    return {name: (itself, chance) for name, (itself, chance) in shown.items()}


def overlap_rows(study: HeadStudy, pruned: Network | None = None) -> list[Row]:
    """How often a clear picture is seen: per block and view the overlap's mean, median and shares above CLEAR.

    Returns:
        Rows `of` the image `itself` and of `another` image, which is what chance gives.
    """
    rows = []
    for site in study.sites:
        for view, pair in views(study, site, pruned).items():
            for of, values in zip(("itself", "another"), pair, strict=True):
                row: Row = {"block": site.block, "view": view, "of": of, "fields": len(values)}
                row |= {"mean": float(values.mean()), "median": float(values.median()) if len(values) else float("nan")}
                rows.append(row | {f"from_{at}": float((values >= at).float().mean()) for at in CLEAR})
    return rows


def overlap_table(rows: Sequence[Row], title: str) -> TextTable:
    """The overlap with the image itself, and with another one, in brackets."""
    table = TextTable(title, ("block", "field", "mean", *(f"≥ {at}" for at in CLEAR[:2])))
    for block in dict.fromkeys(row["block"] for row in reversed(rows)):
        of_block = [row for row in rows if row["block"] == block]
        pairs = [pair for pair in zip(of_block[::2], of_block[1::2], strict=True) if pair[0]["fields"]]
        names = ("mean", *(f"from_{at}" for at in CLEAR[:2]))
        lines = [[f"{itself[name]:.3f} ({another[name]:.3f})" for name in names] for itself, another in pairs]
        table.add_group(*([str(block), a["view"], *line] for (a, _), line in zip(pairs, lines, strict=True)))
    return table


def overlap_figure(shown: Mapping[str, tuple[Tensor, Tensor]], title: str, into: Panels = None) -> Figure:
    """Distribution of the overlap over the test set, one panel per view; grey: with another image."""
    shown = {view: pair for view, pair in shown.items() if len(pair[0])}
    with matplotlib.rc_context(STYLE):
        size = (2.4 * max(2, len(shown)) + 0.6, 2.7)
        figure, grid = panels_of(into, 1, len(shown), size, sharex=True, sharey=True)
        panels = grid[0]
        bins = np.linspace(0, 1, 26)
        for axes, (view, (itself, chance)) in zip(panels, shown.items(), strict=True):
            for values, colour, line, name in (
                (chance, GREY, ":", "with another image"),
                (itself, *LOOKS[view], "with the image"),
            ):
                shares = np.full(len(values), 1 / len(values))
                drawn = {"histtype": "stepfilled", "alpha": 0.3, "linewidth": 0}
                axes.hist(values.numpy(), bins=bins, weights=shares, color=colour, **drawn)
                axes.hist(
                    values.numpy(), bins=bins, weights=shares, histtype="step", color=colour, linestyle=line, label=name
                )
            axes.set_title(view, loc="left", fontsize=9)
            axes.set_xlabel("overlap |r|")
            axes.legend(frameon=False, fontsize=7)
        panels[0].set_ylabel("share of fields")
        head_line(figure, title, into)
    return figure
