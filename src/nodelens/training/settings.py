"""What determines a trained network, and the untrained one that it begins as."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nodelens.data.datasets import ImageSet
from nodelens.data.examples import Examples, Samples
from nodelens.data.texts import TextExamples
from nodelens.errors import InputError
from nodelens.networks import Network, build_alike, build_network, check_name, longest_text, settings_of, warm_start
from nodelens.progress import console
from nodelens.training.assigned import Assignment
from nodelens.training.enforced import EnforcedHeads
from nodelens.training.precision import Precision
from nodelens.training.recipe import Recipe

NAMED = 6
"""Weights that begin anew, of those that are named."""


@dataclass(frozen=True)
class TrainSettings:
    """What determines a trained network, together with the data's fingerprint.

    Attributes:
        network: variant by name, e.g. `cct_7_3x2`; or the same as `initial`, for a network of its kind.
        keep_every: keep the weights of every that many epochs under `checkpoints/`; 0 keeps none.
        assigned: labels assigned to nodes in advance (A-ANDC), which leave out weights from the first step on.
        enforced: labels given to attention heads in advance.
        heads: attention heads of every block, where they are not the variant's.
        initial: the trained network whose weights it begins with, as `load_network` takes it.
    """

    network: str
    recipe: Recipe
    seed: int = 0
    precision: Precision = "fp32"
    compile: bool = False
    keep_every: int = 0
    assigned: Assignment | None = None
    enforced: EnforcedHeads | None = None
    heads: tuple[int, ...] | None = None
    initial: str | None = None

    def __post_init__(self) -> None:
        if self.keep_every < 0:
            raise InputError(f"--keep-every {self.keep_every}: give a number of epochs, or 0 to keep none")
        if not self.of_its_kind:
            check_name(self.network)

    @property
    def of_its_kind(self) -> bool:
        """Whether the network is to be of the kind of the trained one, and no variant by name."""
        return self.network == self.initial


def new_network(settings: TrainSettings, training: Samples, initial: Network | None = None) -> Network:
    """The network that a run begins with; what is random in its weights follows from torch's random state.

    Args:
        initial: the trained network that `settings.initial` names.

    Raises:
        InputError: it cannot be built, or not for these images or texts; no weight of the trained network fits.
    """
    if isinstance(training, TextExamples):
        network = _of_texts(settings, training, initial)
    elif isinstance(training, Examples):
        raise InputError(f"{training.name} holds neither images nor texts, which alone a network can be trained on")
    else:
        network = _of_images(settings, training, initial)
    if settings.heads is not None and not hasattr(network.config, "heads"):
        raise InputError(f"{settings.network} has no attention heads whose number could be chosen; leave out --heads")
    if initial is not None:
        anew = warm_start(network, initial)
        more = f" and {len(anew) - NAMED} more" * (len(anew) > NAMED)
        console.print(f"begins with the weights of {settings.initial}; anew: {', '.join(anew[:NAMED]) or 'none'}{more}")
    return network


def _of_images(settings: TrainSettings, training: ImageSet, initial: Network | None) -> Network:
    height, width, channels = training.image_shape
    if height != width:
        raise InputError(
            f"{training.name} has images of {height} × {width} pixels; give --image-size to crop them square"
        )
    recipe = settings.recipe
    return _built(
        settings,
        initial,
        len(training.label_names),
        height,
        channels,
        attention_dropout=recipe.attention_dropout,
        stochastic_depth=recipe.stochastic_depth,
        **_heads(settings),
    )


def _of_texts(settings: TrainSettings, training: TextExamples, initial: Network | None) -> Network:
    # A trained network may have words and places that none of these texts needs.
    known = initial.config if initial is not None and longest_text(initial) else None
    return _built(
        settings,
        initial,
        len(training.label_names),
        0,
        0,
        vocabulary=getattr(known, "vocabulary", training.tokeniser.size),
        positions=getattr(known, "positions", training.image_shape[0]),
        padding=training.tokeniser.padding,
        types=getattr(known, "types", 1),
        attention_dropout=settings.recipe.attention_dropout,
        dropout=settings.recipe.attention_dropout,
        **_heads(settings),
    )


def _heads(settings: TrainSettings) -> dict[str, int | tuple[int, ...]]:
    """The number of heads as a change of the configuration; empty where none is asked for."""
    if settings.heads is None:
        return {}
    return {"heads": settings.heads[0] if len(settings.heads) == 1 else settings.heads}


def _built(
    settings: TrainSettings, initial: Network | None, labels: int, image_size: int, channels: int, **wanted: Any
) -> Network:
    """The untrained network, with those of the wanted settings that it has."""
    trained = initial if settings.of_its_kind else None
    known = settings_of(settings.network if trained is None else trained)
    changes = {name: value for name, value in wanted.items() if name in known}
    if trained is None:
        return build_network(settings.network, labels, image_size, channels, **changes)
    return build_alike(trained, labels, image_size, channels, **changes)
