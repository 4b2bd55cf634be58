"""The numbers of the nodes that a page holds, as text, while they have room.

A node is two vectors, its class means and its probe weights, as float32. A filter that owns several positions is two
vectors per position or, where that is less, its matrix as float64. Weights of one seed are the same on every split.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from nodelens.probing import SiteMeasurement

FACTOR_BYTES = 23_500_000
"""Room for factors, as text: a seven-block CCT with all its sites and 100 labels takes 23.4 MB."""

FIELD_ELEMENTS = 8_000_000
"""The matrices of a site of filters are formed in the browser: at most so many elements follow a slider."""

EXCITATION_BYTES = 22
"""Text per node that names the images that excite it."""


@dataclass
class Factors:
    """The factors that a page holds, as base64 text, while they have room.

    Attributes:
        room: characters left.
        texts: numbers as text: (node, label) or (node, label, position), float32, or matrices as float64.
        left_out: for each view of a network (its name, split and seed) the sites that have no room.
        partly: sites of filters of which only the first have room, in words.
    """

    room: int = FACTOR_BYTES
    texts: list[str] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    partly: list[str] = field(default_factory=list)
    _weights: dict[tuple[str, str, int, int], int] = field(default_factory=dict)

    def add(self, view: str, network: str, measured: SiteMeasurement, share: float = 1.0) -> dict[str, Any] | None:
        """Where the page's script finds the site's numbers; None if it was left out.

        Args:
            view: what the page calls the network at this split and seed.
            network: what it calls the network.
            share: of the room left, what a site of filters may take; of these the first are kept, for the order of
                filters means nothing. Any other site is kept whole or not at all.
        """
        nodes = self._nodes(network, measured, share)
        if nodes == 0:
            self.left_out.setdefault(view, []).append(measured.site.name)
            return None
        if nodes < measured.site.nodes:
            self.partly.append(f"{view}: {measured.site.name} with the first {nodes} of {measured.site.nodes} nodes")
        self.room -= EXCITATION_BYTES * nodes
        positions = measured.site.positions
        if positions > measured.weight.shape[0]:
            return {"fields": self._write(_fields(measured, nodes)), "nodes": nodes, "positions": positions}
        key = (network, measured.site.name, measured.seed, nodes)
        if key not in self._weights:
            self._weights[key] = self._write(_by_node(measured.weight, nodes))
        means = self._write(_by_node(measured.class_means, nodes))
        return {"means": means, "weight": self._weights[key], "nodes": nodes, "positions": positions}

    def _nodes(self, network: str, measured: SiteMeasurement, share: float) -> int:
        """How many of the site's nodes have room."""
        site, labels = measured.site, measured.weight.shape[0]
        known = (network, site.name, measured.seed, site.nodes) in self._weights
        per_label = 8 * min(site.positions, labels) // (2 if known else 1)
        per_node = math.ceil(labels * per_label * 4 / 3) + EXCITATION_BYTES
        if site.positions == 1:
            return site.nodes if site.nodes * per_node + 8 <= self.room else 0
        followed = FIELD_ELEMENTS // labels**2
        return max(0, min(site.nodes, followed, int((self.room * share - 8) / per_node)))

    def _write(self, numbers: np.ndarray) -> int:
        self.texts.append(base64.b64encode(numbers.tobytes()).decode())
        self.room -= len(self.texts[-1])
        return len(self.texts) - 1


def view_name(network: str, split: str, seed: int) -> str:
    """What the page calls a network at one split and seed of its probes.

    >>> view_name("network", "test", 0)
    'network, test split, probe seed 0'
    """
    return f"{network}, {split} split, probe seed {seed}"


def shares(measured: Sequence[SiteMeasurement]) -> list[float]:
    """Of the room left, what each of these sites may take: those of filters share it equally.

    Args:
        measured: the sites in the order in which they are added.
    """
    left = sum(one.site.positions > 1 for one in measured)
    found = []
    for one in measured:
        found.append(1 / left if one.site.positions > 1 else 1.0)
        left -= one.site.positions > 1
    return found


def _by_node(factor: Float[Tensor, "label node *position"], nodes: int) -> np.ndarray:
    return np.ascontiguousarray(factor[:, :nodes].float().transpose(0, 1).numpy(), dtype="<f4")


def _fields(measured: SiteMeasurement, nodes: int) -> np.ndarray:
    """The matrices themselves, (node, label, label), float64."""
    found = measured.matrices.select(range(nodes))
    return np.stack([found.raw_field(node).numpy() for node in range(nodes)]).astype("<f8")
