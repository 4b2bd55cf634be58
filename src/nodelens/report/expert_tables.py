"""Tables of the heads as experts: what each knows alone, what is lost without it, its super-classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float64, Int64
from torch import Tensor

from nodelens.heads.accuracies import SilencedHeads
from nodelens.heads.study import HeadStudy
from nodelens.measures import (
    AccuracyDifference,
    Agreement,
    HeadSpecialization,
    accuracy_difference,
    accuracy_in_two_blocks,
    head_occupancy,
    own_head_p_value,
    rank_agreement,
)
from nodelens.networks import Site
from nodelens.report.head_tables import NOBODY, numbered, over_labels, p_text, share_text
from nodelens.report.tables import Row, TextTable


def expert_rows(study: HeadStudy, site: Site) -> list[Row]:
    """Fig. 8: how exactly each head knows its labels, how exactly the others do, and do the two numbers agree?

    Returns:
        A row per head and one for `all`: `own` and `others`, mean accuracy of the head's labels in it and in the
        other heads; `highest`, the share of its labels that no other head knows as exactly; `correlation` of
        appearances and accuracy (Spearman), with the ends of its interval.
    """
    found, exact = study.specialization(site), study.accuracies[site.name]
    accuracy = exact.heads.mean(dim=0)
    agreement = rank_agreement(found.appearances, accuracy)
    rows = []
    for head, agreed in enumerate(agreement.within):
        own = torch.nonzero(found.head_of_label == head).flatten()
        rows.append({"block": site.block, "head": str(head + 1), **_known(accuracy, found, own), **_interval(agreed)})
    own = torch.nonzero(found.broken).flatten()
    return [*rows, {"block": site.block, "head": "all", **_known(accuracy, found, own), **_interval(agreement.pairs)}]


def experts_by_seed(study: HeadStudy, site: Site) -> list[Row]:
    """The row `all` of `expert_rows`, for each seed's probe by itself and without the interval."""
    rows = []
    for found, accuracy in zip(study.specializations(site), study.accuracies[site.name].heads, strict=True):
        agreed = rank_agreement(found.appearances, accuracy).pairs
        known = _known(accuracy, found, torch.nonzero(found.broken).flatten())
        rows.append({**known, "correlation": agreed.correlation})
    return rows


def _known(accuracy: Float64[Tensor, "head label"], found: HeadSpecialization, labels: Int64[Tensor, " own"]) -> Row:
    """How exactly labels are known in the head that owns them, and in the other heads."""
    owner = found.head_of_label[labels]
    own = accuracy[owner, labels]
    others = accuracy[:, labels].clone()
    others[owner, torch.arange(len(labels))] = math.nan
    best = others.nan_to_num(nan=-1.0).amax(dim=0)
    mean_of_others = others.nanmean(dim=0)
    values = {"own": own, "others": mean_of_others, "highest": (own > best).double()}
    return {"labels": len(labels), **{name: float(value.mean()) for name, value in values.items()}}


def _interval(found: Agreement) -> Row:
    return {"correlation": found.correlation, "low": found.low, "high": found.high}


def experts_table(rows: Sequence[Row], title: str) -> TextTable:
    """Accuracy of the heads' labels there and in the other heads, the share that is best there, and the agreement."""
    headings = ("block", "head", "labels", "Acc", "others", "best", "corr.", "95 %")
    table = TextTable(title, headings)
    for block in dict.fromkeys(row["block"] for row in reversed(rows)):
        lines = []
        for row in (row for row in rows if row["block"] == block):
            cells = [share_text(row[name]) for name in ("own", "others", "highest")]
            span = "" if math.isnan(row["low"]) else f"{row['low']:.2f}..{row['high']:.2f}"
            agreed = "" if math.isnan(row["correlation"]) else f"{row['correlation']:.2f}"
            lines.append([str(block), row["head"], str(row["labels"]), *cells, agreed, span])
        table.add_group(*lines)
    return table


