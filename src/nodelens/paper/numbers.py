"""A number of the paper beside ours, and whether it is held.

A number is **held** if ours differs from it by no more than the paper's rounding (half a unit of the last digit that
it prints; Table 2 truncates, so a whole unit), half a percent (its authors' own spread over samples, section
"Statistics") and twice our standard deviation together. A claim ("the accuracy rises with every block") is a difference
with a bound, and held if our mean keeps the bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

PAPER_SPREAD = 0.005
"""Appendix, "Statistics": "the standard deviation was less than 0.5% for all the results"."""
SPREADS = 2.0
HELD, NOT_HELD, UNKNOWN = "held", "not held", "no number"


@dataclass(frozen=True)
class Number:
    """A number of the paper, and ours.

    Attributes:
        part: the study that it belongs to.
        what: which of its numbers, in words.
        paper: the published number, or the bound of a claim.
        ours: mean over the seeds; NaN where we have none.
        spread: standard deviation over the seeds; 0 where there is one only.
        rounding: how far the printed number may be from what was measured.
        rule: `=` for a number; `≥` or `≤` for a claim with a bound.
    """

    part: str
    what: str
    paper: float
    ours: float
    spread: float = 0.0
    rounding: float = 0.0
    rule: Literal["=", "≥", "≤"] = "="

    @property
    def difference(self) -> float:
        """Ours less the paper's."""
        return self.ours - self.paper

    @property
    def relative(self) -> float:
        """The difference's size as a share of the paper's number; NaN for a bound, for 0, where we have none."""
        return abs(self.difference / self.paper) if self.rule == "=" and self.paper else math.nan

    @property
    def tolerance(self) -> float:
        """The largest difference with which a number is still held."""
        return self.rounding + PAPER_SPREAD * abs(self.paper) + SPREADS * self.spread

    @property
    def verdict(self) -> str:
        """`held`, `not held`, or that we have no number."""
        if math.isnan(self.ours):
            return UNKNOWN
        slack = 1e-9
        kept = {
            "=": abs(self.difference) <= self.tolerance + slack,
            "≥": self.difference >= -slack,
            "≤": self.difference <= slack,
        }
        return HELD if kept[self.rule] else NOT_HELD


def over_networks(found: Sequence[Sequence[Number]]) -> list[Number]:
    """The numbers of several networks as one: their mean, and their spread instead of that over the probes."""
    first, *others = found
    if not others:
        return list(first)
    of_all: dict[tuple[str, str], list[Number]] = {}
    for number in (number for of_network in found for number in of_network):
        of_all.setdefault((number.part, number.what), []).append(number)
    return [_mean(numbers) for numbers in of_all.values()]


def _mean(numbers: Sequence[Number]) -> Number:
    known = [number.ours for number in numbers if not math.isnan(number.ours)]
    if not known:
        return numbers[0]
    spread = stdev(known) if len(known) > 1 else numbers[0].spread
    return replace(numbers[0], ours=fmean(known), spread=spread)


def unit(published: Iterable[float | int], truncated: bool = False) -> float:
    """How far a column's printed numbers may be off: half a unit of the last digit that any of them has.

    >>> unit([4.9, 3.6]), unit([23, 15]), unit([37.4], truncated=True)
    (0.05, 0.5, 0.1)
    """
    digits = max(len(f"{value}".partition(".")[2]) if isinstance(value, float) else 0 for value in published)
    return (1.0 if truncated else 0.5) * 10.0**-digits
