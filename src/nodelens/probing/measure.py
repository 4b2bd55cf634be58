"""One pass over the data gives the nodal matrices of every node of every site.

A nodal matrix is the outer product of a node's class means μ and its probe weights W (paper, section 2), so
the pass only adds up pooled activations per label. Sums are float64, whatever the autocast dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor, nn

from nodelens.data.augment import normalise
from nodelens.data.datasets import ImageSet
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.measures import NodalMatrices, SiteStatistics, site_statistics
from nodelens.networks import Site, reading
from nodelens.probing.probes import Probe, Probes
from nodelens.probing.shards import keep_step
from nodelens.processes import add_up, in_shards
from nodelens.training.precision import Precision, autocast

ONE_HOT_LABELS = 2048
"""Up to so many labels, sums per label are a matrix product with the one-hot labels; beyond, an index_add."""


@dataclass(frozen=True)
class SiteMeasurement:
    """What one probe saw at one site: everything that the measures need.

    Attributes:
        class_means: μ, mean pooled activation per label, (label, node) or (label, node, position).
        weight: W of the probe, of the same shape.
        accuracy: share of the split's images that the probe classifies correctly.
        counts: images per label, (label,).
    """

    site: Site
    split: str
    seed: int
    class_means: Float[Tensor, "label node *position"]
    weight: Float[Tensor, "label node *position"]
    accuracy: float
    counts: Int[Tensor, "label"]

    @property
    def matrices(self) -> NodalMatrices:
        """The site's nodal matrices, by their factors."""
        return NodalMatrices(self.class_means, self.weight)

    def statistics(self, threshold: float = 0.3, method: str = "greedy") -> SiteStatistics:
        """Clusters, noise and signal-to-noise ratio at a threshold (Tables 1 and 2)."""
        return site_statistics(self.matrices, threshold, method)


@dataclass(frozen=True)
class Measurement(Mapping[str, SiteMeasurement]):
    """The measured sites of a network, by name: one split, one probe seed.

    Attributes:
        network: fingerprint of the measured network; empty where it was not recorded.
    """

    by_site: Mapping[str, SiteMeasurement]
    split: str
    seed: int
    label_names: tuple[str, ...]
    network: str = ""

    def __getitem__(self, site: str) -> SiteMeasurement:
        if site not in self.by_site:
            raise InputError(f"{site!r} was not measured; measured: {', '.join(self.by_site)}")
        return self.by_site[site]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_site)

    def __len__(self) -> int:
        return len(self.by_site)

    def _repr_html_(self) -> str:
        names = ("accuracy", "n_clusters", "cluster_size", "diagonal", "noise", "snr", "snr_min")
        head = "".join(f"<th>{escape(name)}</th>" for name in ("site", *names))
        rows = []
        for name, site in self.items():
            values = {"accuracy": site.accuracy, **site.statistics().scalars()}
            cells = "".join(f"<td>{values[key]:.3g}</td>" for key in names)
            rows.append(f"<tr><td>{escape(name)}</td>{cells}</tr>")
        caption = f"{escape(self.split)} images, threshold 0.3, greedy clusters"
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{''.join(rows)}</table>"


class LabelSums:
    """Running sums per label of pooled activations, and the probes' hits, for sites of one shape.

    What is pooled is small: that of all these sites is added together, which takes a sixtieth of the calls.

    Attributes:
        sums: (site, seed, label, input); a single seed where all see the same activations, without pooling.
        correct: images that the probes classify correctly, (site, seed).
    """

    def __init__(self, probes: Sequence[Probe]) -> None:
        self.probes = {probe.site.name: probe for probe in probes}
        self.weights = torch.stack([probe.weight for probe in probes])
        sites, seeds, labels, inputs = self.weights.shape
        self.apart = seeds if probes[0].site.layout == "tokens" else 1
        device = self.weights.device
        self.sums = torch.zeros(sites, self.apart, labels, inputs, dtype=torch.float64, device=device)
        self.correct = torch.zeros(sites, seeds, dtype=torch.int64, device=device)
        self._pooled: dict[str, Float[Tensor, "seed batch input"]] = {}

    def add(
        self,
        site: str,
        pooled: Float[Tensor, "seed batch input"],
        labels: Int[Tensor, "batch"],
        one_hot: Float[Tensor, "label batch"] | None,
    ) -> None:
        """Take in what a site's probe pooled of one batch; the sums follow when all sites have theirs."""
        self._pooled[site] = pooled
        if len(self._pooled) == len(self.probes):
            self._sum(torch.stack([self._pooled.pop(name) for name in self.probes]), labels, one_hot)

    def of(self, site: str, seed: int) -> tuple[Float64[Tensor, "label input"], int]:
        """A site's sums and hits, with the probe of the seed of this index."""
        place = list(self.probes).index(site)
        return self.sums[place, seed % self.apart], int(self.correct[place, seed])

    def _sum(
        self,
        pooled: Float[Tensor, "site seed batch input"],
        labels: Int[Tensor, "batch"],
        one_hot: Float[Tensor, "label batch"] | None,
    ) -> None:
        logits = pooled @ self.weights.transpose(2, 3)
        self.correct += (logits.argmax(dim=3) == labels).sum(dim=2)
        values = pooled[:, : self.apart]
        if one_hot is None:
            self.sums.index_add_(2, labels, values.double())
        else:
            self.sums += one_hot @ values


