"""Tables of the heads: how many labels are whose and how far the symmetry is broken, beside what chance gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from jaxtyping import Float64, Int64
from torch import Tensor

from nodelens.heads.study import HeadStudy
from nodelens.measures import BesideChance, HeadSpecialization, shared_labels
from nodelens.networks import Site
from nodelens.report.tables import Row, TextTable, mean_and_spread, with_spread

NOBODY = "nobody"


def beside_chance(name: str, found: Sequence[BesideChance]) -> Row:
    """A quantity over the seeds: mean and spread, its null's mean and band, and the largest p-value, NaN if one is."""
    row = mean_and_spread(name, [float(one.observed) for one in found])
    row[f"{name}_null"] = fmean(float(one.mean) for one in found)
    row[f"{name}_low"] = fmean(float(one.low) for one in found)
    row[f"{name}_high"] = fmean(float(one.high) for one in found)
    values = [float(one.p_value) for one in found]
    row[f"{name}_p"] = math.nan if any(map(math.isnan, values)) else max(values)
    return row


def over_labels(accuracy: Float64[Tensor, "*part label"], counts: Int64[Tensor, " label"]) -> Float64[Tensor, "*part"]:
    """Share of all images, from the shares of each label's."""
    return (accuracy * counts).sum(dim=-1) / counts.sum()


def depth_rows(study: HeadStudy) -> list[Row]:
    """Labels of each head (Tables 4, 5) and the order parameters, block by block, with their nulls.

    Returns:
        A row per block with the probe's test accuracy, `head_1`, … and `owned` (labels owned in all), `participation`
        and `information`; `_std` is over the seeds, `_null`, `_low`, `_high` and `_p` are what chance gives.
    """
    rows, accuracies = [], study.accuracies
    for site in study.sites:
        found, symmetry = study.specializations(site), study.symmetry[site.name]
        exact = accuracies[site.name]
        row: Row = {"block": site.block, "labels": len(exact.counts), **_how(study)}
        row |= mean_and_spread("accuracy", over_labels(exact.probe, exact.counts).tolist())
        for head in range(site.heads):
            row |= mean_and_spread(f"head_{head + 1}", [float(one.labels_per_head[head]) for one in found])
        at = symmetry[0].ratios.index(study.settings.ratio)
        row |= beside_chance("owned", [one.owned[at] for one in symmetry])
        row |= beside_chance("participation", [one.participation for one in symmetry])
        row |= beside_chance("information", [one.information for one in symmetry])
        rows.append(row)
    return rows


def _how(study: HeadStudy) -> Row:
    settings = study.settings
    return {"split": settings.split, "threshold": settings.threshold, "ratio": settings.ratio, "seeds": study.seeds}


def labels_table(rows: Sequence[Row], title: str) -> TextTable:
    """Tables 4 and 5: how many labels each head owns, the last block first."""
    heads = max((numbered(row, "head_") for row in rows), key=len)
    headings = (f"h{head}" for head in range(1, len(heads) + 1))
    table = TextTable(title, ("block", "Acc", *headings, "total", "by chance", "p"), names=1)
    for row in reversed(rows):
        cells = [_count(row[key]) if key in row else "" for key in heads]
        total = with_spread(row["owned"], row["owned_std"]) if row["owned_std"] else _count(row["owned"])
        chance = f"{row['owned_null']:.1f} ({row['owned_low']:.0f}-{row['owned_high']:.0f})"
        table.add_group((str(row["block"]), share_text(row["accuracy"]), *cells, total, chance, p_text(row["owned_p"])))
    return table


def _count(labels: float) -> str:
    """A number of labels, whole where it is."""
    return f"{labels:.0f}" if labels == round(labels) else f"{labels:.1f}"


def p_text(p: float) -> str:
    """A p-value to two digits; nothing where there is none.

    >>> p_text(0.00099900), p_text(0.5), p_text(float("nan"))
    ('0.001', '0.5', '')
    """
    return "" if math.isnan(p) else f"{p:.2g}"


def share_text(value: float) -> str:
    """A share to three digits; nothing where there is none.

    >>> share_text(0.8), share_text(float("nan"))
    ('0.800', '')
    """
    return "" if math.isnan(value) else f"{value:.3f}"


