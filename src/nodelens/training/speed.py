"""How fast a network learns: images per second, and the share of what the device could compute at most."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nodelens.training.precision import Precision

PEAKS = {"H100 PCIe": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Part of a device's name -> FLOP per second of its dense bf16 products, as its maker states; the first that fits."""


def step_flops(network: nn.Module, image_shape: tuple[int, ...]) -> int:
    """FLOP of one training step per image, forward and backward: the products only, as is usual.

    A product of two numbers and its addition are two. Counted on shapes alone: nothing is computed.

    Args:
        image_shape: height, width, channels; of texts, the number of tokens alone.

    >>> from nodelens.networks import build_network
    >>> round(step_flops(build_network("cct_7_3x1", 100, 32, 3), (32, 32, 3)) / 1e9, 1)
    7.1
    """
    images = 2
    shapes = copy.deepcopy(network).to("meta").train()
    for module in shapes.modules():
        if isinstance(module, nn.SyncBatchNorm):  # which refuses to learn from tensors that are on no GPU
            module.eval()
    counter = FlopCounterMode(display=False)
    with counter:
        logits = shapes(_nothing(images, image_shape))
        logits.sum().backward()
    return counter.get_total_flops() // images


def _nothing(images: int, image_shape: tuple[int, ...]) -> Tensor:
    """Inputs of that shape that hold no values."""
    if len(image_shape) == 1:
        return torch.empty(images, *image_shape, dtype=torch.int64, device="meta")
    height, width, channels = image_shape
    return torch.empty(images, channels, height, width, device="meta")


def peak_flops(device: torch.device, precision: Precision) -> float | None:
    """FLOP per second that the device reaches at most; None where that is not known."""
    if device.type != "cuda" or precision != "bf16":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(name: str) -> float | None:
    """Of a device by its name.

    >>> peak_of("NVIDIA H100 80GB HBM3"), peak_of("NVIDIA A100-SXM4-40GB"), peak_of("Tesla T4")
    (989000000000000.0, 312000000000000.0, None)
    """
    return next((peak for part, peak in PEAKS.items() if part in name), None)


class Speed:
    """Images per second since it was made, and the model FLOP utilisation where the device's peak is known.

    It counts steps and reads the clock, so it makes nobody wait: ask it when the device has caught up.
    """

    def __init__(self, images_per_step: int, utilisation: float | None = None) -> None:
        """
        Args:
            utilisation: share of the device's peak that one image per second is.
        """
        self._images_per_step, self._utilisation = images_per_step, utilisation
        self._started, self._steps = time.monotonic(), 0

    def count(self) -> None:
        """One more step is done."""
        self._steps += 1

    def facts(self) -> dict[str, float]:
        """`images_per_second` and, where it is known, `mfu`, a share; of the steps since it began to count."""
        rate = self._steps * self._images_per_step / (time.monotonic() - self._started)
        known = {} if self._utilisation is None else {"mfu": round(rate * self._utilisation, 4)}
        return {"images_per_second": round(rate, 1), **known}

    def restart(self) -> None:
        """Count from now on."""
        self._started, self._steps = time.monotonic(), 0


def utilisation(network: nn.Module, image_shape: tuple[int, ...], peak: float | None) -> float | None:
    """Share of a device's peak that learning one image per second is; None where the peak is not known."""
    return None if peak is None else step_flops(network, image_shape) / peak
