"""What determines a trained network, and the untrained one that it begins as."""

from __future__ import annotations

from dataclasses import dataclass

from nodelens.data.examples import Examples, Samples
from nodelens.data.texts import TextExamples
from nodelens.errors import InputError
from nodelens.networks import Network, build_network
from nodelens.training.assigned import Assignment
from nodelens.training.enforced import EnforcedHeads
from nodelens.training.precision import Precision
from nodelens.training.recipe import Recipe


@dataclass(frozen=True)
class TrainSettings:
    """What determines a trained network, together with the data's fingerprint.

    Attributes:
        network: variant by name, e.g. `cct_7_3x2`.
        keep_every: keep the weights of every that many epochs under `checkpoints/`; 0 keeps none.
        assigned: labels assigned to nodes in advance (A-ANDC), which leave out weights from the first step on.
        enforced: labels given to attention heads in advance.
        heads: attention heads of every block, where they are not the variant's.
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

    def __post_init__(self) -> None:
        if self.keep_every < 0:
            raise InputError(f"--keep-every {self.keep_every}: give a number of epochs, or 0 to keep none")


def new_network(settings: TrainSettings, training: Samples) -> Network:
    """The untrained network of a run; its weights follow from torch's random state.

    Raises:
        InputError: it cannot be built, or not for these images or texts.
    """
    if isinstance(training, TextExamples):
        return _new_text_network(settings, training)
    if isinstance(training, Examples):
        raise InputError(f"{training.name} holds neither images nor texts, which alone a network can be trained on")
    height, width, channels = training.image_shape
    if height != width:
        raise InputError(
            f"{training.name} has images of {height} × {width} pixels; give --image-size to crop them square"
        )
    recipe = settings.recipe
    asked = {} if settings.heads is None else {"heads": settings.heads}
    network = build_network(
        settings.network,
        len(training.label_names),
        height,
        channels,
        attention_dropout=recipe.attention_dropout,
        stochastic_depth=recipe.stochastic_depth,
        **asked,
    )
    if asked and not any(site.heads for site in network.sites()):
        raise InputError(f"{settings.network} has no attention heads; leave out --heads")
    return network


def _new_text_network(settings: TrainSettings, training: TextExamples) -> Network:
    heads = set(settings.heads or ())
    if len(heads) > 1:
        raise InputError(f"every block of {settings.network} has as many heads; give --heads one number")
    return build_network(
        settings.network,
        len(training.label_names),
        image_size=0,
        channels=0,
        vocabulary=training.tokeniser.size,
        positions=training.image_shape[0],
        padding=training.tokeniser.padding,
        types=1,
        attention_dropout=settings.recipe.attention_dropout,
        dropout=settings.recipe.attention_dropout,
        **({"heads": heads.pop()} if heads else {}),
    )
