"""Where the network is read for which probes: as few reads as their sites allow.

Reading activations is what probing costs. What leaves a fully connected layer needs no read of its own, since
a probe there is another one at the layer's inputs (`Probe.readout`): for a CCT, QKV's 768 nodes are seen through
the 256 that enter it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from nodelens.networks import Network, Site
from nodelens.probing.probes import Probe
from nodelens.probing.readout import Readout
from nodelens.processes import in_shards


@dataclass
class Read:
    """One read of the network, and the probes that see through it.

    Attributes:
        site: what is read.
        probes: each with the layer that lies between this site and its own; None where that is this site.
    """

    site: Site
    probes: list[tuple[Probe, nn.Linear | None]] = field(default_factory=list)

    def readout(self) -> Readout:
        """All the probes, seed by seed, as they stand behind what is read."""
        readouts = [probe.readout(before) for probe, before in self.probes]
        if len(readouts) == 1:
            return readouts[0]
        queries, weight, bias = (
            torch.cat([getattr(readout, name) for readout in readouts]) for name in ("queries", "weight", "bias")
        )
        return Readout(queries, weight, bias, readouts[0].layer_norm)

    def learn(
        self,
        activations: Tensor,
        targets: Float[Tensor, "batch label"],
        share: float,
        real: Bool[Tensor, "batch token"] | None = None,
    ) -> dict[str, Float[Tensor, " seed"]]:
        """Add every probe's gradient to `grad`, and return its losses by its site's name; as `Readout.learn`."""
        losses, gradients = self.readout().learn(activations, targets, share, real)
        seeds = [len(probe.weight) for probe, _ in self.probes]
        queries = [None] * len(seeds) if gradients.queries is None else torch.split(gradients.queries, seeds)
        parts = zip(queries, torch.split(gradients.weight, seeds), torch.split(gradients.bias, seeds), strict=True)
        for (probe, before), part in zip(self.probes, parts, strict=True):
            probe.add_gradient(Readout(*part), before)
        sites = [probe.site.name for probe, _ in self.probes]
        return dict(zip(sites, torch.split(losses, seeds), strict=True))


def reads(network: nn.Module, probes: Iterable[Probe]) -> list[Read]:
    """Where the network is to be read for these probes, in the order of the first of them."""
    before = {} if in_shards() or not isinstance(network, Network) else _layers_before(network)
    found: dict[str, Read] = {}
    for probe in probes:
        here = (probe.site, None)
        # A normalised token is no longer linear in what enters the layer.
        site, layer = here if probe.layer_norm else before.get(probe.site.name, here)
        found.setdefault(site.name, Read(site)).probes.append((probe, layer))
    return list(found.values())


def behind(
    layer: nn.Linear | None, sums: Float64[Tensor, "label input"], counts: Int[Tensor, " label"]
) -> Float64[Tensor, "label output"]:
    """Sums per label of pooled activations behind a layer, from those before it and the images per label."""
    if layer is None:
        return sums
    through = sums @ layer.weight.double().T
    return through if layer.bias is None else through + counts[:, None] * layer.bias.double()


def _layers_before(network: Network) -> dict[str, tuple[Site, nn.Linear]]:
    """For the sites that are tokens leaving a fully connected layer: the site that enters it, and the layer."""
    leaving: dict[str, tuple[Site, nn.Linear]] = {}
    sites = network.sites()
    for site in sites:
        module = network.get_submodule(site.module)
        if site.reads == "output" and site.layout == "tokens" and isinstance(module, nn.Linear):
            leaving[site.module] = (site, module)
    if not leaving:
        return {}
    named, found = {site.name: site for site in sites}, {}
    for layer in network.layers():
        if layer.module in leaving and named[layer.source].layout == "tokens":
            site, module = leaving[layer.module]
            found[site.name] = (named[layer.source], module)
    return found
