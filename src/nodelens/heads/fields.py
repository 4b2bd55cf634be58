"""Attention output fields as images, and how much they look like the image itself (paper, Fig. 11).

The field of a head at a token is the mean over the head's nodes of the site `attention`; at all tokens, on their
grid, it is a small image. Its overlap with the input is `|r|`, Pearson's correlation over the tokens with the
image's luminance, each token's share of the image averaged. The sign is ignored: the projection that follows may
turn it, and a negative shows the same picture. The overlap is 0 where either is constant.

Smooth images are correlated by accident. Beside each overlap therefore stands the one of the same field with
another image of the set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from nodelens.data.datasets import ImageSet
from nodelens.data.normalisation import Normalisation
from nodelens.errors import InputError
from nodelens.networks import Site, reading
from nodelens.processes import add_up
from nodelens.shards import device_of
from nodelens.training.precision import Precision, autocast

LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
CONSTANT = 1e-12
"""Share of a field's sum of squares below which its variation is a rounding."""


@dataclass(frozen=True, eq=False)
class FieldOverlaps:
    """Overlap of a site's attention output fields with every image of a split.

    Attributes:
        overlap: 0 to 1; the first row of the field averaged over all heads, then one row per head.
        by_chance: the same with the luminance of another image of the split.
        correct: images that the network classifies correctly.
    """

    site: Site
    split: str
    overlap: Float32[Tensor, "view image"]
    by_chance: Float32[Tensor, "view image"]
    correct: Bool[Tensor, " image"]


def luminance(pixels: UInt8[Tensor, "batch height width channel"], side: int) -> Float32[Tensor, "batch {side} {side}"]:
    """Brightness of the images, 0 to 255, on a grid of `side` × `side`: the mean over each cell's share.

    >>> luminance(torch.full((1, 4, 4, 3), 200, dtype=torch.uint8), side=2).round()
    tensor([[[200., 200.],
             [200., 200.]]])
    """
    weights = torch.tensor(LUMINANCE if pixels.shape[-1] == 3 else [1 / pixels.shape[-1]] * pixels.shape[-1])
    grey = pixels.float() @ weights.to(pixels.device)
    return F.adaptive_avg_pool2d(grey[:, None], side)[:, 0]


def field_overlap(
    fields: Float[Tensor, "batch view row column"], pictures: Float[Tensor, "batch row column"]
) -> Float64[Tensor, "batch view"]:
    """`|r|` of each field and its picture over the grid; 0 where either is constant.

    >>> picture = torch.tensor([[[0.0, 1.0], [2.0, 3.0]]])
    >>> field_overlap(torch.stack([-2 * picture, torch.ones(1, 2, 2)], dim=1), picture)
    tensor([[1., 0.]], dtype=torch.float64)
    """
    a, b = (_standardised(values.double().flatten(-2)) for values in (fields, pictures[:, None]))
    return (a * b).sum(dim=-1).abs().clamp(max=1.0)


def _standardised(values: Float64[Tensor, "*field token"]) -> Float64[Tensor, "*field token"]:
    """Mean 0 and sum of squares 1; all 0 where constant."""
    centred = values - values.mean(dim=-1, keepdim=True)
    spread = (centred * centred).sum(dim=-1, keepdim=True)
    varies = spread > CONSTANT * (values * values).sum(dim=-1, keepdim=True)
    return torch.where(varies, centred / spread.clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)


def head_fields(activations: Float[Tensor, "batch token node"], site: Site) -> Float32[Tensor, "batch head side side"]:
    """Mean over each head's nodes at every token, on the grid of the image's tokens.

    Raises:
        InputError: the tokens form no square.
    """
    of_image = activations[:, site.prefix :]
    tokens = of_image.shape[1]
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise InputError(f"{site.name} has {tokens} tokens, which are no square image; its fields cannot be shown")
    of_head = of_image.float().reshape(len(activations), side, side, site.heads, -1)
    return of_head.mean(dim=-1).permute(0, 3, 1, 2)


def attention_fields(
    network: nn.Module,
    site: Site,
    images: ImageSet,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 128,
) -> Float32[Tensor, "image head side side"]:
    """The field of every head for every image; meant for a few images, since all of it is kept."""
    network.eval()
    device, found = device_of(network), []
    with torch.inference_mode():
        for pixels, _ in images.batches(batch_size):
            inputs = normalisation.applied(pixels, device)
            found.append(_fields_and_logits(network, [site], inputs, precision)[0][site.name].cpu())
    return torch.cat(found)


def field_overlaps(
    network: nn.Module,
    sites: Sequence[Site],
    images: ImageSet,
    normalisation: Normalisation,
    precision: Precision = "fp32",
    batch_size: int = 128,
    seed: int = 0,
    title: str = "attention fields",
) -> dict[str, FieldOverlaps]:
    """Overlap of the fields of every site with every image, in one pass; fields are not stored.

    Args:
        seed: of the order that gives each image another one to be compared with by chance.

    Returns:
        What was found, by the site's name.
    """
    network.eval()
    device = device_of(network)
    another = others(len(images), seed)
    # Images that another process reads stay 0 here, so that a sum joins what all have found.
    overlaps = {site.name: torch.zeros(2, 1 + site.heads, len(images)) for site in sites}
    correct = torch.zeros(len(images), dtype=torch.int64)
    with torch.inference_mode():
        for where, pixels, labels in images.own_batches(batch_size, f"{title} ({images.split})"):
            inputs = normalisation.applied(pixels, device)
            fields, logits = _fields_and_logits(network, sites, inputs, precision)
            pictures = pixels.to(device), images.batch(another[where]).to(device)
            for name, of_site in fields.items():
                overlaps[name][:, :, where] = torch.stack([_with_mean(of_site, picture) for picture in pictures]).cpu()
            correct[where] = (logits.argmax(dim=1).cpu() == labels).long()
    add_up([correct, *overlaps.values()])
    return {
        site.name: FieldOverlaps(site, images.split, overlaps[site.name][0], overlaps[site.name][1], correct.bool())
        for site in sites
    }


def others(images: int, seed: int) -> Int64[Tensor, " image"]:
    """For every image another one, each chosen once: the next in a random circle.

    >>> others(2, seed=0)
    tensor([1, 0])
    """
    order = torch.randperm(images, generator=torch.Generator().manual_seed(seed))
    return torch.empty_like(order).scatter_(0, order, order.roll(-1))


def _with_mean(
    fields: Float32[Tensor, "batch head side side"], pixels: UInt8[Tensor, "batch height width channel"]
) -> Float32[Tensor, "view batch"]:
    """Overlap of the mean over all heads, then of each head."""
    views = torch.cat([fields.mean(dim=1, keepdim=True), fields], dim=1)
    return field_overlap(views, luminance(pixels, fields.shape[-1])).T.float()


def _fields_and_logits(
    network: nn.Module, sites: Sequence[Site], inputs: Float[Tensor, "batch channel height width"], precision: Precision
) -> tuple[dict[str, Float32[Tensor, "batch head side side"]], Float[Tensor, "batch label"]]:
    of_name = {site.name: site for site in sites}
    fields: dict[str, Tensor] = {}

    def reader(name: str, activations: Tensor) -> None:
        fields[name] = head_fields(activations, of_name[name])

    with reading(network, sites, reader), autocast(inputs.device, precision):
        logits = network(inputs)
    return fields, logits
