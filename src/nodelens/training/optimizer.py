"""Optimizers: which parameters are trained by which rule, and at which share of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon, Optimizer

from nodelens.errors import InputError
from nodelens.networks import Network, layer_weight, masks_of
from nodelens.shards import is_sharded
from nodelens.training.muon import StackedMuon
from nodelens.training.recipe import Recipe


class Optimizers:
    """One optimizer, or several of different parameters, as one.

    Attributes:
        each: torch's.
    """

    def __init__(self, *each: Optimizer) -> None:
        self.each = each

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of all optimizers, to be written to."""
        return [group for optimizer in self.each for group in optimizer.param_groups]

    def step(self) -> None:
        """A step of each."""
        for optimizer in self.each:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients of all."""
        for optimizer in self.each:
            optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """State dict of all optimizers."""
        return {"optimizers": [optimizer.state_dict() for optimizer in self.each]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to where `state_dict` was called."""
        states = state.get("optimizers", [state])  # older checkpoints have the state of the only one
        for optimizer, its_state in zip(self.each, states, strict=True):
            optimizer.load_state_dict(its_state)


def make_optimizer(
    network: nn.Module, chosen: Recipe, slow: Iterable[nn.Parameter] = (), slow_share: float = 1.0
) -> Optimizers:
    """AdamW, SGD with Nesterov momentum, or Muon; biases and norms are spared the weight decay.

    Muon orthogonalises the step of a matrix. It trains the fully connected layers between nodes; convolutions, vectors
    and the layer to the labels are trained by AdamW. Its steps are scaled to the size of AdamW's (Liu et al.,
    arXiv:2502.16982), so that both share the learning rate.

    Args:
        slow: parameters whose groups carry `slow_share` as their `share` of the learning rate.

    Raises:
        InputError: Muon for a network with masked weights, which its steps would move.
    """
    slowed = set(slow)
    hidden = _hidden_matrices(network) if chosen.optimizer == "muon" else set()

    def groups(trained: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
        found = []
        for weights, share in (
            ([w for w in trained if w not in slowed], 1.0),
            ([w for w in trained if w in slowed], slow_share),
        ):
            found += [
                {"params": [w for w in weights if w.ndim > 1], "weight_decay": chosen.weight_decay, "share": share},
                {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0, "share": share},
            ]
        return [group for group in found if group["params"]]

    trained, rate = [weight for weight in network.parameters() if weight.requires_grad], chosen.learning_rate
    if chosen.optimizer == "sgd":
        return Optimizers(SGD(groups(trained), lr=rate, momentum=chosen.momentum, nesterov=True, fused=True))
    matrices = groups([weight for weight in trained if weight in hidden])
    if not matrices:
        return Optimizers(AdamW(groups(trained), lr=rate, fused=True))
    muon = Muon if is_sharded(network) else StackedMuon
    return Optimizers(
        muon(matrices, lr=rate, momentum=chosen.momentum, adjust_lr_fn="match_rms_adamw"),
        AdamW(groups([weight for weight in trained if weight not in hidden]), lr=rate, fused=True),
    )


def _hidden_matrices(network: nn.Module) -> set[Tensor]:
    """The weights of the layers between nodes.

    Raises:
        InputError: one is masked.
    """
    if masks_of(network):
        raise InputError("Muon's steps would move weights that are left out; choose a recipe with AdamW or SGD")
    layers = network.layers() if isinstance(network, Network) else []
    return {layer_weight(network, layer) for layer in layers if layer.target is not None}