def symmetry_rows(study: HeadStudy) -> list[Row]:
    """Fig. 9: the network's accuracy for labels with symmetry breaking and for the others.

    Block by block, and for the last two blocks: labels with it in both, in one, in none.
    """
    return _symmetry_rows(study, {site: study.specialization(site).broken for site in study.sites})


def symmetry_by_seed(study: HeadStudy) -> list[list[Row]]:
    """`symmetry_rows` of each seed's probe by itself."""
    of_sites = [study.specializations(site) for site in study.sites]
    return [
        _symmetry_rows(study, {site: found.broken for site, found in zip(study.sites, of_seed, strict=True)})
        for of_seed in zip(*of_sites, strict=True)
    ]


def _symmetry_rows(study: HeadStudy, broken: Mapping[Site, Bool[Tensor, " label"]]) -> list[Row]:
    network = study.accuracies[study.sites[-1].name].network
    rows = [
        _difference_row(f"block {site.block}", "with", "without", accuracy_difference(network, of_block))
        for site, of_block in broken.items()
    ]
    if len(study.sites) > 1:
        before, last = study.sites[-2:]
        found = accuracy_in_two_blocks(network, torch.stack([broken[before], broken[last]]))
        where = f"blocks {before.block}, {last.block}"
        rows += [
            _difference_row(where, "in both", "in one", found.both_against_one),
            _difference_row(where, "in both", "in none", found.both_against_none),
            _difference_row(where, "in one", "in none", found.one_against_none),
        ]
    return rows


def _difference_row(where: str, first: str, second: str, found: AccuracyDifference) -> Row:
    counts = {"first": first, "labels_first": found.labels[0], "second": second, "labels_second": found.labels[1]}
    means = {"accuracy_first": found.accuracy[0], "accuracy_second": found.accuracy[1]}
    return {"where": where, **counts, **means, "difference": found.difference, "p": found.p_value}


def symmetry_table(rows: Sequence[Row], title: str) -> TextTable:
    """Fig. 9 as a table: two groups of labels per line."""
    headings = ("symmetry broken", "labels", "Acc", "labels", "Acc", "difference", "p")
    table = TextTable(title, headings, names=1)
    for row in rows:
        cells = []
        for group in ("first", "second"):
            cells += [f"{row[f'labels_{group}']} {row[group]}", share_text(row[f"accuracy_{group}"])]
        difference = "" if math.isnan(row["difference"]) else f"{row['difference']:+.3f}"
        table.add_group((row["where"], *cells, difference, p_text(row["p"])))
    return table


def superclass_rows(study: HeadStudy) -> list[Row]:
    """Table 4: super-classes that hold exactly 1, 2, … of a head's labels, beside as many random labels.

    Returns:
        For each block and head three rows: `observed`, the exact expectation `expected`, and `p`: the probability
        that random labels fill as many super-classes with at least so many. Empty without super-classes.
    """
    rows: list[Row] = []
    if not study.data.superclass_of_label:
        return rows
    for site in study.sites:
        tests = head_occupancy(study.specialization(site), study.data.superclass_of_label)
        for head, test in enumerate(tests):
            facts = {"block": site.block, "head": head + 1, "labels": test.labels}
            lines = {"observed": test.occupancy[1:], "expected": test.expected[1:], "p": test.p_value}
            for of, values in lines.items():
                filled = {f"filled_{k}": value for k, value in enumerate(values.tolist(), start=1)}
                rows.append({**facts, "of": of, **filled})
    return rows


