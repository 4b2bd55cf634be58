"""Train a network: one loop, resumable at any step to the bit-identical result on a CPU.

The batches and the dropout of a step follow from the seed and the step's number, so a checkpoint is the
weights, the optimizer's moments and the number of steps done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Examples, Samples, label_counts
from nodelens.data.normalisation import Normalisation, input_metadata, normalisation_from, normalisation_of
from nodelens.data.resident import ResidentImages, near
from nodelens.errors import InputError
from nodelens.files import exists, load_state, remove, save_state
from nodelens.interruption import Checkpoints
from nodelens.networks import Network, apply_masks, fingerprint, load_network, stored
from nodelens.processes import add_up, default_device, in_shards, rank, size
from nodelens.progress import progress
from nodelens.runs import RunDirectory
from nodelens.shards import device_of, is_sharded, keep_step, placed, whole_tensors
from nodelens.training.assigned import assigned_masks
from nodelens.training.batches import Batch, steps_per_epoch, training_batches
from nodelens.training.enforced import HeadTerm
from nodelens.training.learner import Learner, share_norms
from nodelens.training.precision import Precision, autocast
from nodelens.training.settings import TrainSettings, new_network
from nodelens.training.speed import Speed, peak_flops, utilisation


def learner_of(settings: TrainSettings, training: Samples, initial: Network | None = None) -> tuple[Network, Learner]:
    """The network that a run begins with, and what trains it."""
    _check_shards(settings)
    torch.manual_seed(settings.seed)
    network = new_network(settings, training, initial)
    if settings.assigned is not None:
        apply_masks(network, assigned_masks(network, settings.assigned, settings.seed))
    if in_shards():
        share_norms(network, default_device())  # before its weights lie in several processes
    network = placed(network, network.stages())
    if not is_sharded(network):  # whose weights are to be contiguous
        network = network.to(memory_format=torch.channels_last)
    term = None
    if settings.enforced is not None:
        if settings.compile:
            raise InputError("labels cannot be given to the heads of a compiled network; leave out --compile")
        term = HeadTerm(network, settings.enforced, training, settings.seed)
    # Every batch has the same shape.
    forward = torch.compile(network, dynamic=False) if settings.compile else network
    return network, Learner(network, settings.recipe, settings.seed, settings.precision, forward=forward, term=term)


def _check_shards(settings: TrainSettings) -> None:
    """
    Raises:
        InputError: a network in shards cannot be trained so.
    """
    if not in_shards():
        return
    asked = {
        "--compile": settings.compile,
        "labels given to heads": settings.enforced is not None,
        "labels assigned to nodes": settings.assigned is not None,
    }
    for name, wanted in asked.items():
        if wanted:
            raise InputError(f"a network in shards cannot be trained with {name}; start it without FSDP")


def train(
    settings: TrainSettings,
    training: Samples,
    test: Samples,
    run: RunDirectory,
    *,
    initial: Network | None = None,
    tensorboard: bool = False,
    checkpoint_seconds: float = 120.0,
    test_every: int = 1,
) -> Network:
    """Train a network on one split, follow its accuracy on another, write the run directory.

    Args:
        settings: what to train and how.
        training: images, or texts, that are learnt.
        test: those that are only looked at: nothing is selected by them, the last epoch is the result.
        run: a directory that this process has claimed; a run begun there is continued.
        initial: the trained network that `settings.initial` names; images are scaled as it has learnt them.
        tensorboard: write TensorBoard events beside `log.jsonl`.
        checkpoint_seconds: least time between two checkpoints within an epoch; at its end it is `EPOCH_SECONDS`.
        test_every: look at the accuracy after every that many epochs, and after the last: it can take a tenth of the
            time of an epoch.

    Returns:
        The trained network in eval mode, as in `model.safetensors`.

    Raises:
        InputError: the directory belongs to another configuration, or holds another network; the network or its
            assignment cannot be built; the split is smaller than a batch, or lacks a label; the loss became NaN.
    """
    if test_every < 1:
        raise InputError(f"--test-every {test_every}: give a number of epochs, at least 1")
    device = default_device()
    steps_per_epoch(training, settings.recipe)  # refuses a split that is smaller than a batch
    label_counts(training)
    environment = {"threads": torch.get_num_threads(), "device": str(device), "processes": size()}
    # Before the directory is taken: what cannot be built leaves it as it was.
    network, learner = learner_of(settings, training, initial)
    if exists(run.model) and not run.settings("train"):
        raise InputError(f"{run.path} holds a network that was not trained there; choose another --out")
    identity, resume = _identity(settings, training, test, initial), run.checkpoints / "resume.pt"
    with run.configured("train", identity, ["model.safetensors", "checkpoints/*"], **environment):
        if exists(run.model):
            remove(resume)  # a kill after the model was written leaves it
            return load_network(run.path).to(device)
        normalisation = _normalisation(training, initial)
        network.checkpoint_metadata = input_metadata(training, normalisation, settings.recipe.augmentation.flip)
        state = load_state(resume)
        if state is not None:
            learner.restore(state)
        run.forget_events_after("train", learner.step)
        epochs_done = learner.step // steps_per_epoch(training, settings.recipe)
        board = _tensorboard_writer(run, epochs_done + 1) if tensorboard and rank() == 0 else None
        with (
            nullcontext() if learner.term is None else learner.term.attached(),
            Checkpoints(lambda: save_state(resume, learner.state()), checkpoint_seconds) as checkpoints,
        ):
            _learn(network, learner, settings, training, test, normalisation, run, checkpoints, board, test_every)
        return _finish(network, settings, test, normalisation, run)


def _normalisation(training: Samples, initial: Network | None) -> Normalisation:
    """Normalisation of the trained network, where the images have as many channels; otherwise their own."""
    recorded = None if initial is None else normalisation_from(initial.checkpoint_metadata)
    if recorded is not None and isinstance(training, ImageSet) and len(recorded.mean) == training.image_shape[2]:
        return recorded
    return normalisation_of(training)


def _learn(
    network: Network,
    learner: Learner,
    settings: TrainSettings,
    training: Samples,
    test: Samples,
    normalisation: Normalisation,
    run: RunDirectory,
    checkpoints: Checkpoints,
    board: Any,
    test_every: int,
) -> None:
    """The steps that are left; every epoch's end is logged and, as asked for, shown and kept."""
    device, recipe, steps = default_device(), settings.recipe, steps_per_epoch(training, settings.recipe)
    peak = None if is_sharded(network) else peak_flops(device, settings.precision)
    speed = Speed(recipe.batch_size, utilisation(network, training.image_shape, peak))
    note, looked_at = "", near(test, device)
    with progress(f"training {settings.network}", recipe.epochs * steps) as bar:
        bar.start_at(learner.step)
        network.train()
        speed.restart()
        for batch in training_batches(training, recipe, settings.seed, normalisation, device, learner.step):
            learner.learn(batch)
            speed.count()
            if batch.ends_epoch:
                # The loss first: it waits for the device, which has then done what the speed counted.
                loss, rate = learner.mean_loss(batch.epoch + 1, steps), speed.facts()
                epoch, event = batch.epoch + 1, _epoch_event(batch, loss, rate)
                if epoch % test_every == 0 or epoch == recipe.epochs:
                    reached = accuracy(network, looked_at, normalisation, settings.precision)
                    event |= {"test_accuracy": round(reached, 5)}
                    note = f"epoch {epoch}: loss {loss:.3f}, test accuracy {reached:.4f}"
                run.log(event)
                _show_on_board(board, event)
                _keep_weights(settings, run, network, epoch)
                network.train()
                speed.restart()
            bar.reach(learner.step, note)
            checkpoints.after_step(batch.ends_epoch)


