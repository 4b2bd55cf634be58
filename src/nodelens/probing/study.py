"""Measure a network: train the probes, pass over the splits, do the same for an untrained network.

Everything lands in the run directory as soon as it is known, so a killed measurement goes on where it was.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Examples, Samples, label_counts
from nodelens.data.normalisation import AsTheyAre, normalisation_from, normalisation_of
from nodelens.data.sources import hashed
from nodelens.errors import InputError
from nodelens.files import exists, load_state, remove
from nodelens.networks import (
    FAMILIES,
    OWN_HEAD,
    Network,
    Site,
    apply_masks,
    fingerprint,
    longest_text,
    masks_of,
    select_sites,
)
from nodelens.networks import sites as sites_of
from nodelens.probing.data import ProbingData, check_reads, check_reads_fp32, check_same_labels, load_probing_data
from nodelens.probing.measure import Measurement, measure_probes
from nodelens.probing.store import (
    MEASURED,
    MEASURED_UNTRAINED,
    is_measured,
    load_measurements,
    load_probes,
    measured_splits,
    save_measurements,
    save_probes,
    site_file,
)
from nodelens.probing.train import ProbeSettings, learnt_flip, probe_epochs, probe_recipe, train_probes
from nodelens.processes import default_device
from nodelens.runs import RunDirectory
from nodelens.shards import device_of, placed
from nodelens.training.recipe import recorded_recipe

PROBE_STATES = "checkpoints/probes-*.pt"
MEASURE_KEPT = (f"{MEASURED}/*", PROBE_STATES)
"""Files of a run directory that belong to the settings of its probes."""
"""Probes that are being trained."""


@dataclass(frozen=True)
class MeasureSettings:
    """What is measured, and how.

    Attributes:
        sites: glob patterns.
        splits: splits of the data set on which class means are taken.
        untrained: measure a freshly initialised network of the same kind too.
        untrained_seed: seed of its weights.
        other_labels: the network was trained on other labels than the data's, even where these are as many.
    """

    sites: tuple[str, ...] = ("*",)
    splits: tuple[str, ...] = ("test",)
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    untrained: bool = True
    untrained_seed: int = 0
    other_labels: bool = False


def untrained_twin(network: Network, seed: int) -> Network:
    """A freshly initialised network of the same configuration, without the weights that the network is without."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        twin = FAMILIES[network.family].network(network.config)
    apply_masks(twin, masks_of(network))
    twin.eval()
    return twin


def measure_network(network: Network, data: ProbingData, settings: MeasureSettings, run: RunDirectory) -> list[str]:
    """Train probes and measure every chosen site of a network (and of its untrained twin) into `run`.

    Sites and splits that the run directory already has are not measured again.

    Returns:
        Names of the chosen sites.

    Raises:
        InputError: the run directory belongs to another network, data set or probe training; an unknown
            site; a split without one of the labels; inputs that the network cannot be run on.
    """
    answers = _answers_with(network, data.training, settings.other_labels)
    available = _sites_for(network, answers)
    chosen = _select(network, available, settings.sites, data.training)
    if settings.probe.layer_norm and not any(site.layout == "tokens" for site in chosen):
        raise InputError("tokens are normalised where there are tokens; leave out --layer-norm at these sites")
    label_counts(data.training)
    check_reads(network, chosen, data.training, data.normalisation)
    for images in data.measured.values():
        check_same_labels(data.training, images)
        label_counts(images)
        check_reads(network, chosen, images, data.normalisation)
    names = [site.name for site in available]
    joined = [dataclasses.asdict(layer) for layer in network.layers() if layer.target is not None or answers]
    described = {"sites": names, "layers": joined, "image_size": network.config.image_size}
    with run.configured("measure", _identity(network, data, settings), MEASURE_KEPT, **described):
        _measure_one(placed(network, network.stages()), chosen, data, settings, run, MEASURED)
        if settings.untrained:
            untrained = untrained_twin(network, settings.untrained_seed)
            twin = placed(untrained, untrained.stages())
            _measure_one(twin, chosen, data, settings, run, MEASURED_UNTRAINED)
    return [site.name for site in chosen]


