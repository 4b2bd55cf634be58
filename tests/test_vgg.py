"""VGG against torchvision's own."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks import VGG, VGGConfig, build_network, load_network, reading, select_sites, sites
from nodelens.networks.vgg import infer_config


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.vgg11(num_classes=3).eval()


@pytest.fixture(scope="module")
def vgg11(theirs: nn.Module) -> VGG:
    with torch.device("meta"):
        network = VGG(VGGConfig("vgg11", labels=3, image_size=32))
    # The same tensors, not a copy: half a gigabyte lies in the classifier.
    network.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_a_vgg_is_torchvision_s(vgg11: VGG, theirs: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        logits = vgg11(images)
        assert logits.std() > 0
        assert torch.equal(logits, theirs(images))


def test_a_torchvision_state_dict_loads(theirs: nn.Module, images: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "vgg.safetensors"
    # What torchvision says and nothing more; safetensors puts features.11 before features.3.
    save_file(theirs.state_dict(), file)
    loaded = load_network(file, labels=3)
    file.unlink()
    assert isinstance(loaded, VGG)
    assert (loaded.config.name, loaded.config.labels, loaded.training) == ("vgg11", 3, False)
    with torch.inference_mode():
        assert torch.equal(loaded(images), theirs(images))


def test_sites_have_the_shapes_that_they_say(vgg11: VGG, images: Tensor) -> None:
    read: dict[str, Tensor] = {}
    with torch.inference_mode(), reading(vgg11, vgg11.sites(), read.__setitem__):
        vgg11(images)
    assert [site.name for site in vgg11.sites()] == [f"conv.{k}" for k in range(1, 9)] + ["linear.1", "linear.2"]
    for site in vgg11.sites():
        if site.layout == "channels":
            side = round(site.positions**0.5)
            assert read[site.name].shape == (2, site.nodes, side, side)
        else:
            assert (site.layout, site.positions) == ("units", 1)
            assert read[site.name].shape == (2, site.nodes)
        # After ReLU: neither negative nor all zero.
        assert read[site.name].min() == 0 < read[site.name].max()
    filters = [(site.nodes, site.positions) for site in vgg11.sites() if site.layout == "channels"]
    assert filters == [(64, 256), (128, 64), (256, 64), (256, 16), (512, 16), (512, 4), (512, 4), (512, 1)]


def test_sites_are_what_the_layers_hand_on(vgg11: VGG, images: Tensor) -> None:
    read: dict[str, Tensor] = {}
    wanted = select_sites(sites(vgg11), ["conv.1", "conv.3", "linear.1"])
    with torch.inference_mode(), reading(vgg11, wanted, read.__setitem__):
        vgg11(images)
        first = vgg11.features[:3](images)
        third = vgg11.features[:8](images)
        units = vgg11.classifier[0](vgg11.avgpool(vgg11.features(images)).flatten(1)).clamp(min=0)
    assert torch.equal(read["conv.1"], first)
    assert torch.equal(read["conv.3"], third)
    assert torch.equal(read["linear.1"], units)


@pytest.mark.parametrize(("name", "convolutions"), [("vgg11", 8), ("vgg13_bn", 10), ("vgg16_bn", 13), ("vgg19", 16)])
def test_depth_and_batch_norm_are_read_off_the_weights(name: str, convolutions: int) -> None:
    with torch.device("meta"):
        theirs = torchvision.models.get_model(name, num_classes=7, init_weights=False)
        ours = VGG(VGGConfig(name, 7, 64))
    state = theirs.state_dict()
    # Files list their tensors in the order of their names.
    config = infer_config(dict(sorted(state.items())), {})
    assert config is not None
    assert (config.name, config.labels) == (name, 7)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert sum(site.layout == "channels" for site in ours.sites()) == convolutions


def test_vgg16_bn_computes_as_torchvision_s(images: Tensor) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        theirs, ours = torchvision.models.vgg16_bn(num_classes=3), VGG(VGGConfig("vgg16_bn", 3, 32))
    # The convolutions with their batch norms only: the classifier is the same as vgg11's.
    features = theirs.features.to_empty(device="cpu").eval()
    with torch.no_grad():
        for tensor in features.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.05 + 0.01)
    own = ours.features.to_empty(device="cpu").eval()
    own.load_state_dict(features.state_dict())
    with torch.inference_mode():
        expected = features(images)
        assert expected.std() > 0
        assert torch.equal(own(images), expected)


def test_unfit_images_are_refused() -> None:
    with pytest.raises(InputError, match="vgg11 needs colour images of at least 32 pixels, not 1 × 8²"):
        build_network("vgg11", 10, 8, 1)
    with pytest.raises(InputError, match="unknown network 'vgg12'"):
        build_network("vgg12", 10, 32)


def test_a_vgg_for_small_images_reads_the_means_of_its_filters(images: Tensor, tmp_path: Path) -> None:
    made = build_network("vgg16_bn_512", 100, 32, 3).eval()
    assert isinstance(made, VGG)
    # Simonyan & Zisserman's D without its classifier has 14.7 million weights and biases.
    convolutions = sum(x.numel() for x in made.features.parameters())
    assert round(convolutions / 1e6, 1) == 14.7
    assert sum(x.numel() for x in made.parameters()) == convolutions + 2 * (512 * 512 + 512) + 512 * 100 + 100
    filters = made.get_submodule("features")(images).mean((2, 3))
    with torch.inference_mode():
        assert torch.equal(made(images), made.classifier(filters))
        assert made(images).std() > 0
    linear = [site for site in made.sites() if site.layout == "units"]
    assert [(site.name, site.nodes) for site in linear] == [("linear.1", 512), ("linear.2", 512)]
    # Without metadata, the file is read for what it is.
    save_file(made.state_dict(), tmp_path / "vgg.safetensors")
    loaded = load_network(tmp_path / "vgg.safetensors", labels=100)
    assert loaded.config == made.config
    with torch.inference_mode():
        assert torch.equal(loaded(images), made(images))
