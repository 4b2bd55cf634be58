"""Train the probes of any set of sites on one frozen pass over the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from nodelens.data.augment import Augmentation
from nodelens.data.examples import Samples
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.files import load_state, save_state
from nodelens.hardware import memory_of
from nodelens.interruption import Checkpoints
from nodelens.networks import Network, Site, of_real_tokens, reading, real_tokens
from nodelens.probing.aside import STREAMS, Aside, needs_turns
from nodelens.probing.probes import Probe, Probes
from nodelens.probing.reads import Read, reads
from nodelens.processes import add_up
from nodelens.progress import progress
from nodelens.replay import replayed
from nodelens.shards import device_of, is_sharded
from nodelens.training.batches import Batch, steps_per_epoch, training_batches, with_a_batch
from nodelens.training.learner import gradients
from nodelens.training.optimizer import Optimizers, make_optimizer
from nodelens.training.precision import Precision, autocast
from nodelens.training.recipe import Recipe

VALUES_PER_WEIGHT = 4
"""The weight, its gradient, and two moments of AdamW, in fp32."""


PROBE_RATES = {"adamw": 5e-3, "sgd": 2e-2}
"""Optimizers of probes, and their learning rates."""


def probe_epochs(training: Samples, batch_size: int = 128) -> int:
    """Six epochs, and at least a thousand steps where the data set is small."""
    return max(6, math.ceil(1000 / max(1, len(training) // max(1, batch_size))))


def learnt_flip(network: Network) -> float:
    """Probability with which images were mirrored when a network was trained, as its checkpoint says; else 0.5.

    A mirrored digit is none: probes that were to learn such images would know less than the network does.
    """
    said = network.checkpoint_metadata.get("flip", "0.5")
    try:
        return float(said)
    except ValueError as error:
        raise InputError(f"the checkpoint's metadata give flip as {said!r}; write a probability") from error


def probe_recipe(
    epochs: int = 6,
    learning_rate: float | None = None,
    optimizer: str = "adamw",
    batch_size: int = 128,
    flip: float = 0.5,
    weight_decay: float = 5e-2,
    augmentation: Augmentation | None = None,
) -> Recipe:
    """The default way to train probes: AdamW with the rate and decay of the paper's Figs. 3-5, cosine to zero.

    Args:
        learning_rate: by default 5e-3 for AdamW, 2e-2 for SGD, whose probes have then come to rest.
        optimizer: of `sgd` the weight decay is the gradient of an L2 penalty, which draws W to the labels' mean
            activations; that of `adamw` hardly does.
        batch_size: of a smaller split all images are one batch.
        flip: probability that an image is mirrored; best what the network learnt with, see `learnt_flip`.
        augmentation: what else is done to the images, such as mixing; by default nothing. Its own `flip` is not asked.

    Raises:
        InputError: an unknown optimizer, no epoch, a learning rate that is not positive, or a negative decay.
    """
    if optimizer not in PROBE_RATES:
        raise InputError(f"unknown optimizer {optimizer!r}; choose {' or '.join(PROBE_RATES)}")
    rate = PROBE_RATES[optimizer] if learning_rate is None else learning_rate
    if min(epochs, batch_size) < 1 or not 0 < rate < math.inf:
        raise InputError(
            "probes need at least one epoch, images in a batch and a positive learning rate, "
            f"not {epochs}, {batch_size} and {rate}"
        )
    if not 0 <= weight_decay < math.inf:
        raise InputError(f"the probes' weight decay is {weight_decay}; give 0 or more")
    return Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,  # type: ignore[arg-type]
        learning_rate=rate,
        final_learning_rate=0.0,
        weight_decay=weight_decay,
        augmentation=dataclasses.replace(augmentation or Augmentation(), flip=flip),
    )


@dataclass(frozen=True)
class ProbeSettings:
    """What determines the probes, together with the network and the data.

    Attributes:
        seeds: one probe per seed at every site; they differ in their initial weights and share the order of
            the images, since they train side by side.
        order_seed: seed of that order and of the augmentation.
        layer_norm: normalise each token before the pooling.
        rms_scale: divide what a probe reads by its root mean square, see `_scale`; None is where nodes are filters.
    """

    recipe: Recipe = field(default_factory=probe_recipe)
    seeds: tuple[int, ...] = (0,)
    order_seed: int = 0
    layer_norm: bool = False
    precision: Precision = "fp32"
    rms_scale: bool | None = None

    def __post_init__(self) -> None:
        if not self.seeds:
            raise InputError("no probe is trained with --seeds 0; give at least 1")

    def scales(self, site: Site) -> bool:
        """Whether what a probe reads at a site is divided by its root mean square."""
        if self.layer_norm and site.layout == "tokens":
            return False  # it reads normalised tokens
        return site.layout == "channels" if self.rms_scale is None else self.rms_scale


def train_probes(
    network: nn.Module,
    sites: Sequence[Site],
    training: Samples,
    normalisation: Normalisation,
    settings: ProbeSettings,
    state: Path | None = None,
    *,
    title: str = "training probes",
    checkpoint_seconds: float = 120.0,
) -> Probes:
    """Train the probes of all `sites`; the network stays frozen and is run once per batch.

    Every probe takes its gradient where its activations arise, so no activation outlives its layer (on a GPU no more
    than a few do) and one probe's training does not depend on which others train beside it. The network's own head is
    taken as it is.

    Args:
        state: file that training is resumed from and saved to; None trains in memory only.

    Raises:
        InputError: a network whose activations are not finite; probes for which the device has no room.
    """
    network.eval()
    recipe = with_a_batch(settings.recipe, training)
    device = device_of(network)
    _check_room(sites, len(training.label_names), len(settings.seeds), device)
    probes = Probes(sites, len(training.label_names), settings.seeds, settings.layer_norm).to(device)
    for probe in probes:
        if probe.site.own_head:
            probe.adopt(network)
    trained = [probe for probe in probes if not probe.site.own_head]
    if not trained:
        return probes
    optimizer = make_optimizer(probes, recipe)
    step, read = _resume(state, probes, optimizer), reads(network, trained)
    total = recipe.epochs * steps_per_epoch(training, recipe)
    save = None if state is None else lambda: _save(state, probes, optimizer, step)
    learn: Callable[[Tensor, Tensor], dict[str, Tensor]] | None = None
    with progress(title, total) as bar, Checkpoints(save, checkpoint_seconds) as checkpoints:
        bar.start_at(step)
        for batch in training_batches(training, recipe, settings.order_seed, normalisation, device, step):
            if step == 0:
                scaled = [probe for probe in trained if settings.scales(probe.site)]
                _scale(network, scaled, batch, settings.precision)
            learn = learn or _gradient_function(network, read, optimizer, batch, settings.precision)
            losses = learn(batch.images, batch.targets)
            add_up([*gradients(probes), *losses.values()])
            for group in optimizer.param_groups:
                group["lr"] = batch.learning_rate
            optimizer.step()
            if batch.ends_epoch:
                _check_losses(losses)
            step = batch.step + 1
            bar.reach(step)
            checkpoints.after_step(batch.ends_epoch)
    for probe in trained:
        probe.fold()
    return probes.requires_grad_(False)


def _scale(network: nn.Module, probes: Sequence[Probe], batch: Batch, precision: Precision) -> None:
    """Scale what each probe reads to a mean square of 1 per node over a batch: of its tokens, or positions in sum.

    So one learning rate and one penalty suit all sites. Behind the blocks of a CCT it is about 1 as it is, behind
    those of a ResNet-18 it is 8 to 2,400: a filter has many positions.
    """
    if not probes:
        return
    sites, sums = {probe.site.name: probe.site for probe in probes}, {}
    real = real_tokens(network, batch.images)

    def reader(name: str, activations: Tensor) -> None:
        counted = of_real_tokens(activations, real)
        square = counted.double().square().sum()
        sums[name] = torch.stack([square, square.new_tensor(counted.numel() / sites[name].positions)])

    with torch.no_grad(), reading(network, list(sites.values()), reader), autocast(batch.images.device, precision):
        network(batch.images)
    add_up(sums.values())
    for probe in probes:
        square, count = sums[probe.site.name]
        # Nodes that are silent in the whole batch stay as they are.
        probe.scale = torch.where(square > 0, square / count, 1.0).rsqrt().float()


def _gradient_function(
    network: nn.Module, read: Sequence[Read], optimizer: Optimizers, batch: Batch, precision: Precision
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """What finds every probe's gradient and losses, for images and targets like those of a batch.

    The probes of sixty sites are some 1,600 operations: a GPU replays them, unless the network makes the host wait, and
    those of several sites at once, unless it writes to what they read or runs a site twice.
    """
    device, sharded = batch.images.device, is_sharded(network)
    alone = device.type != "cuda" or sharded
    alone = alone or needs_turns(network, [one.site for one in read], batch.images, precision)
    aside = Aside(device, streams=0 if alone else STREAMS)

    def gradients_and_losses(images: Tensor, targets: Tensor) -> dict[str, Tensor]:
        optimizer.zero_grad()
        of_these = dataclasses.replace(batch, images=images, targets=targets)
        return probe_gradients(network, read, of_these, precision, aside)

    if sharded:  # its weights come together anew in every pass
        return gradients_and_losses
    return replayed(gradients_and_losses, batch.images, batch.targets)


def probe_gradients(
    network: nn.Module, read: Sequence[Read], batch: Batch, precision: Precision, aside: Aside | None = None
) -> dict[str, Tensor]:
    """Run the frozen network once and add every probe's gradient; returns the losses, (seed,) per site.

    Where several processes share the batch, the gradients and losses of all are still to be added up.

    Args:
        aside: where the probes compute; by default in their turn.
    """
    losses: dict[str, Tensor] = {}
    of_site, real = {one.site.name: one for one in read}, real_tokens(network, batch.images)
    device, sites = batch.images.device, [one.site for one in read]
    aside = aside or Aside(device, streams=0)

    def reader(site: str, activations: Tensor) -> None:
        learn = partial(of_site[site].learn, targets=batch.targets, share=batch.share, real=real)
        # The probe itself always computes in the dtype that it chose.
        with torch.autocast(device.type, enabled=False):
            losses.update(aside.run(learn, activations))

    with torch.no_grad(), aside.finished(), reading(network, sites, reader), autocast(device, precision):
        network(batch.images)
    return losses


def _check_room(sites: Sequence[Site], labels: int, seeds: int, device: torch.device) -> None:
    weights = seeds * labels * sum(site.nodes * site.positions for site in sites)
    needed, there_is = 4 * weights * VALUES_PER_WEIGHT, memory_of(device)
    if there_is is not None and needed > there_is:
        raise InputError(
            f"the probes of {len(sites)} sites need {needed / 2**30:.0f} GiB and there are {there_is / 2**30:.0f}; "
            "choose fewer sites with --sites: every position of a filter is a weight for each label"
        )


def _check_losses(losses: dict[str, Tensor]) -> None:
    for site, of_seeds in losses.items():
        if not bool(torch.isfinite(of_seeds).all()):
            raise InputError(
                f"the probe at {site} has a loss that is not finite: the network's activations there are "
                "NaN or infinite, or the probes' learning rate is too high"
            )


def _resume(path: Path | None, probes: Probes, optimizer: Optimizers) -> int:
    state = load_state(path) if path is not None else None
    if state is None:
        return 0
    if state["sites"] != [site.name for site in probes.sites]:
        raise InputError(f"{path} is of other sites; delete it to start over")
    probes.load_state_dict(state["probes"])
    for site, scale in state.get("scales", {}).items():
        probes[site].scale = scale.to(probes[site].weight.device)
    optimizer.load_state_dict(state["optimizer"])
    step: int = state["step"]
    return step


def _save(path: Path, probes: Probes, optimizer: Optimizers, step: int) -> None:
    names = [site.name for site in probes.sites]
    scales = {probe.site.name: probe.scale for probe in probes if probe.scale is not None}
    parts = {"probes": probes.state_dict(), "optimizer": optimizer.state_dict(), "scales": scales}
    save_state(path, {"sites": names, "step": step, **parts})
