"""What a pruning study and a search are asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodelens.errors import InputError
from nodelens.probing import ProbeSettings
from nodelens.pruning.decide import EVERY_LAYER, METHODS, THRESHOLD, check_thresholds_or_dilution
from nodelens.pruning.retrain import RetrainSettings
from nodelens.pruning.vanished import KEPT, SILENCED


@dataclass(frozen=True)
class SearchSettings:
    """How the highest dilution is searched for that keeps the accuracy.

    Attributes:
        keep: how much accuracy on the images that decide may be lost, 0 to 1, against the unpruned network after the
            same retraining.
        gradual: by small steps that go on from one another, instead of each from the unpruned network.
        levels: ascending dilutions at which every layer is tried alone.
    """

    keep: float = 0.005
    gradual: bool = False
    levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8, 0.86, 0.9, 0.94, 0.97)

    def __post_init__(self) -> None:
        if not 0 <= self.keep < 1:
            raise InputError(f"--keep-accuracy {self.keep:g} is out of range; give the loss allowed, such as 0.005")


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """What is pruned, how it is decided, and what it is compared with.

    Attributes:
        layers: glob patterns of layers: `block.7.*`, `output`.
        threshold: of every site that `site_thresholds` does not name.
        dilution: where given, the thresholds are found for it instead, layer by layer.
        skip: whether projection and Linear2 are measured with the skip connection (as in the paper).
        methods: what ANDC is compared with, of `METHODS`.
        model_of: the method, or control of the nodes without a diagonal, whose retrained network, of the first seed,
            becomes the run's `model.safetensors`. A search is made with this method.
        seeds: for each seed its own probes, random masks and order of the images in retraining.
        dilutions: of the curve of accuracy against dilution; empty for none.
        held_out: share of the training images that decide and that neither probes nor retraining see.
        paper_split: decide on the test images, as the paper did; ANDC decided on held-out ones stands beside.
        retraining_images: at most so many images in an epoch of retraining; None for all.
        own_head: whether ANDC decides on the layer to the labels by that layer itself, without a probe.
        search: of a search for the highest dilution; None for a study of the thresholds or the dilution given.
    """

    layers: tuple[str, ...]
    threshold: float = THRESHOLD
    site_thresholds: Mapping[str, float] = field(default_factory=dict)
    dilution: float | None = None
    skip: bool = True
    methods: tuple[str, ...] = EVERY_LAYER
    model_of: str = "andc"
    seeds: tuple[int, ...] = (0, 1, 2)
    dilutions: tuple[float, ...] = ()
    held_out: float = 0.1
    paper_split: bool = False
    retraining_images: int | None = None
    own_head: bool = False
    retraining: RetrainSettings = field(default_factory=RetrainSettings)
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    search: SearchSettings | None = None

    def __post_init__(self) -> None:
        for method in self.methods:
            if method not in METHODS:
                raise InputError(f"unknown method {method!r}; choose {', '.join(METHODS)}")
        made = self.methods if self.search else (*self.methods, SILENCED, KEPT)
        if self.model_of not in made:
            raise InputError(f"no network pruned by {self.model_of!r} is made; made are: {', '.join(made)}")
        if self.search and self.model_of in ("branch", "permuted"):
            raise InputError(f"no dilution is searched for with {self.model_of}; take andc, random, magnitude or wanda")
        for share in (*self.dilutions, *([] if self.dilution is None else [self.dilution])):
            if not 0 < share < 1:
                raise InputError(f"a dilution of {share:g} is out of range; give a share between 0 and 1, such as 0.8")
        check_thresholds_or_dilution(self.site_thresholds, self.dilution)
        batch = self.retraining.recipe.batch_size
        if self.retraining_images is not None and self.retraining_images < batch:
            raise InputError(f"--retraining-images {self.retraining_images} is less than a batch of {batch}")
