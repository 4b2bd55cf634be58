"""Measuring by two processes with one thread each against one process with one thread.

    python benchmarks/processes.py [--quick] [--images 2048] [--rounds 5] [--passes 3] [--batch-size 128]

Measures all 63 sites of CCT-7/3x2 with random weights on 32×32 images (CIFAR-100 where NODELENS_DATA has it, else
noise), in fp32 and bf16.
How: every job is started anew by torchrun, in turns; in it one pass as warm-up, then the median of `--passes` passes,
each from where all processes are ready to where the first has the sums of all; the median of the ratios to one process
within a round.
Target: two processes at least 1.7 times as fast, on two cores of their own. About ten minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from functools import partial
from statistics import median

import torch
from timing import Seconds, cifar_sized, print_table, ratio, seconds

from nodelens.data import normalisation_of
from nodelens.networks import build_network
from nodelens.probing import Probes, measure_probes
from nodelens.processes import add_up, joined

PRECISIONS = ("fp32", "bf16")


def measuring(asked: argparse.Namespace) -> list[float]:
    """Median seconds of a pass in each precision; in every process of a job."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = build_network("cct_7_3x2", 100, 32).eval()
    images = cifar_sized(asked.images)
    normalisation = normalisation_of(images)
    probes = Probes(network.sites(), 100, (0,)).requires_grad_(False)
    found = []
    for precision in PRECISIONS:
        taken = []
        work = partial(measure_probes, network, probes, images, normalisation, precision, asked.batch_size)
        for _ in range(1 + asked.passes):
            add_up([torch.zeros(1)])  # all are ready
            taken.append(seconds(work))
        found.append(median(taken[1:]))
    return found


def job(processes: int) -> list[float]:
    """The same in a job of so many processes; what its first one found."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, __file__, "--in-job", *sys.argv[1:]]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--images", type=int, default=2048)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--passes", type=int, default=3, help="per job")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-job", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.quick:
        asked.images, asked.batch_size, asked.passes, asked.rounds = 100, 25, 1, 1

    if asked.in_job:
        with joined():
            print(*measuring(asked))
        return
    found: dict[str, Seconds] = {precision: {"1": [], "2": []} for precision in PRECISIONS}
    for turn in range(asked.rounds):
        for processes in ("1", "2")[:: 1 if turn % 2 == 0 else -1]:
            for precision, taken in zip(PRECISIONS, job(int(processes)), strict=True):
                found[precision][processes].append(taken)
    rows = [
        (precision, processes, median(times), asked.images / median(times), ratio(of, "1", processes))
        for precision, of in found.items()
        for processes, times in of.items()
    ]
    torch.set_num_threads(1)
    title = f"Measuring 63 sites of CCT-7/3x2, {asked.images} images in batches of {asked.batch_size}"
    header = ("precision", "processes", "seconds", "images/s", "times as fast as one")
    print_table(f"{title}, {asked.rounds} rounds", header, rows)


if __name__ == "__main__":
    main()
