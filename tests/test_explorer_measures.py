"""The explorer's numbers are those of `nodelens.measures`: the same matrices through both, compared exactly."""

from __future__ import annotations

import base64
import json
import math
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from nodelens.measures import (
    NodalMatrices,
    andc_mask,
    dilution,
    head_specialization,
    output_mask,
    site_statistics,
)
from nodelens.measures.nodal import bounds

EXPLORER = Path(__file__).parent.parent / "src" / "nodelens" / "report" / "explorer"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed: the explorer's modules are not run")

Pair = tuple[Tensor, Tensor]


def correlated(labels: int, nodes: int, seed: int) -> Pair:
    """Factors like a trained probe's: means and weights that know of each other."""
    generator = torch.Generator().manual_seed(seed)
    means, weight, shift = (torch.randn(labels, nodes, generator=generator) for _ in range(3))
    return means + shift[:1], weight + means


def coarse(labels: int, nodes: int, seed: int) -> Pair:
    """Small whole numbers: most products tie, many of them exactly at the threshold."""
    generator = torch.Generator().manual_seed(seed)
    means, weight = (torch.randint(-4, 5, (labels, nodes), generator=generator).float() for _ in range(2))
    return means, weight


def opposed(labels: int, nodes: int, seed: int) -> Pair:
    """No element is positive."""
    means, weight = coarse(labels, nodes, seed)
    return means.abs(), -weight.abs()


def filters(labels: int, nodes: int, positions: int, seed: int) -> Pair:
    """Filters that own several positions: factors (label, node, position)."""
    parts = [(correlated, coarse)[seed % 2](labels, nodes, seed + position) for position in range(positions)]
    return torch.stack([means for means, _ in parts], -1), torch.stack([weight for _, weight in parts], -1)


def noisy_filters(labels: int, nodes: int) -> Pair:
    """Filters of one matrix each, random and of full rank: clusters that no product of two vectors has."""
    field = torch.randn(nodes, labels, labels, generator=torch.Generator().manual_seed(labels)) + torch.eye(labels)
    weight = torch.eye(labels).expand(nodes, labels, labels)
    return field.transpose(0, 1).contiguous(), weight.transpose(0, 1).contiguous()


DEGENERATE = {
    "zero": (torch.zeros(7, 4), torch.zeros(7, 4)),
    "one label": (torch.tensor([[1.0, -2.0, 0.0, 3.0]]), torch.tensor([[2.0, -1.0, 5.0, -1.0]])),
    "one node": (torch.tensor([[3.0], [0.9], [0.3]]), torch.tensor([[1.0], [1.0], [1.0]])),
    "equal": (torch.ones(9, 4), torch.ones(9, 4)),
    "tiny": (torch.full((5, 4), 1e-30), torch.full((5, 4), 1e-30)),
    "subnormal": (torch.full((5, 4), 1e-45), torch.full((5, 4), 1e-45)),
    "huge": (torch.full((5, 4), 3e38), torch.full((5, 4), 3e38)),
    "negative": (-torch.rand(6, 4), torch.rand(6, 4)),
}


def cases() -> list[tuple[Pair, float, str, int, float]]:
    found: list[tuple[Pair, float, str, int, float]] = []
    for method in ("greedy", "maximum"):
        for threshold in (0.05, 0.3, 0.75):
            found += [(pair, threshold, method, 1, 1.0) for pair in DEGENERATE.values()]
            for labels in (2, 10, 33, 100):
                for seed in range(3):
                    for kind in (correlated, coarse, opposed):
                        found.append((kind(labels, 16, seed), threshold, method, (1, 2, 4)[seed], 1 + seed / 2))
            for labels, positions in ((1, 4), (7, 9), (33, 2), (100, 4)):
                for seed in range(2):
                    found.append((filters(labels, 8, positions, seed), threshold, method, 2, 2.0))
            found += [(noisy_filters(labels, 8), max(threshold, 0.2), method, 1, 1.0) for labels in (12, 40)]
    return found


def encoded(values: Tensor) -> str:
    return base64.b64encode(values.transpose(0, 1).contiguous().numpy().tobytes()).decode()


def question(case: tuple[Pair, float, str, int, float]) -> dict[str, Any]:
    (means, weight), threshold, method, heads, ratio = case
    shape = {"labels": means.shape[0], "nodes": means.shape[1], "positions": NodalMatrices(means, weight).positions}
    how = {"threshold": threshold, "method": method, "heads": heads, "ratio": ratio}
    return {**shape, **how, "means": encoded(means), "weight": encoded(weight)}


def expected(case: tuple[Pair, float, str, int, float]) -> dict[str, Any]:
    (means, weight), threshold, method, heads, ratio = case
    matrices = NodalMatrices(means, weight)
    last = matrices.select([matrices.nodes - 1])
    diagonals = matrices.diagonals(threshold)
    statistics = site_statistics(matrices, threshold, method)
    specialization = head_specialization(diagonals, heads, ratio)
    (block,) = matrices.blocks()
    limit = bounds(block.maxima(), threshold)
    noise = block.count_above(limit) - block.clusters(limit, method).block_elements.numpy()
    return {
        "maxima": matrices.maxima().tolist(),
        "cluster": matrices.cluster_index(threshold, method).flatten().tolist(),
        "noise": noise.tolist(),
        "statistics": statistics.scalars(),
        "node": site_statistics(last, threshold, method).scalars(),
        "appearances": statistics.appearances.tolist(),
        "labelField": statistics.label_field.tolist(),
        "headAppearances": specialization.appearances.flatten().tolist(),
        "headOfLabel": specialization.head_of_label.tolist(),
        "outputDilution": dilution(output_mask(diagonals)),
    }


def without_infinity(value: Any) -> Any:
    """JSON has no infinite number: the modules' is null there."""
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isinf(value) else value


@needs_node
def test_modules_compute_what_python_does(tmp_path: Path) -> None:
    chosen = cases()
    pairs = [
        (case, following if following[0][0].shape[0] == case[0][0].shape[0] else case)
        for case, following in pairwise(chosen)
    ]
    assert sum(source[0][0].shape[1] for source, _ in pairs) > 3500
    file = tmp_path / "sites.json"
    file.write_text(json.dumps([{"source": question(a), "target": question(b)} for a, b in pairs]))
    script = Path(__file__).parent / "explorer_parity.mjs"
    done = subprocess.run([NODE, script, EXPLORER, file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for (source, target), found in zip(pairs, json.loads(done.stdout), strict=True):
        assert found["source"] == without_infinity(expected(source))
        assert found["target"] == without_infinity(expected(target))
        diagonals = [NodalMatrices(*case[0]).diagonals(case[1]) for case in (source, target)]
        assert found["dilution"] == dilution(andc_mask(diagonals[1], diagonals[0]))