def superclasses_table(rows: Sequence[Row], title: str) -> TextTable:
    """Table 4: a head's super-classes by their filling, the last block first; heads without labels are left out."""
    filled = numbered(rows[0], "filled_")
    headings = (f"{k} of {len(filled)}" for k in range(1, len(filled) + 1))
    table = TextTable(title, ("block, head (labels)", "", *headings))
    digits = {"observed": "{:.0f}", "expected": "{:.2g}", "p": "{:.2g}"}
    for block in dict.fromkeys(row["block"] for row in reversed(rows)):
        of_block = [row for row in rows if row["block"] == block and row["labels"]]
        for head in dict.fromkeys(row["head"] for row in of_block):
            lines = [row for row in of_block if row["head"] == head]
            name = f"{block}, {head} ({lines[0]['labels']})"
            table.add_group(*([name, row["of"], *(digits[row["of"]].format(row[k]) for k in filled)] for row in lines))
    return table


def silenced_rows(study: HeadStudy) -> list[Row]:
    """The network's accuracy when a head is silenced, or all others: for all labels, its own, and the rest.

    A block's last row, `head` "all", is the mean over all pairs of a head and a label, with the probability that labels
    dealt out at random would lose as much without their own head (`p_without`) or keep as much with it alone.
    """
    rows = []
    for site in study.sites:
        silenced, owner = study.silenced[site.name], study.specialization(site).head_of_label
        own, unknown = torch.arange(site.heads)[:, None] == owner, {"p_without": math.nan, "p_alone": math.nan}
        for head in range(site.heads):
            row = _silenced_row(silenced, own, slice(head, head + 1))
            rows.append({"block": site.block, "head": head + 1, **row, **unknown})
        by_chance = {
            "p_without": own_head_p_value(silenced.network - silenced.without, owner),
            "p_alone": own_head_p_value(silenced.alone, owner),
        }
        rows.append({"block": site.block, "head": "all", **_silenced_row(silenced, own, slice(None)), **by_chance})
    return rows


def _silenced_row(silenced: SilencedHeads, own: Bool[Tensor, "head label"], heads: slice) -> Row:
    """Mean accuracies over pairs of some heads and labels: all, those of a head and its own label, the rest."""
    parts = {"network": silenced.network.expand_as(own), "without": silenced.without, "alone": silenced.alone}
    counts = silenced.counts.expand_as(own)[heads]
    row: Row = {"labels": int(own[heads].sum())}
    for of, pairs in (("all", torch.ones_like(own)), ("own", own), ("rest", ~own)):
        chosen = pairs[heads]
        row |= {f"{part}_{of}": float(over_labels(acc[heads][chosen], counts[chosen])) for part, acc in parts.items()}
    return row


def silenced_table(rows: Sequence[Row], title: str) -> TextTable:
    """What silencing changes: for a head's own labels, and for the rest; in each block's last line for all heads."""
    headings = ("block", "head", "labels", "whole", "less it: own", "rest", "p", "only it: own", "rest", "p")
    table = TextTable(title, headings)
    for block in dict.fromkeys(row["block"] for row in reversed(rows)):
        lines = []
        for row in (row for row in rows if row["block"] == block):
            cells = [str(row["head"]), str(row["labels"]), share_text(row["network_all"])]
            for part in ("without", "alone"):
                cells += [_change(row[f"{part}_{of}"] - row[f"network_{of}"]) for of in ("own", "rest")]
                cells.append(p_text(row[f"p_{part}"]))
            lines.append(cells)
        table.add_group(*([str(block), *line] for line in lines))
    return table


def _change(value: float) -> str:
    return "" if math.isnan(value) else f"{value:+.3f}"


def silenced_label_rows(study: HeadStudy) -> list[Row]:
    """For each label the network's accuracy whole, without each head, and with each head of a block alone."""
    rows = []
    for site in study.sites:
        silenced, owner = study.silenced[site.name], study.specialization(site).head_of_label
        for label, name in enumerate(study.data.label_names):
            head = int(owner[label]) + 1 or NOBODY
            row: Row = {"block": site.block, "label": label, "name": name, "head": head}
            row["network"] = float(silenced.network[label])
            for part, accuracy in (("without", silenced.without), ("alone", silenced.alone)):
                row |= {f"{part}_{h}": value for h, value in enumerate(accuracy[:, label].tolist(), start=1)}
            rows.append(row)
    return rows
