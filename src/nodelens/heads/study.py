"""The heads of a network: which labels each knows, how exactly, and what their fields look like (paper, section 4).

Probes and class means are kept in `measure/`, as `nodelens measure` does; accuracies and overlaps per site in
`heads/`, each as soon as it is known. What is there is not measured again, so a killed study goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool
from torch import Tensor

from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Samples, label_counts
from nodelens.data.sources import hashed
from nodelens.errors import InputError
from nodelens.files import bytes_of
from nodelens.heads.accuracies import HeadAccuracies, SilencedHeads, head_accuracies, head_sites, silenced_heads
from nodelens.heads.fields import FieldOverlaps, field_overlaps
from nodelens.heads.store import keep, kept
from nodelens.measures import (
    RATIOS,
    HeadSpecialization,
    SymmetryBreaking,
    check_ratio,
    check_threshold,
    head_specialization,
    symmetry_breaking,
)
from nodelens.networks import Adapted, Network, Site, block_numbers, fingerprint
from nodelens.probing import (
    Measurement,
    MeasureSettings,
    ProbeSettings,
    ProbingData,
    load_measurements,
    load_probing_data,
    measure_network,
)
from nodelens.probing.store import MEASURED, load_probes
from nodelens.processes import default_device, refuse_shards
from nodelens.runs import RunDirectory
from nodelens.shards import device_of

DRAWS = 1000


@dataclass(frozen=True)
class HeadSettings:
    """What is measured of the heads, and by which rule labels are theirs.

    Attributes:
        blocks: numbers and ranges, `7` or `1-3,7`; None for all.
        split: images over which the class means are taken; the paper's are those of training.
        threshold: share of a nodal matrix's maximum above which an element counts.
        ratio: a label is a head's if it appears there so many times as often as in any other head.
        draws: of the null, in which nodes are permuted among the heads.
    """

    blocks: str | None = None
    split: str = "train"
    threshold: float = 0.3
    ratio: float = 2.0
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    draws: int = DRAWS

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        check_ratio(self.ratio)


@dataclass(frozen=True)
class HeadData:
    """What the probes learn and are measured on, what accuracies count, and super-classes.

    Attributes:
        superclass_of_label: an index into `superclass_names` per label; empty where there are none.
    """

    probing: ProbingData
    test: Samples
    superclass_names: tuple[str, ...] = ()
    superclass_of_label: tuple[int, ...] = ()

    @property
    def label_names(self) -> tuple[str, ...]:
        return tuple(self.probing.training.label_names)


def load_head_data(
    network: Network, name: str, split: str = "train", test_split: str = "test", skip_undecodable: bool = False
) -> HeadData:
    """The splits that a study needs, with the data set's own super-classes.

    Raises:
        InputError: an unknown data set or split; another number of labels than the network's outputs.
    """
    loaded = load_probing_data(network, name, (split, test_split), skip_undecodable=skip_undecodable)
    training = loaded.training
    probing = ProbingData(training, {split: loaded.measured[split]}, loaded.normalisation)
    above = tuple(training.superclass_names), tuple(training.superclass_of_label)
    return HeadData(probing, loaded.measured[test_split], *above)


def chosen_sites(network: Network, blocks: str | None) -> list[Site]:
    """The sites with heads of some blocks, such as `block.7.attention`.

    Raises:
        InputError: the network has no heads, or not these blocks.
    """
    available = head_sites(network)
    numbers = block_numbers(blocks) if blocks is not None else [site.block for site in available]
    by_block = {site.block: site for site in available}
    for number in numbers:
        if number not in by_block:
            known = ", ".join(map(str, by_block))
            raise InputError(f"there is no block {number} with attention heads; choose of {known}")
    return [site for site in available if site.block in numbers]


def has_pictures(network: Network, test: Samples) -> bool:
    """Whether heads have a picture of what the network reads.

    It reads images, and is one of which it is known where in the image a token lies.
    """
    return isinstance(test, ImageSet) and not isinstance(network, Adapted)


class HeadStudy:
    """A network, what its heads know, and the run directory where all is kept."""

    def __init__(self, network: Network, data: HeadData, settings: HeadSettings, run: RunDirectory) -> None:
        """Train the probes at the sites `attention` and measure them, where the run has not done so.

        Raises:
            InputError: a network without heads or without these blocks; a run directory of another network, data
                set or probe training; a split without one of the labels.
        """
        refuse_shards("a study of the heads")
        self.network, self.data, self.settings, self.run = network, data, settings, run
        self.sites = chosen_sites(network, settings.blocks)
        label_counts(data.test)
        names = tuple(site.name for site in self.sites)
        wanted = MeasureSettings(names, (settings.split,), settings.probe, untrained=False)
        measure_network(network, data.probing, wanted, run)
        self.measurements: list[Measurement] = load_measurements(run, settings.split, names)
        self._fingerprint = fingerprint(network)
        run.configure("heads", {"network": self._fingerprint, "test": data.test.fingerprint})

    @property
    def seeds(self) -> int:
        """Number of probes of each site."""
        return len(self.measurements)

    def diagonals(self, site: Site) -> list[Bool[Tensor, "node label"]]:
        """The diagonals of a site's nodes, as each seed's probe saw them."""
        return [m[site.name].matrices.diagonals(self.settings.threshold) for m in self.measurements]

    def specializations(self, site: Site) -> list[HeadSpecialization]:
        """The labels of each head, one by one for every seed's probe."""
        return [head_specialization(found, site.heads, self.settings.ratio) for found in self.diagonals(site)]

    def specialization(self, site: Site) -> HeadSpecialization:
        """The labels of each head, appearances added up over all seeds."""
        return head_specialization(pooled(self.diagonals(site), site.heads), site.heads, self.settings.ratio)

    @cached_property
    def symmetry(self) -> dict[str, list[SymmetryBreaking]]:
        """Labels owned for every ratio and the order parameters, beside chance; by site, for every seed."""
        return {site.name: symmetry_over_seeds(self.measurements, site.name, self.settings) for site in self.sites}

    @cached_property
    def accuracies(self) -> dict[str, HeadAccuracies]:
        """Accuracy of each label on the test images: in each head, of the probe, of the network; by site."""
        source = {site.name: self._source(site, with_probe=True) for site in self.sites}
        found = {site.name: kept(self.run, "accuracies", site.name, source[site.name]) for site in self.sites}
        missing = [site for site in self.sites if found[site.name] is None]
        if missing:
            device = device_of(self.network)
            probes = load_probes(self.run, MEASURED, missing).to(device)
            normalisation, precision = self.data.probing.normalisation, self.settings.probe.precision
            for name, new in head_accuracies(self.network, probes, self.data.test, normalisation, precision).items():
                tensors = {"heads": new.heads, "probe": new.probe, "network": new.network, "counts": new.counts}
                keep(self.run, "accuracies", name, source[name], tensors)
                found[name] = tensors
        return {
            site.name: HeadAccuracies(site, self.data.test.split, **_present(found[site.name])) for site in self.sites
        }

    @cached_property
    def silenced(self) -> dict[str, SilencedHeads]:
        """Accuracy of each label by the network itself when one head, or all but one, is silenced; by site."""
        return {site.name: self._silenced(site) for site in self.sites}

    def _silenced(self, site: Site) -> SilencedHeads:
        # Site by site: each repeats the pass up to its block, but is kept before the next one begins.
        source = self._source(site)
        tensors = kept(self.run, "silenced", site.name, source)
        if tensors is None:
            normalisation, precision = self.data.probing.normalisation, self.settings.probe.precision
            title = f"silencing heads of block {site.block}"
            new = silenced_heads(self.network, [site], self.data.test, normalisation, precision, title=title)[site.name]
            tensors = {"without": new.without, "alone": new.alone, "network": new.network, "counts": new.counts}
            keep(self.run, "silenced", site.name, source, tensors)
        return SilencedHeads(site, self.data.test.split, **tensors)

    def measure(self, silence: bool, pruned: Network | None) -> None:
        """Everything that a report shows, so that all processes take part in measuring it.

        Args:
            silence: also silence each head in the network itself.
            pruned: also look at this network's fields.
        """
        _ = self.accuracies
        if self.pictured:
            self.overlaps()
            if pruned is not None:
                self.overlaps(pruned)
        if silence:
            _ = self.silenced

    @property
    def pictured(self) -> bool:
        """Whether its heads have a picture of what it reads; see `has_pictures`."""
        return has_pictures(self.network, self.data.test)

    @property
    def images(self) -> ImageSet:
        """The test images.

        Raises:
            InputError: the network reads something else.
        """
        if isinstance(self.data.test, ImageSet):
            return self.data.test
        raise InputError(f"{self.data.test.name} holds no images that the fields of heads could be compared with")

    def overlaps(self, pruned: Network | None = None) -> dict[str, FieldOverlaps]:
        """Overlap of the attention output fields with every test image; by site.

        Args:
            pruned: look at this network's fields instead, at the same sites.

        Raises:
            InputError: the pruned network does not have these sites; the network reads no images.
        """
        test = self.images
        network, part = (self.network, "fields") if pruned is None else (pruned, "fields-pruned")
        sites = self.sites if pruned is None else same_sites(pruned, self.sites)
        source = hashed([fingerprint(network), test.fingerprint])
        found = {site.name: kept(self.run, part, site.name, source) for site in sites}
        missing = [site for site in sites if found[site.name] is None]
        if missing:
            network = network.to(default_device())
            normalisation, precision = self.data.probing.normalisation, self.settings.probe.precision
            for name, new in field_overlaps(network, missing, test, normalisation, precision).items():
                tensors = {"overlap": new.overlap, "by_chance": new.by_chance, "correct": new.correct}
                keep(self.run, part, name, source, tensors)
                found[name] = tensors
        return {site.name: FieldOverlaps(site, test.split, **_present(found[site.name])) for site in sites}

    def _source(self, site: Site, with_probe: bool = False) -> str:
        """Fingerprint of what a part of a site depends on."""
        parts: list[object] = [self._fingerprint, self.data.test.fingerprint]
        if with_probe:
            probe = load_probes(self.run, MEASURED, [site])[site.name]
            parts += [bytes_of(tensor) for tensor in probe.state_dict().values()]
        return hashed(parts)


