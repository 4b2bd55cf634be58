"""Which network stands for the paper's CCT-7/3x1 on CIFAR-100, and how it is trained and measured.

smoke   CCT-3/3x1 of width 64 on the digits of scikit-learn      about 2 minutes on two cores
cpu     CCT-7/3x2 on CIFAR-100, 12 epochs                        some hours on two cores
paper   CCT-7/3x1 on CIFAR-100, 300 epochs                       a GPU
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Size

from nodelens.data import load_images
from nodelens.networks import Network, build_network, load_network, plain_state
from nodelens.probing import (
    MeasureSettings,
    ProbeSettings,
    learnt_flip,
    load_probing_data,
    measure_network,
    probe_recipe,
)
from nodelens.probing.data import check_fits
from nodelens.processes import default_device
from nodelens.runs import RunDirectory
from nodelens.training import Recipe, TrainSettings, recipe, resolve_precision, train
from nodelens.training.precision import Precision

BLOCK_OUTPUTS = "block.*.linear2"


@dataclass(frozen=True)
class Scale:
    """The network that a study measures, and how long its probes and its pruned versions are trained.

    Attributes:
        probe_optimizer: see `probe_recipe`.
        probe_images: the recipe by which the images that the probes learn are augmented; None only mirrors them.
        retraining_images: of a pruned network, at most so many per epoch; None for all.
        rest_learning_rate: while a pruned block is retrained, of everything else; 0 freezes it.
        enforced_network: what is trained with and without labels given to its heads; None for `network`.
        image_size: crop and resize images to this many pixels square; None keeps their own size.
        second: the network of Table 5, where it is another one; its own run directory is the run's `SECOND`.
        differs: in what it differs from the paper's network; empty where in nothing that is known.
    """

    network: str
    data: str
    recipe: str
    probe_epochs: int
    probe_optimizer: str = "adamw"
    probe_images: str | None = None
    seeds: int = 3
    retraining_images: int | None = None
    rest_learning_rate: float = 1e-6
    enforced_network: str | None = None
    image_size: int | None = None
    second: Scale | None = None
    differs: str = ""

    @property
    def retrains(self) -> str:
        """In what the retraining of pruned networks differs from the paper's; empty where in nothing."""
        if self.retraining_images is None:
            return ""
        frozen = ", the rest frozen" * (self.rest_learning_rate == 0)
        return f"pruned networks were retrained on {self.retraining_images:,} images an epoch{frozen}"


SECOND = "flowers102"
FLOWERS = Scale("cct_7_7x2", "flowers102:cct", "cct-flowers", probe_epochs=50, image_size=224)
"""The paper's second network, CCT-7/7x2 on Flowers-102."""
TABLE5_IS_OF = "the paper's is CCT-7/7x2 on Flowers-102"
"""What is said of Table 5 where another network on other data stands beside it."""

SCALES = {
    "smoke": Scale(
        "cct_3_3x1_64",
        "digits",
        "digits",
        probe_epochs=91,
        enforced_network="cct_2_3x1_16",
        differs="three blocks of 64 nodes on ten digits: nothing but the way of the numbers can be compared",
    ),
    "cpu": Scale(
        "cct_7_3x2",
        "cifar100",
        "cct-cpu",
        probe_epochs=6,
        retraining_images=10_000,
        rest_learning_rate=0.0,
        enforced_network="cct_2_3x2",
        differs="CCT-7/3x2 has 64 tokens, not 256; 28 epochs by AdamW take it to 0.66, 12 by Muon to 0.68, not 0.809",
    ),
    "paper": Scale("cct_7_3x1", "cifar100", "cct-300", probe_epochs=50, second=FLOWERS),
}


def recipe_of(scale: Scale) -> Recipe:
    """How the scale's networks are trained."""
    return recipe(scale.recipe)


def with_probes(scale: Scale, optimizer: str, images: str | None = None) -> Scale:
    """The scale, and that of its second network, where an optimizer trains the probes on images augmented by a recipe.

    Raises:
        InputError: an unknown one.
    """
    probe_recipe(optimizer=optimizer)
    if images is not None:
        recipe(images)
    second = scale.second and replace(scale.second, probe_optimizer=optimizer, probe_images=images)
    return replace(scale, probe_optimizer=optimizer, probe_images=images, second=second)


