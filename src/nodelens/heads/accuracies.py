"""What each head recognises alone, and what the network recognises without it (paper, section 4 and Fig. 8).

In a probe each head is silenced by its columns of the fully connected layer; all heads are read in one pass. In
the network itself its columns of the site `attention` are zeroed before they enter the projection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int64, Shaped
from torch import Tensor, nn

from nodelens.data.examples import Samples, label_counts
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.measures import check_heads
from nodelens.networks import Network, Site, Stage, reading, real_tokens
from nodelens.probing.probes import Probe, Probes
from nodelens.processes import add_up
from nodelens.shards import device_of
from nodelens.training.precision import Precision, autocast


@dataclass(frozen=True, eq=False)
class HeadAccuracies:
    """Accuracy of each label at one site: by one head alone, by the whole probe, by the network itself (Fig. 8).

    Attributes:
        heads: share of a label's images that a head alone classifies correctly, per probe seed.
        probe: share that the whole probe does.
        network: share that the network's own output does.
        counts: images per label.
    """

    site: Site
    split: str
    heads: Float64[Tensor, "seed head label"]
    probe: Float64[Tensor, "seed label"]
    network: Float64[Tensor, " label"]
    counts: Int64[Tensor, " label"]


@dataclass(frozen=True, eq=False)
class SilencedHeads:
    """Accuracy of each label by the network's own output while heads of one block are silenced.

    Attributes:
        without: share of a label's images that the network classifies correctly when only this head is silenced.
        alone: share when every other head of the block is silenced.
        network: share when none is.
        counts: images per label.
    """

    site: Site
    split: str
    without: Float64[Tensor, "head label"]
    alone: Float64[Tensor, "head label"]
    network: Float64[Tensor, " label"]
    counts: Int64[Tensor, " label"]


def head_sites(network: Network) -> list[Site]:
    """The sites whose nodes belong to attention heads, such as `block.*.attention`, in the order of the data's way.

    Raises:
        InputError: the network has no heads.
    """
    found = [site for site in network.sites() if site.heads]
    if not found:
        raise InputError(f"a network of the family {network.family} has no attention heads; give a transformer")
    return found


def head_logits(probe: Probe, pooled: Float[Tensor, "seed batch input"]) -> Float[Tensor, "seed head batch label"]:
    """Logits of each head alone, the columns of all other heads silenced; together they are the probe's logits.

    Args:
        pooled: what reaches the fully connected layer, `Probe.pool`; the pooling is that of all heads.
    """
    heads = probe.site.heads
    of_head, weight = (part.reshape(*part.shape[:2], heads, -1) for part in (pooled, probe.weight))
    return torch.einsum("sbhn,slhn->shbl", of_head, weight)


def head_accuracies(
    network: nn.Module,
    probes: Probes,
    images: Samples,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 128,
    title: str = "heads alone",
) -> dict[str, HeadAccuracies]:
    """Accuracy of each label in each head of every site of `probes`, in one pass over the images (Fig. 8).

    Heads compete for no label: each one's logits are compared over all labels.

    Returns:
        What was found, by the site's name.

    Raises:
        InputError: a site without heads; a label that no image of the split has.
    """
    for site in probes.sites:
        _check_site(site)
    counts = label_counts(images)
    network.eval()
    device = device_of(network)
    tallies = {site.name: _HeadTally(site, len(probes.seeds), probes.labels, device) for site in probes.sites}
    whole = torch.zeros(probes.labels, dtype=torch.int64, device=device)
    with torch.inference_mode():
        for inputs, labels in _batches(images, normalisation, device, batch_size, title):
            whole += _read_heads(network, probes, tallies, inputs, labels, precision)
    add_up([whole, *(part for tally in tallies.values() for part in (tally.heads, tally.probe))])
    return {
        site.name: HeadAccuracies(
            site,
            images.split,
            heads=tallies[site.name].heads.cpu() / counts.double(),
            probe=tallies[site.name].probe.cpu() / counts.double(),
            network=whole.cpu() / counts.double(),
            counts=counts,
        )
        for site in probes.sites
    }


def silenced_heads(
    network: Network,
    sites: Sequence[Site],
    images: Samples,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 128,
    title: str = "silencing heads",
) -> dict[str, SilencedHeads]:
    """Accuracy of each label by the network's own output when one head, or all but one, of a block is silenced.

    A block's silenced networks differ only from that block on and share the pass before it, so that H heads cost
    `2H` passes through the block and what follows it. The network is left as it is.

    Args:
        sites: sites with heads, each silenced on its own, such as `head_sites(network)`.

    Returns:
        What was found, by the site's name.

    Raises:
        InputError: no site, a site without heads or one that is not what enters a module; a label that no image
            of the split has.
    """
    if not sites:
        raise InputError("no site is given whose heads could be silenced; give a network with attention heads")
    for site in sites:
        _check_site(site)
    counts = label_counts(images)
    network.eval()
    device = device_of(network)
    none = torch.zeros(len(counts), dtype=torch.int64, device=device)
    whole = none.clone()
    hits = {site.name: none.repeat(2, site.heads, 1) for site in sites}
    with torch.inference_mode():
        for inputs, labels in _batches(images, normalisation, device, batch_size, title):
            with autocast(device, precision):
                whole += _silence_each(network, sites, hits, inputs, labels)
    add_up([whole, *hits.values()])
    return {
        site.name: SilencedHeads(
            site,
            images.split,
            without=hits[site.name][0].cpu() / counts.double(),
            alone=hits[site.name][1].cpu() / counts.double(),
            network=whole.cpu() / counts.double(),
            counts=counts,
        )
        for site in sites
    }


@contextmanager
def silencing(network: nn.Module, site: Site, silenced: Bool[Tensor, " node"]) -> Iterator[None]:
    """Zero some nodes of a site on their way into its module while the block runs.

    Raises:
        InputError: the site is what leaves a module.
    """
    if site.reads != "input":
        raise InputError(f"{site.name} is what leaves a module; only nodes that enter one can be silenced")

    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].masked_fill(silenced, 0.0), *inputs[1:])

    handle = network.get_submodule(site.module).register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _HeadTally:
    """Correctly classified images per label, by each head alone and by the whole probe."""

    def __init__(self, site: Site, seeds: int, labels: int, device: torch.device) -> None:
        self.heads = torch.zeros(seeds, site.heads, labels, dtype=torch.int64, device=device)
        self.probe = torch.zeros(seeds, labels, dtype=torch.int64, device=device)

    def add(self, probe: Probe, pooled: Float[Tensor, "seed batch input"], labels: Int64[Tensor, " batch"]) -> None:
        """Take in what reaches the fully connected layer for one batch."""
        self.heads += _hits(head_logits(probe, pooled), labels)
        self.probe += _hits(pooled @ probe.weight.transpose(1, 2), labels)


def _read_heads(
    network: nn.Module,
    probes: Probes,
    tallies: dict[str, _HeadTally],
    inputs: Shaped[Tensor, "batch ..."],
    labels: Int64[Tensor, " batch"],
    precision: Precision,
) -> Int64[Tensor, " label"]:
    """Run the network once, add to every site's tally, and return the network's own hits."""

    real = real_tokens(network, inputs)

    def reader(site: str, activations: Tensor) -> None:
        # The probe itself always computes in the dtype that it chose.
        with torch.autocast(inputs.device.type, enabled=False):
            tallies[site].add(probes[site], probes[site].pool(activations, real), labels)

    with reading(network, probes.sites, reader), autocast(inputs.device, precision):
        return _hits(network(inputs), labels)


def _silence_each(
    network: Network,
    sites: Sequence[Site],
    hits: dict[str, Int64[Tensor, "variant head label"]],
    inputs: Shaped[Tensor, "batch ..."],
    labels: Int64[Tensor, " batch"],
) -> Int64[Tensor, " label"]:
    """Add the hits of every silenced network to those of its site, and return the hits of the whole one."""
    stages, stage_of = network.stages(), {site.name: _stage_of(network, site) for site in sites}
    x = inputs
    for at, stage in enumerate(stages):
        for site in sites:
            if stage_of[site.name] == at:
                hits[site.name] += _silenced_hits(network, site, stages[at:], x, labels)
        x = stage(x)
    return _hits(x, labels)


def _silenced_hits(
    network: Network, site: Site, stages: Sequence[Stage], inputs: Tensor, labels: Int64[Tensor, " batch"]
) -> Int64[Tensor, "variant head label"]:
    """Hits from a stage on, first without each head, then with each head alone."""
    owner = torch.arange(site.nodes, device=inputs.device) // (site.nodes // site.heads)
    found = []
    for head in range(site.heads):
        for silenced in (owner == head, owner != head):
            with silencing(network, site, silenced):
                x = inputs
                for stage in stages:
                    x = stage(x)
            found.append(_hits(x, labels))
    return torch.stack([torch.stack(found[::2]), torch.stack(found[1::2])])


def _stage_of(network: Network, site: Site) -> int:
    """Index of the stage that the site lies in; 0, with nothing shared, where the network does not say."""
    return next((layer.stage for layer in network.layers() if layer.source == site.name), 0)


def _hits(
    logits: Float[Tensor, "*variant batch label"], labels: Int64[Tensor, " batch"]
) -> Int64[Tensor, "*variant label"]:
    """Correctly classified images per label."""
    correct = (logits.argmax(dim=-1) == labels).long()
    return correct.new_zeros(*correct.shape[:-1], logits.shape[-1]).index_add_(-1, labels, correct)


def _batches(
    images: Samples, normalisation: Normalisation, device: torch.device, batch_size: int, title: str
) -> Iterator[tuple[Shaped[Tensor, "batch ..."], Int64[Tensor, " batch"]]]:
    """Normalised images and their labels, this process's, on the device, with the progress shown."""
    for _, pixels, labels in images.own_batches(batch_size, f"{title} ({images.split})"):
        yield normalisation.applied(pixels, device), labels.to(device)


def _check_site(site: Site) -> None:
    if not site.heads:
        raise InputError(f"{site.name} has no attention heads; choose sites such as block.7.attention")
    check_heads(site.heads, site.nodes)
