"""What training the probes of all sites costs beside training one, and that memory does not grow with the data.

    python benchmarks/probing.py [--quick] [--steps 10] [--batch-size 128] [--rounds 5] [--precision auto]

Compares, on a frozen CCT-7/3x2 with random weights and 32×32 images (CIFAR-100 where NODELENS_DATA has it, else
noise): `nodelens.probing.train_probes` for block.7.linear2 and for all 63 sites, an epoch of `--steps` steps each.
How: in one process that keeps freed memory, as the command line does, one warm-up each, then in turns; the median of
the ratios within a round.
Memory: peak of a fresh process that trains all probes for an epoch and then measures, on 1,000 and on 4,000
images (the 4,000 images themselves are 12 MB).
Target: all sites at most twice one site; the same memory. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from statistics import median

import torch
from timing import cifar_sized, in_fresh_process, peak_megabytes, print_table, ratio, take_turns

from nodelens.data import Normalisation
from nodelens.memory import keep_freed_memory
from nodelens.networks import build_network, select_sites
from nodelens.networks.network import Network
from nodelens.probing import ProbeSettings, measure_probes, probe_recipe, train_probes
from nodelens.processes import default_device
from nodelens.training import resolve_precision

NORMALISATION = Normalisation((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def frozen_network() -> Network:
    torch.manual_seed(0)
    return build_network("cct_7_3x2", 100, 32).to(default_device()).eval()


def settings(batch_size: int, precision: str) -> ProbeSettings:
    chosen = replace(probe_recipe(1), batch_size=batch_size)
    return ProbeSettings(chosen, precision=resolve_precision(precision, default_device()))


def train_and_measure(images: int, batch_size: int, precision: str) -> None:
    """What a fresh process does whose memory is looked at; prints its peak in MB."""
    network, data, chosen = frozen_network(), cifar_sized(images), settings(batch_size, precision)
    probes = train_probes(network, network.sites(), data, NORMALISATION, chosen)
    measure_probes(network, probes, data, NORMALISATION, chosen.precision, batch_size)
    print(peak_megabytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.quick:
        asked.steps, asked.batch_size, asked.rounds = 1, 16, 1
    if asked.memory_of:
        train_and_measure(asked.memory_of, asked.batch_size, asked.precision)
        return

    keep_freed_memory()
    network, chosen = frozen_network(), settings(asked.batch_size, asked.precision)
    data = cifar_sized(asked.steps * asked.batch_size)
    everywhere = network.sites()
    one, every = "block.7.linear2", f"all {len(everywhere)} sites"
    wanted = {one: select_sites(everywhere, one), every: everywhere}
    found = take_turns(
        {name: partial(train_probes, network, sites, data, NORMALISATION, chosen) for name, sites in wanted.items()},
        asked.rounds,
    )
    images = asked.steps * asked.batch_size
    rows = [(name, median(times), images / median(times), ratio(found, name, one)) for name, times in found.items()]
    title = f"Training probes, CCT-7/3x2, {asked.steps} batches of {asked.batch_size}, {chosen.precision}"
    print_table(f"{title}, {asked.rounds} rounds", ("probes", "seconds", "images/s", "times one site"), rows)

    sizes = (100, 400) if asked.quick else (1000, 4000)
    peaks = []
    for size in sizes:
        more = ["--quick"] if asked.quick else ["--batch-size", str(asked.batch_size)]
        peaks += in_fresh_process(__file__, "--memory-of", str(size), "--precision", asked.precision, *more)
    rows = [(size, peak, peak - peaks[0]) for size, peak in zip(sizes, peaks, strict=True)]
    print_table(f"Training and measuring {every}", ("images", "peak memory, MB", "more than with the fewest, MB"), rows)


if __name__ == "__main__":
    main()
