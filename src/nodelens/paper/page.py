"""The page that a reproduction ends with: each number of the paper, ours, the difference, held or not, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from statistics import median

from nodelens.paper.numbers import HELD, NOT_HELD, UNKNOWN, Number
from nodelens.paper.scales import TABLE5_IS_OF, Scale
from nodelens.paper.studies import PRUNING_STUDIES
from nodelens.report.tables import Row, TextTable, with_spread

RULE = (
    "**Held** means: ours differs from the paper's number by no more than its rounding (half a unit of its last digit; "
    "a whole unit in Table 2, which truncates; in Table 4 two standard errors of its random samples more), half a "
    "percent (the spread that its authors state) and twice our standard deviation together. A number after ≥ or ≤ is "
    "the bound of a claim in words, and held if our mean keeps it. ± is the standard deviation over the seeds of the "
    "probes, or over the networks where there are several."
)
TITLES = {
    "network": "The network",
    "table1": "Table 1",
    "table2": "Table 2",
    "figure3": "Fig. 3 and text",
    "figure5": "Fig. 5",
    "figure7": "Fig. 7",
    "table4": "Table 4",
    "figure10": "Fig. 10",
    "figure8": "Fig. 8",
    "figure9": "Fig. 9",
    "figure11": "Fig. 11",
    "output": "Text: the output layer",
    "table3": "Table 3",
    "table5": "Table 5",
    "enforced": "Discussion: enforced heads",
}
REASONS = {
    "network": "the paper's is the largest accuracy that a search through the hyper-parameters found",
    "table1": (
        "optimizer, penalty and length of the probes decide how large clusters and noise are; in CCT-7/3x1 the "
        "network's own head comes nearer to the paper's last block than a probe"
    ),
    "table2": "follows from Table 1: signal from diag, noise_E from n",
    "figure3": (
        "depends on how the probes are trained: in a CCT-7/3x1 of 300 epochs nodes behind Linear2 without the skip "
        "connection stand for 4.8 to 12.2 labels, those behind Linear1 for 4.7 to 5.6"
    ),
    "figure5": (
        "SNR_min belongs to one label, the rarest: it jumps from threshold to threshold; the SNR follows from Table 1"
    ),
    "output": "decided on held-out training images, which the network has learnt; the paper decided on test images",
    "table3": (
        "measured on held-out training images, which the network has learnt, the paper's on test images; the skip "
        "connection carries most of the last block, so that removing the whole branch costs about as little"
    ),
    "table4": "a head's labels differ from network to network; the paper shows one",
    "table5": "a head's labels differ from network to network; the paper shows one",
    "figure7": (
        "depends on probes and network: three kinds of probes find 69 to 73 labels owned in one CCT-7/3x1, and six "
        "epochs of them 76 in another, at accuracies of 0.66 to 0.78"
    ),
    "figure10": (
        "the share falls as the ratio grows, as it must; the paper gives about 70 labels for all ratios from 1.5 to "
        "2.5; block 6 owns 40 labels in one CCT-7/3x1 and 31 in another"
    ),
    "figure9": "labels with symmetry breaking are few or many by the seed; see the p-values of the figure's table",
    "figure11": "the paper shows two images; ours are the means over the test images whose label is a head's",
    "enforced": "the paper calls its results preliminary and gives no number",
}
"""Why a number of a part may not be held, as far as known, whatever the scale."""


OF_NODES = ("table1", "table2", "table3", "figure3")
"""Parts with statistics of nodes, of which it is said how near most of them are."""


def reason(number: Number, scale: Scale) -> str:
    """Why a number is not held, as far as known; empty where it is, or nothing is known."""
    if number.verdict == HELD:
        return ""
    if number.verdict == UNKNOWN:
        return "nothing to be measured here: no label, or no label of that kind"
    measured = scale.second if number.part == "table5" and scale.second is not None else scale
    retrained = measured.retrains if number.part in PRUNING_STUDIES else ""
    of = _other_network(number.part, scale)
    return "; ".join(filter(None, (of, REASONS.get(number.part, ""), measured.differs, retrained)))


def _other_network(part: str, scale: Scale) -> str:
    """Of Table 5, whose numbers the paper's are where the scale has no second network; else empty."""
    return TABLE5_IS_OF if part == "table5" and scale.second is None else ""


def page_rows(numbers: Sequence[Number], scale: Scale) -> list[Row]:
    """One row per number, as it is written to the file."""
    return [
        {
            "part": number.part,
            "number": number.what,
            "rule": number.rule,
            "paper": number.paper,
            "ours": number.ours,
            "ours_std": number.spread,
            "difference": number.difference,
            "tolerance": number.tolerance if number.rule == "=" else 0.0,
            "verdict": number.verdict,
            "why": reason(number, scale),
        }
        for number in numbers
    ]


def page_table(numbers: Sequence[Number]) -> TextTable:
    """All numbers in one table, part by part."""
    title = f"The paper's numbers and ours: {_counted(numbers)}"
    table = TextTable(title, ("part", "number", "paper", "ours", "difference", ""))
    for part, of_part in groupby(numbers, key=lambda number: number.part):
        table.add_group(*((TITLES[part], *_cells(number)) for number in of_part))
    return table


def _cells(number: Number) -> tuple[str, ...]:
    paper = f"{number.paper:g}" if number.rule == "=" else f"{number.rule} {number.paper:g}"
    ours = with_spread(number.ours, number.spread)
    return number.what, paper, ours, _difference(number), number.verdict


def _difference(number: Number) -> str:
    """Ours less the paper's, and its share of the paper's where that is a number and not a bound."""
    if math.isnan(number.difference):
        return ""
    share = f" ({_percent(number.relative)})" if math.isfinite(number.relative) else ""
    return f"{number.difference:+.3g}{share}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _counted(numbers: Sequence[Number]) -> str:
    counts = {verdict: sum(number.verdict == verdict for number in numbers) for verdict in (HELD, NOT_HELD, UNKNOWN)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "none yet"


def page_text(numbers: Sequence[Number], scale: Scale, how: str, missing: Sequence[str]) -> str:
    """The page in Markdown.

    Args:
        how: what was trained and measured.
        missing: parts that are not finished.
    """
    parts = [list(of_part) for _, of_part in groupby(numbers, key=lambda number: number.part)]
    lines = [f"# The paper's numbers and ours: {_counted(numbers)}", "", how, "", RULE, ""]
    if differs := "; ".join(filter(None, (scale.differs, scale.retrains))):
        lines += [f"**This scale is not the paper's:** {differs}.", ""]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}. The same command goes on.", ""]
    for of_part in parts:
        lines += _section(of_part, scale)
    return "\n".join(lines)


def _section(numbers: Sequence[Number], scale: Scale) -> list[str]:
    part = numbers[0].part
    of = _other_network(part, scale)
    title = f"{TITLES[part]}{f' ({of})' * bool(of)}: {_counted(numbers)}"
    shares = [number.relative for number in numbers if math.isfinite(number.relative)]
    if part in OF_NODES and len(shares) > 2:
        title += f"; half of the numbers within {_percent(median(shares))} of the paper's"
    table = TextTable(title, ("number", "paper", "ours", "difference", "verdict"), names=1)
    for number in numbers:
        table.add_group(_cells(number))
    why = sorted({text for number in numbers if (text := reason(number, scale))})
    notes = [f"Why, as far as known: {'. '.join(text[0].upper() + text[1:] for text in why)}.", ""] if why else []
    return [table.markdown(), *notes]
