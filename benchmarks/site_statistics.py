"""Clusters, noise and signal of a site, up to the labels of a vocabulary: seconds and memory.

    python benchmarks/site_statistics.py [--quick] [--rounds 3]

Takes `nodelens.site_statistics` at threshold 0.3 on random, correlated factors (μ normal, W = 0.7 μ + noise) of
768 nodes × 1,000 labels and of 256 nodes × 50,000 labels, by both cluster rules; and on crowded factors, the worst
that could be thought of: every node holds all labels on its diagonal, hardly above threshold, in hundreds of clusters.
How: each case in a fresh process: one warm-up on a small site, then the median of the rounds; extra memory is the
peak beyond what the process held with the factors in place, before the first round.
Target: below 1 s, and below 20 s and 1 GB.

Then the sweep of 64 filters of 64 positions, 100 labels, 18 thresholds with 5 permutations each as `nodelens measure`
takes them: the matrices formed once, against once for every threshold and permutation, in turns in one process.
About four minutes on two cores.

(Not called statistics.py, which would hide Python's own module from every script in this folder.)
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
from timing import forget_peak, in_fresh_process, peak_megabytes, print_table, seconds

from nodelens.measures import NodalMatrices, permutation_null, permutation_nulls, site_statistics, sweep

PERMUTATIONS = 5
TARGETS = {
    ("random", 768, 1_000): "< 1 s",
    ("random", 256, 50_000): "< 20 s, < 1000 MB",
    ("crowded", 256, 5_000): "",
    ("crowded", 256, 50_000): "",
}


def random_site(nodes: int, labels: int) -> NodalMatrices:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(labels, nodes, generator=generator)
    return NodalMatrices(means, 0.7 * means + torch.randn(labels, nodes, generator=generator))


def crowded_site(nodes: int, labels: int) -> NodalMatrices:
    """Means traded against weights, so that every diagonal element is 0.302 and only labels of like means join."""
    generator = torch.Generator().manual_seed(0)
    means = torch.rand(labels, nodes, generator=generator).mul(-1.2).exp()
    means[0] = 1.0
    weight = 0.302 / means
    weight[0] = 1.0
    return NodalMatrices(means, weight)


FACTORS = {"random": random_site, "crowded": crowded_site}


def measure_case(factors: str, nodes: int, labels: int, method: str, rounds: int) -> None:
    """Prints seconds, extra megabytes, and the statistics' clusters and noise."""
    site_statistics(random_site(8, 50), 0.3, method)
    matrices = FACTORS[factors](nodes, labels)
    forget_peak()
    before = peak_megabytes()
    times = [seconds(lambda: site_statistics(matrices, 0.3, method)) for _ in range(rounds)]
    peak = peak_megabytes()
    found = site_statistics(matrices, 0.3, method)
    print(median(times), peak - before, found.n_clusters, found.noise)


def sweep_filters(filters: int, positions: int, thresholds: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(100, filters, positions, generator=generator)
    matrices = NodalMatrices(means, 0.7 * means + torch.randn(means.shape, generator=generator))
    levels = [0.05 * (i + 1) for i in range(thresholds)]

    def together() -> None:
        sweep(matrices, levels)
        permutation_nulls(matrices, levels, permutations=PERMUTATIONS)

    def one_by_one() -> None:
        for level in levels:
            site_statistics(matrices, level)
            for draw in range(PERMUTATIONS):
                permutation_null(matrices, level, permutations=1, seed=draw)

    times = [(seconds(together), seconds(one_by_one)) for _ in range(rounds)]
    once, each = map(median, zip(*times, strict=True))
    title = f"Sweep of {filters} filters of {positions} positions, 100 labels, {thresholds} thresholds, {rounds} rounds"
    print_table(title, ("formed once, s", "formed each time, s", "ratio"), [(once, each, each / once)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="see that it works; the times mean nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.case:
        factors, nodes, labels, method = asked.case
        measure_case(factors, int(nodes), int(labels), method, asked.rounds)
        return
    cases = {("random", 64, 100): "", ("random", 16, 2_000): "", ("crowded", 16, 500): ""} if asked.quick else TARGETS
    rounds = 1 if asked.quick else asked.rounds
    rows = []
    for (factors, nodes, labels), target in cases.items():
        for method in ("greedy", "maximum"):
            case = (factors, str(nodes), str(labels), method)
            numbers = in_fresh_process(__file__, "--rounds", str(rounds), "--case", *case)
            rows.append((factors, nodes, labels, method, *numbers[:2], target, *numbers[2:]))
    header = ("factors", "nodes", "labels", "clusters", "seconds", "extra memory, MB", "target", "N_c", "n")
    print_table(f"Statistics of a site at threshold 0.3, {rounds} rounds", header, rows)
    sweep_filters(8 if asked.quick else 64, 64, 3 if asked.quick else 18, rounds)


if __name__ == "__main__":
    main()
