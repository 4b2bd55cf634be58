"""ResNet against torchvision's and timm's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

import nodelens as nl
from nodelens.data import load_images
from nodelens.networks import build_network, load_network, masks_of, reading
from nodelens.networks.resnet import ResNet, infer_config
from nodelens.probing import ProbeSettings, probe_recipe


def varied(network: nn.Module) -> nn.Module:
    """Batch norms that do something, as after training."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.2, 1.0)  # type: ignore[union-attr]
    return network.eval()


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return varied(torchvision.models.resnet18(num_classes=3))


@pytest.fixture(scope="module")
def ours(theirs: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> ResNet:
    file = tmp_path_factory.mktemp("resnet") / "resnet.safetensors"
    save_file(theirs.state_dict(), file)
    network = load_network(file, labels=3, image_size=64)
    assert isinstance(network, ResNet)
    return network


def test_a_torchvision_state_dict_computes_the_same(theirs: nn.Module, ours: ResNet) -> None:
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = theirs(images)
        assert expected.std() > 0
        assert torch.equal(ours(images), expected)
        x = images
        for stage in ours.stages():
            x = stage(x)
        assert torch.equal(x, expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_depth_is_read_off_the_weights_of_timm_and_torchvision(name: str) -> None:
    with torch.device("meta"):
        from_torchvision = torchvision.models.get_model(name, num_classes=7)
        from_timm = timm.create_model(name, num_classes=7)
        expected = build_network(name, 7, 224)
    for state in (from_torchvision.state_dict(), from_timm.state_dict()):
        # Files list their tensors in the order of their names.
        assert infer_config(dict(sorted(state.items())), {}) == expected.config
        assert {k: v.shape for k, v in expected.state_dict().items()} == {k: v.shape for k, v in state.items()}


def test_a_small_network_is_known_by_its_first_convolution(tmp_path: Path) -> None:
    network = build_network("resnet18_3x3", 5, 32, 1)
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    assert load_network(tmp_path / "small.safetensors").config == network.config


@pytest.mark.parametrize(("name", "size"), [("resnet18_3x3", 9), ("resnet50", 33)])
def test_sites_are_what_blocks_and_convolutions_hand_on(name: str, size: int) -> None:
    network = varied(build_network(name, 3, size))
    assert isinstance(network, ResNet)
    read: dict[str, Tensor] = {}
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode(), reading(network, network.sites(), read.__setitem__):
        network(images)
        x = network.stages()[0](images)
        first = network.layer1[0]
        assert torch.equal(read["block.1.conv1"], first.relu(first.bn1(first.conv1(x))))
        for number, block in enumerate(network.stages()[1:-1], 1):
            x = block(x)
            assert torch.equal(read[f"block.{number}.output"], x)
    for site in network.sites():
        side = round(site.positions**0.5)
        assert read[site.name].shape == (2, site.nodes, side, side), site.name
        # After ReLU: neither negative nor all zero.
        assert read[site.name].min() == 0 < read[site.name].max()
    assert len(network.sites()) == (8 * 2 if "18" in name else 16 * 3)


def test_filters_are_measured_and_the_output_is_pruned() -> None:
    network = varied(build_network("resnet18_3x3", 10, 8, 1))
    assert isinstance(network, ResNet)
    learnt, measured = (load_images("digits", split).take(torch.arange(100), split) for split in ("train", "test"))
    settings = ProbeSettings(probe_recipe(1))
    found = nl.measure(network, (learnt, measured), "block.[78].*", settings=settings)
    assert [found[name].matrices.positions for name in found] == [1, 1, 1, 1]
    found = nl.measure(network, (learnt, measured), "block.[68].output", settings=settings)
    assert [found[name].matrices.positions for name in found] == [4, 1]
    pruned = nl.prune(network, found, "output", threshold=0.7)
    kept = nl.output_mask(found["block.8.output"].matrices.diagonals(0.7))
    assert torch.equal(masks_of(pruned.network)["fc"], kept)
    assert pruned.dilution["output"] == pytest.approx(1 - float(kept.double().mean()))
