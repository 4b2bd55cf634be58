"""Train a network: one loop, resumable at any step to the bit-identical result on a CPU.

The batches and the dropout of a step follow from the seed and the step's number, so a checkpoint is the
weights, the optimizer's moments and the number of steps done.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nodelens.data.augment import normalise
from nodelens.data.datasets import ImageSet
from nodelens.data.normalisation import Normalisation, normalisation_of
from nodelens.errors import InputError
from nodelens.networks import Network, build_network, describe
from nodelens.progress import progress
from nodelens.runs import RunDirectory, load_state, read_tensors, save_state
from nodelens.training.batches import DROPOUT, seed_of, steps_per_epoch, training_batches
from nodelens.training.precision import Precision, autocast, default_device
from nodelens.training.recipe import Recipe, make_optimizer


@dataclass(frozen=True)
class TrainSettings:
    """What determines a trained network, together with the data's fingerprint.

    Attributes:
        network: variant by name, e.g. `cct_7_3x2`.
        keep_every: keep the weights of every that many epochs under `checkpoints/`; 0 keeps none.
    """

    network: str
    recipe: Recipe
    seed: int = 0
    precision: Precision = "fp32"
    compile: bool = False
    keep_every: int = 0


def train(
    settings: TrainSettings,
    training: ImageSet,
    test: ImageSet,
    run: RunDirectory,
    *,
    tensorboard: bool = False,
    checkpoint_seconds: float = 120.0,
) -> Network:
    """Train a network on one split, follow its accuracy on another, write the run directory.

    Args:
        settings: what to train and how.
        training: images that are learnt.
        test: images that are only looked at: nothing is selected by them, the last epoch is the result.
        run: a directory that this process has claimed; a run begun there is continued.
        tensorboard: write TensorBoard events beside `log.jsonl`.
        checkpoint_seconds: least time between two checkpoints within an epoch.

    Returns:
        The trained network in eval mode, as in `model.safetensors`.

    Raises:
        InputError: the directory belongs to another configuration; the split is smaller than a batch; the
            loss became NaN.
    """
    device, recipe = default_device(), settings.recipe
    steps = steps_per_epoch(training, recipe)
    normalisation = normalisation_of(training)
    run.configure("train", _identity(settings, training, test), threads=torch.get_num_threads(), device=str(device))

    torch.manual_seed(settings.seed)
    network = new_network(settings, training).to(device).to(memory_format=torch.channels_last)
    if run.model.exists():
        network.load_state_dict(read_tensors(run.model))
        network.eval()
        return network
    optimizer = make_optimizer(network, recipe)
    step, loss_sum = _resume(run, network, optimizer)
    forward = torch.compile(network) if settings.compile else network
    board = _tensorboard_writer(run) if tensorboard else None
    saved = began = time.monotonic()
    first, note = step, ""

    with progress(f"training {settings.network}", recipe.epochs * steps) as bar:
        bar.start_at(step)
        network.train()
        for batch in training_batches(training, recipe, settings.seed, normalisation, device, step):
            for group in optimizer.param_groups:
                group["lr"] = batch.learning_rate
            torch.manual_seed(seed_of(settings.seed, DROPOUT, batch.step))
            with autocast(device, settings.precision):
                logits = forward(batch.images)
            loss = F.cross_entropy(logits.float(), batch.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            loss_sum += loss.detach()
            step = batch.step + 1

            if batch.ends_epoch:
                speed = (step - first) * recipe.batch_size / (time.monotonic() - began)
                test_accuracy = accuracy(network, test, normalisation, settings.precision)
                event = {
                    "command": "train",
                    "step": step,
                    "epoch": batch.epoch + 1,
                    "learning_rate": batch.learning_rate,
                    "loss": round(_finite(loss_sum.item() / steps, batch.epoch + 1), 5),
                    "test_accuracy": round(test_accuracy, 5),
                }
                run.log({**event, "images_per_second": round(speed, 1)})
                _show_on_board(board, event)
                note = f"epoch {batch.epoch + 1}: loss {event['loss']:.3f}, test accuracy {test_accuracy:.4f}"
                _keep_weights(settings, run, network, batch.epoch + 1)
                loss_sum.zero_()
                first, began = step, time.monotonic()
                network.train()
            if batch.ends_epoch or time.monotonic() - saved > checkpoint_seconds:
                _save_checkpoint(run, network, optimizer, step, loss_sum)
                saved = time.monotonic()
            bar.reach(step, note)

    facts = {"test_accuracy": f"{accuracy(network, test, normalisation, settings.precision):.5f}"}
    metadata = {**describe(network), **normalisation.metadata(), **facts}
    run.write_tensors("model.safetensors", network.state_dict(), metadata)
    (run.checkpoints / "resume.pt").unlink(missing_ok=True)
    network.eval()
    return network


def new_network(settings: TrainSettings, training: ImageSet) -> Network:
    """The untrained network of a run; its weights follow from torch's random state."""
    height, width, channels = training.image_shape
    if height != width:
        raise InputError(
            f"{training.name} has images of {height} × {width} pixels; give --image-size to crop them square"
        )
    recipe = settings.recipe
    return build_network(
        settings.network,
        len(training.label_names),
        height,
        channels,
        attention_dropout=recipe.attention_dropout,
        stochastic_depth=recipe.stochastic_depth,
    )