def recorded_probe(run: RunDirectory) -> ProbeSettings | None:
    """How the probes of a run were trained; None where none were."""
    recorded = run.settings("measure").get("probe")
    if recorded is None:
        return None
    found = {**recorded, "recipe": recorded_recipe(recorded["recipe"]), "seeds": tuple(recorded["seeds"])}
    return ProbeSettings(**found)


def measure(
    network: Network,
    data: str | tuple[Samples, Samples],
    sites: str | Sequence[str] = "*",
    *,
    split: str = "test",
    settings: ProbeSettings | None = None,
    other_labels: bool = False,
) -> Measurement:
    """Train the probes of the chosen sites and measure their nodes.

    Args:
        network: a network that knows its sites; it is left as it is.
        data: name of a data set; or the images to learn and the images to measure, or inputs of any other kind.
        sites: glob patterns such as `block.*.linear2`.
        split: split to measure, where `data` is a name.
        settings: how the probes are trained; by default one probe per site, in fp32.
        other_labels: the network was trained on other labels than those of `data`, or on none.

    Returns:
        The measured sites by name: ``r["block.7.linear2"].matrices``, ``.accuracy``, ``.statistics(0.3)``.

    Raises:
        InputError: the network does not know its sites, reads images in another precision than fp32, or cannot be run
            on these inputs; an unknown site; inputs to learn and to measure of other labels; a label without inputs.
    """
    if not isinstance(network, Network):
        raise InputError(f"a {type(network).__name__} does not know its sites; measure nl.adapt(network, example)")
    if not isinstance(data, str) and not (
        isinstance(data, tuple) and len(data) == 2 and all(isinstance(one, Examples | ImageSet) for one in data)
    ):
        raise InputError("data are the name of a data set, or a pair: nl.Examples to learn, and nl.Examples to measure")
    if settings is not None and len(settings.seeds) != 1:
        raise InputError(
            f"this measures with the probes of one seed, and the settings name {len(settings.seeds)}; call it once for "
            "each, or measure them together with `nodelens measure --seeds`"
        )
    if not isinstance(data, tuple) or not isinstance(data[0], Examples):
        check_reads_fp32(network)
    if isinstance(data, str):
        loaded = load_probing_data(network, data, [split], other_labels=other_labels)
        data, scale = (loaded.training, loaded.measured[split]), loaded.normalisation
    elif isinstance(data[0], Examples):
        scale = AsTheyAre()
    else:
        scale = normalisation_from(network.checkpoint_metadata) or normalisation_of(data[0])
    learnt, measured = data
    check_same_labels(learnt, measured)
    label_counts(learnt)
    if settings is None:
        settings = ProbeSettings(probe_recipe(probe_epochs(learnt), flip=learnt_flip(network)))
    frozen = copy.deepcopy(network).to(default_device())
    available = _sites_for(frozen, _answers_with(frozen, learnt, other_labels))
    chosen = _select(frozen, available, (sites,) if isinstance(sites, str) else sites, learnt)
    for inputs in data:
        check_reads(frozen, chosen, inputs, scale)
    probes = train_probes(frozen, chosen, learnt, scale, settings)
    found = measure_probes(frozen, probes, measured, scale, settings.precision)[0]
    return dataclasses.replace(found, network=fingerprint(network))


def _sites_for(network: Network, answers: bool) -> list[Site]:
    """Where the labels of some data can be looked for: a head that answers with others is none for these."""
    return [site for site in sites_of(network) if answers or not site.own_head]


