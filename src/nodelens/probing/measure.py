"""One pass over the data gives the nodal matrices of every node of every site.

A nodal matrix is the outer product of a node's class means μ and its probe weights W (paper, section 2), so
the pass only adds up pooled activations per label. Sums are float64, whatever the autocast dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int, Shaped
from torch import Tensor, nn

from nodelens.data.examples import Samples, label_counts
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.measures import NodalMatrices, SiteStatistics, site_statistics
from nodelens.networks import Site, reading, real_tokens
from nodelens.probing.probes import Probes
from nodelens.probing.readout import Readout
from nodelens.probing.reads import Read, behind, reads
from nodelens.processes import add_up, in_shards
from nodelens.shards import device_of, keep_step
from nodelens.training.precision import Precision, autocast

COLUMNS = ("accuracy", "n_clusters", "cluster_size", "diagonal", "noise", "snr", "snr_min")
"""What a measurement shows of each site when it is printed."""


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
    counts: Int[Tensor, " label"]

    @property
    def matrices(self) -> NodalMatrices:
        """The site's nodal matrices, by their factors."""
        return NodalMatrices(self.class_means, self.weight)

    def statistics(self, threshold: float = 0.3, method: str = "greedy") -> SiteStatistics:
        """Clusters, noise and signal-to-noise ratio at a threshold (Tables 1 and 2)."""
        return site_statistics(self.matrices, threshold, method)

    def __repr__(self) -> str:
        shape = f"{self.class_means.shape[1]} nodes, {self.class_means.shape[0]} labels"
        return f"<{self.site.name} on {self.split}, probe seed {self.seed}: {shape}, accuracy {self.accuracy:.4f}>"


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

    def __repr__(self) -> str:
        sites = "".join(f"\n  {site!r}" for site in self.values())
        return f"<{self.split}, probe seed {self.seed}; print it for the statistics{sites}>"

    def __str__(self) -> str:
        table = self.table()
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table)
        return "\n".join([self.caption(), *lines])

    def _repr_html_(self) -> str:
        from nodelens.report.notebook import measurement_html

        return measurement_html(self)

    def caption(self) -> str:
        """How the statistics of `table` are taken."""
        return f"{self.split}, threshold 0.3, greedy clusters"

    def table(self) -> list[list[str]]:
        """Headings, and accuracy and statistics of every site, to three digits."""
        rows = [["site", *COLUMNS]]
        for name, site in self.items():
            values = {"accuracy": site.accuracy, **site.statistics().scalars()}
            rows.append([name, *(f"{values[key]:.3g}" for key in COLUMNS)])
        return rows


class LabelSums:
    """Running sums per label of what the probes of a network pool, and their hits.

    What is pooled is small: that of all reads of one width is added together, which takes a sixtieth of the calls.
    """

    def __init__(self, network: nn.Module, probes: Probes) -> None:
        self.network = network
        alike: dict[object, list[Read]] = {}
        found = reads(network, probes)
        for read in found:
            # Without pooling a site's activations are large: each is added where it arises.
            alike.setdefault(read.site.nodes if read.site.layout == "tokens" else read.site.name, []).append(read)
        self._sites = [read.site for read in found]
        self._groups = [_Alike(group) for group in alike.values()]
        self._group_of = {read.site.name: group for group in self._groups for read in group.reads}
        self._place_of = {name: (group, at) for group in self._groups for name, at in group.places().items()}

    def add_batch(
        self,
        inputs: Shaped[Tensor, "batch ..."],
        labels: Int[Tensor, " batch"],
        precision: Precision,
    ) -> None:
        """Run the network once and add to every site's sums; cheapest where a batch has few labels."""
        present, of_image = torch.unique(labels, return_inverse=True)
        one_hot = (torch.arange(len(present))[:, None] == of_image).float()
        labels, present, one_hot = (part.to(inputs.device) for part in (labels, present, one_hot))
        batch = _Batch(labels, present, one_hot, real_tokens(self.network, inputs))

        def reader(site: str, activations: Tensor) -> None:
            # The probe itself always computes in the dtype that it chose.
            with torch.autocast(inputs.device.type, enabled=False):
                self._group_of[site].add(site, activations, batch)

        with reading(self.network, self._sites, reader), autocast(inputs.device, precision):
            self.network(inputs)

    def tensors(self) -> list[Tensor]:
        """All sums and hits, in an order that is the same in every process."""
        return [part for group in self._groups for part in (group.sums, group.correct)]

    def of(self, site: str, seed: int, counts: Int[Tensor, " label"]) -> tuple[Float64[Tensor, "label input"], int]:
        """A site's sums and hits, with the probe of the seed of this index.

        Args:
            counts: images per label that were added.
        """
        group, (first, before) = self._place_of[site]
        seen = group.sums[(first + seed) % group.apart]
        return behind(before, seen, counts.to(seen.device)), int(group.correct[first + seed])


