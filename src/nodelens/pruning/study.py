"""Prune a network, retrain it, and do the same with everything that ANDC is to be compared with.

Every finished job (one seed, one dilution) is kept in the run directory, and a job that was killed goes on from
its last checkpoint, so the study continues where it was.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from nodelens.data.datasets import holdout
from nodelens.data.examples import Samples
from nodelens.data.normalisation import Normalisation, input_metadata
from nodelens.files import exists, read_json, remove
from nodelens.networks import (
    OWN_HEAD,
    Layer,
    Network,
    apply_masks,
    by_own_head,
    fingerprint,
    layers,
    load_network,
    select_layers,
    sites,
    stored,
    without_skip,
)
from nodelens.probing import (
    Measurement,
    MeasureSettings,
    learnt_flip,
    load_measurements,
    load_probing_data,
    measure_network,
)
from nodelens.probing.data import ProbingData
from nodelens.probing.study import MEASURE_KEPT
from nodelens.processes import refuse_shards
from nodelens.progress import console
from nodelens.pruning.chance import permuted_masks
from nodelens.pruning.decide import (
    Decision,
    LayerThresholds,
    Masks,
    andc_masks,
    baseline_masks,
    check_field_method,
    check_unpruned,
    input_norms,
    own_fields,
    removed_counts,
    thresholds_by_dilution,
    thresholds_by_site,
    total_dilution,
)
from nodelens.pruning.execution import DENSE
from nodelens.pruning.retrain import Rows, retrain
from nodelens.pruning.settings import PruneSettings
from nodelens.pruning.vanished import emptied_layers, vanished_masks
from nodelens.runs import RunDirectory
from nodelens.shards import device_of

HELD_OUT, TEST = "train-held-out", "test"


@dataclass(frozen=True)
class PruningData:
    """The images that probes and retraining learn, those that decide, and those that are only looked at."""

    rest: Samples
    held_out: Samples
    test: Samples
    normalisation: Normalisation


def load_pruning_data(
    network: Network,
    name: str,
    settings: PruneSettings,
    skip_undecodable: bool = False,
    *,
    training_split: str = "train",
    test_split: str = "test",
) -> PruningData:
    """The splits that pruning needs, at the size that the network was trained for.

    Args:
        training_split: what the network learnt; a share of it decides.
        test_split: images that are only looked at; whatever it is called, they are the `test` of the study.

    Raises:
        InputError: an unknown data set; another number of labels than the network's outputs.
    """
    loaded = load_probing_data(network, name, (test_split,), training_split, skip_undecodable)
    rest, held_out = holdout(loaded.training, settings.held_out)
    return PruningData(rest, held_out, loaded.measured[test_split], loaded.normalisation)


class PruningStudy:
    """A network to be pruned, its measurements, and the run directory where all is kept."""

    def __init__(
        self,
        network: Network,
        data: PruningData,
        settings: PruneSettings,
        run: RunDirectory,
        measured: RunDirectory,
    ) -> None:
        """Train the probes at the sites that the pruned layers join, and measure them.

        Args:
            run: of this study.
            measured: where the probes and measurements are kept, which several studies of a network share.

        Raises:
            InputError: no such layer or site, a layer that is pruned already, a threshold out of range, a dilution that
                cannot be reached, or a run directory of another study.
        """
        self.network, self.data, self.settings, self.run = network, data, settings, run
        refuse_shards("pruning")
        chosen = select_layers(layers(network), settings.layers)
        check_field_method(settings.methods, chosen)
        if not settings.skip:
            chosen = without_skip(chosen, sites(network))
        self.layers: list[Layer] = by_own_head(chosen, sites(network)) if settings.own_head else chosen
        check_unpruned(network, self.layers)
        thresholds_by_site(self.layers, settings.threshold, settings.site_thresholds)
        run.check_configuration("prune", _identity(network, data, settings), option="--name")
        joined = [site for layer in self.layers for site in (layer.source, layer.target) if site]
        if "field" in settings.methods:
            joined.append(OWN_HEAD)
        splits = {HELD_OUT: data.held_out} | ({TEST: data.test} if settings.paper_split else {})
        probe = dataclasses.replace(settings.probe, seeds=settings.seeds)
        wanted = MeasureSettings(tuple(dict.fromkeys(joined)), tuple(splits), probe, untrained=False)
        self.decided_on = TEST if settings.paper_split else HELD_OUT
        self._norms: dict[str, Any] | None = None
        self._thresholds: dict[tuple[int, float | None, str], dict[str, LayerThresholds]] = {}
        with measured.undone_if_refused("measure", MEASURE_KEPT):
            measure_network(network, ProbingData(data.rest, splits, data.normalisation), wanted, measured)
            self.measurements = {split: load_measurements(measured, split, wanted.sites) for split in splits}
            # Before anything is retrained: they may not exist.
            for seed in settings.seeds:
                for dilution in (None, *settings.dilutions):
                    self.thresholds(seed, dilution)
                self.thresholds(seed, split=HELD_OUT)
        run.configure("prune", _identity(network, data, settings))

    def measurement(self, seed: int, split: str | None = None) -> Measurement:
        """The sites as the probes of one seed saw them, on the images that decide."""
        found = self.measurements[split or self.decided_on]
        return next(measurement for measurement in found if measurement.seed == seed)

    def thresholds(
        self, seed: int, dilution: float | None = None, split: str | None = None
    ) -> dict[str, LayerThresholds]:
        """The thresholds of every layer: those asked for, or those that give a dilution."""
        dilution = self.settings.dilution if dilution is None else dilution
        if dilution is None:
            return thresholds_by_site(self.layers, self.settings.threshold, self.settings.site_thresholds)
        key = (seed, dilution, split or self.decided_on)
        if key not in self._thresholds:
            self._thresholds[key] = thresholds_by_dilution(self.measurement(seed, split), self.layers, dilution)
        return self._thresholds[key]

    def andc(self, seed: int, dilution: float | None = None, split: str | None = None) -> Masks:
        """ANDC's masks."""
        thresholds = self.thresholds(seed, dilution, split)
        return andc_masks(self.network, self.measurement(seed, split), self.layers, thresholds)

    def decisions(self) -> list[Decision]:
        """What every seed's probes decide."""
        return [Decision(self.measurement(s), self.thresholds(s), self.andc(s)) for s in self.settings.seeds]

    def baseline(
        self, method: str, removed: Mapping[str, int], seed: int, thresholds: Mapping[str, LayerThresholds]
    ) -> Masks:
        """The masks of another method that removes so many weights of each layer named (by its module).

        Args:
            thresholds: by layer name, of ANDC, which removes as many; `permuted` takes the nodes' labels there.
        """
        if method == "wanda" and self._norms is None:
            self._norms = input_norms(self.network, self.layers, self.data.held_out, self.data.normalisation)
        fields = own_fields(self.measurement(seed)) if method == "field" else None
        of = [layer for layer in self.layers if layer.module in removed]
        permuted = None
        if method == "permuted":
            labelled = [layer for layer in of if layer.name in thresholds]
            permuted = permuted_masks(self.network, self.measurement(seed), labelled, thresholds, seed)
        return baseline_masks(
            self.network,
            of,
            removed,
            method,
            seed=seed,
            input_norms=self._norms,
            own_fields=fields,
            permuted=permuted,
        )

    def masks(self, seed: int, dilution: float | None = None, methods: Sequence[str] | None = None) -> dict[str, Masks]:
        """The masks of every method (or of these, ANDC among them), by its name."""
        andc, thresholds = self.andc(seed, dilution), self.thresholds(seed, dilution)
        for warning in emptied_layers(self.measurement(seed), self.layers, thresholds, andc):
            console.print(f"warning: {warning}", style="yellow")
        removed, found = removed_counts(andc), {}
        for method in self.settings.methods if methods is None else methods:
            found[method] = andc if method == "andc" else self.baseline(method, removed, seed, thresholds)
        return found

    def prune(self) -> Rows:
        """Every seed: each method, the dense control, and what becomes of nodes without a diagonal.

        The first seed's retrained network of the method `model_of` becomes the run's `model.safetensors`.
        """
        rows: Rows = []
        for seed in self.settings.seeds:
            masks = partial(self._masks_and_controls, seed)
            rows += self._job(f"prune-{seed}", masks, seed, keep=seed == self.settings.seeds[0])
        return rows

    def _masks_and_controls(self, seed: int) -> dict[str, Masks]:
        masks = self.masks(seed)
        masks |= vanished_masks(self.measurement(seed), self.layers, self.thresholds(seed), masks["andc"])
        if self.settings.paper_split:
            masks["andc, held-out"] = self.andc(seed, split=HELD_OUT)
        return masks

    def curve(self) -> Rows:
        """Every method at every dilution of the curve, and at the study's own if it has one; all layers alike.

        Dense and without the branch the networks are at any dilution those of `prune`.
        """
        rows: Rows = []
        own, methods = self.settings.dilution, [method for method in self.settings.methods if method != "branch"]
        if own is not None and own not in self.settings.dilutions:
            rows += [{"wanted": own, **row} for row in self.prune() if row["method"] in methods]
        for wanted, seed in product(self.settings.dilutions, self.settings.seeds):
            masks = partial(self.masks, seed, wanted, methods)
            job = self._job(f"curve-{wanted:g}-{seed}", masks, seed, dense=False)
            rows += [{"wanted": wanted, **row} for row in job]
        return rows

    def retrain_one(self, network: Network, name: str, seed: int) -> tuple[Network, Rows]:
        """Retrain a network that is masked already; what was done before is read back.

        Its accuracies are taken before the retraining and after it.
        """
        rows = self._finished(name)
        if rows is not None:
            device = device_of(network)
            return load_network(self.run.checkpoints / f"{name}.safetensors").to(device), rows
        rows = self._retrain({name: network}, name, seed, search=True)
        self.run.write_tensors(f"checkpoints/{name}.safetensors", *stored(network))
        self._finish(name, rows)
        return network, rows

    def _job(
        self,
        name: str,
        decide: Callable[[], Mapping[str, Masks]],
        seed: int,
        *,
        keep: bool = False,
        dense: bool = True,
    ) -> Rows:
        """Retrain the variants of one seed side by side, with the unpruned one; a finished job is only read."""
        rows = self._finished(name)
        if rows is not None:
            return rows
        masks = decide()
        variants = {DENSE: copy.deepcopy(self.network)} if dense else {}
        for variant, of_variant in masks.items():
            variants[variant] = copy.deepcopy(self.network)
            apply_masks(variants[variant], of_variant)
        dilutions = {DENSE: 0.0} | {variant: total_dilution(of_variant) for variant, of_variant in masks.items()}
        rows = []
        for row in self._retrain(variants, name, seed):
            method = row.pop("variant")
            rows.append({"method": method, "seed": seed, "dilution": round(dilutions[method], 5), **row})
        if keep:
            of = self.settings.model_of
            self.write_model(variants[of], [row[TEST] for row in rows if row["method"] == of][-1])
        self._finish(name, rows)
        return rows

    def _retrain(self, variants: Mapping[str, Network], name: str, seed: int, search: bool = False) -> Rows:
        follow = {TEST: self.data.test} | ({HELD_OUT: self.data.held_out} if search else {})
        return retrain(
            variants,
            self.layers,
            self._retraining_images(seed),
            self.data.normalisation,
            self.settings.retraining,
            seed=seed,
            evaluated=follow,
            every_epoch=not search,
            teacher=self.network if self.settings.retraining.distill else None,
            state=self.run.checkpoints / f"{name}.pt",
            title=f"retraining ({name})",
        )

    def _finished(self, name: str) -> Rows | None:
        """The rows of a job; None while it is not finished."""
        path = self.run.checkpoints / f"{name}.json"
        if not exists(path):
            return None
        remove(self.run.checkpoints / f"{name}.pt")  # a kill after the rows were written leaves it
        rows: Rows = read_json(path)["rows"]
        return rows

    def _finish(self, name: str, rows: Rows) -> None:
        self.run.write_json(f"checkpoints/{name}.json", {"rows": rows})
        remove(self.run.checkpoints / f"{name}.pt")

    def _retraining_images(self, seed: int) -> Samples:
        images, most = self.data.rest, self.settings.retraining_images
        if most is None or most >= len(images):
            return images
        chosen = np.random.default_rng(seed).choice(len(images), most, replace=False)
        return images.take(np.sort(chosen), images.split)

    def write_model(self, network: Network, test_accuracy: float | None) -> None:
        """Make a network the run's `model.safetensors`."""
        tensors, metadata = stored(network)
        metadata |= input_metadata(self.data.rest, self.data.normalisation, learnt_flip(self.network))
        if test_accuracy is not None:
            metadata["test_accuracy"] = f"{test_accuracy:.5f}"
        self.run.write_tensors("model.safetensors", tensors, metadata)


def _identity(network: Network, data: PruningData, settings: PruneSettings) -> dict[str, Any]:
    """What every job of the study depends on; a job of the curve also on its dilution, so that points can be added."""
    images = {
        "name": data.rest.name,
        "rest": data.rest.fingerprint,
        "held_out": data.held_out.fingerprint,
        "test": data.test.fingerprint,
    }
    shared = {key: value for key, value in dataclasses.asdict(settings).items() if key != "dilutions"}
    # None is also what a run has that began before there was the option.
    shared["own_head"] = settings.own_head or None
    return {"network": fingerprint(network), **shared, "data": images}
