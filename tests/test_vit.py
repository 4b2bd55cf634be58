"""ViT against timm's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

from command_line import nodelens
from nodelens.data import load_images
from nodelens.data.normalisation import normalisation_of
from nodelens.errors import InputError
from nodelens.files import read_json
from nodelens.heads.fields import attention_fields
from nodelens.networks import (
    apply_masks,
    build_network,
    fingerprint,
    layer_weight,
    layers,
    load_network,
    masks_of,
    reading,
    sites,
)
from nodelens.networks.vit import ViT, ViTConfig, infer_config, vit_config
from nodelens.pruning.compact import compact

SIZE = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 5}
KINDS: dict[str, tuple[str, Mapping[str, Any]]] = {
    "class token": ("vit_tiny_patch16_224", {}),
    "mean": ("vit_base_patch16_gap_224", {}),
    "registers": ("vit_medium_patch16_reg4_gap_256", {}),
    "registers without places": ("vit_small_patch14_reg4_dinov2", {}),
    "layer scale": ("deit3_small_patch16_224", {}),
    "pooled norm": ("vit_tiny_patch16_224", {"global_pool": "avg"}),
    "no QKV bias": ("vit_tiny_patch16_224", {"qkv_bias": False}),
    "no labels": ("vit_tiny_patch16_224", {"num_classes": 0}),
}


def perturbed(network: nn.Module) -> nn.Module:
    """Every weight, norms and biases included, differs from its initial value."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return network.eval()


def of_timm(kind: str) -> nn.Module:
    name, changes = KINDS[kind]
    torch.manual_seed(0)
    return perturbed(timm.create_model(name, **{**SIZE, **changes}))


@pytest.fixture
def vit() -> ViT:
    network = perturbed(build_network("vit_2_patch2_16", 10, 8, 1))
    assert isinstance(network, ViT)
    return network


@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_of_timm_gives_timm_s_logits(kind: str, tmp_path: Path) -> None:
    theirs, file = of_timm(kind), tmp_path / "vit.safetensors"
    save_file(theirs.state_dict(), file)
    ours = load_network(file, heads=3)
    assert isinstance(ours, ViT)
    images = torch.randn(3, 3, 16, 16)
    with torch.inference_mode():
        expected = theirs(images)
        assert expected.std() > 0
        torch.testing.assert_close(ours(images), expected)
        # The skip connections, without which a site would be none of those that the paper means.
        read: dict[str, Tensor] = {}
        with reading(ours, ours.sites(), read.__setitem__):
            ours(images)
        torch.testing.assert_close(read["block.1.linear2"], theirs.blocks[0](ours.stages()[0](images)))
    for site in ours.sites():
        assert read[site.name].shape == (3, 16 + site.prefix, site.nodes), site.name
    for block in "12":
        at = {name: read[f"block.{block}.{name}"] for name in ("projection", "linear2.no_skip", "linear2")}
        torch.testing.assert_close(at["projection"] + at["linear2.no_skip"], at["linear2"])
    torch.testing.assert_close(read["block.1.linear2"] + read["block.2.projection.no_skip"], read["block.2.projection"])


@pytest.mark.parametrize(("size", "parameters"), [("tiny", 5717416), ("small", 22050664), ("base", 86567656)])
def test_sizes_are_those_that_timm_publishes(size: str, parameters: int) -> None:
    with torch.device("meta"):
        network = build_network(f"vit_{size}_patch16", 1000, 224)
    assert sum(weight.numel() for weight in network.parameters()) == parameters
    assert infer_config(network.state_dict(), {}) == network.config