@dataclass(frozen=True)
class _Batch:
    """What is known of the inputs of a batch.

    Attributes:
        present: the labels that there are.
        one_hot: which input has which of them.
        real: as `Readout.pool` takes it.
    """

    labels: Int[Tensor, " batch"]
    present: Int[Tensor, " found"]
    one_hot: Float[Tensor, "found batch"]
    real: Bool[Tensor, "batch token"] | None


class _Alike:
    """The sums of reads of one width.

    Attributes:
        sums: (probe, label, input), for every seed of every site; where nothing is pooled all see the same
            activations, and there is one.
        correct: images that the probes classify correctly, (probe,).
    """

    def __init__(self, alike: Sequence[Read]) -> None:
        self.reads = alike
        self._readouts = {read.site.name: read.readout() for read in alike}
        weight, bias = (torch.cat([getattr(r, part) for r in self._readouts.values()]) for part in ("weight", "bias"))
        self._together = Readout(None, weight, bias)
        probes, labels, inputs = weight.shape
        self.apart = probes if alike[0].site.layout == "tokens" else 1
        self.sums = weight.new_zeros(self.apart, labels, inputs, dtype=torch.float64)
        self.correct = weight.new_zeros(probes, dtype=torch.int64)
        self._pooled: dict[str, Float[Tensor, "probe batch input"]] = {}

    def places(self) -> dict[str, tuple[int, nn.Linear | None]]:
        """For every site, the index of its first seed's probe, and the layer between the read and the site."""
        found, first = {}, 0
        for read in self.reads:
            for probe, before in read.probes:
                found[probe.site.name] = (first, before)
                first += len(probe.weight)
        return found

    def add(self, site: str, activations: Tensor, batch: _Batch) -> None:
        """Pool one read of a batch; the sums follow when all have theirs."""
        self._pooled[site] = self._readouts[site].pool(activations, batch.real)
        if len(self._pooled) < len(self.reads):
            return
        pooled = torch.cat([self._pooled.pop(read.site.name) for read in self.reads])
        self.correct += (self._together.logits(pooled).argmax(dim=2) == batch.labels).sum(dim=1)
        self.sums.index_add_(1, batch.present, (batch.one_hot @ pooled[: self.apart]).double())


def measure_probes(
    network: nn.Module,
    probes: Probes,
    images: Samples,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 256,
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
    device = device_of(network)
    by_label = images.take(images.labels.argsort(stable=True), images.split)
    with torch.inference_mode():
        sums = LabelSums(network, probes)
        for _, pixels, labels in by_label.own_batches(batch_size, f"{title} ({images.split})"):
            inputs = normalisation.applied(pixels, device)
            sums.add_batch(inputs, labels, precision)
        if in_shards():
            one = normalisation.applied(images.batch(torch.zeros(1).long()), device)
            keep_step(network, one, -(-len(images) // batch_size))
        add_up(sums.tensors())
        return [_measurement(probes, sums, counts, images, i) for i in range(len(probes.seeds))]


def _measurement(
    probes: Probes, sums: LabelSums, counts: Int[Tensor, " label"], images: Samples, index: int
) -> Measurement:
    by_site = {}
    for probe in probes:
        summed, correct = sums.of(probe.site.name, index, counts)
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
    return Measurement(by_site, images.split, probes.seeds[index], tuple(images.label_names))
