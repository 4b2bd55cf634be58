"""Begin with the weights of a trained network, as far as they fit."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from nodelens.errors import InputError
from nodelens.networks.masking import plain_state
from nodelens.networks.network import Network


def warm_start(network: Network, trained: Network) -> list[str]:
    """Give a new network the weights of a trained one that have the same names and shapes.

    Positional embeddings of another grid of tokens are interpolated. Weights that a pruned network is without are
    zeros here, and can be trained.

    Returns:
        The names of the weights that stay as they were.

    Raises:
        InputError: no matrix of the trained network fits.
    """
    own, theirs = network.state_dict(), plain_state(trained)
    grids, their_grids = network.positional_embeddings(), trained.positional_embeddings()
    fitting = {}
    for name, weight in own.items():
        found = theirs.get(name, theirs.get(network.in_encoder(name)))
        if found is not None and name in grids and grids[name] == their_grids.get(name):
            found = _on_grid(found, weight.shape[1], grids[name])
        if found is not None and found.shape == weight.shape:
            fitting[name] = found
    if all(weight.ndim < 2 for weight in fitting.values()):
        raise InputError("the two networks have no matrix of the same name and shape; begin with one of the same kind")
    network.load_state_dict({**own, **fitting})
    return [name for name in own if name not in fitting]


def _on_grid(
    embeddings: Float[Tensor, "1 token embedding"], tokens: int, prefix: int
) -> Float[Tensor, "1 other_token embedding"]:
    """Positional embeddings for another number of tokens; those before the grid stay."""
    side, wanted = math.isqrt(embeddings.shape[1] - prefix), math.isqrt(tokens - prefix)
    if side == wanted:
        return embeddings
    grid = embeddings[:, prefix:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resized = interpolate(grid, (wanted, wanted), mode="bicubic", antialias=True)
    return torch.cat([embeddings[:, :prefix], resized.flatten(2).transpose(1, 2)], dim=1)
