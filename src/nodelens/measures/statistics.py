"""Statistics of a site's nodal matrices: clusters, diagonals, noise, signal-to-noise (paper, section 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from nodelens.measures.clusters import check_method
from nodelens.measures.nodal import Block, NodalMatrices, bounds, check_threshold

STATISTICS = {
    "n_clusters": "clusters per node, N_c",
    "cluster_size": "labels per cluster, C_s",
    "diagonal": "labels per diagonal, diag",
    "noise": "noise elements per node, n",
    "signal": "signal (eq. 1)",
    "noise_internal": "noise_I (eq. 2)",
    "noise_external": "noise_E (eq. 3)",
    "snr": "SNR (eq. 4)",
    "snr_min": "SNR_min",
    "snr_approximation": "SNR, approximated (eq. 5)",
}
"""Every scalar statistic of a site, in the order of the paper, with its name for a reader."""


@dataclass(frozen=True)
class SignalToNoise:
    """Signal and noise per label, each a number of nodes, and their ratio (eqs. 1-4)."""

    signal: float
    noise_internal: float
    noise_external: float

    @property
    def snr(self) -> float:
        """`signal / (noise_I + noise_E)` (eq. 4); infinite without noise, 0 without signal."""
        return ratio(self.signal, self.noise_internal + self.noise_external)


@dataclass(frozen=True, eq=False)
class SiteStatistics:
    """What the nodal matrices of a site look like above a threshold (Tables 1 and 2, Figs. 4 and 5).

    `n_clusters`, `diagonal` and `noise` are means over all nodes, those without a cluster included.
    `cluster_size` is the mean over the clusters of all nodes together; 0 where there is none.
    `appearances` counts, per label, the nodes whose diagonal holds it (Fig. 4a); `label_field` is, per
    output, the sum of the elements in the clusters' blocks, each matrix divided by its maximum (Fig. 4b).
    """

    nodes: int
    labels: int
    threshold: float
    method: str
    n_clusters: float
    cluster_size: float
    diagonal: float
    noise: float
    appearances: Int64[Tensor, " label"]
    label_field: Float64[Tensor, " label"]

    @property
    def ratio(self) -> SignalToNoise:
        """Signal and noise from the averages (eqs. 1-4)."""
        return signal_to_noise(self.cluster_size, self.diagonal, self.noise, self.nodes, self.labels)

    @property
    def signal(self) -> float:
        """Nodes per label that hold it in their diagonal, on average (eq. 1)."""
        return self.ratio.signal

    @property
    def noise_internal(self) -> float:
        """How often each other label appears in the clusters of a given label, on average (eq. 2)."""
        return self.ratio.noise_internal

    @property
    def noise_external(self) -> float:
        """Above-threshold elements outside the clusters, per matrix element, over all nodes (eq. 3)."""
        return self.ratio.noise_external

    @property
    def snr(self) -> float:
        """Signal-to-noise ratio (eq. 4)."""
        return self.ratio.snr

    @property
    def snr_min(self) -> float:
        """Signal-to-noise ratio of the label that the fewest diagonals hold (Fig. 5b, d)."""
        signal = float(self.appearances.min())
        internal = internal_noise(self.cluster_size, signal, self.labels)
        return SignalToNoise(signal, internal, self.noise_external).snr

    @property
    def snr_approximation(self) -> float:
        """Signal-to-noise ratio without the internal noise (eq. 5)."""
        return ratio(self.cluster_size * self.n_clusters * self.labels, self.noise)

    def scalars(self) -> dict[str, float]:
        """Every scalar statistic by name, in the order of STATISTICS."""
        return {name: float(getattr(self, name)) for name in STATISTICS}

    def to_dict(self) -> dict[str, float | int | str]:
        """One row of a table: how it was measured, then every scalar statistic."""
        measured = {"nodes": self.nodes, "labels": self.labels}
        return {**measured, "threshold": self.threshold, "method": self.method, **self.scalars()}

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.scalars().items())
        return f"<{self.caption()}: {values}>"

    def _repr_html_(self) -> str:
        from nodelens.report.notebook import statistics_html

        return statistics_html(self)

    def caption(self) -> str:
        """What was measured, and how."""
        return f"{self.nodes} nodes, {self.labels} labels, threshold {self.threshold:g}, {self.method} clusters"


def site_statistics(matrices: NodalMatrices, threshold: float = 0.3, method: str = "greedy") -> SiteStatistics:
    """Measure a site's nodal matrices above a threshold; memory does not grow with its nodes.

    The noise of a node is every above-threshold element outside its clusters' own blocks, `ΣB - Σ|S|²`.

    Raises:
        InputError: the threshold is not between 0 and 1, or no such method.

    >>> factor = torch.tensor([[3.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    >>> statistics = site_statistics(NodalMatrices(factor, factor))
    >>> statistics.n_clusters, statistics.cluster_size, statistics.diagonal, statistics.noise
    (1.0, 1.5, 1.5, 0.0)
    """
    return sweep(matrices, [threshold], method)[0]


def sweep(matrices: NodalMatrices, thresholds: Sequence[float], method: str = "greedy") -> list[SiteStatistics]:
    """The statistics of a site at each of several thresholds (Fig. 5).

    >>> factor = torch.tensor([[1.0], [0.5]])
    >>> [statistics.diagonal for statistics in sweep(NodalMatrices(factor, factor), [0.2, 0.3])]
    [2.0, 1.0]
    """
    return sweep_orders(matrices, thresholds, method, [None])[0]


def sweep_orders(
    matrices: NodalMatrices,
    thresholds: Sequence[float],
    method: str,
    orders: Sequence[Int64[Tensor, " label"] | None],
) -> list[list[SiteStatistics]]:
    """`sweep` for the labels of the class means in each of several orders.

    The matrices are formed once: another order moves their rows, another threshold only counts otherwise.

    Args:
        orders: permutations of the labels; None leaves them in place.

    Raises:
        InputError: a threshold that is not between 0 and 1, or no such method.
    """
    for threshold in thresholds:
        check_threshold(threshold)
    check_method(method)
    totals = [[_Tally.of_nothing(matrices.labels) for _ in thresholds] for _ in orders]
    for block in matrices.blocks():
        for order, of_order in zip(orders, totals, strict=True):
            permuted = block if order is None else block.permuted(order.numpy())
            maxima = permuted.maxima()
            of_order[:] = [
                _measured(total, permuted, maxima, threshold, method)
                for total, threshold in zip(of_order, thresholds, strict=True)
            ]
    return [
        [total.statistics(matrices, threshold, method) for total, threshold in zip(of_order, thresholds, strict=True)]
        for of_order in totals
    ]


def signal_to_noise(cluster_size: float, diagonal: float, noise: float, nodes: int, labels: int) -> SignalToNoise:
    """Signal and noise per label from a site's averages (eqs. 1-4), with the measured diagonal in eq. 1.

    >>> round(signal_to_noise(cluster_size=2.9, diagonal=14.6, noise=417.2, nodes=256, labels=100).snr, 2)
    3.28
    """
    signal = diagonal * nodes / labels
    return SignalToNoise(signal, internal_noise(cluster_size, signal, labels), noise * nodes / labels**2)


def internal_noise(cluster_size: float, signal: float, labels: int) -> float:
    """How often each other label appears in the clusters of a label (eq. 2); 0 where there is no other label.

    >>> internal_noise(cluster_size=3.0, signal=10.0, labels=101)
    0.2
    """
    return max(cluster_size - 1, 0.0) * signal / max(labels - 1, 1)


def ratio(signal: float, noise: float) -> float:
    """Signal over noise; infinite without noise, 0 without signal.

    >>> ratio(3.0, 2.0), ratio(1.0, 0.0), ratio(0.0, 0.0)
    (1.5, inf, 0.0)
    """
    if noise > 0:
        return signal / noise
    return math.inf if signal > 0 else 0.0


@dataclass(frozen=True)
class _Tally:
    """Sums over some nodes; integers, so that they do not depend on how nodes are put into blocks."""

    clusters: int
    diagonal: int
    block_elements: int
    above: int
    appearances: Int64[Tensor, " label"]
    label_field: Float64[Tensor, " label"]

    @classmethod
    def of_nothing(cls, labels: int) -> _Tally:
        none = torch.zeros(labels, dtype=torch.int64)
        return cls(0, 0, 0, 0, none, none.double())

    def statistics(self, matrices: NodalMatrices, threshold: float, method: str) -> SiteStatistics:
        """What these sums over all nodes of a site say."""
        return SiteStatistics(
            nodes=matrices.nodes,
            labels=matrices.labels,
            threshold=threshold,
            method=method,
            n_clusters=self.clusters / matrices.nodes,
            cluster_size=self.diagonal / self.clusters if self.clusters else 0.0,
            diagonal=self.diagonal / matrices.nodes,
            noise=(self.above - self.block_elements) / matrices.nodes,
            appearances=self.appearances,
            label_field=self.label_field,
        )


def _measured(
    total: _Tally, block: Block, maxima: Float64[np.ndarray, " node"], threshold: float, method: str
) -> _Tally:
    """The sums with the nodes of one more block, whose largest elements are known."""
    bound = bounds(maxima, threshold)
    clustering = block.clusters(bound, method)
    return _Tally(
        clusters=total.clusters + len(clustering.owner),
        diagonal=total.diagonal + len(clustering.label),
        block_elements=total.block_elements + int(clustering.block_elements.sum()),
        above=total.above + int(block.count_above(bound).sum()),
        appearances=total.appearances + clustering.appearances,
        label_field=torch.from_numpy(block.label_field(maxima, clustering, total.label_field.numpy())),
    )