def _select(network: Network, available: Sequence[Site], patterns: Sequence[str], learnt: Samples) -> list[Site]:
    """
    Raises:
        InputError: a pattern that matches nothing, or the network's own head where it answers with other labels.
    """
    if OWN_HEAD in patterns and all(site.name != OWN_HEAD for site in available):
        if not any(site.own_head for site in sites_of(network)):
            raise InputError(f"{OWN_HEAD} does not exist here: no fully connected layer makes the logits")
        answers, labels = network.config.labels, len(learnt.label_names)
        raise InputError(f"{OWN_HEAD} answers with {answers} labels other than the {labels} of {learnt.name}")
    return select_sites(available, patterns)


def _answers_with(network: Network, learnt: Samples, other_labels: bool) -> bool:
    """Whether the network has an output for each label of some data."""
    return not other_labels and network.config.labels == len(learnt.label_names)


def _identity(network: Network, data: ProbingData, settings: MeasureSettings) -> dict[str, Any]:
    return {
        "network": fingerprint(network),
        "probe": dataclasses.asdict(settings.probe),
        "untrained_seed": settings.untrained_seed,
        "training_split": data.training.split,
        "data": {"name": data.training.name, "fingerprint": data.training.fingerprint},
        "normalisation": data.normalisation.metadata(),
        # None, as in a directory that was begun before this was recorded.
        "reads": _read(network, settings.probe) or None,
    }


def _read(network: Network, probe: ProbeSettings) -> dict[str, str]:
    """What the probes read of the activations that no setting of theirs says."""
    found = {}
    if probe.rms_scale is None and any(probe.scales(site) for site in sites_of(network)):
        found["filters"] = "of one size"
    if longest_text(network):
        found["tokens"] = "the text's own"
    return found


def _measure_one(
    network: Network,
    chosen: Sequence[Site],
    data: ProbingData,
    settings: MeasureSettings,
    run: RunDirectory,
    folder: str,
) -> None:
    who = "untrained network: " if folder == MEASURED_UNTRAINED else ""
    _train_missing(network, chosen, data, settings.probe, run, folder, who)
    for split, images in data.measured.items():
        unmeasured = [site for site in chosen if not is_measured(run, folder, site.name, split, images.fingerprint)]
        if unmeasured:
            probes = load_probes(run, folder, unmeasured).to(device_of(network))
            found = measure_probes(
                network, probes, images, data.normalisation, settings.probe.precision, title=f"{who}measuring"
            )
            save_measurements(run, folder, found, images.fingerprint)


def _train_missing(
    network: Network,
    chosen: Sequence[Site],
    data: ProbingData,
    settings: ProbeSettings,
    run: RunDirectory,
    folder: str,
    who: str,
) -> None:
    """Train the probes of the sites that have no file."""
    of = hashed([site.name for site in chosen])[:8]  # studies of other sites may share the run directory
    whose = "untrained" if folder == MEASURED_UNTRAINED else "network"
    state = run.path / PROBE_STATES.replace("*", f"{whose}-{of}")
    missing = [site for site in chosen if not exists(run.path / site_file(site.name, folder))]
    if missing:
        # A kill while the files were written leaves some of them, and the state of all.
        begun = (load_state(state) or {"sites": []})["sites"]
        new = [site for site in chosen if site.name in begun or site in missing]
        title = f"{who}training {sum(not site.own_head for site in new)} probes"
        probes = train_probes(network, new, data.training, data.normalisation, settings, state, title=title)
        trained = [probes[site.name] for site in missing]
        save_probes(run, folder, trained, settings.seeds, data.training.label_names)
    remove(state)


def measurements_of(run: RunDirectory, split: str, sites: Sequence[str] | None = None) -> dict[str, list[Measurement]]:
    """What a run measured on a split: of the `network`, and of its `untrained` twin if that has all these sites too."""
    found = {"network": load_measurements(run, split, sites, MEASURED)}
    names = list(found["network"][0])
    twin = measured_splits(run, MEASURED_UNTRAINED)
    if all(split in twin.get(name, ()) for name in names):
        found["untrained"] = load_measurements(run, split, names, MEASURED_UNTRAINED)
    return found
