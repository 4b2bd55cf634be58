"""Fig. 6: the drawn lines are the weights that ANDC keeps and removes."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import same_color
from torch import Tensor

from nodelens.report.palette import BLUE
from nodelens.report.pruned_layer import nodes_to_show, pruned_layer_figure

NAMES = [f"label {i}" for i in range(12)]


def diagonals(nodes: int, seed: int, share: float) -> Tensor:
    return torch.rand(nodes, len(NAMES), generator=torch.Generator().manual_seed(seed)) < share


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 99), st.sampled_from([0.0, 0.1, 0.9]))
def test_a_line_is_thick_where_the_nodes_share_a_label(sources: int, targets: int, seed: int, share: float) -> None:
    left, right = diagonals(sources, seed, share), diagonals(targets, seed + 1, share)
    chosen = nodes_to_show(left, right)
    assert [len(nodes) for nodes in chosen] == [min(8, sources), min(8, targets)]
    kept = sum(
        bool(set(left[i].nonzero().flatten().tolist()) & set(right[j].nonzero().flatten().tolist()))
        for i in chosen[0]
        for j in chosen[1]
    )
    figure = pruned_layer_figure(left, right, NAMES, "a layer")
    lines = figure.axes[0].lines
    assert len(lines) == len(chosen[0]) * len(chosen[1])
    assert sum(same_color(line.get_color(), BLUE) for line in lines) == kept
    plt.close(figure)


def test_nodes_with_few_labels_of_the_most_common_come_first() -> None:
    sources = torch.zeros(12, len(NAMES), dtype=torch.bool)
    sources[:3] = True
    sources[3:11, 0] = True
    sources[11, 5] = True
    targets = torch.zeros(9, len(NAMES), dtype=torch.bool)
    targets[:, 0] = True
    assert nodes_to_show(sources, targets)[0].tolist() == list(range(3, 11))


def test_a_node_names_a_few_labels_and_counts_the_rest() -> None:
    everything = torch.ones(1, len(NAMES), dtype=torch.bool)
    figure = pruned_layer_figure(everything, torch.zeros_like(everything), NAMES, "")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["0: label 0, label 1, label 2, label 3, … 8 more", "0: none"]
    plt.close(figure)
