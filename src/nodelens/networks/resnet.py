"""ResNet as torchvision builds it: convolutional networks with skip connections, whose nodes are filters.

He et al. 2016, "Deep residual learning for image recognition". torchvision's names of parameters are timm's too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet as torchvision_resnet

from nodelens.networks.layers import Layer
from nodelens.networks.network import Network, Stage
from nodelens.networks.sites import Site

LAYOUTS = {
    "resnet18": ("basic", (2, 2, 2, 2)),
    "resnet34": ("basic", (3, 4, 6, 3)),
    "resnet50": ("bottleneck", (3, 4, 6, 3)),
    "resnet101": ("bottleneck", (3, 4, 23, 3)),
    "resnet152": ("bottleneck", (3, 8, 36, 3)),
}
"""Published variant -> (kind of block, blocks of each stage)."""
BLOCKS = {"basic": torchvision_resnet.BasicBlock, "bottleneck": torchvision_resnet.Bottleneck}
SMALL = "_3x3"
"""Suffix of the variants for small images: a first convolution of 3 × 3 without stride, and no pooling behind it."""


@dataclass(frozen=True)
class ResNetConfig:
    """A torchvision ResNet: its depth, its first convolution, its labels and input size."""

    name: str = "resnet50"
    labels: int = 1000
    image_size: int = 224
    channels: int = 3

    @property
    def small(self) -> bool:
        return self.name.endswith(SMALL)

    @property
    def layout(self) -> tuple[str, tuple[int, ...]]:
        return LAYOUTS[self.name.removesuffix(SMALL)]


def resnet_config(name: str, labels: int, image_size: int, channels: int) -> ResNetConfig | None:
    """Configuration of `resnet18`, `resnet18_3x3`, `resnet50`, …; None when the name is not one of this family."""
    return ResNetConfig(name, labels, image_size, channels) if name.removesuffix(SMALL) in LAYOUTS else None


def infer_config(state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> ResNetConfig | None:
    """Read the configuration off a torchvision state dict; None when it is not a ResNet."""
    if not {"conv1.weight", "layer4.0.conv1.weight", "fc.weight"} <= state.keys():
        return None
    first = [re.match(r"layer(\d)\.\d+\.conv1\.weight", key) for key in state]
    stages = [match[1] for match in first if match]
    kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
    small = state["conv1.weight"].shape[-1] == 3
    image_size = int(metadata.get("image_size", 32 if small else 224))
    for name, layout in LAYOUTS.items():
        if layout == (kind, tuple(stages.count(stage) for stage in "1234")):
            labels, channels = state["fc.weight"].shape[0], state["conv1.weight"].shape[1]
            return ResNetConfig(name + SMALL * small, labels, image_size, channels)
    return None


class ResNet(Network, torchvision_resnet.ResNet):  # type: ignore[misc]
    """torchvision's ResNet that knows its sites; its state dict is torchvision's."""

    family = "resnet"
    conv1: nn.Conv2d
    bn1: nn.Module
    relu: nn.Module
    maxpool: nn.Module
    avgpool: nn.Module
    fc: nn.Linear

    def __init__(self, config: ResNetConfig) -> None:
        kind, blocks = config.layout
        super().__init__(BLOCKS[kind], list(blocks), num_classes=config.labels)
        if config.small:
            self.conv1 = nn.Conv2d(config.channels, 64, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        elif config.channels != 3:
            self.conv1 = nn.Conv2d(config.channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.config: ResNetConfig = config
        self.checkpoint_metadata = {}

    def stages(self) -> list[Stage]:
        """The first convolution, each block, and the way from the last block to the logits."""
        return [self._first, *(self.get_submodule(path) for path in self._blocks()), self._read_out]

    def _first(self, images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch filter row column"]:
        return self.maxpool(self.relu(self.bn1(self.conv1(images))))  # type: ignore[no-any-return]

    def _read_out(self, x: Float[Tensor, "batch filter height width"]) -> Float[Tensor, "batch label"]:
        return self.fc(self.avgpool(x).flatten(1))  # type: ignore[no-any-return]

    def _blocks(self) -> list[str]:
        return [f"layer{stage}.{i}" for stage, blocks in enumerate(self.config.layout[1], 1) for i in range(blocks)]

    def sites(self) -> list[Site]:
        """`block.k.output`: what the k-th block hands on; `block.k.conv1` and in the deeper variants `block.k.conv2`:
        what its convolutions hand on to the next one, after ReLU."""
        found: list[Site] = []
        size = self.config.image_size
        side = size if self.config.small else _halved(_halved(size))
        for number, path in enumerate(self._blocks(), 1):
            block = self.get_submodule(path)
            convolutions = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
            # What leaves a convolution is normalised and rectified on the way to the next one.
            readers = [*(f"{path}.{name}" for name in convolutions[1:]), path]
            for name, reader in zip(convolutions, readers, strict=True):
                convolution = block.get_submodule(name)
                assert isinstance(convolution, nn.Conv2d)
                side = _halved(side) if convolution.stride[0] == 2 else side
                found.append(
                    Site(
                        f"block.{number}.{'output' if reader == path else name}",
                        convolution.out_channels,
                        reader,
                        "output" if reader == path else "input",
                        "channels",
                        side**2,
                        block=number,
                    )
                )
        return found

    def layers(self) -> list[Layer]:
        """The output layer; it reads the mean of each filter over its positions."""
        last = len(self._blocks())
        return [Layer("output", "fc", f"block.{last}.output", None, last + 1, "fc")]


def _halved(side: int) -> int:
    return (side + 1) // 2