def test_names_give_depth_patch_and_width() -> None:
    config = vit_config("vit_7_patch4", 100, 32, 3)
    assert config == ViTConfig(7, 4, 256, 4, 512, 100, 32, 3)
    assert config.tokens == 64
    assert vit_config("vit_3_patch2_64", 10, 8, 1) == ViTConfig(3, 2, 64, 4, 128, 10, 8, 1)
    assert vit_config("cct_7_3x1", 100, 32, 3) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_5_patch4", "sizes are tiny, small, base, large"),
        ("vit_tiny_patch4_64", "sizes are tiny, small, base, large"),
        ("vit_0_patch4_64", "at least one layer"),
        ("vit_7_patch5", "patches of 5 pixels do not divide images of 32"),
        ("vit_2_patch4_30", "4 heads do not divide a width of 30"),
        ("vit_7_patch0", "at least one layer, and patches of a pixel"),
    ],
)
def test_names_that_no_vit_has(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_network(name, 100, 32)


def test_heads_belong_to_the_fingerprint() -> None:
    state = build_network("vit_2_patch4_128", 5, 16).state_dict()
    networks = [ViT(ViTConfig(2, 4, 128, heads, 256, 5, 16)) for heads in (2, 4)]
    for network in networks:
        network.load_state_dict(state)
    assert fingerprint(networks[0]) != fingerprint(networks[1])


def test_a_vit_whose_tokens_are_no_square_is_refused(vit: ViT, tmp_path: Path) -> None:
    state = {**vit.state_dict(), "pos_embed": torch.zeros(1, 13, 16)}
    save_file(state, tmp_path / "odd.safetensors")
    with pytest.raises(InputError, match="its 13 positions are not those of a square of tokens and 1 before it"):
        load_network(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(("multiple", "seed"), [(1, 0), (1, 1), (2, 2)])
def test_a_compacted_vit_computes_the_same_with_fewer_weights(vit: ViT, multiple: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = {}
    for layer in layers(vit.double()):
        rows, columns = layer_weight(vit, layer).shape
        dead = [torch.rand(shape, generator=generator) < 0.6 for shape in ((rows, 1), (1, columns))]
        masks[layer.module] = dead[0] & dead[1]
    with torch.no_grad():  # some nodes have no bias either, in every combination with their weights
        for block in vit.blocks:
            block.attn.qkv.bias *= torch.rand(48, generator=generator) < 0.5
    apply_masks(vit, masks)
    smaller = compact(vit, multiple)
    images = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(smaller(images), vit(images), rtol=0, atol=1e-10)
    assert sum(w.numel() for w in smaller.parameters()) < sum(w.numel() for w in vit.parameters())
    assert masks_of(vit)


def test_a_bias_of_queries_alone_keeps_its_keys(vit: ViT) -> None:
    mask = torch.ones(48, 16, dtype=torch.bool)
    mask[0], mask[16 + 1] = False, False  # a query with nothing but a bias, and a key
    apply_masks(vit.double(), {"blocks.0.attn.qkv": mask})
    for bias, size in ((1.0, 4), (0.0, 4)):  # head 0 has 4 dimensions; those of the other heads are all alive
        with torch.no_grad():
            vit.blocks[0].attn.qkv.bias[0] = bias  # type: ignore[index, union-attr]
        smaller = compact(vit, 1)
        assert smaller.network.blocks[0].attn.sizes[0] == 4 * size  # type: ignore[index, union-attr]
        images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(smaller(images), vit(images), rtol=0, atol=1e-10)


def test_fields_leave_the_class_token_out(vit: ViT) -> None:
    digits = load_images("digits", "test").take(torch.arange(6), "test")
    site = next(site for site in sites(vit) if site.name == "block.2.attention")
    read: dict[str, Tensor] = {}
    normalisation = normalisation_of(digits)
    with torch.inference_mode(), reading(vit, [site], read.__setitem__):
        vit(normalisation.applied(digits.batch(torch.arange(6)), torch.device("cpu")))
    fields = attention_fields(vit, site, digits, normalisation)
    assert fields.shape == (6, 4, 4, 4)
    expected = read[site.name][2, 1 + 4 * 3 + 1, 4:8].mean()  # row 3, column 1, head 1
    torch.testing.assert_close(fields[2, 1, 3, 1], expected)


def test_a_vit_is_trained_measured_and_pruned(tmp_path: Path) -> None:
    run = tmp_path / "vit"
    assert nodelens("train", "vit_2_patch2_16", "--data", "digits", "--epochs", "1", "--out", str(run)) == 0
    assert isinstance(load_network(run), ViT)
    assert (
        nodelens("prune", str(run), "--block", "2", "--threshold", "0.4", "--epochs", "1", "--probe-epochs", "1") == 0
    )
    assert nodelens("heads", str(run), "--blocks", "2", "--epochs", "1") == 0
    pruned = load_network(run / "prune" / "block.2.all")
    assert set(masks_of(pruned)) == {f"blocks.1.{name}" for name in ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What timm saves for the hub, read from disk instead."""
    folder = tmp_path_factory.mktemp("timm")
    arguments = {key: value for key, value in SIZE.items() if key != "num_classes"}
    save_for_hf(of_timm("class token"), folder, model_args=arguments)
    return f"timm:local-dir:{folder}"


def test_a_network_of_timm_by_name(published: str) -> None:
    network, theirs = load_network(published), of_timm("class token")
    assert isinstance(network, ViT)
    assert network.config.heads == 3  # a width of 48 alone would have said otherwise
    assert network.checkpoint_metadata["mean"] == "0.5 0.5 0.5"
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(images), theirs(images))


def test_what_it_knows_of_other_labels(published: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    rng = torch.Generator().manual_seed(0)
    for split, label in [(split, label) for split in ("train", "test") for label in ("dark", "light")]:
        (folder / split / label).mkdir(parents=True)
        for i in range(4):
            pixels = torch.randint(0, 120, (16, 16, 3), generator=rng) + 120 * (label == "light")
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / split / label / f"{i}.png")
    asked = ("measure", published, "--data", str(folder), "--sites", "block.2.linear2", "--epochs", "1")
    assert nodelens(*asked, "--out", str(tmp_path / "refused")) == 2
    assert "has 5 outputs but" in capsys.readouterr().err
    assert nodelens(*asked, "--other-labels", "--out", str(tmp_path / "run")) == 0
    joined = read_json(tmp_path / "run" / "config.json")["measure"]["layers"]
    assert [layer["name"] for layer in joined][-1] == "block.2.linear2"  # no layer to these labels


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("timm:nonsense", "timm cannot give nonsense: Unknown model"),
        ("timm:local-dir:/nowhere", "timm cannot give local-dir:/nowhere"),
    ],
)
def test_names_that_timm_does_not_know(source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_network(source)
