"""A pruned network without its dead nodes: smaller, and the same function to rounding."""

from __future__ import annotations

import copy

from jaxtyping import Float, Shaped
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks import Network, remove_masks


class Compacted(nn.Module):
    """A network without its dead nodes: to be run, no longer to be measured, trained under masks or stored.

    The file of the pruned network is what is kept; `compact` gives this again at any time.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch label"]:
        return self.network(images)  # type: ignore[no-any-return]


def compact(network: Network, multiple: int = 16) -> Compacted:
    """Remove the nodes that pruning has left without any connection in or out.

    Hidden nodes, dimensions of queries, keys and values, whole heads. A node that nothing enters is constant; what
    it adds joins the next layer's bias.

    Args:
        network: pruned, or with zeros in its weights; it is left as it is.
        multiple: layers keep sizes that are multiples of this, and a few dead nodes for it: matrix kernels take
            odd sizes more slowly, so that the network would be smaller and yet take longer. 1 removes every dead node
            that heads of one size allow.

    Returns:
        A network of the same logits, in eval mode.

    Raises:
        InputError: the multiple is less than 1.
    """
    if multiple < 1:
        raise InputError(f"multiple={multiple}: give 1 or more")
    smaller = copy.deepcopy(network)
    remove_masks(smaller)
    smaller.remove_dead(multiple)
    return Compacted(smaller.eval().requires_grad_(False))
