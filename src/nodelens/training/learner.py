"""A network in training: everything that an optimizer step changes, and how a step changes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.errors import InputError
from nodelens.processes import add_up, rank, size
from nodelens.replay import Replayed, replayed
from nodelens.shards import device_of, is_sharded, restore_shards, sharded_state
from nodelens.training.batches import DROPOUT, Batch, seed_of
from nodelens.training.enforced import HeadTerm
from nodelens.training.optimizer import make_optimizer
from nodelens.training.precision import Precision, autocast
from nodelens.training.recipe import Recipe

Step = Callable[[Tensor, Tensor], Tensor]
"""Finds the gradients for a batch's inputs and targets, and returns the loss."""


def gradients(network: nn.Module) -> list[Tensor]:
    """The gradients that a network's parameters have."""
    return [weight.grad for weight in network.parameters() if weight.grad is not None]


def share_norms(network: nn.Module, device: torch.device) -> None:
    """Let batch normalisation see the images of all processes, in place.

    Args:
        device: where the network is to be trained.

    Raises:
        InputError: on a CPU, where torch cannot do that.
    """
    if size() == 1 or not _normed(network):
        return
    if device.type == "cpu":
        raise InputError(
            "batch normalisation needs all images of a batch, which several processes can share on GPUs only; "
            "train this network in one process"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]


def _normed(network: nn.Module) -> bool:
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


class Learner:
    """A network, its optimizer, and the number of steps done.

    Args:
        network: its parameters that require a gradient are trained.
        seed: of the dropout of every step.
        slow: parameters that are trained at `slow_share` of the recipe's learning rate.
        forward: computes the logits; by default the network itself.
        term: what is added to the cross-entropy of the batch just read, of its targets, while it is attached; it is not
            logged.
        replay: whether a GPU replays the steps as recorded in the first one; what several processes share in a pass
            (shards, batch normalisation) is not replayed.

    Raises:
        InputError: batch normalisation under several processes on a CPU.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        seed: int,
        precision: Precision,
        *,
        slow: Iterable[nn.Parameter] = (),
        slow_share: float = 1.0,
        forward: Callable[[Tensor], Tensor] | None = None,
        term: HeadTerm | None = None,
        replay: bool = True,
    ) -> None:
        if not is_sharded(network):
            share_norms(network, device_of(network))
        self.network = network
        self.optimizer = make_optimizer(network, recipe, slow, slow_share)
        self.seed = seed
        self.precision: Precision = precision
        self.forward = network if forward is None else forward
        self.term = term
        self._replay = replay and not is_sharded(network) and not (size() > 1 and _normed(network))
        self._forward_backward: Step | None = None
        self.step = 0
        self.loss_sum = torch.zeros((), device=device_of(network))

    def learn(self, batch: Batch, inputs: Tensor | None = None) -> None:
        """One optimizer step, by all processes together; nothing waits for the device.

        Args:
            inputs: what `forward` reads, where that is not the batch's images.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = batch.learning_rate * group.get("share", 1.0)
        inputs = batch.images if inputs is None else inputs
        if self._forward_backward is None:
            work = partial(self._gradients, share=batch.share)
            self._forward_backward = self._recorded(work, inputs, batch.targets) if self._replay else work
        # Each process drops out what it likes: other images, other draws.
        torch.manual_seed(seed_of(self.seed, DROPOUT, batch.step, *([rank()] if rank() else [])))
        loss = self._forward_backward(inputs, batch.targets)
        add_up([loss] if is_sharded(self.network) else [loss, *gradients(self.network)])
        self.optimizer.step()
        if not isinstance(self._forward_backward, Replayed):  # which writes them anew, at the same place
            self.optimizer.zero_grad()
        self.loss_sum += loss
        self.step = batch.step + 1

    def _recorded(self, work: Step, *inputs: Tensor) -> Step:
        """`replayed`, which calls the function a few times: averages of batch normalisation stay as they were."""
        before = [buffer.clone() for buffer in self.network.buffers()]
        found = replayed(work, *inputs)
        for buffer, value in zip(self.network.buffers(), before, strict=True):
            buffer.copy_(value)
        return found

    def _gradients(self, inputs: Tensor, targets: Tensor, share: float) -> Tensor:
        """Find the gradients of every trained parameter, and return the loss: this process's part of both."""
        self.optimizer.zero_grad()
        with autocast(inputs.device, self.precision):
            logits = self.forward(inputs)
        loss = F.cross_entropy(logits.float(), targets) * share
        whole = loss if self.term is None else loss + self.term(targets) * share
        (whole * size() if is_sharded(self.network) else whole).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def mean_loss(self, epoch: int, steps: int) -> float:
        """The epoch's mean training loss; the next epoch's starts from zero.

        Raises:
            InputError: it is not finite.
        """
        loss = self.loss_sum.item() / steps
        self.loss_sum.zero_()
        if not math.isfinite(loss):
            raise InputError(f"the loss became {loss} in epoch {epoch}: the training diverged; lower the learning rate")
        return loss

    def state(self) -> dict[str, Any]:
        """What resuming needs; parameters that are not trained are left out. All processes are to ask for it."""
        if is_sharded(self.network):
            weights, moments = sharded_state(self.network, self.optimizer.each)
            return {"network": weights, "optimizer": moments, "step": self.step, "loss_sum": self.loss_sum}
        frozen = {name for name, weight in self.network.named_parameters() if not weight.requires_grad}
        network = {name: value for name, value in self.network.state_dict().items() if name not in frozen}
        return {
            "network": network,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "loss_sum": self.loss_sum,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was called."""
        if is_sharded(self.network):
            restore_shards(self.network, self.optimizer.each, state["network"], state["optimizer"])
        else:
            self.network.load_state_dict(state["network"], strict=False)
            self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.loss_sum = state["step"], state["loss_sum"].to(self.loss_sum.device)
