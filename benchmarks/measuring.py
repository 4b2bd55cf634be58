"""What measuring costs beside the pass over the data that it needs anyway.

    python benchmarks/measuring.py [--quick] [--images 2048] [--rounds 7] [--batch-size 256]

Compares, on CCT-7/3x2 with random weights and 32×32 images (CIFAR-100 where NODELENS_DATA has it, else noise):
the bare pass (`nodelens.training.accuracy`), measuring one site (block.7.linear2), measuring all 63 sites
(`nodelens.probing.measure_probes`); fp32 and bf16.
How: in one process that keeps freed memory, as the command line does, one warm-up each, then in turns; the median of
the ratios to the bare pass in the same round.
Target: all sites at most 1.15 times the bare pass, aim 1.05. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
from functools import partial
from statistics import median

import torch
from timing import cifar_sized, print_table, ratio, take_turns

from nodelens.data import normalisation_of
from nodelens.memory import keep_freed_memory
from nodelens.networks import build_network, select_sites
from nodelens.probing import Probes, measure_probes
from nodelens.processes import default_device
from nodelens.training import accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.batch_size, asked.rounds = 100, 50, 1

    keep_freed_memory()
    torch.manual_seed(0)
    device = default_device()
    network = build_network("cct_7_3x2", 100, 32).to(device).eval()
    images = cifar_sized(asked.images)
    normalisation = normalisation_of(images)
    everywhere = network.sites()
    probes = {
        "one site": Probes(select_sites(everywhere, "block.7.linear2"), 100, (0,)).to(device),
        f"all {len(everywhere)} sites": Probes(everywhere, 100, (0,)).to(device),
    }
    rows = []
    for precision in ("fp32", "bf16"):
        candidates = {"bare pass": partial(accuracy, network, images, normalisation, precision, asked.batch_size)}
        for name, heads in probes.items():
            heads.requires_grad_(False)
            candidates[name] = partial(
                measure_probes, network, heads, images, normalisation, precision, asked.batch_size
            )
        found = take_turns(candidates, asked.rounds)
        rows += [
            (precision, name, median(times), asked.images / median(times), ratio(found, name, "bare pass"))
            for name, times in found.items()
        ]
    title = f"CCT-7/3x2, {asked.images} {images.name} images in batches of {asked.batch_size}, {asked.rounds} rounds"
    print_table(title, ("precision", "what", "seconds", "images/s", "times the bare pass"), rows)


if __name__ == "__main__":
    main()
