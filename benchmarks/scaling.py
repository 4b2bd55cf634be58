"""How time and memory grow: statistics with labels and nodes, measuring with sites and images.

    python benchmarks/scaling.py [--quick] [--rounds 3] [--images 1024] [--figure docs/images/scaling]

Labels: `nodelens.site_statistics` of 256 nodes for 10 to 50,000 labels; nodes: 100 to 100,000 of them for 100 labels;
both cluster rules, on the random factors of `site_statistics.py`, each case in a fresh process.
Sites: `nodelens.probing.measure_probes` on CCT-7/3x2 with random weights and 32×32 images (CIFAR-100 where
NODELENS_DATA has it, else noise), for 1 to all 63 sites in turns with the bare pass, in a process that keeps freed
memory as the command line does; the median of the ratios.
Images: peak memory of a fresh process that measures all sites on 1,000, 4,000 and 16,000 images, less the images; the
least of three, for how much the threads' allocations overlap varies by some 200 MB.
`--figure` draws the four as a log-log plot, .svg and .png. About six minutes on two cores.
Wanted: hardly more than proportional to labels and to nodes; sites nearly free; memory that does not grow with images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from timing import cifar_sized, in_fresh_process, peak_megabytes, print_table, ratio, take_turns

from nodelens.data import normalisation_of
from nodelens.measures.clusters import METHODS
from nodelens.memory import keep_freed_memory
from nodelens.networks import build_network
from nodelens.probing import Probes, measure_probes
from nodelens.processes import default_device
from nodelens.report.figures import STYLE, save_figure
from nodelens.report.palette import BLUE, GREY, ORANGE
from nodelens.training import accuracy

STATISTICS = str(Path(__file__).with_name("site_statistics.py"))
LABELS, NODES = (10, 100, 1_000, 10_000, 50_000), (100, 1_000, 10_000, 100_000)
BATCH_SIZE, SITES, IMAGES = 256, (1, 4, 16, 63), (1_000, 4_000, 16_000)
LEAST = 0.1
"""Megabytes below which a logarithmic axis would show only noise."""


@dataclass(frozen=True)
class Case:
    """What the statistics of a site cost."""

    nodes: int
    labels: int
    method: str
    seconds: float
    megabytes: float


def statistics_cases(sizes: Sequence[tuple[int, int]], rounds: int) -> list[Case]:
    """The statistics of random sites of so many nodes and labels, by both cluster rules."""
    cases = []
    for nodes, labels in sizes:
        for method in METHODS:
            arguments = ("--rounds", str(rounds), "--case", "random", str(nodes), str(labels), method)
            cases.append(Case(nodes, labels, method, *in_fresh_process(STATISTICS, *arguments)[:2]))
    return cases


def probes_of(sites: int) -> tuple[torch.nn.Module, Probes]:
    """A CCT-7/3x2 and untrained probes at so many of its sites, evenly from the first to the last."""
    torch.manual_seed(0)
    network = build_network("cct_7_3x2", 100, 32).to(default_device()).eval()
    everywhere = network.sites()
    chosen = [everywhere[round(i * (len(everywhere) - 1) / max(1, sites - 1))] for i in range(sites)]
    return network, Probes(chosen, 100, (0,)).to(default_device()).requires_grad_(False)


def sites_cases(counts: Sequence[int], images: int, rounds: int) -> list[tuple[int, float, float]]:
    """Sites, seconds, and times the bare pass."""
    data = cifar_sized(images)
    normalisation = normalisation_of(data)
    candidates = {"bare pass": partial(accuracy, probes_of(1)[0], data, normalisation, "fp32", BATCH_SIZE)}
    for count in counts:
        network, probes = probes_of(count)
        candidates[str(count)] = partial(measure_probes, network, probes, data, normalisation, "fp32", BATCH_SIZE)
    found = take_turns(candidates, rounds)
    bare = (0, median(found["bare pass"]), 1.0)
    return [bare, *((n, median(found[str(n)]), ratio(found, str(n), "bare pass")) for n in counts)]


def measure_images(images: int) -> None:
    """What a fresh process does whose memory is looked at; prints its peak and the size of the images, in MB."""
    network, probes = probes_of(max(SITES))
    data = cifar_sized(images, "train")
    measure_probes(network, probes, data, normalisation_of(data))
    print(peak_megabytes(), images * math.prod(data.image_shape) / 2**20)


def images_cases(sizes: Sequence[int]) -> list[tuple[int, float, float, float]]:
    """Images, their own megabytes, the peak of the process less these, and how much more that is than the first."""
    found = [(size, *min(in_fresh_process(__file__, "--memory-of", str(size)) for _ in range(3))) for size in sizes]
    held = [peak - own for _, peak, own in found]
    return [(size, own, now, now - held[0]) for (size, _, own), now in zip(found, held, strict=True)]


def draw_cases(axes: Axes, cases: Sequence[Case], along: str, cost: str) -> None:
    """Seconds or megabytes of both cluster rules along nodes or labels, and what is proportional to these."""
    for method, colour, line, marker in (("greedy", BLUE, "-", "o"), ("maximum", ORANGE, "--", "s")):
        points = [(getattr(case, along), max(getattr(case, cost), LEAST * (cost == "megabytes"))) for case in cases
                  if case.method == method]  # fmt: skip
        axes.plot(*zip(*points, strict=True), line, color=colour, marker=marker, markersize=4, label=method)
    last = points[-1]
    axes.plot([point[0] for point in points], [last[1] * point[0] / last[0] for point in points], ":", color=GREY,
              label="proportional")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel=along)


def scaling_figure(
    by_labels: Sequence[Case],
    by_nodes: Sequence[Case],
    by_sites: Sequence[tuple[int, float, float]],
    by_images: Sequence[tuple[int, float, float, float]],
) -> Figure:
    """Seconds above, megabytes below; logarithmic axes but for the two that are meant to be flat."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 5.0), layout="constrained")
        (labels, nodes, sites), (labels_memory, nodes_memory, images) = figure.subplots(2, 3)
        for axes, cases, along, cost in (
            (labels, by_labels, "labels", "seconds"),
            (nodes, by_nodes, "nodes", "seconds"),
            (labels_memory, by_labels, "labels", "megabytes"),
            (nodes_memory, by_nodes, "nodes", "megabytes"),
        ):
            draw_cases(axes, cases, along, cost)
        labels.set(title=f"statistics, {by_labels[0].nodes} nodes", ylabel="seconds")
        labels.legend(frameon=False)
        nodes.set(title=f"statistics, {by_nodes[0].labels} labels")
        labels_memory.set(ylabel=f"extra memory, MB (at least {LEAST:g})")
        sites.plot([row[0] for row in by_sites], [row[2] for row in by_sites], color=BLUE, marker="o", markersize=4)
        sites.set(title="measuring CCT-7/3x2", xlabel="sites", ylabel="times the bare pass")
        sites.set_ylim(0, 1.1 * max(row[2] for row in by_sites))
        sizes, held = [row[0] for row in by_images], [row[2] for row in by_images]
        images.plot(sizes, held, color=BLUE, marker="o", markersize=4)
        images.set(xscale="log", xlabel="images", ylabel="peak less the images, MB", ylim=(0, 1.1 * max(held)))
        images.set_xticks(sizes, [f"{size:,}" for size in sizes])
        images.minorticks_off()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1024, help="measured at every number of sites")
    parser.add_argument("--figure", type=Path, help="without suffix; by default none is drawn")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory_of:
        measure_images(asked.memory_of)
        return
    keep_freed_memory()
    rounds, quick = (1 if asked.quick else asked.rounds), asked.quick
    header = ("nodes", "labels", "clusters", "seconds", "extra memory, MB")
    by_labels = statistics_cases([(256, n) for n in (LABELS[:3] if quick else LABELS)], rounds)
    by_nodes = statistics_cases([(n, 100) for n in (NODES[:2] if quick else NODES)], rounds)
    for what, cases in (("labels", by_labels), ("nodes", by_nodes)):
        rows = [(case.nodes, case.labels, case.method, case.seconds, case.megabytes) for case in cases]
        print_table(f"Statistics of a random site at threshold 0.3 along {what}, {rounds} rounds", header, rows)
    images = 100 if quick else asked.images
    by_sites = sites_cases(SITES, images, rounds)
    title = f"Measuring CCT-7/3x2 along sites, {images} images, fp32, {rounds} rounds"
    print_table(title, ("sites", "seconds", "times the bare pass"), by_sites)
    by_images = images_cases((100, 400) if quick else IMAGES)
    memory = ("images", "the images, MB", "peak memory less these, MB", "more than with the fewest, MB")
    print_table(f"Measuring all {max(SITES)} sites of CCT-7/3x2 along images", memory, by_images)
    if asked.figure:
        save_figure(scaling_figure(by_labels, by_nodes, by_sites, by_images), asked.figure)


if __name__ == "__main__":
    main()
