"""The paper's numbers, as data.

Koresh, Gross, Meir, Tzach, Halevi, Kanter: "Unified CNNs and transformers underlying learning mechanism
reveals multi-head attention modus vivendi". CCT-7/3x1 on CIFAR-100, threshold 0.3, unless stated.
"""

from __future__ import annotations

NETWORK_ACCURACY = 0.809

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