def sums_of_sites(probes: Probes) -> dict[str, LabelSums]:
    """Empty sums for every site; sites with as many tokens' nodes share theirs."""
    groups: dict[object, list[Probe]] = {}
    for probe in probes:
        # Without pooling a site's activations are large: each is added where it arises.
        alike = probe.site.nodes if probe.site.layout == "tokens" else probe.site.name
        groups.setdefault(alike, []).append(probe)
    return {probe.site.name: sums for group in groups.values() for sums in [LabelSums(group)] for probe in group}


def tallies(sums: Mapping[str, LabelSums]) -> list[LabelSums]:
    """Each of the sums once, in the sites' order, which is the same in every process."""
    return list(dict.fromkeys(sums.values()))


def measure_probes(
    network: nn.Module,
    probes: Probes,
    images: ImageSet,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 128,
    title: str = "measuring",
) -> list[Measurement]:
    """Measure all sites of `probes` in one pass over the images; one `Measurement` per seed.

    Memory does not grow with the number of images: each activation is pooled where it arises. Of several processes
    each reads its share of the batches, and their float64 sums are added up.

    Raises:
        InputError: a label that no image of the split has; activations that are NaN or infinite.
    """
    counts = label_counts(images)
    network.eval()
    device = next(network.parameters()).device
    sums = sums_of_sites(probes)
    with torch.inference_mode():
        for _, pixels, labels in images.own_batches(batch_size, f"{title} ({images.split})"):
            labels = labels.to(device)
            inputs = normalise(pixels.to(device), normalisation.mean, normalisation.std)
            add_batch(network, probes, sums, inputs, labels, precision)
        if in_shards():
            one = normalise(images.batch(torch.zeros(1).long()).to(device), normalisation.mean, normalisation.std)
            keep_step(network, one, -(-len(images) // batch_size))
    add_up(part for tally in tallies(sums) for part in (tally.sums, tally.correct))
    return [_measurement(probes, sums, counts, images, i) for i in range(len(probes.seeds))]


def add_batch(
    network: nn.Module,
    probes: Probes,
    sums: Mapping[str, LabelSums],
    inputs: Float[Tensor, "batch channel height width"],
    labels: Int[Tensor, "batch"],
    precision: Precision,
) -> None:
    """Run the network once and add every site's pooled activations to its sums."""
    one_hot = None
    if probes.labels <= ONE_HOT_LABELS:
        one_hot = (torch.arange(probes.labels, device=labels.device)[:, None] == labels).float()

    def reader(site: str, activations: Tensor) -> None:
        # The probe itself always computes in the dtype that it chose.
        with torch.autocast(inputs.device.type, enabled=False):
            sums[site].add(site, probes[site].pool(activations), labels, one_hot)

    with reading(network, probes.sites, reader), autocast(inputs.device, precision):
        network(inputs)


def label_counts(images: ImageSet) -> Int[Tensor, "label"]:
    """Images per label.

    Raises:
        InputError: a label never occurs, so that its mean would be undefined.
    """
    counts = torch.bincount(images.labels, minlength=len(images.label_names))
    absent = [images.label_names[i] for i in torch.nonzero(counts == 0).flatten().tolist()]
    if absent:
        named = ", ".join(map(repr, absent[:5])) + (", …" if len(absent) > 5 else "")
        raise InputError(
            f"{len(absent)} labels never occur in {images.name} {images.split} ({named}); "
            "measure on a split that has every label"
        )
    return counts


def _measurement(
    probes: Probes, sums: Mapping[str, LabelSums], counts: Tensor, images: ImageSet, index: int
) -> Measurement:
    by_site = {}
    for probe in probes:
        summed, correct = sums[probe.site.name].of(probe.site.name, index)
        shape = (probes.labels, probe.site.nodes, probe.site.positions)[: 3 if probe.site.positions > 1 else 2]
        means = (summed.cpu() / counts[:, None]).float().reshape(shape)
        if not bool(torch.isfinite(means).all()):
            raise InputError(f"the activations at {probe.site.name} are NaN or infinite; the network is damaged")
        by_site[probe.site.name] = SiteMeasurement(
            probe.site,
            images.split,
            probes.seeds[index],
            means,
            probe.weight[index].detach().cpu().reshape(shape),
            correct / len(images),
            counts,
        )
    return Measurement(by_site, images.split, probes.seeds[index], images.label_names)