def _epoch_event(batch: Batch, loss: float, speed: Mapping[str, float]) -> dict[str, Any]:
    """The log's line for the epoch that a batch ended."""
    return {
        "command": "train",
        "step": batch.step + 1,
        "epoch": batch.epoch + 1,
        "learning_rate": batch.learning_rate,
        "loss": round(loss, 5),
        **speed,
    }


def _finish(
    network: Network,
    settings: TrainSettings,
    test: Samples,
    normalisation: Normalisation,
    run: RunDirectory,
) -> Network:
    reached = accuracy(network, test, normalisation, settings.precision)
    tensors, description = stored(network)
    metadata = {**description, **network.checkpoint_metadata, "test_accuracy": f"{reached:.5f}"}
    run.write_tensors("model.safetensors", whole_tensors(tensors), metadata)
    remove(run.checkpoints / "resume.pt")
    network.checkpoint_metadata = metadata
    network.eval()
    return network


@torch.inference_mode()
def accuracy(
    network: Network,
    images: Samples | ResidentImages,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 128,
) -> float:
    """Share of images whose label gets the largest logit."""
    device = device_of(network)
    network.eval()
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for _, pixels, labels in images.own_batches(batch_size):
        with autocast(device, precision):
            logits = network(normalisation.applied(pixels, device))
        correct += (logits.argmax(1) == labels.to(device)).sum()
    if is_sharded(network):
        one = normalisation.applied(images.batch(torch.zeros(1, dtype=torch.int64)), device)
        keep_step(network, one, -(-len(images) // batch_size))
    add_up([correct])
    return correct.item() / len(images)


def _identity(settings: TrainSettings, training: Samples, test: Samples, initial: Network | None) -> dict[str, Any]:
    data = {
        "name": training.name,
        "training_split": training.split,
        "test_split": test.split,
        **_extent(training),
        "fingerprint": training.fingerprint,
        "test_fingerprint": test.fingerprint,
    }
    begun = {} if initial is None else {"initial_fingerprint": fingerprint(initial)}
    return {**dataclasses.asdict(settings), **begun, "data": data}


def _extent(training: Samples) -> dict[str, int]:
    if isinstance(training, Examples):
        return {"texts": len(training), "tokens": training.image_shape[0]}
    return {"images": len(training), "image_size": training.image_shape[0]}


def _tensorboard_writer(run: RunDirectory, first_epoch: int) -> Any:
    """Events from that epoch on, which a resumed training will write again, are gone."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError('TensorBoard is not installed; run pip install "nodelens[tensorboard]"') from error
    return SummaryWriter(str(run.path / "tensorboard"), purge_step=first_epoch)


def _keep_weights(settings: TrainSettings, run: RunDirectory, network: Network, epoch: int) -> None:
    if settings.keep_every and epoch % settings.keep_every == 0:
        tensors, description = stored(network)
        metadata = {**description, **network.checkpoint_metadata}
        run.write_tensors(f"checkpoints/epoch_{epoch:04d}.safetensors", whole_tensors(tensors), metadata)


def _show_on_board(board: Any, event: Mapping[str, Any]) -> None:
    if board is None:
        return
    for name in ("loss", "test_accuracy", "learning_rate"):
        if name in event:
            board.add_scalar(name, event[name], event["epoch"])
    board.flush()
