"""Train a network: one loop, resumable at any step to the bit-identical result on a CPU.

Nothing random carries state from step to step: the order of an epoch, the augmentation and the dropout
of a step are drawn from generators seeded by (seed, epoch or step). A checkpoint is therefore the weights,
the optimizer's moments and the number of steps done.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.data.augment import augment, mix, normalise
from nodelens.data.datasets import ImageSet
from nodelens.data.normalisation import Normalisation, normalisation_of
from nodelens.errors import InputError
from nodelens.networks import build_network, describe
from nodelens.progress import progress
from nodelens.runs import RunDirectory, load_state, read_tensors, save_state
from nodelens.training.precision import Precision, autocast, default_device
from nodelens.training.recipe import Recipe, make_optimizer

ORDER, AUGMENTATION, DROPOUT = range(3)


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


def seed_of(seed: int, *purpose: int) -> int:
    """An independent seed for each purpose and step."""
    return int(np.random.SeedSequence([seed, *purpose]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def train(
    settings: TrainSettings,
    training: ImageSet,
    test: ImageSet,
    run: RunDirectory,
    *,
    tensorboard: bool = False,
    checkpoint_seconds: float = 120.0,
) -> nn.Module:
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
    steps_per_epoch = len(training) // recipe.batch_size
    if steps_per_epoch == 0:
        raise InputError(f"{training.name} {training.split} has {len(training)} images, less than one batch of {recipe.batch_size}")
    normalisation = normalisation_of(training)
    run.configure("train", _identity(settings, training, test), threads=torch.get_num_threads(), device=str(device))

    torch.manual_seed(settings.seed)
    network = new_network(settings, training).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(network, recipe)
    if run.model.exists():
        network.load_state_dict(read_tensors(run.model))
        return network.eval()
    step, loss_sum = _resume(run, network, optimizer)
    forward = torch.compile(network) if settings.compile else network
    board = _tensorboard_writer(run) if tensorboard else None
    saved = time.monotonic()

    with progress(f"training {settings.network}", recipe.epochs * steps_per_epoch) as bar:
        bar.start_at(step)
        note = ""
        for epoch in range(step // steps_per_epoch, recipe.epochs):
            network.train()
            started, first = time.monotonic(), step
            order = epoch_order(len(training), settings.seed, epoch)
            for begin in range((step - epoch * steps_per_epoch), steps_per_epoch):
                chosen = order[begin * recipe.batch_size : (begin + 1) * recipe.batch_size]
                images, targets = training_batch(training, chosen, recipe, settings.seed, step, normalisation, device)
                for group in optimizer.param_groups:
                    group["lr"] = recipe.rate(step, steps_per_epoch)
                torch.manual_seed(seed_of(settings.seed, DROPOUT, step))
                with autocast(device, settings.precision):
                    logits = forward(images)
                loss = F.cross_entropy(logits.float(), targets)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                loss_sum += loss.detach()
                step += 1
                bar.reach(step, note)
                if time.monotonic() - saved > checkpoint_seconds:
                    _save_checkpoint(run, network, optimizer, step, loss_sum)
                    saved = time.monotonic()

            event = {
                "command": "train",
                "step": step,
                "epoch": epoch + 1,
                "learning_rate": recipe.rate(step - 1, steps_per_epoch),
                "loss": round(_finite(loss_sum.item() / steps_per_epoch, epoch + 1), 5),
                "test_accuracy": round(accuracy(network, test, normalisation, settings.precision), 5),
            }
            speed = (step - first) * recipe.batch_size / (time.monotonic() - started)
            run.log({**event, "images_per_second": round(speed, 1)})
            note = f"epoch {epoch + 1}: loss {event['loss']:.3f}, test accuracy {event['test_accuracy']:.4f}"
            bar.reach(step, note)
            if board is not None:
                _show_on_board(board, event)
            if settings.keep_every and (epoch + 1) % settings.keep_every == 0:
                name = f"checkpoints/epoch_{epoch + 1:04d}.safetensors"
                run.write_tensors(name, network.state_dict(), describe(network))
            loss_sum.zero_()
            _save_checkpoint(run, network, optimizer, step, loss_sum)
            saved = time.monotonic()

    facts = {"test_accuracy": str(event["test_accuracy"]), **normalisation.metadata()}
    run.write_tensors("model.safetensors", network.state_dict(), {**describe(network), **facts})
    (run.checkpoints / "resume.pt").unlink(missing_ok=True)
    return network.eval()


def new_network(settings: TrainSettings, training: ImageSet) -> nn.Module:
    """The untrained network of a run; its weights follow from torch's random state."""
    height, width, channels = training.image_shape
    if height != width:
        raise InputError(f"{training.name} has images of {height} × {width} pixels; give --image-size to crop them square")
    recipe = settings.recipe
    return build_network(
        settings.network,
        len(training.label_names),
        height,
        channels,
        attention_dropout=recipe.attention_dropout,
        stochastic_depth=recipe.stochastic_depth,
    )


def epoch_order(images: int, seed: int, epoch: int) -> Int[Tensor, "image"]:
    """The order in which an epoch goes through the images."""
    return torch.randperm(images, generator=torch.Generator().manual_seed(seed_of(seed, ORDER, epoch)))


def training_batch(
    training: ImageSet,
    chosen: Int[Tensor, "batch"],
    recipe: Recipe,
    seed: int,
    step: int,
    normalisation: Normalisation,
    device: torch.device,
) -> tuple[Float[Tensor, "batch channel height width"], Float[Tensor, "batch label"]]:
    """One augmented batch with its smoothed, perhaps mixed, targets."""
    generator = torch.Generator(device).manual_seed(seed_of(seed, AUGMENTATION, step))
    pixels, labels = training.batch(chosen).to(device), training.labels[chosen].to(device)
    images = augment(pixels, recipe.augmentation, normalisation.mean, normalisation.std, generator)
    share = recipe.label_smoothing / len(training.label_names)
    targets = F.one_hot(labels, len(training.label_names)) * (1 - recipe.label_smoothing) + share
    return mix(images, targets, recipe.augmentation, generator)


@torch.inference_mode()
def accuracy(
    network: nn.Module,
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


def _resume(run: RunDirectory, network: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, Tensor]:
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
    run: RunDirectory, network: nn.Module, optimizer: torch.optim.Optimizer, step: int, loss_sum: Tensor
) -> None:
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "loss_sum": loss_sum}
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
    return SummaryWriter(str(run.path / "tensorboard"))  # type: ignore[no-untyped-call]


def _show_on_board(board: Any, event: Mapping[str, Any]) -> None:
    for name in ("loss", "test_accuracy", "learning_rate"):
        board.add_scalar(name, event[name], event["epoch"])
    board.flush()
