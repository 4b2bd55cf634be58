"""Heads alone and networks without them: against weights set to zero, and a network of experts by construction."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nodelens.data import ImageSet, Normalisation, load_images, normalisation_of, normalise
from nodelens.errors import InputError
from nodelens.heads.accuracies import head_accuracies, head_logits, head_sites, silenced_heads, silencing
from nodelens.measures import head_specialization, symmetry_breaking
from nodelens.networks import CCT, VGG, Site, VGGConfig, reading, select_sites
from nodelens.networks.network import Network
from nodelens.probing import Probes, measure_probes

SEEDS = (0, 1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images("digits", "test", cache=tmp_path_factory.mktemp("cache")).take(torch.arange(90), "test-90")


@pytest.fixture(scope="module")
def normalisation(digits: ImageSet) -> Normalisation:
    return normalisation_of(digits)


def random_probes(sites: list[Site], labels: int, layer_norm: bool = False) -> Probes:
    """Probes that pool unevenly, so that another pooling would be noticed."""
    probes = Probes(sites, labels, SEEDS, layer_norm)
    with torch.no_grad():
        for weight in probes.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return probes.requires_grad_(False)


def pixels_of(images: ImageSet, normalisation: Normalisation) -> Tensor:
    return normalise(images.batch(np.arange(len(images))), normalisation.mean, normalisation.std)


def accuracy_per_label(logits: Tensor, labels: Tensor) -> list[float]:
    """Label by label, image by image."""
    chosen = logits.argmax(-1)
    return [float((chosen[labels == label] == label).double().mean()) for label in range(logits.shape[-1])]


@pytest.mark.parametrize("layer_norm", [False, True])
def test_heads_alone_against_weights_set_to_zero(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, layer_norm: bool
) -> None:
    sites = head_sites(cct)
    probes = random_probes(sites, 10, layer_norm)
    found = head_accuracies(cct, probes, digits, normalisation, batch_size=32)
    read: dict[str, Tensor] = {}
    with torch.no_grad(), reading(cct, sites, read.__setitem__):
        own = cct(pixels_of(digits, normalisation))
    assert list(found) == ["block.1.attention", "block.2.attention"]
    for site in sites:
        result, probe = found[site.name], probes[site.name]
        assert result.heads.shape == (2, 4, 10)
        assert torch.equal(result.counts, torch.bincount(digits.labels))
        assert result.network.tolist() == pytest.approx(accuracy_per_label(own, digits.labels))
        for seed in range(2):
            expected = accuracy_per_label(probe(read[site.name])[seed], digits.labels)
            assert result.probe[seed].tolist() == pytest.approx(expected)
            for head in range(4):
                alone = copy.deepcopy(probe)
                alone.weight[:, :, : 4 * head] = 0
                alone.weight[:, :, 4 * head + 4 :] = 0
                expected = accuracy_per_label(alone(read[site.name])[seed], digits.labels)
                assert result.heads[seed, head].tolist() == pytest.approx(expected)
        # Otherwise the comparison would say little.
        assert len(torch.unique(result.heads)) > 5


def test_heads_logits_add_up_to_the_probe_s(cct: CCT) -> None:
    site = head_sites(cct)[1]
    probe = random_probes([site], 10)[site.name].double()
    activations = torch.randn(7, 16, 16, generator=torch.Generator().manual_seed(0))
    logits = head_logits(probe, probe.pool(activations).double())
    assert logits.shape == (2, 4, 7, 10)
    torch.testing.assert_close(logits.sum(dim=1), probe.pool(activations).double() @ probe.weight.transpose(1, 2))


def test_batches_make_no_difference_and_bf16_little(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    probes = random_probes(head_sites(cct), 10)
    name = "block.2.attention"
    one, many = (head_accuracies(cct, probes, digits, normalisation, batch_size=size)[name] for size in (90, 13))
    assert torch.equal(one.heads, many.heads)
    rounded = head_accuracies(cct, probes, digits, normalisation, "bf16")[name]
    assert (rounded.heads - one.heads).abs().mean() < 0.1


@pytest.fixture
def discerning(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> CCT:
    """Its attention weighs more and no label is favoured, so that what is silenced changes what is chosen."""
    with torch.no_grad():
        for block in cct.classifier.blocks:
            block.self_attn.proj.weight *= 10
        logits = cct(pixels_of(digits, normalisation))
        cct.classifier.fc.bias -= logits.mean(dim=0)
        cct.classifier.fc.bias /= logits.std(dim=0)
        cct.classifier.fc.weight /= logits.std(dim=0)[:, None]
    return cct


def without_columns(network: CCT, block: int, silenced: Tensor) -> CCT:
    """The same network with the projection's columns of some nodes zero."""
    cut = copy.deepcopy(network)
    with torch.no_grad():
        cut.classifier.blocks[block - 1].self_attn.proj.weight[:, silenced] = 0
    return cut


