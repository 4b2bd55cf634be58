"""Train a network: one loop, resumable at any step to the bit-identical result on a CPU.

The batches and the dropout of a step follow from the seed and the step's number, so a checkpoint is the
weights, the optimizer's moments and the number of steps done.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from nodelens.data.augment import normalise
from nodelens.data.datasets import ImageSet
from nodelens.data.normalisation import Normalisation, normalisation_of
from nodelens.errors import InputError
from nodelens.networks import Network, build_network, load_network, stored
from nodelens.progress import progress
from nodelens.runs import RunDirectory, load_state, save_state
from nodelens.training.batches import DROPOUT, Batch, seed_of, steps_per_epoch, training_batches
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


class Trainer:
    """A network in training: everything that a step changes, and how a step changes it."""

    def __init__(self, settings: TrainSettings, training: ImageSet, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        torch.manual_seed(settings.seed)
        self.network = new_network(settings, training).to(device).to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.network, settings.recipe)
        self.forward = torch.compile(self.network) if settings.compile else self.network
        self.step = 0
        self.loss_sum = torch.zeros((), device=device)

    def learn(self, batch: Batch) -> None:
        """One optimizer step; nothing waits for the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = batch.learning_rate
        torch.manual_seed(seed_of(self.settings.seed, DROPOUT, batch.step))
        with autocast(self.device, self.settings.precision):
            logits = self.forward(batch.images)
        loss = F.cross_entropy(logits.float(), batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.loss_sum += loss.detach()
        self.step = batch.step + 1

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

    def epoch_event(self, batch: Batch, steps: int, images_per_second: float, test_accuracy: float) -> dict[str, Any]:
        """The log's line for the epoch that a batch ended."""
        return {
            "command": "train",
            "step": self.step,
            "epoch": batch.epoch + 1,
            "learning_rate": batch.learning_rate,
            "loss": round(self.mean_loss(batch.epoch + 1, steps), 5),
            "images_per_second": images_per_second,
            "test_accuracy": round(test_accuracy, 5),
        }

    def save(self, path: Path) -> None:
        """Write what resuming needs."""
        parts = {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}
        save_state(path, {**parts, "step": self.step, "loss_sum": self.loss_sum})

    def restore(self, path: Path) -> None:
        """Go back to where `save` was called; to the beginning where it never was."""
        state = load_state(path)
        if state is not None:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step, self.loss_sum = state["step"], state["loss_sum"].to(self.device)


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
    environment = {"threads": torch.get_num_threads(), "device": str(device)}
    run.configure("train", _identity(settings, training, test), **environment, test_fingerprint=test.fingerprint)
    if run.model.exists():
        return load_network(run.path).to(device)
    normalisation = normalisation_of(training)
    trainer, resume = Trainer(settings, training, device), run.checkpoints / "resume.pt"
    trainer.restore(resume)
    run.forget_events_after("train", trainer.step)
    board = _tensorboard_writer(run) if tensorboard else None
    saved, note, speed = time.monotonic(), "", Speed(recipe.batch_size)

    with progress(f"training {settings.network}", recipe.epochs * steps) as bar:
        bar.start_at(trainer.step)
        trainer.network.train()
        for batch in training_batches(training, recipe, settings.seed, normalisation, device, trainer.step):
            trainer.learn(batch)
            speed.count()
            if batch.ends_epoch:
                rate = speed.images_per_second()
                reached = accuracy(trainer.network, test, normalisation, settings.precision)
                event = trainer.epoch_event(batch, steps, rate, reached)
                run.log(event)
                _show_on_board(board, event)
                _keep_weights(settings, run, trainer.network, batch.epoch + 1)
                note = f"epoch {event['epoch']}: loss {event['loss']:.3f}, test accuracy {event['test_accuracy']:.4f}"
                trainer.network.train()
                speed = Speed(recipe.batch_size)
            if batch.ends_epoch or time.monotonic() - saved > checkpoint_seconds:
                trainer.save(resume)
                saved = time.monotonic()
            bar.reach(trainer.step, note)
    return _finish(trainer, test, normalisation, run)


def _finish(trainer: Trainer, test: ImageSet, normalisation: Normalisation, run: RunDirectory) -> Network:
    network = trainer.network
    reached = accuracy(network, test, normalisation, trainer.settings.precision)
    tensors, description = stored(network)
    metadata = {**description, **normalisation.metadata(), "test_accuracy": f"{reached:.5f}"}
    run.write_tensors("model.safetensors", tensors, metadata)
    (run.checkpoints / "resume.pt").unlink(missing_ok=True)
    network.checkpoint_metadata = metadata
    network.eval()
    return network


class Speed:
    """Images per second since it was made."""

    def __init__(self, images_per_step: int) -> None:
        self._images_per_step = images_per_step
        self._started, self._steps = time.monotonic(), 0

    def count(self) -> None:
        """One more step is done."""
        self._steps += 1

    def images_per_second(self) -> float:
        return round(self._steps * self._images_per_step / (time.monotonic() - self._started), 1)


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
    batch_size: int = 128,
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


def _tensorboard_writer(run: RunDirectory) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError('TensorBoard is not installed; run pip install "nodelens[tensorboard]"') from error
    return SummaryWriter(str(run.path / "tensorboard"))


def _keep_weights(settings: TrainSettings, run: RunDirectory, network: Network, epoch: int) -> None:
    if settings.keep_every and epoch % settings.keep_every == 0:
        name = f"checkpoints/epoch_{epoch:04d}.safetensors"
        run.write_tensors(name, *stored(network))


def _show_on_board(board: Any, event: Mapping[str, Any]) -> None:
    if board is None:
        return
    for name in ("loss", "test_accuracy", "learning_rate"):
        board.add_scalar(name, event[name], event["epoch"])
    board.flush()
