"""The paper's numbers, as data.

Koresh, Gross, Meir, Tzach, Halevi, Kanter: "Unified CNNs and transformers underlying learning mechanism
reveals multi-head attention modus vivendi". CCT-7/3x1 on CIFAR-100, threshold 0.3, unless stated.
"""

from __future__ import annotations

BLOCKS, LABELS, THRESHOLD = 7, 100, 0.3
NETWORK_ACCURACY = 0.809
FLOWERS_ACCURACY = 0.972
"""Of CCT-7/7x2 on Flowers-102."""

TABLE1 = {
    # block: probe accuracy, N_c, C_s, diag, n
    7: {"accuracy": 0.811, "n_clusters": 4.9, "cluster_size": 2.9, "diagonal": 14.6, "noise": 417.2},
    6: {"accuracy": 0.797, "n_clusters": 3.6, "cluster_size": 1.8, "diagonal": 6.8, "noise": 299.5},
    5: {"accuracy": 0.767, "n_clusters": 3.3, "cluster_size": 2.0, "diagonal": 6.9, "noise": 318.5},
    4: {"accuracy": 0.729, "n_clusters": 3.5, "cluster_size": 2.2, "diagonal": 7.8, "noise": 346.9},
    3: {"accuracy": 0.667, "n_clusters": 3.5, "cluster_size": 2.5, "diagonal": 9.1, "noise": 411.9},
    2: {"accuracy": 0.576, "n_clusters": 3.4, "cluster_size": 2.8, "diagonal": 9.5, "noise": 475.4},
    1: {"accuracy": 0.464, "n_clusters": 3.3, "cluster_size": 2.8, "diagonal": 9.3, "noise": 517.5},
}
"""Table 1: the probe behind each block's output and the averages over its 256 nodes."""

TABLE2 = {
    # block: the paper truncates these figures instead of rounding them
    7: {"signal": 37.4, "noise_internal": 0.73, "noise_external": 10.6, "snr": 3.28},
    6: {"signal": 17.6, "noise_internal": 0.15, "noise_external": 7.6, "snr": 2.25},
    5: {"signal": 17.7, "noise_internal": 0.18, "noise_external": 8.1, "snr": 2.12},
    4: {"signal": 20.1, "noise_internal": 0.24, "noise_external": 8.8, "snr": 2.20},
    3: {"signal": 23.3, "noise_internal": 0.36, "noise_external": 10.5, "snr": 2.13},
    2: {"signal": 24.5, "noise_internal": 0.44, "noise_external": 12.1, "snr": 1.94},
    1: {"signal": 23.8, "noise_internal": 0.43, "noise_external": 13.2, "snr": 1.74},
}
"""Table 2: signal, noise and signal-to-noise ratio of each block (eqs. 1-4)."""

FIGURE5_BEST_THRESHOLD = {7: 0.3, 6: 0.15}
"""Section 2: the threshold at which SNR_min is largest, about."""

ROBUST_THRESHOLDS = (0.2, 0.4)
"""Section 2: Tables 1 and 2 and Fig. 4 are robust to the threshold within this range."""

FIGURE3: dict[str, dict[str, float | int]] = {
    # site of block 7: what the text says of it
    "linear1": {"n_clusters": 1.34, "cluster_size": 1.65, "diagonal": 2.21, "noise": 58},
    "linear2.no_skip": {"diagonal": 8, "noise": 326},
}
"""Section 2: Linear1 at threshold 0.3. Discussion: the block's output without the skip connection, about."""

OUTPUT_DILUTION = 0.8
"""Section 3: at least so much of the output layer can be removed while the accuracy stays at `NETWORK_ACCURACY`."""
OUTPUT = {"threshold": 0.4, "diagonal": 5.6, "dilution": 0.944, "andc": 0.77, "random": 0.53}
"""Section 3: the output layer at another threshold; accuracies, about, after a short retraining of it."""