def test_silenced_heads_against_zeroed_columns_of_the_projection(
    discerning: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    before = {key: value.clone() for key, value in discerning.state_dict().items()}
    found = silenced_heads(discerning, head_sites(discerning), digits, normalisation, batch_size=40)
    pixels, owner = pixels_of(digits, normalisation), torch.arange(16) // 4
    for block in (1, 2):
        result = found[f"block.{block}.attention"]
        with torch.no_grad():
            assert result.network.tolist() == pytest.approx(accuracy_per_label(discerning(pixels), digits.labels))
            for head in range(4):
                for silenced, accuracy in [(owner == head, result.without), (owner != head, result.alone)]:
                    logits = without_columns(discerning, block, silenced)(pixels)
                    assert accuracy[head].tolist() == pytest.approx(accuracy_per_label(logits, digits.labels))
        # Otherwise the comparison would say little.
        assert len(torch.unique(torch.cat([result.without, result.alone]), dim=0)) == 8
    assert all(torch.equal(before[key], value) for key, value in discerning.state_dict().items())
    assert not [hook for module in discerning.modules() for hook in module._forward_pre_hooks.values()]


def test_silenced_logits_are_those_of_zeroed_columns(cct: CCT) -> None:
    silenced = torch.arange(16) % 3 == 0
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with silencing(cct, head_sites(cct)[0], silenced):
            logits = cct(x)
        torch.testing.assert_close(logits, without_columns(cct, 1, silenced)(x))
        assert not torch.allclose(logits, cct(x), atol=1e-3)


def test_the_blocks_before_a_silenced_one_run_once(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    runs = [0, 0]
    for i, block in enumerate(cct.classifier.blocks):
        block.register_forward_hook(lambda *_, i=i: runs.__setitem__(i, runs[i] + 1))
    silenced_heads(cct, [head_sites(cct)[1]], digits, normalisation, batch_size=90)
    assert runs == [1, 1 + 2 * 4]


EXPERT_OF = (2, 0, 1, 2, 0, 1)
"""The head that knows each label of the planted network."""


@dataclass(frozen=True)
class PlantedConfig:
    labels: int = 6
    image_size: int = 6
    channels: int = 1


class Planted(Network):
    """Each label drives both nodes that its expert has for it, and in every other head one of another label, weakly.

    An image shows its label as one bright row. Nothing is learned; the heads are experts by construction.
    """

    family = "planted"

    def __init__(self) -> None:
        super().__init__()
        self.config = PlantedConfig()
        self.projection = nn.Linear(12, 6, bias=False)
        self.of_node = [label for head in range(3) for label in range(6) if EXPERT_OF[label] == head for _ in range(2)]
        activations, weight = torch.zeros(6, 12), torch.zeros(6, 12)
        for node, label in enumerate(self.of_node):
            weight[label, node] = 1.0
            activations[label, node] = 1.0
        for label in range(6):
            for head in range(3):
                if head != EXPERT_OF[label]:
                    activations[label, 4 * head] = 0.1
        self.projection.weight.data = weight
        self.register_buffer("activations", activations)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.mean(dim=(1, 3))[:, None] @ self.activations
        return self.projection(tokens).squeeze(1)

    def sites(self) -> list[Site]:
        return [Site("block.1.attention", 12, "projection", "input", heads=3, block=1)]


def planted_images() -> ImageSet:
    labels = torch.arange(6).repeat(4)
    pixels = np.zeros((24, 6, 6, 1), dtype=np.uint8)
    pixels[np.arange(24), labels.numpy()] = 255
    return ImageSet("planted", "test", pixels, np.arange(24), labels, tuple("abcdef"), (), (), "0" * 32)


def test_planted_experts_are_recovered_label_for_label() -> None:
    network, images, as_it_is = Planted(), planted_images(), Normalisation((0.0,), (1.0,))
    probes = Probes(network.sites(), 6, (0,))
    with torch.no_grad():
        probes["block.1.attention"].weight.copy_(network.projection.weight)
    expert = torch.tensor(EXPERT_OF) == torch.arange(3)[:, None]

    diagonals = measure_probes(network, probes, images, as_it_is)[0]["block.1.attention"].matrices.diagonals(0.3)
    specialization = head_specialization(diagonals, heads=3)
    assert specialization.head_of_label.tolist() == list(EXPERT_OF)
    assert specialization.labels_per_head.tolist() == [2, 2, 2]
    assert symmetry_breaking(diagonals, heads=3, draws=99).information.p_value < 0.05

    alone = head_accuracies(network, probes, images, as_it_is)["block.1.attention"]
    assert torch.equal(alone.heads[0], expert.double())
    assert alone.probe.tolist() == [[1.0] * 6]
    assert alone.network.tolist() == [1.0] * 6

    silenced = silenced_heads(network, head_sites(network), images, as_it_is)["block.1.attention"]
    assert torch.equal(silenced.alone, expert.double())
    assert torch.equal(silenced.without, (~expert).double())
    assert silenced.network.tolist() == [1.0] * 6


def test_a_network_without_heads_is_refused(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    vgg = VGG(VGGConfig("vgg11", labels=10, image_size=32))
    with pytest.raises(InputError, match="a network of the family vgg has no attention heads; give a transformer"):
        head_sites(vgg)
    with pytest.raises(InputError, match="no site is given whose heads could be silenced"):
        silenced_heads(cct, [], digits, normalisation)


def use_probes(network: CCT, site: Site, digits: ImageSet, normalisation: Normalisation) -> None:
    head_accuracies(network, Probes([site], 10, (0,)), digits, normalisation)


def use_silencing(network: CCT, site: Site, digits: ImageSet, normalisation: Normalisation) -> None:
    silenced_heads(network, [site], digits, normalisation)


@pytest.mark.parametrize("use", [use_probes, use_silencing])
def test_sites_that_heads_do_not_share_are_refused(
    use: Callable[..., None], cct: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    with pytest.raises(InputError, match=r"block\.1\.ln has no attention heads; choose sites such as block\.7\.att"):
        use(cct, select_sites(cct.sites(), "block.1.ln")[0], digits, normalisation)
    with pytest.raises(InputError, match=r"^3 heads cannot share 16 nodes equally; give the network's own heads\.$"):
        use(cct, replace(head_sites(cct)[0], heads=3), digits, normalisation)


def test_what_leaves_a_module_cannot_be_silenced(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    site = replace(head_sites(cct)[0], reads="output")
    with pytest.raises(InputError, match=r"block\.1\.attention is what leaves a module"):
        silenced_heads(cct, [site], digits, normalisation)


def test_a_label_without_an_image_is_refused(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    only_some = digits.take(torch.nonzero(digits.labels != 3).flatten(), "without-3")
    for use in (use_probes, use_silencing):
        with pytest.raises(InputError, match=r"1 label never occurs .*'3'"):
            use(cct, head_sites(cct)[0], only_some, normalisation)


def test_a_hook_that_fails_is_removed(cct: CCT) -> None:
    site = head_sites(cct)[0]
    with pytest.raises(ZeroDivisionError), silencing(cct, site, torch.ones(16).bool()):
        raise ZeroDivisionError
    assert not cct.get_submodule(site.module)._forward_pre_hooks
