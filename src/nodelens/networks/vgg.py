"""VGG as torchvision builds it: convolutional networks whose nodes are filters.

A filter owns every position of its feature map, so its nodal matrix is a sum of outer products
(Meir et al. 2024 measure VGG-16 this way).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchvision.models import vgg as torchvision_vgg

from nodelens.errors import InputError
from nodelens.networks.dead import remove_hidden
from nodelens.networks.layers import Layer
from nodelens.networks.network import Network
from nodelens.networks.sites import Site

LAYOUTS = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}
SMALL = "_512"
"""Suffix of the variants for small images: two hidden layers of 512 nodes, which read the mean of each filter.
VGG-16 has 15 million parameters so; torchvision's has 134 million, most of them in its first hidden layer."""
HIDDEN = int(SMALL[1:])


@dataclass(frozen=True)
class VGGConfig:
    """A torchvision VGG: its depth, whether it normalises batches, its labels and input size."""

    name: str = "vgg16_bn"
    labels: int = 1000
    image_size: int = 224
    channels: int = 3
    dropout: float = 0.5

    @property
    def small(self) -> bool:
        return self.name.endswith(SMALL)

    @property
    def batch_norm(self) -> bool:
        return self.name.removesuffix(SMALL).endswith("_bn")

    @property
    def layout(self) -> list[str | int]:
        return torchvision_vgg.cfgs[LAYOUTS[_depth(self.name)]]  # type: ignore[no-any-return]


def _depth(name: str) -> str:
    return name.removesuffix(SMALL).removesuffix("_bn")


def vgg_config(name: str, labels: int, image_size: int, channels: int) -> VGGConfig | None:
    """Configuration of `vgg11`, `vgg16_bn`, `vgg16_bn_512`, …; None when the name is not one of this family."""
    if _depth(name) not in LAYOUTS:
        return None
    if channels != 3 or image_size < 32:
        raise InputError(f"{name} needs colour images of at least 32 pixels, not {channels} × {image_size}²")
    return VGGConfig(name, labels, image_size, channels)


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> VGGConfig | None:
    """Read the configuration off a torchvision state dict; None when it is not a VGG."""
    # torchvision's AlexNet has the same names, but for the first layer of the classifier.
    if not {"features.0.weight", "classifier.0.weight", "classifier.6.weight"} <= state.keys():
        return None
    # A safetensors file lists its keys by name, features.11 before features.3.
    convolutions = [key for key, w in state.items() if re.fullmatch(r"features\.\d+\.weight", key) and w.ndim == 4]
    widths = [state[key].shape[0] for key in sorted(convolutions, key=lambda key: int(key.split(".")[1]))]
    small = widths[-1:] == list(state["classifier.0.weight"].shape[1:])
    suffix = "_bn" * ("features.1.running_mean" in state) + SMALL * small
    labels, image_size = state["classifier.6.weight"].shape[0], int(metadata.get("image_size", 32 if small else 224))
    for name in LAYOUTS:
        config = VGGConfig(name + suffix, labels, image_size)
        if [width for width in config.layout if width != "M"] == widths:
            return config
    return None


class VGG(Network, torchvision_vgg.VGG):  # type: ignore[misc]
    """torchvision's VGG that knows its sites; its state dict is torchvision's."""

    family = "vgg"
    features: nn.Sequential
    classifier: nn.Sequential

    def __init__(self, config: VGGConfig) -> None:
        features = torchvision_vgg.make_layers(config.layout, batch_norm=config.batch_norm)
        # A small variant has no use for the classifier that torchvision draws, 120 million weights.
        with torch.device("meta") if config.small else nullcontext():
            super().__init__(features, num_classes=config.labels, dropout=config.dropout)
        if config.small:
            self.avgpool = nn.AdaptiveAvgPool2d(1)
            filters = [width for width in config.layout if isinstance(width, int)]
            for i, (inputs, outputs) in zip(
                (0, 3, 6), pairwise((filters[-1], HIDDEN, HIDDEN, config.labels)), strict=True
            ):
                self.classifier[i] = nn.Linear(inputs, outputs)
        self.config: VGGConfig = config
        self.checkpoint_metadata = {}

    def sites(self) -> list[Site]:
        """`conv.k`: what the k-th convolution hands on (after ReLU, and after pooling where it follows);
        `linear.k`: the hidden units of the classifier."""
        found: list[Site] = []
        side, filters = self.config.image_size, 0
        layers = list(self.features)
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Conv2d):
                filters = layer.out_channels
            pooled = isinstance(layer, nn.MaxPool2d)
            side = side // 2 if pooled else side
            ends = pooled or (isinstance(layer, nn.ReLU) and not isinstance(layers[i + 1], nn.MaxPool2d))
            if ends:
                k = len(found) + 1
                found.append(Site(f"conv.{k}", filters, f"features.{i}", "output", "channels", side**2, block=k))
        hidden = [(i, layer) for i, layer in enumerate(self.classifier) if isinstance(layer, nn.Linear)][:-1]
        for k, (i, linear) in enumerate(hidden, 1):
            found.append(
                Site(f"linear.{k}", linear.out_features, f"classifier.{i + 1}", "output", "units", block=len(found) + 1)
            )
        return found

    def layers(self) -> list[Layer]:
        """The fully connected layers of the classifier; a filter of the last convolution owns several inputs."""
        sources = [site.name for site in self.sites() if site.name.startswith("linear.")]
        last_convolution = [site.name for site in self.sites() if site.layout == "channels"][-1]
        linears = [i for i, layer in enumerate(self.classifier) if isinstance(layer, nn.Linear)]
        ends = zip(linears, [last_convolution, *sources], [*sources, None], strict=True)
        return [
            Layer(target or "output", f"classifier.{i}", source, target, 0, f"classifier.{i}")
            for i, source, target in ends
        ]

    def remove_dead(self, multiple: int = 1) -> None:
        """The dead hidden nodes of the classifier; from the back, so that what led to them alone goes too."""
        linears = [layer for layer in self.classifier if isinstance(layer, nn.Linear)]
        for first, second in [*reversed(list(pairwise(linears))), *pairwise(linears)]:
            remove_hidden(first, second, nn.functional.relu, multiple)