# fmt: off
TABLE3 = {
    # layer of block 7, which of its sites: threshold, probe accuracy, N_c, C_s, diag, n; dilution of the layer
    ("qkv", "input"): {
        "threshold": 0.35, "accuracy": 0.796, "n_clusters": 2.82, "cluster_size": 1.57, "diagonal": 4.43,
        "noise": 182.5, "dilution": 0.85,
    },
    ("qkv", "output"): {
        "threshold": 0.35, "accuracy": 0.797, "n_clusters": 2.28, "cluster_size": 1.63, "diagonal": 3.72,
        "noise": 201.6,
    },
    ("projection", "input"): {
        "threshold": 0.3, "accuracy": 0.783, "n_clusters": 2.71, "cluster_size": 1.52, "diagonal": 4.12,
        "noise": 137.3, "dilution": 0.77,
    },
    ("projection", "output"): {
        "threshold": 0.3, "accuracy": 0.804, "n_clusters": 4.56, "cluster_size": 2.30, "diagonal": 10.49,
        "noise": 366.7,
    },
    ("linear1", "input"): {
        "threshold": 0.35, "accuracy": 0.805, "n_clusters": 3.53, "cluster_size": 1.96, "diagonal": 6.92,
        "noise": 234.4, "dilution": 0.83,
    },
    ("linear1", "output"): {
        "threshold": 0.35, "accuracy": 0.797, "n_clusters": 1.48, "cluster_size": 1.49, "diagonal": 2.21,
        "noise": 79.6,
    },
    ("linear2", "input"): {
        "threshold": 0.35, "accuracy": 0.797, "n_clusters": 1.48, "cluster_size": 1.49, "diagonal": 2.21,
        "noise": 79.6, "dilution": 0.80,
    },
    ("linear2", "output"): {
        "threshold": 0.35, "accuracy": 0.811, "n_clusters": 4.31, "cluster_size": 2.24, "diagonal": 9.65,
        "noise": 258.4,
    },
}
# fmt: on
"""Table 3: ANDC pruning of block 7; the accuracy stays at `NETWORK_ACCURACY` after a few epochs of retraining."""

TABLE3_WEIGHTS = {"before": 524_000.0, "after": 93_000.0}
"""Section 3: weights of the four layers of Table 3 before and after pruning, about."""

PROBE_AT_ATTENTION = 0.786
"""Section 4: the accuracy of the probe at the scaled dot-product attention of block 7."""

TABLE4 = {
    # block: for each head the labels that it owns, and its super-classes that hold exactly 1, 2, … 5 of them
    7: ((23, (3, 3, 0, 1, 2)), (15, (3, 1, 2, 1, 0)), (15, (3, 2, 0, 2, 0)), (21, (6, 0, 2, 1, 1))),
    6: ((4, (4, 0, 0, 0, 0)), (26, (3, 4, 2, 1, 1)), (5, (5, 0, 0, 0, 0)), (4, (2, 1, 0, 0, 0))),
}
"""Table 4, left and right. Its text says 23 labels for head 2 of block 6; the 39 in all need the table's 26."""

TABLE4_RANDOM = {
    # random labels: super-classes that hold exactly 1, 2, … 5 of them, mean of 50,000 samples
    25: (8.1, 5.4, 1.7, 0.25, 0.015),
    20: (8.4, 4.2, 0.95, 0.10, 0.004),
    15: (8.1, 2.8, 0.44, 0.03, 0.0007),
    10: (6.8, 1.4, 0.13, 0.005, 0.0),
    5: (4.2, 0.37, 0.013, 0.0, 0.0),
}
"""Table 4, middle."""
TABLE4_SAMPLES = 50_000

TABLE5 = {
    # block: accuracy of the probe, labels of each head, in all; CCT-7/7x2 on Flowers-102
    7: (0.97, (18, 20, 16, 14), 68),
    6: (0.93, (17, 13, 7, 13), 50),
    5: (0.88, (4, 8, 7, 5), 24),
    4: (0.81, (0, 3, 0, 4), 7),
}
"""Table 5: symmetry breaking on Flowers-102, which has 102 labels."""

FIGURE9 = {
    # block: the network's mean accuracy for labels with symmetry breaking, and for the others
    7: {"with": 0.82, "without": 0.78},
    6: {"with": 0.836, "without": 0.79},
}
FIGURE9_BOTH = 0.857
"""Section 4 and Fig. 9; `FIGURE9_BOTH` is of labels with symmetry breaking in blocks 6 and 7."""

FIGURE10_LABELS = 70
"""Section 4: labels with symmetry breaking in block 7, about, for all ratios of `FIGURE10_RATIOS`."""
FIGURE10_RATIOS = (1.5, 2.5)
FIGURE10_OTHERS_BELOW = 1.4
"""Section 4: lower blocks have as many only below this ratio."""

FIGURE11_CLEAR, FIGURE11_INFREQUENT = 0.5, 0.5
"""Section 4 calls fields that look like the image infrequent; read here as an overlap |r| of at least the first in no
more than the second share of the images."""