@torch.inference_mode()
def accuracy(
    network: Network,
    images: ImageSet,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 256,
) -> float:
    """Share of images whose label gets the largest logit."""
    device = next(network.parameters()).device
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for pixels, labels in images.batches(batch_size):
        with autocast(device, precision):
            logits = network(normalise(pixels.to(device), normalisation.mean, normalisation.std))
        correct += (logits.argmax(1) == labels.to(device)).sum()
    return correct.item() / len(images)


def _identity(settings: TrainSettings, training: ImageSet, test: ImageSet) -> dict[str, Any]:
    data = {
        "name": training.name,
        "training_split": training.split,
        "test_split": test.split,
        "images": len(training),
        "image_size": training.image_shape[0],
        "fingerprint": training.fingerprint,
    }
    return {**dataclasses.asdict(settings), "data": data}


def _resume(run: RunDirectory, network: Network, optimizer: torch.optim.Optimizer) -> tuple[int, Tensor]:
    device = next(network.parameters()).device
    state = load_state(run.checkpoints / "resume.pt")
    if state is None:
        run.forget_events_after("train", -1)
        return 0, torch.zeros((), device=device)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    run.forget_events_after("train", state["step"])
    return state["step"], state["loss_sum"].to(device)


def _save_checkpoint(
    run: RunDirectory, network: Network, optimizer: torch.optim.Optimizer, step: int, loss_sum: Tensor
) -> None:
    state = {
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "loss_sum": loss_sum,
    }
    save_state(run.checkpoints / "resume.pt", state)


def _finite(loss: float, epoch: int) -> float:
    if loss != loss or loss == float("inf"):
        raise InputError(f"the loss became {loss} in epoch {epoch}: the training diverged; lower the learning rate")
    return loss


def _tensorboard_writer(run: RunDirectory) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError('TensorBoard is not installed; run pip install "nodelens[tensorboard]"') from error
    return SummaryWriter(str(run.path / "tensorboard"))


def _keep_weights(settings: TrainSettings, run: RunDirectory, network: Network, epoch: int) -> None:
    if settings.keep_every and epoch % settings.keep_every == 0:
        name = f"checkpoints/epoch_{epoch:04d}.safetensors"
        run.write_tensors(name, network.state_dict(), describe(network))


def _show_on_board(board: Any, event: Mapping[str, Any]) -> None:
    if board is None:
        return
    for name in ("loss", "test_accuracy", "learning_rate"):
        board.add_scalar(name, event[name], event["epoch"])
    board.flush()
