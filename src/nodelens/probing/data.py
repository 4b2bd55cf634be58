"""The data of a measurement: at the size and scale that a network reads, refused where it does not read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nodelens.data.datasets import ImageSet, load_images
from nodelens.data.examples import Examples, Samples
from nodelens.data.lookup import IMAGE_NAMES, TEXT_NAMES, find_source
from nodelens.data.normalisation import AsTheyAre, Normalisation, normalisation_from, normalisation_of
from nodelens.data.texts import check_no_images, text_splits, tokeniser_from
from nodelens.errors import InputError
from nodelens.networks import Network, Site, longest_text, reading
from nodelens.networks.adapted import Adapted
from nodelens.networks.running import logits_of, run_once, same_logits
from nodelens.shards import device_of


@dataclass(frozen=True)
class ProbingData:
    """The images, or other inputs, that the probes learn, and the splits that are measured."""

    training: Samples
    measured: Mapping[str, Samples]
    normalisation: Normalisation


def load_probing_data(
    network: Network,
    name: str,
    splits: Sequence[str],
    training_split: str = "train",
    skip_undecodable: bool = False,
    other_labels: bool = False,
) -> ProbingData:
    """The splits that a measurement needs, at the size and scale that the network was trained for, or as its tokens.

    Args:
        other_labels: what the network's own outputs stand for is of no account.

    Raises:
        InputError: an unknown data set or split; another number of labels than the network's outputs; a network that
            reads neither square images nor texts.
    """
    tokeniser = tokeniser_from(network.checkpoint_metadata)
    if tokeniser is not None:
        check_no_images(skip_undecodable=skip_undecodable)
        training, *read = text_splits(name, (training_split, *splits), tokeniser, longest_text(network))
        check_fits(network, training, other_labels)
        return ProbingData(training, dict(zip(splits, read, strict=True)), AsTheyAre())
    if not network.config.image_size:
        if name not in (*IMAGE_NAMES, *TEXT_NAMES) and not name.startswith("hf:"):
            find_source(name, training_split)  # a misspelt name is that first of all
        raise InputError(f"this network reads no square images as those of {name}; give its inputs as nl.Examples")

    def images(split: str) -> ImageSet:
        return load_images(name, split, image_size=network.config.image_size, skip_undecodable=skip_undecodable)

    learnt = images(training_split)
    check_fits(network, learnt, other_labels)
    recorded = normalisation_from(network.checkpoint_metadata)
    return ProbingData(learnt, {split: images(split) for split in splits}, recorded or normalisation_of(learnt))


def check_fits(network: Network, training: Samples, other_labels: bool = False) -> None:
    """
    Args:
        other_labels: whatever its outputs stand for.

    Raises:
        InputError: there are other numbers of labels than the network has outputs, or of channels than it reads.
    """
    outputs, labels = network.config.labels, len(training.label_names)
    if outputs != labels and not other_labels:
        raise InputError(
            f"the network has {outputs} outputs but {training.name} has {labels} labels; "
            "give the data set that it was trained on; `measure --other-labels` takes any"
        )
    if isinstance(training, Examples):
        return
    wanted, channels = network.config.channels, training.image_shape[2]
    if wanted != channels:
        raise InputError(
            f"the network reads images of {wanted} channels but those of {training.name} have {channels}; "
            "give the data set that it was trained on"
        )


def check_reads_fp32(network: Network) -> None:
    """
    Raises:
        InputError: its weights are of another precision than images, which are given in fp32.
    """
    halves = {weight.dtype for weight in network.parameters()} & {torch.float16, torch.bfloat16}
    if halves:
        raise InputError(
            f"images are given in fp32 but the network's weights are {halves.pop()}; measure network.float()"
        )


def check_reads(network: Network, chosen: Sequence[Site], inputs: Samples, normalisation: Normalisation) -> None:
    """Run the network on two of them: what cannot be probed or measured is refused before probes are trained.

    Raises:
        InputError: it cannot be run on inputs of this shape; one of the chosen sites has another number of places or
            windows there, or does not run exactly once; what it makes of an input depends on those beside it.
    """
    example = normalisation.applied(inputs.batch(np.arange(min(2, len(inputs)))), device_of(network))
    sites = {site.name: site for site in chosen}
    found: dict[str, list[int]] = {name: [] for name in sites}

    def count(name: str, activations: Tensor) -> None:
        site = sites[name]
        places = activations[0].numel() // site.nodes if site.layout == "channels" else 0
        found[name].append(len(activations) // len(example) if site.windows > 1 else places)

    own = network.network if isinstance(network, Adapted) else network
    with reading(network, [replace(site, windows=1) for site in chosen], count):
        logits = logits_of(run_once(own, example))
    for name, site in sites.items():
        if len(found[name]) != 1:
            raise InputError(f"{name} runs {len(found[name])} times in a pass; choose sites that run once")
        kind, wanted = ("windows", site.windows) if site.windows > 1 else ("places for each filter", site.positions)
        if (site.windows > 1 or site.layout == "channels") and found[name] != [wanted]:
            raise InputError(
                f"on inputs of {tuple(example.shape[1:])} {name} has {found[name][0]} {kind}, not {wanted}; "
                "give inputs of the size that the network was made for"
            )
    beside_itself = logits_of(run_once(own, example[:1].expand_as(example)))
    if _differ(logits, beside_itself) and not _differ(logits, logits_of(run_once(own, example))):
        raise InputError(
            f"what {type(own).__name__} makes of an input depends on those that it is given beside it, so that no mean "
            "over a label's inputs is defined; a batch norm, for one, needs running statistics"
        )


def _differ(logits: Float[Tensor, "batch label"], others: Float[Tensor, "batch label"]) -> bool:
    """Whether a network makes something else of the first of its inputs, far beyond rounding."""
    finite = bool(torch.isfinite(logits).all())
    return finite and not same_logits(others[:1].float(), logits[:1].float(), tolerance=1e-2)


def check_same_labels(learnt: Samples, measured: Samples) -> None:
    """
    Raises:
        InputError: they have other labels, or the same ones in another order.
    """
    if tuple(learnt.label_names) != tuple(measured.label_names):
        raise InputError("what is measured has other labels than what is learnt, or in another order; give the same")
