"""How much of a whole network can go? Thresholds per layer, at the highest dilution that keeps the accuracy.

Layers differ in what they can spare. So each is first pruned alone, at several dilutions, and what that costs is
looked up (its sensitivity). A budget of accuracy per layer then fixes every layer's dilution at once, and the
largest budget that a retrained network can bear is searched for: by bisection, each time from the unpruned network
(one shot), or by small steps that each go on from the one before (gradual).

All on held-out training images. The network itself has usually been trained on them and knows them too well, and
any retraining on the other images makes it forget them. So a pruned network is compared with the unpruned one
after the same retraining, not with the unpruned one as it was. Still, what pruning takes first is what the network
knew by heart: on such images it costs more than on new ones. A study with `paper_split` decides on the test images.

Any method can be searched with, so that ANDC's highest dilution has others to stand beside.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import torch

from nodelens.files import exists, read_json
from nodelens.networks import Layer, Network, apply_masks, layer_weight
from nodelens.progress import progress
from nodelens.pruning.decide import (
    LayerThresholds,
    Masks,
    andc_masks,
    reachable_thresholds,
    removed_counts,
    total_dilution,
)
from nodelens.pruning.execution import DENSE
from nodelens.pruning.retrain import Rows, accuracies
from nodelens.pruning.settings import SearchSettings
from nodelens.pruning.study import HELD_OUT, TEST, PruningStudy

Candidate = TypeVar("Candidate")


class Step(NamedTuple):
    """How much is to go: of each layer as much as costs no more than a budget, and at most a share of it.

    >>> str(Step(0.0012)), str(Step(0.0, 0.3))
    ('0.001200', '0.000000@0.3')
    """

    budget: float
    most: float = 1.0

    def __str__(self) -> str:
        return f"{self.budget:.6f}" + ("" if self.most == 1.0 else f"@{self.most:g}")


@dataclass(frozen=True)
class Sensitivity:
    """What pruning each layer alone costs.

    Attributes:
        losses: by layer name, for ascending dilutions, the loss of accuracy; made monotone (the largest so far).
    """

    losses: Mapping[str, Sequence[tuple[float, float]]]

    def dilutions(self, budget: float, most: float = 1.0) -> dict[str, float]:
        """The highest dilution of each layer that costs no more than the budget; 0 where every one does.

        Monotone: a larger budget never gives a lower dilution, nor does a larger share.

        Args:
            most: no layer gets a higher one.
        """
        return {
            name: max((dilution for dilution, loss in losses if loss <= budget and dilution <= most), default=0.0)
            for name, losses in self.losses.items()
        }

    def budgets(self) -> list[float]:
        """The budgets at which some layer's dilution changes, ascending."""
        return sorted({loss for losses in self.losses.values() for _, loss in losses})

    def steps(self) -> list[Step]:
        """What is tried, ascending: the least budget with more and more of each layer, then every budget.

        The least budget alone can be too much: on few images many layers lose nothing at all, and together they do.
        Of steps that come to the same the last is tried.
        """
        levels = sorted({dilution for losses in self.losses.values() for dilution, _ in losses})
        steps = [Step(least, level) for least in self.budgets()[:1] for level in levels]
        steps += map(Step, self.budgets())
        of_step = {tuple(self.dilutions(*step).values()): step for step in steps}
        return [step for dilutions, step in of_step.items() if any(dilutions)]


def monotone(losses: Sequence[float]) -> list[float]:
    """The largest loss so far: what a layer cannot spare at a low dilution it cannot spare at a higher one.

    >>> monotone([0.0, 0.02, 0.01, 0.05])
    [0.0, 0.02, 0.02, 0.05]
    """
    return list(accumulate(losses, max))


def largest_bearable(candidates: Sequence[Candidate], bears: Callable[[Candidate], bool]) -> Candidate | None:
    """The largest of ascending candidates that is borne, if every smaller one is too; None where none is.

    Bisection: it asks at most `log2(n) + 1` times and always ends, also where `bears` is not monotone; the
    answer has then been borne, but need not be the largest.

    >>> largest_bearable([0.1, 0.2, 0.3], lambda budget: budget < 0.25)
    0.2
    """
    low, high = 0, len(candidates)
    while low < high:
        middle = (low + high) // 2
        if bears(candidates[middle]):
            low = middle + 1
        else:
            high = middle
    return candidates[low - 1] if low else None