def of_checkpoint(scale: Scale, network: Network) -> Scale:
    """The scale where a checkpoint's network stands for its own: it differs as that does, if it is of the same kind.

    Raises:
        InputError: the network does not read the scale's data.
    """
    config = network.config
    check_fits(network, load_images(scale.data, "train", image_size=config.image_size))
    return replace(scale, differs=_difference(scale, network))


def with_second(scale: Scale, network: Network) -> Scale:
    """The scale where a checkpoint's network stands for the paper's second one, with probes as long as the scale's.

    Raises:
        InputError: the network does not read Flowers-102.
    """
    differs = _shorter_probes(scale, FLOWERS) if scale.probe_epochs != FLOWERS.probe_epochs else ""
    second = with_probes(FLOWERS, scale.probe_optimizer, scale.probe_images)
    second = replace(second, probe_epochs=scale.probe_epochs, differs=differs)
    return replace(scale, second=of_checkpoint(second, network))


def _difference(scale: Scale, network: Network) -> str:
    """In what a checkpoint's network, as the scale measures it, differs from the paper's."""
    paper = SCALES["paper"]
    if _is_a(scale.network, network):
        return scale.differs
    if _is_a(paper.network, network):
        return _shorter_probes(scale, paper)
    return f"the checkpoint is no {scale.network}, which the scale trains"


def _shorter_probes(scale: Scale, paper: Scale) -> str:
    return f"probes were trained for {scale.probe_epochs} epochs, not {paper.probe_epochs}"


def _is_a(name: str, network: Network) -> bool:
    """Whether a network has the weights of a variant."""
    config = network.config
    return _shapes(network) == _shapes(build_network(name, config.labels, config.image_size, config.channels))


def _shapes(network: Network) -> dict[str, Size]:
    return {key: weight.shape for key, weight in plain_state(network).items()}


def trained_network(
    scale: Scale, run: RunDirectory, checkpoint: Path | None, seed: int, precision: Precision
) -> Network:
    """The checkpoint's network, or the scale's network trained now (or before) into the run directory."""
    if checkpoint is not None:
        return load_network(checkpoint)
    training, test = (load_images(scale.data, split, image_size=scale.image_size) for split in ("train", "test"))
    # On a CPU it does not pay; what was trained before is trained on, or only read, as it was begun.
    compiled = run.settings("train").get("compile", default_device().type == "cuda")
    settings = TrainSettings(scale.network, recipe_of(scale), seed, precision, compiled)
    # There, looking at the test images takes a tenth of the time of an epoch.
    train(settings, training, test, run, test_every=10 if compiled else 1)
    return load_network(run.path)


def scale_probes(
    scale: Scale, network: Network, seeds: Iterable[int], order_seed: int, precision: Precision
) -> ProbeSettings:
    """How a scale trains the probes of a network."""
    augmentation = recipe(scale.probe_images).augmentation if scale.probe_images else None
    how = probe_recipe(
        scale.probe_epochs, optimizer=scale.probe_optimizer, flip=learnt_flip(network), augmentation=augmentation
    )
    return ProbeSettings(how, tuple(seeds), order_seed, precision=precision)


def measure_scale(
    scale: Scale,
    run: RunDirectory,
    *,
    checkpoint: Path | None = None,
    sites: tuple[str, ...] = (BLOCK_OUTPUTS,),
    splits: tuple[str, ...] = ("test",),
    seed: int = 0,
    untrained: bool = True,
) -> None:
    """Train the network where there is none, and measure its sites, by default with an untrained twin beside."""
    precision = precision_of(run)
    network = trained_network(scale, run, checkpoint, seed, precision)
    probe = scale_probes(scale, network, range(scale.seeds), seed, precision)
    data = load_probing_data(network, scale.data, splits)
    measure_network(network, data, MeasureSettings(sites, splits, probe, untrained), run)


def precision_of(run: RunDirectory) -> Precision:
    """The precision that a run was begun in, or will be."""
    recorded: str | None = run.settings("train").get("precision")
    recorded = recorded or run.settings("measure").get("probe", {}).get("precision")
    return resolve_precision(recorded or "auto", default_device())
