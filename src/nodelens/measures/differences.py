"""Are labels with symmetry breaking recognised more accurately (paper, Fig. 9), and does it take their own head?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from nodelens.measures.resampling import check_draws, p_value, permutations


@dataclass(frozen=True)
class AccuracyDifference:
    """Mean accuracy of two groups of labels, and whether it differs.

    Attributes:
        labels: number of labels in each group.
        accuracy: mean accuracy in each group, 0 to 1; nan for an empty group.
        p_value: two-sided, of a permutation test; nan where a group is empty.
    """

    labels: tuple[int, int]
    accuracy: tuple[float, float]
    p_value: float

    @property
    def difference(self) -> float:
        """Mean accuracy of the first group less that of the second; nan where a group is empty."""
        return self.accuracy[0] - self.accuracy[1]


@dataclass(frozen=True)
class TwoBlockAccuracy:
    """Accuracy of labels with symmetry breaking in both of two blocks, in one of them, in none: group by group."""

    both_against_one: AccuracyDifference
    both_against_none: AccuracyDifference
    one_against_none: AccuracyDifference

    @property
    def labels(self) -> dict[str, int]:
        """Number of labels: `both`, `one`, `none`."""
        both, one = self.both_against_one.labels
        return {"both": both, "one": one, "none": self.one_against_none.labels[1]}

    @property
    def accuracy(self) -> dict[str, float]:
        """Mean accuracy of the labels: `both`, `one`, `none`; nan where there are none."""
        both, one = self.both_against_one.accuracy
        return {"both": both, "one": one, "none": self.one_against_none.accuracy[1]}


def accuracy_difference(
    accuracy: Float[Tensor, " label"], broken: Bool[Tensor, " label"], draws: int = 10_000, seed: int = 0
) -> AccuracyDifference:
    """Compare the mean accuracy of labels with symmetry breaking with that of the others (Fig. 9).

    Permutation test: labels are shared out anew between the two groups, which keep their sizes; two-sided,
    `p = (1 + #{|null| ≥ |observed|}) / (1 + draws)`. Where either group is empty, its mean accuracy, the
    difference and the p-value are nan.

    Args:
        accuracy: of each label, 0 to 1.
        broken: labels with symmetry breaking, `HeadSpecialization.broken`.

    Raises:
        InputError: fewer than one draw.

    >>> found = accuracy_difference(torch.tensor([0.9, 0.8, 0.5]), torch.tensor([True, True, False]))
    >>> found.labels, round(found.difference, 3)
    ((2, 1), 0.35)
    """
    values, chosen = accuracy.detach().cpu().double(), broken.cpu()
    return _compare(values[chosen], values[~chosen], draws, seed)


def accuracy_in_two_blocks(
    accuracy: Float[Tensor, " label"], broken: Bool[Tensor, "2 label"], draws: int = 10_000, seed: int = 0
) -> TwoBlockAccuracy:
    """Compare labels with symmetry breaking in both of two blocks, in one of them, and in none (section 4).

    Each two of the three groups are compared as in `accuracy_difference`, the labels of the third left out;
    the p-values are not corrected for their number.

    Raises:
        InputError: fewer than one draw.

    >>> broken = torch.tensor([[True, True, False], [True, False, False]])
    >>> accuracy_in_two_blocks(torch.tensor([0.75, 0.5, 0.25]), broken).accuracy
    {'both': 0.75, 'one': 0.5, 'none': 0.25}
    """
    values, blocks = accuracy.detach().cpu().double(), broken.cpu().sum(dim=0)
    none, one, both = (values[blocks == count] for count in range(3))
    return TwoBlockAccuracy(
        both_against_one=_compare(both, one, draws, seed),
        both_against_none=_compare(both, none, draws, seed),
        one_against_none=_compare(one, none, draws, seed),
    )


def own_head_p_value(
    effect: Float[Tensor, "head label"], head_of_label: Int64[Tensor, " label"], draws: int = 10_000, seed: int = 0
) -> float:
    """Probability that labels dealt out at random would have as much effect of their own head (heads silenced).

    Permutation test: the labels that are owned are dealt out anew among their heads, each of which keeps its number of
    labels. So neither that a head matters more to all labels counts, nor that a label is lost sooner whichever head is
    silenced. One-sided: `p = (1 + #{null ≥ observed}) / (1 + draws)` of the sum over the labels. It is nan where
    fewer than two heads own labels, or an effect on one that is owned is nan.

    Args:
        effect: of each head on each label, such as the accuracy that is lost without it.
        head_of_label: the owner of each label, -1 for none, `HeadSpecialization.head_of_label`.

    Raises:
        InputError: fewer than one draw.

    >>> own_head_p_value(torch.eye(3).repeat_interleave(4, dim=1), torch.arange(3).repeat_interleave(4), draws=999)
    0.001
    """
    check_draws(draws)
    owned = (head_of_label >= 0).cpu()
    values, owners = effect.detach().cpu().double()[:, owned], head_of_label.cpu()[owned]
    if len(set(owners.tolist())) < 2 or bool(values.isnan().any()):
        return float("nan")
    labels = torch.arange(len(owners))
    null = [values[owners[order], labels].sum(dim=1) for order in permutations(len(owners), draws, seed)]
    return float(p_value(values[owners, labels].sum(), torch.cat(null)))


def _compare(
    first: Float64[Tensor, " label"], second: Float64[Tensor, " other"], draws: int, seed: int
) -> AccuracyDifference:
    check_draws(draws)
    means = float(first.mean()), float(second.mean())
    p = float("nan")
    if len(first) and len(second):
        values = torch.cat([first, second])
        orders = permutations(len(values), draws, seed)
        null = torch.cat([_mean_differences(values[order], len(first)) for order in orders])
        p = float(p_value(_mean_differences(values, len(first)).abs(), null.abs()))
    return AccuracyDifference((len(first), len(second)), means, p)


def _mean_differences(values: Float64[Tensor, "*draw label"], first: int) -> Float64[Tensor, "*draw"]:
    """Mean of the first labels less the mean of the others."""
    return values[..., :first].mean(dim=-1) - values[..., first:].mean(dim=-1)