@dataclass
class Found:
    """The outcome of a search.

    Attributes:
        network: the pruned and retrained network; the unpruned one where nothing could go.
        dilutions: share removed of each layer, by name.
        thresholds: those that ANDC removes it at, of each layer that it prunes, by name.
        dilution: of all the layers together.
        trials: a row for every network tried.
    """

    network: Network
    dilutions: dict[str, float] = field(default_factory=dict)
    thresholds: Mapping[str, LayerThresholds] = field(default_factory=dict)
    dilution: float = 0.0
    trials: Rows = field(default_factory=list)

    def accepted(self) -> dict[str, Any] | None:
        """The row of the network found; None where nothing could go."""
        return next((row for row in self.trials if row["accepted"] and row["dilution"] == self.dilution), None)

    def take(self, other: Found) -> None:
        """Become another network, and keep the trials."""
        self.network, self.dilution = other.network, other.dilution
        self.dilutions, self.thresholds = other.dilutions, other.thresholds


class DilutionSearch:
    """The search for the highest total dilution of a study's layers that keeps the accuracy."""

    def __init__(self, study: PruningStudy, asked: SearchSettings, seed: int = 0) -> None:
        self.study, self.asked, self.seed = study, asked, seed
        self.method = study.settings.model_of
        self.measurement = study.measurement(seed)
        self._at_levels: dict[str, Mapping[float, LayerThresholds]] = {}
        self.unpruned = self._accuracy({DENSE: study.network})[DENSE]
        reached = study.retrain_one(copy.deepcopy(study.network), f"search-{seed}-dense", seed)[1]
        self.wanted = round(reached[-1][study.decided_on] - asked.keep, 9)  # a loss of just as much is none too many
        self.dense = {"trial": DENSE, "budget": 0.0, **self._row(reached, 0.0)}
        """The unpruned network, retrained as the pruned ones are."""

    def search(self) -> tuple[Sensitivity, Found]:
        """The layers alone, then the whole as the settings ask for it."""
        sensitivity = self.sensitivity()
        return sensitivity, (self.gradual if self.asked.gradual else self.one_shot)(sensitivity)

    def sensitivity(self) -> Sensitivity:
        """Prune every layer alone, at every level that the method can give; what is found is kept layer by layer."""
        kept = self.study.run.checkpoints / f"sensitivity-{self.seed}.json"
        losses: dict[str, list[list[float]]] = read_json(kept) if exists(kept) else {}
        with progress("pruning each layer alone", len(self.study.layers)) as bar:
            for i, layer in enumerate(self.study.layers):
                if layer.name not in losses:
                    losses[layer.name] = self._losses(layer)
                    self.study.run.write_json(f"checkpoints/{kept.name}", losses)
                bar.reach(i + 1)
        return Sensitivity({name: [(level, loss) for level, loss in of_layer] for name, of_layer in losses.items()})

    def _losses(self, layer: Layer) -> list[list[float]]:
        variants = {}
        levels = [level for level in self.asked.levels if self.method != "andc" or level in self._reachable(layer)]
        for level in levels:
            variants[str(level)] = copy.deepcopy(self.study.network)
            apply_masks(variants[str(level)], self._masks([layer], {layer.name: level}))
        found = self._accuracy(variants, layer.stage) if variants else {}
        lost = monotone([self.unpruned - found[str(level)] for level in levels])
        return [list(pair) for pair in zip(levels, lost, strict=True)]

    def one_shot(self, sensitivity: Sensitivity) -> Found:
        """Bisect the steps; every trial prunes and retrains the unpruned network."""
        best = Found(self.study.network)

        def bears(step: Step) -> bool:
            wanted = sensitivity.dilutions(*step)
            trial = self._trial(self.study.network, wanted, step.budget, str(step))
            best.trials += trial.trials
            accepted = bool(trial.trials[-1]["accepted"])
            if accepted and trial.dilution >= best.dilution:
                best.take(trial)
            return accepted

        largest_bearable(sensitivity.steps(), bears)
        return best

    def gradual(self, sensitivity: Sensitivity, trials: int = 8) -> Found:
        """Go up the steps, some at a time, each trial going on from the network accepted last.

        Where a step is not borne, half as many are taken at a time; the search ends when none is left
        between the last that was borne and the least that was not, or after so many trials.
        """
        steps, best, way = sensitivity.steps(), Found(self.study.network), "gradual"
        borne, refused, stride = -1, len(steps), math.ceil(len(steps) / trials)
        while refused - borne > 1 and len(best.trials) < trials:
            tried = min(borne + stride, refused - 1)
            step = steps[tried]
            # Named by all that it goes on from: another way to the same step is another network.
            name = f"{way}-{step}"
            trial = self._trial(best.network, sensitivity.dilutions(*step), step.budget, name)
            best.trials += trial.trials
            if trial.trials[-1]["accepted"]:
                best.take(trial)
                borne, way = tried, name
            else:
                refused, stride = tried, max(1, (tried - borne) // 2)
        return best

    def controls(self, found: Found) -> Rows:
        """The study's other methods, which remove as many weights of every layer as was found, in one shot.

        The branch as a whole has no such number and is left out; so is ANDC, whose thresholds do not give every number,
        and with it `permuted`, where another method was searched with.
        """
        if not found.dilutions:
            return []
        removed, rows = removed_counts(self._masks(self.study.layers, found.dilutions)), []
        left_out = {self.method, "andc", "branch"} | (set() if self.method == "andc" else {"permuted"})
        for method in self.study.settings.methods:
            if method not in left_out:
                masks = self.study.baseline(method, removed, self.seed, found.thresholds)
                name = f"{method}-{found.dilution:.6f}"
                rows.append({"method": method, **self._retrained(self.study.network, masks, name)[1]})
        return rows

    def _trial(self, start: Network, wanted: Mapping[str, float], budget: float, name: str) -> Found:
        network, row = self._retrained(start, self._masks(self.study.layers, wanted), name)
        dilutions = {layer.name: wanted[layer.name] for layer in self.study.layers}
        trial = [{"trial": name, "budget": budget, **row}]
        return Found(network, dilutions, self._thresholds(self.study.layers, wanted), row["dilution"], trial)

    def _retrained(self, start: Network, masks: Masks, name: str) -> tuple[Network, dict[str, Any]]:
        """A network pruned and retrained, and what that cost."""
        network = copy.deepcopy(start)
        apply_masks(network, masks)
        network, reached = self.study.retrain_one(network, f"search-{self.seed}-{name}", self.seed)
        return network, self._row(reached, total_dilution(masks))

    def _row(self, reached: Rows, dilution: float) -> dict[str, Any]:
        return {
            "dilution": dilution,
            "accepted": reached[-1][self.study.decided_on] >= self.wanted,
            "pruned": reached[0][self.study.decided_on],
            HELD_OUT: reached[-1][HELD_OUT],
            TEST: reached[-1][TEST],
        }

    def _masks(self, chosen: Sequence[Layer], wanted: Mapping[str, float]) -> Masks:
        """The method's masks of some layers, all of a layer kept of which nothing is to go."""
        pruned = [layer for layer in chosen if wanted[layer.name] > 0]
        weights = {layer: layer_weight(self.study.network, layer) for layer in chosen}
        masks: Masks = {layer.module: torch.ones(weights[layer].shape, dtype=torch.bool) for layer in chosen}
        if self.method == "andc":
            thresholds = self._thresholds(pruned, wanted)
            return masks | andc_masks(self.study.network, self.measurement, pruned, thresholds)
        removed = {layer.module: math.ceil(wanted[layer.name] * weights[layer].numel()) for layer in pruned}
        return masks | self.study.baseline(self.method, removed, self.seed, {})

    def _thresholds(self, chosen: Sequence[Layer], wanted: Mapping[str, float]) -> dict[str, LayerThresholds]:
        """ANDC's thresholds of the layers of which something is to go; the other methods have none."""
        pruned = [layer for layer in chosen if self.method == "andc" and wanted[layer.name] > 0]
        return {layer.name: self._reachable(layer)[wanted[layer.name]] for layer in pruned}

    def _reachable(self, layer: Layer) -> Mapping[float, LayerThresholds]:
        """ANDC's thresholds of a layer at every level that it can give; kept, as they take seconds to find."""
        if layer.name not in self._at_levels:
            self._at_levels[layer.name] = reachable_thresholds(self.measurement, layer, self.asked.levels)
        return self._at_levels[layer.name]

    def _accuracy(self, variants: Mapping[str, Network], first: int = 0) -> dict[str, float]:
        data, settings = self.study.data, self.study.settings
        images = data.test if settings.paper_split else data.held_out
        return accuracies(variants, images, data.normalisation, settings.retraining.precision, first=first)