def symmetry_over_seeds(
    measurements: Sequence[Measurement], site: str, settings: HeadSettings
) -> list[SymmetryBreaking]:
    """The symmetry breaking at one site, beside chance, for every seed.

    The ratios are those of Fig. 10, and the study's own where that is none of them.
    """
    ratios, found = tuple(sorted({*RATIOS, settings.ratio})), []
    for measurement in measurements:
        diagonals = measurement[site].matrices.diagonals(settings.threshold)
        heads = measurement[site].site.heads
        found.append(symmetry_breaking(diagonals, heads, ratios, settings.draws, seed=measurement.seed))
    return found


def pooled(diagonals: Sequence[Bool[Tensor, "node label"]], heads: int) -> Bool[Tensor, "all_nodes label"]:
    """The nodes of several probes as if they were one site's: each head owns its nodes of every probe.

    >>> first, second = torch.tensor([[True], [False]]), torch.tensor([[True], [True]])
    >>> pooled([first, second], heads=2).flatten().tolist()
    [True, True, False, True]
    """
    of_head = [of_seed.reshape(heads, -1, of_seed.shape[1]) for of_seed in diagonals]
    return torch.cat(of_head, dim=1).flatten(0, 1)


def same_sites(network: Network, sites: Sequence[Site]) -> list[Site]:
    """The sites of the same names, nodes and heads in another network.

    Raises:
        InputError: it lacks one of them.
    """
    available = {site.name: site for site in head_sites(network)}
    for site in sites:
        other = available.get(site.name)
        if other is None or (other.nodes, other.heads) != (site.nodes, site.heads):
            raise InputError(
                f"the pruned network has no site {site.name} of {site.nodes} nodes and {site.heads} heads; "
                "give one that was pruned from this network"
            )
    return [available[site.name] for site in sites]


def _present(tensors: Mapping[str, Tensor] | None) -> Mapping[str, Tensor]:
    assert tensors is not None  # every missing part has been measured
    return tensors
