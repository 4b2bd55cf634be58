"""Windows of an image on the axis of the batch: which they are, and what a probe reads of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torch.nn import functional as F

import nodelens as nl
from nodelens.data import load_images
from nodelens.data.normalisation import normalisation_of
from nodelens.errors import InputError
from nodelens.heads.accuracies import head_sites
from nodelens.heads.study import HeadSettings, HeadStudy, load_head_data
from nodelens.networks import reading
from nodelens.networks.windows import found_windows
from nodelens.probing import ProbeSettings, measure_probes, probe_recipe, train_probes
from nodelens.runs import RunDirectory

DIGITS = torch.zeros(2, 1, 8, 8)
SETTINGS = ProbeSettings(probe_recipe(1))


class Windowed(nn.Module):
    """Attention in four windows of 2 × 2 tokens, a token for every 2 × 2 pixels; `square`: as (row, column, node)."""

    def __init__(self, square: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.square = square
        self.patches = nn.Conv2d(1, 6, 2, stride=2)
        self.attention = Attention()
        self.head = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images)  # (batch, node, row, column)
        windows = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 3, 5, 1).flatten(0, 2)
        attended = self.attention(windows if self.square else windows.flatten(1, 2))
        return self.head(attended.reshape(len(images), -1, 6).mean(dim=1))  # type: ignore[no-any-return]


class Attention(nn.Module):
    num_heads = 2

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(6, 18), nn.Linear(6, 6)

    def forward(self, tokens: Tensor) -> Tensor:
        x = tokens.reshape(len(tokens), -1, 6)
        q, k, v = self.qkv(x).unflatten(2, (3, 2, 3)).permute(2, 0, 3, 1, 4)
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.proj(found.reshape(tokens.shape))  # type: ignore[no-any-return]


@pytest.mark.parametrize("square", [False, True])
def test_windows_are_found_and_read_as_the_tokens_of_one_image(square: bool) -> None:
    network = nl.adapt(own := Windowed(square), DIGITS)
    (heads,) = head_sites(network)
    assert (heads.name, heads.heads, heads.nodes, heads.windows) == ("attention.proj.input", 2, 6, 4)
    assert {layer.name: (layer.source, layer.target) for layer in network.layers()} == {
        "attention.qkv": ("attention.qkv.input", "attention.qkv"),
        "attention.proj": ("attention.proj.input", "attention.proj"),
        "output": ("head.input", None),
    }
    seen: dict[str, Tensor] = {}
    with torch.no_grad(), reading(network, [site for site in network.sites() if site.windows > 1], seen.__setitem__):
        logits = own(torch.randn(5, 1, 8, 8))
    assert {tensor.shape[:2] for tensor in seen.values()} == {(5, 16)}
    # What is read of an image is its own, in whatever order its windows lie.
    torch.testing.assert_close(own.head(seen["attention.proj"].mean(dim=1)), logits)


def test_class_means_of_windows_are_means_over_the_tokens_of_images() -> None:
    network = nl.adapt(own := Windowed(), DIGITS)
    learnt = load_images("digits", "train")
    normalisation = normalisation_of(learnt)
    chosen = [site for site in network.sites() if site.name == "attention.proj"]
    probes = train_probes(network, chosen, learnt, normalisation, SETTINGS)
    found = measure_probes(network, probes, learnt, normalisation)[0]["attention.proj"]
    pixels, labels = next(iter(learnt.batches(len(learnt))))
    entered: list[Tensor] = []
    handle = own.attention.register_forward_hook(lambda _, __, output: entered.append(output))
    with torch.no_grad():
        own(normalisation.applied(pixels, torch.device("cpu")))
        tokens = entered[0].reshape(len(labels), 16, 6)
        shares = (tokens @ probes["attention.proj"].pool_weight[0]).softmax(dim=1)
    handle.remove()
    pooled = (shares[..., None] * tokens).sum(dim=1)
    expected = torch.stack([pooled[labels == label].mean(dim=0) for label in range(10)])
    torch.testing.assert_close(found.class_means.float(), expected)


def test_heads_in_windows_are_silenced(tmp_path: Path) -> None:
    network = nl.adapt(own := Windowed(), DIGITS)
    data = load_head_data(network, "digits", "train")
    study = HeadStudy(network, data, HeadSettings("1", probe=SETTINGS), RunDirectory(tmp_path))
    silenced = study.silenced["attention.proj.input"]
    with torch.no_grad():
        own.attention.proj.weight[:, :3] = 0
        pixels, labels = next(iter(data.test.batches(len(data.test))))
        normalised = normalisation_of(load_images("digits", "train")).applied(pixels, torch.device("cpu"))
        right = own(normalised).argmax(dim=1) == labels
    expected = torch.stack([right[labels == label].double().mean() for label in range(10)])
    torch.testing.assert_close(silenced.without[0], expected)


class Turned(nn.Module):
    """Tokens first, (token, batch, node); or windows of all images one after another, (window · batch, token, node)."""

    def __init__(self, windows: bool) -> None:
        super().__init__()
        self.windows = windows
        self.rows, self.head = nn.Linear(8, 6), nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        rows = images[:, 0].unflatten(1, (2, 4)) if self.windows else images[:, 0, :, None]
        x = self.rows(rows.transpose(0, 1).flatten(0, 1) if self.windows else rows[:, :, 0].transpose(0, 1))
        x = x.unflatten(0, (2, -1)).mean(dim=(0, 2)) if self.windows else x.mean(dim=0)
        return self.head(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("windows", [True, False])
def test_what_is_several_times_as_long_for_another_reason_is_no_window(windows: bool) -> None:
    assert found_windows(Turned(windows), DIGITS) == {}
    assert found_windows(Windowed(), DIGITS) == dict.fromkeys(["attention", "attention.qkv", "attention.proj"], 4)


def test_other_inputs_have_other_windows() -> None:
    network = nl.adapt(Windowed(), DIGITS)
    larger = nl.Examples(torch.randn(10, 1, 12, 12), torch.arange(10), [str(label) for label in range(10)])
    with pytest.raises(InputError, match=r"on inputs of \(1, 12, 12\) attention\.proj has 9 windows, not 4"):
        nl.measure(network, (larger, larger), "attention.proj", settings=SETTINGS)


def test_a_swin_is_measured_head_by_head() -> None:
    torch.manual_seed(0)
    swin = SwinTransformer(
        img_size=16,
        patch_size=2,
        in_chans=1,
        num_classes=10,
        embed_dim=8,
        depths=(2, 1),
        num_heads=(2, 4),
        window_size=4,
    )
    network = nl.adapt(swin, torch.zeros(2, 1, 16, 16))
    assert [(site.name, site.heads, site.windows) for site in head_sites(network)] == [
        ("layers.0.blocks.0.attn.proj.input", 2, 4),
        ("layers.0.blocks.1.attn.proj.input", 2, 4),
        ("layers.1.blocks.0.attn.proj.input", 4, 1),
    ]