def numbered(row: Row, prefix: str) -> list[str]:
    """The row's keys `<prefix>1`, `<prefix>2`, …, without their spreads."""
    return [key for key in row if key.startswith(prefix) and key.removeprefix(prefix).isdecimal()]


def order_table(rows: Sequence[Row], title: str) -> TextTable:
    """Participation of the leading head and label-head information along the depth, each beside its null."""
    names = ("participation", "information")
    headings = ("particip.", "by chance", "p", "bits", "by chance", "p")
    table = TextTable(title, ("block", *headings), names=1)
    for row in reversed(rows):
        cells: list[str] = []
        for name in names:
            band = f"{row[f'{name}_low']:.3f}-{row[f'{name}_high']:.3f}"
            cells += [with_spread(row[name], row[f"{name}_std"]), band, p_text(row[f"{name}_p"])]
        table.add_group((str(row["block"]), *cells))
    return table


def sharing_rows(study: HeadStudy) -> list[Row]:
    """Where heads share keys and values: how alike labels appear in two that do, and in two that do not.

    Returns:
        A row per block with such heads, `sharing` of them at a time, and one over all of these with the p-value; none
        where each head has its own keys and values, or all have the same.
    """
    sites = [site for site in study.sites if 1 < site.sharing < site.heads]
    if not sites:
        return []
    appearances = [study.specialization(site).appearances.double() for site in sites]
    found = shared_labels(appearances, [site.sharing for site in sites])
    alike = zip(found.within.tolist(), found.between.tolist(), strict=True)
    rows: list[Row] = [
        {"block": site.block, "sharing": site.sharing, **_how(study), "within": within, "between": between, "p": ""}
        for site, (within, between) in zip(sites, alike, strict=True)
    ]
    means = {"within": float(found.within.mean()), "between": float(found.between.mean())}
    return [*rows, {"block": "all", "sharing": "", **_how(study), **means, "p": found.p_value}]


def sharing_table(rows: Sequence[Row], title: str) -> TextTable:
    """The last block first, all of them together below."""
    table = TextTable(title, ("block", "heads that share", "others", "p"), names=1)
    for row in [*reversed(rows[:-1]), rows[-1]]:
        p = p_text(row["p"]) if row["p"] != "" else ""
        table.add_group((str(row["block"]), f"{row['within']:.2f}", f"{row['between']:.2f}", p))
    return table


def ratio_rows(study: HeadStudy) -> list[Row]:
    """Fig. 10: labels owned in all heads together, for every block and ratio, with the null."""
    rows = []
    for site in study.sites:
        symmetry = study.symmetry[site.name]
        for i, ratio in enumerate(symmetry[0].ratios):
            facts = {"block": site.block, "split": study.settings.split, "at": ratio, "seeds": study.seeds}
            rows.append({**facts, **beside_chance("owned", [one.owned[i] for one in symmetry])})
    return rows


def label_order(found: HeadSpecialization) -> list[int]:
    """Labels head by head, those that appear most in their head first; nobody's last, by their appearances."""
    owner = found.head_of_label.tolist()
    most = found.appearances.max(dim=0).values.tolist()
    return sorted(range(len(owner)), key=lambda label: (owner[label] % (len(found.appearances) + 1), -most[label]))


def label_rows(study: HeadStudy, site: Site) -> list[Row]:
    """Figs. 7 and 8: for each label its head, appearances and accuracy in every head, mean over the seeds.

    The rows stand head by head (`label_order`); `head` is the one that owns the label by the appearances of all seeds
    together.
    """
    found, exact = study.specialization(site), study.accuracies[site.name]
    of_super, names = study.data.superclass_of_label, study.data.superclass_names
    accuracy = exact.heads.mean(dim=0)
    rows = []
    for label in label_order(found):
        owner = int(found.head_of_label[label])
        row: Row = {"block": site.block, "label": label, "name": study.data.label_names[label]}
        row |= {"superclass": names[of_super[label]] if of_super else "", "head": owner + 1 if owner >= 0 else NOBODY}
        row |= {"network": float(exact.network[label])}
        for head in range(site.heads):
            row[f"appearances_{head + 1}"] = float(found.appearances[head, label]) / study.seeds
        row |= {f"accuracy_{head + 1}": float(accuracy[head, label]) for head in range(site.heads)}
        rows.append(row)
    return rows
