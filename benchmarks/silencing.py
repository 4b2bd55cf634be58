"""Nodal matrices from their two factors against silencing one node after another.

    python benchmarks/silencing.py [--quick] [--images 1000] [--nodes 8] [--rounds 3] [--precision fp32]

Compares, on block.7.linear2 (256 nodes) of a frozen CCT-7/3x2 with random weights and 32×32 images (CIFAR-100
where NODELENS_DATA has it, else noise):
factors: one pass (`nodelens.probing.measure_probes`), then the 100×100 matrix of each of the 256 nodes;
silencing: for a node, silence all weights of the head but those that leave it, run network and head on every image,
average the fields per label. Only `--nodes` of the 256 are run; the time of all is extrapolated in proportion.
How: in one process, one warm-up each, then in turns; the median of the ratios within a round. The two results are
compared, too. Target: at least 200 times as fast. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from jaxtyping import Float64
from timing import cifar_sized, print_table, ratio, take_turns
from torch import Tensor

from nodelens.data import ImageSet, Normalisation, normalise
from nodelens.networks import build_network, reading, select_sites
from nodelens.networks.network import Network
from nodelens.probing import Probes, measure_probes
from nodelens.processes import default_device
from nodelens.training import resolve_precision
from nodelens.training.precision import Precision, autocast

SITE, BATCH = "block.7.linear2", 250
NORMALISATION = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))

Fields = Float64[Tensor, "label label"]


def from_factors(network: Network, probes: Probes, images: ImageSet, precision: Precision) -> list[Fields]:
    """Every node's matrix, normalised by its maximum, from one pass."""
    (measured,) = measure_probes(network, probes, images, NORMALISATION, precision, BATCH)
    matrices = measured[SITE].matrices
    return [matrices.field(node) for node in range(matrices.nodes)]


def by_silencing(network: Network, probes: Probes, images: ImageSet, precision: Precision, nodes: int) -> list[Fields]:
    """The first nodes' matrices, each from a pass of its own with everything else silenced."""
    weight = probes[SITE].weight.clone()
    found = []
    for node in range(nodes):
        probes[SITE].weight.zero_()
        probes[SITE].weight[:, :, node] = weight[:, :, node]
        field = mean_field(network, probes, images, precision)
        found.append(field / field.max() if field.max() > 0 else field)
    probes[SITE].weight.copy_(weight)
    return found


@torch.inference_mode()
def mean_field(network: Network, probes: Probes, images: ImageSet, precision: Precision) -> Fields:
    """Fields on the outputs of the head, averaged over the images of each label."""
    device = default_device()
    total = torch.zeros(probes.labels, probes.labels, dtype=torch.float64, device=device)

    def reader(site: str, activations: Tensor) -> None:
        with torch.autocast(device.type, enabled=False):
            total.index_add_(0, labels, probes[site](activations)[0].double())

    for pixels, labels in images.batches(BATCH):
        labels = labels.to(device)
        inputs = normalise(pixels.to(device), NORMALISATION.mean, NORMALISATION.std)
        with reading(network, probes.sites, reader), autocast(device, precision):
            network(inputs)
    return (total / torch.bincount(images.labels)[:, None].to(device)).cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=8, help="nodes that are silenced for real")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="fp32")
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.nodes, asked.rounds = 100, 1, 1

    torch.manual_seed(0)
    network = build_network("cct_7_3x2", 100, 32).to(default_device()).eval()
    site = select_sites(network.sites(), SITE)
    probes = Probes(site, 100, (0,)).to(default_device()).requires_grad_(False)
    images, precision = cifar_sized(asked.images), resolve_precision(asked.precision, default_device())

    ours = from_factors(network, probes, images, precision)
    brute = by_silencing(network, probes, images, precision, asked.nodes)
    deviation = max(float((a - b).abs().max()) for a, b in zip(ours, brute, strict=False))

    nodes, some = site[0].nodes, f"silencing {asked.nodes} nodes"
    found = take_turns(
        {
            "factors": lambda: from_factors(network, probes, images, precision),
            some: lambda: by_silencing(network, probes, images, precision, asked.nodes),
        },
        asked.rounds,
    )
    scale = nodes / asked.nodes
    rows = [
        (f"factors, {nodes} nodes", median(found["factors"]), "1"),
        (some, median(found[some]), ratio(found, some, "factors")),
        (f"silencing {nodes} nodes (extrapolated × {scale:g})", median(found[some]) * scale,
         ratio(found, some, "factors") * scale),
    ]  # fmt: skip
    title = f"Nodal matrices of {SITE}, CCT-7/3x2, {asked.images} {images.name} images, {precision}"
    print_table(f"{title}, {asked.rounds} rounds", ("what", "seconds", "times the factors"), rows)
    print(f"Largest deviation of a normalised element between the two: {deviation:.1e}")


if __name__ == "__main__":
    main()
