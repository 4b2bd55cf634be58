"""Fig. 6: nodes of the two sites that a layer joins, their labels, and the weights that ANDC keeps between them."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import torch
from jaxtyping import Bool, Int64
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nodelens.report.figures import STYLE, Panels, head_line, panels_of
from nodelens.report.palette import BLUE, FAINT, GREY

SHOWN_NODES = 8
SHOWN_LABELS = 4
"""Labels that a node's box names; of the others it says how many there are."""


def nodes_to_show(
    sources: Bool[Tensor, "source label"], targets: Bool[Tensor, "target label"], count: int = SHOWN_NODES
) -> tuple[Int64[Tensor, " chosen_source"], Int64[Tensor, " chosen_target"]]:
    """Nodes that show the rule: those with one to four labels, of both sites those that share the most common ones.

    Where a site has fewer such nodes, those with the fewest labels follow.
    """
    common = sources.float().mean(dim=0) * targets.float().mean(dim=0)

    def chosen(diagonals: Bool[Tensor, "node label"]) -> Int64[Tensor, "chosen"]:
        labels = diagonals.sum(dim=1)
        few = (labels >= 1) & (labels <= SHOWN_LABELS)
        shared = (diagonals * common).sum(dim=1)
        # Lexicographic: few labels first, then what is shared, then the fewer labels.
        order = sorted(
            range(len(labels)), key=lambda k: (not few[k], -float(shared[k]) if few[k] else int(labels[k]), k)
        )
        return torch.tensor(sorted(order[:count]))

    return chosen(sources), chosen(targets)


def pruned_layer_figure(
    sources: Bool[Tensor, "source label"],
    targets: Bool[Tensor, "target label"],
    label_names: Sequence[str],
    title: str,
    into: Panels = None,
) -> Figure:
    """Fig. 6: a few input nodes (left) and output nodes (right) of a layer with the labels of their diagonals.

    A weight is kept where its two nodes share a label: a thick blue line. Those that ANDC removes are thin and grey.

    Args:
        sources: labels in the diagonal of each input node; `targets`, of each output node.
    """
    left, right = nodes_to_show(sources, targets)
    own, other = sources[left], targets[right]
    shared = own[:, None] & other
    with matplotlib.rc_context(STYLE):
        figure, panels = panels_of(into, 1, 1, (8.4, 0.8 + 0.46 * max(len(left), len(right))))
        axes: Axes = panels[0, 0]
        for i in range(len(left)):
            for j in range(len(right)):
                kept = bool(shared[i, j].any())
                ends = [_height(i, left), _height(j, right)]
                axes.plot([0, 1], ends, color=BLUE if kept else GREY, linewidth=1.6 if kept else 0.4, zorder=1 + kept)
        _name_nodes(axes, left, own, shared.any(dim=1), label_names, 0)
        _name_nodes(axes, right, other, shared.any(dim=0), label_names, 1)
        axes.set_xlim(-1.05, 2.05)
        axes.set_ylim(-0.06, 1.06)
        axes.axis("off")
        head_line(figure, title, into)
    return figure


def _height(index: int, nodes: Tensor) -> float:
    return 1 - index / max(1, len(nodes) - 1)


def _name_nodes(
    axes: Axes,
    nodes: Int64[Tensor, " node"],
    diagonals: Bool[Tensor, "node label"],
    used: Bool[Tensor, "node label"],
    names: Sequence[str],
    side: int,
) -> None:
    """The nodes' numbers and labels beside their ends of the lines; blue where a weight that is shown is kept."""
    for index, node in enumerate(nodes.tolist()):
        held = torch.nonzero(diagonals[index]).flatten().tolist()
        held.sort(key=lambda label: not used[index, label])
        more = len(held) - SHOWN_LABELS
        text = ", ".join(names[label] for label in held[:SHOWN_LABELS]) + (f", … {more} more" if more > 0 else "")
        colour = BLUE if bool(used[index].any()) else FAINT
        axes.annotate(
            f"{node}: {text or 'none'}",
            (side, _height(index, nodes)),
            (6 if side else -6, 0),
            textcoords="offset points",
            ha="left" if side else "right",
            va="center",
            fontsize=8,
            color=colour,
        )
