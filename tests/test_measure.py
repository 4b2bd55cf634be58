"""The measurement against brute force: silence all weights but a node's, run every image, average the fields."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nodelens.data import Augmentation, ImageSet, Normalisation, load_images, normalisation_of, normalise
from nodelens.errors import InputError
from nodelens.measures import NodalMatrices
from nodelens.networks import (
    CCT,
    VGG,
    Site,
    VGGConfig,
    apply_masks,
    build_network,
    layers,
    masks_of,
    reading,
    select_layers,
    select_sites,
    sites,
)
from nodelens.networks.network import Network
from nodelens.probing import (
    Measurement,
    MeasureSettings,
    Probes,
    ProbeSettings,
    ProbingData,
    load_measurements,
    measure,
    measure_network,
    measure_probes,
    probe_recipe,
    train_probes,
)
from nodelens.probing.data import check_fits
from nodelens.probing.reads import reads
from nodelens.probing.study import untrained_twin
from nodelens.runs import RunDirectory
from nodelens.training import Recipe
from test_probes import pretend_cpu

RECIPE = Recipe(epochs=1, batch_size=40, learning_rate=1e-2, final_learning_rate=0.0, augmentation=Augmentation())


@dataclass(frozen=True)
class ConvolutionsConfig:
    labels: int = 10
    image_size: int = 8
    channels: int = 1


class Convolutions(Network):
    """Two convolutions, then hidden units: filters and units as sites."""

    family = "test"

    def __init__(self) -> None:
        super().__init__()
        self.config = ConvolutionsConfig()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.ReLU())
        self.output = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.features(images).flatten(1))

    def sites(self) -> list[Site]:
        return [
            Site("conv.1", 4, "features.2", "output", "channels", 9),
            Site("conv.2", 3, "features.4", "output", "channels", 4),
            Site("linear.0", 12, "output", "input", "units"),
        ]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images("digits", "test", cache=tmp_path_factory.mktemp("cache")).take(torch.arange(60), "test-60")


@pytest.fixture(scope="module")
def normalisation(digits: ImageSet) -> Normalisation:
    return normalisation_of(digits)


def random_probes(network: Network, sites: list[Site], seeds: tuple[int, ...], layer_norm: bool = False) -> Probes:
    """Probes that pool unevenly, so that a uniform mean over tokens would be noticed."""
    probes = Probes(sites, network.config.labels, seeds, layer_norm)
    with torch.no_grad():
        for weight in probes.parameters():
            weight.copy_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    return probes.requires_grad_(False)


def silenced_logits(activations: Tensor, probe: Any, seed: int, node: int) -> Tensor:
    """The head's fields when only the weights that leave one node speak; literally, in float64."""
    x = activations.double()
    weight = torch.zeros_like(probe.weight[seed], dtype=torch.float64)
    own = slice(node * probe.site.positions, (node + 1) * probe.site.positions)
    weight[:, own] = probe.weight[seed, :, own].double()
    if probe.site.layout != "tokens":
        return x.reshape(len(x), -1) @ weight.T
    if probe.layer_norm:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    shares = torch.softmax(x @ probe.pool_weight[seed].double(), dim=1)
    return (shares[..., None] * x).sum(1) @ weight.T


def brute_force(network: Network, images: Tensor, labels: Tensor, probe: Any, seed: int, node: int) -> Tensor:
    """One node: run the network and the silenced head on every image, then average per label."""
    read: dict[str, Tensor] = {}
    with torch.no_grad(), reading(network, [probe.site], read.__setitem__):
        network(images)
    fields = silenced_logits(read[probe.site.name], probe, seed, node)
    return torch.stack([fields[labels == label].mean(0) for label in range(int(labels.max()) + 1)])


def outer_product(matrices: NodalMatrices, node: int) -> Tensor:
    means, weight = matrices.class_means.double(), matrices.weight.double()
    labels = len(means)
    return means[:, node].reshape(labels, -1) @ weight[:, node].reshape(labels, -1).T


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6 * expected.abs().max().item())


def network_input(images: ImageSet, normalisation: Normalisation) -> Tensor:
    return normalise(images.batch(torch.arange(len(images))), normalisation.mean, normalisation.std)


@pytest.mark.parametrize("layer_norm", [False, True])
def test_every_node_of_every_site_is_what_brute_force_silencing_finds(
    layer_norm: bool, cct: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    probes = random_probes(cct, cct.sites(), (3, 8), layer_norm)
    measured = measure_probes(cct, probes, digits, normalisation, batch_size=25)
    images = network_input(digits, normalisation)
    assert [(m.seed, m.split, m.label_names) for m in measured] == [
        (seed, "test-60", tuple("0123456789")) for seed in (3, 8)
    ]
    for probe in probes:
        # All nodes once; of the other seed, and with the option, a few.
        for seed, step in ((0, 7), (1, 5 if layer_norm else 1)):
            matrices = measured[seed][probe.site.name].matrices
            assert matrices.nodes == probe.site.nodes
            for node in range(0, probe.site.nodes, step):
                expected = brute_force(cct, images, digits.labels, probe, seed, node)
                assert_close(outer_product(matrices, node), expected)
                if expected.max() > 0:
                    assert_close(matrices.field(node), expected / expected.max())


def test_every_filter_and_unit_is_what_brute_force_silencing_finds(
    digits: ImageSet, normalisation: Normalisation
) -> None:
    torch.manual_seed(0)
    network = Convolutions().eval()
    probes = random_probes(network, network.sites(), (0, 1))
    measured = measure_probes(network, probes, digits, normalisation, batch_size=25)
    images = network_input(digits, normalisation)
    for probe in probes:
        for seed in (0, 1):
            matrices = measured[seed][probe.site.name].matrices
            assert matrices.positions == probe.site.positions
            for node in range(probe.site.nodes):
                expected = brute_force(network, images, digits.labels, probe, seed, node)
                if not expected.any():
                    # A filter that no image excites.
                    assert not outer_product(matrices, node).any()
                    continue
                assert_close(outer_product(matrices, node), expected)


def test_filters_of_vgg_are_what_brute_force_silencing_finds() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        network = VGG(VGGConfig("vgg11", labels=3, image_size=32)).eval()
    # Without the classifier, which is large and which these sites do not see.
    network.classifier = nn.Sequential()
    network.features.to_empty(device="cpu")
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.1)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (7, 32, 32, 3), dtype=np.uint8)
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    images = ImageSet("noise", "test", pixels, np.arange(7), labels, ("a", "b", "c"), (), (), "0" * 32)
    normalisation = Normalisation((0.5, 0.5, 0.5), (0.3, 0.3, 0.3))
    probes = random_probes(network, select_sites(network.sites(), ["conv.1", "conv.8"]), (0,))
    (measured,) = measure_probes(network, probes, images, normalisation, batch_size=4)
    assert measured["conv.1"].class_means.shape == (3, 64, 256)
    assert measured["conv.8"].class_means.shape == (3, 512)
    inputs = network_input(images, normalisation)
    compared = 0
    for name, nodes in (("conv.1", (0, 13, 63)), ("conv.8", (0, 1, 2, 3, 300, 511))):
        for node in nodes:
            expected = brute_force(network, inputs, labels, probes[name], 0, node)
            found = outer_product(measured[name].matrices, node)
            if expected.any():
                assert_close(found, expected)
                compared += 1
            else:
                assert not found.any()
    assert compared >= 5


def test_accuracy_is_the_share_of_right_answers(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    probes = random_probes(cct, cct.sites(), (3, 8))
    measured = measure_probes(cct, probes, digits, normalisation, batch_size=25)
    read: dict[str, Tensor] = {}
    with torch.no_grad(), reading(cct, cct.sites(), read.__setitem__):
        cct(network_input(digits, normalisation))
    found = []
    for probe in probes:
        for seed in (0, 1):
            nodes = [silenced_logits(read[probe.site.name], probe, seed, n) for n in range(probe.site.nodes)]
            # The fields of all nodes add up to the logits: there is no bias.
            right = torch.stack(nodes).sum(0).argmax(1) == digits.labels
            assert measured[seed][probe.site.name].accuracy == right.sum().item() / 60
            found.append(right.sum().item())
    assert len(set(found)) > 3


def assert_same_measurement(one: Measurement, other: Measurement) -> None:
    assert list(one) == list(other)
    for name in one:
        torch.testing.assert_close(one[name].class_means, other[name].class_means, rtol=1e-5, atol=1e-6)
        assert torch.equal(one[name].weight, other[name].weight)
        assert torch.equal(one[name].counts, other[name].counts)
        assert one[name].accuracy == other[name].accuracy


@pytest.mark.parametrize("batch_size", [1, 7, 59, 60])
def test_the_batch_size_changes_nothing(
    batch_size: int, cct: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    probes = random_probes(cct, select_sites(cct.sites(), "block.2.*"), (0, 1))
    whole = measure_probes(cct, probes, digits, normalisation)
    for one, other in zip(
        whole, measure_probes(cct, probes, digits, normalisation, batch_size=batch_size), strict=True
    ):
        assert_same_measurement(one, other)


def test_what_leaves_a_layer_is_seen_through_what_enters_it(
    cct: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    wanted = select_sites(cct.sites(), ["block.*.ln", "block.*.qkv", "block.*.linear2.no_skip"])
    probes = random_probes(cct, wanted, (0, 1))
    read = [[probe.site.name for probe, _ in read.probes] for read in reads(cct, probes)]
    assert read == [
        [f"block.{b}.{name}" for name in names] for b in (1, 2) for names in (["ln", "qkv"], ["linear2.no_skip"])
    ]
    alone = measure_probes(cct, random_probes(cct, wanted[1:2], (0, 1)), digits, normalisation)
    for seed, whole in enumerate(measure_probes(cct, probes, digits, normalisation)):
        torch.testing.assert_close(whole["block.1.qkv"].class_means, alone[seed]["block.1.qkv"].class_means)
    assert len(reads(cct, Probes(wanted, 10, (0,), layer_norm=True))) == 6, "a normalised token is not linear"


def test_a_masked_layer_is_seen_as_its_mask_leaves_it(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    (layer,) = select_layers(layers(cct), "block.2.qkv")
    mask = torch.rand(48, 16, generator=torch.Generator().manual_seed(0)) > 0.7
    mask[3] = False
    apply_masks(cct, {layer.module: mask})
    probes = random_probes(cct, select_sites(cct.sites(), "block.2.qkv"), (0,))
    (measured,) = measure_probes(cct, probes, digits, normalisation)
    inputs = network_input(digits, normalisation)
    for node in (0, 3, 40):
        expected = brute_force(cct, inputs, digits.labels, probes["block.2.qkv"], 0, node)
        found = outer_product(measured["block.2.qkv"].matrices, node)
        if node == 3:
            assert not found.any()
        else:
            assert_close(found, expected)


def test_the_order_of_the_images_changes_nothing(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    probes = random_probes(cct, select_sites(cct.sites(), "block.2.*"), (0,))
    shuffled = digits.take(torch.randperm(60, generator=torch.Generator().manual_seed(0)), digits.split)
    assert_same_measurement(
        measure_probes(cct, probes, digits, normalisation, batch_size=16)[0],
        measure_probes(cct, probes, shuffled, normalisation, batch_size=16)[0],
    )


@pytest.mark.parametrize(("matrix_units", "products"), [(True, True), (False, True), (False, False)])
def test_bf16_is_fp32_but_for_rounding(
    cct: CCT,
    digits: ImageSet,
    normalisation: Normalisation,
    matrix_units: bool,
    products: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend_cpu(monkeypatch, matrix_units, products)
    probes = random_probes(cct, cct.sites(), (0,))
    (exact,) = measure_probes(cct, probes, digits, normalisation)
    (rounded,) = measure_probes(cct, probes, digits, normalisation, "bf16")
    for name in exact:
        difference = (exact[name].class_means - rounded[name].class_means).norm() / exact[name].class_means.norm()
        assert difference < 0.05, name
    assert any(not torch.equal(exact[name].class_means, rounded[name].class_means) for name in exact)


def test_pooling_in_bf16_adds_little_to_the_rounding_of_the_pass(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes = random_probes(cct, cct.sites(), (0,))
    (exact,) = measure_probes(cct, probes, digits, normalisation)
    errors = {}
    for products in (True, False):
        pretend_cpu(monkeypatch, matrix_units=False, products=products)
        (found,) = measure_probes(cct, probes, digits, normalisation, "bf16")
        errors[products] = {name: float((found[name].class_means - exact[name].class_means).norm()) for name in exact}
    assert errors[True] != errors[False]
    assert sum(errors[True].values()) < 1.25 * sum(errors[False].values())
    assert all(errors[True][name] < 2 * error for name, error in errors[False].items())


def test_counts_are_those_of_the_labels(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    (measured,) = measure_probes(cct, random_probes(cct, cct.sites()[:1], (0,)), digits, normalisation)
    counts = measured["block.1.ln"].counts.tolist()
    assert counts == [digits.labels.tolist().count(label) for label in range(10)]
    assert len(set(counts)) > 1


def test_labels_that_never_occur_are_named(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    kept = digits.take(torch.nonzero((digits.labels != 4) & (digits.labels != 9)).flatten(), "some")
    with pytest.raises(
        InputError, match=r"2 labels never occur in digits some \('4', '9'\); give a split that has every label"
    ):
        measure_probes(cct, random_probes(cct, cct.sites()[:1], (0,)), kept, normalisation)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_activations_that_are_not_finite_are_named(
    value: float, cct: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    with torch.no_grad():
        cct.classifier.blocks[1].linear2.bias[3] = value
    wanted = select_sites(cct.sites(), ["block.2.linear1", "block.2.linear2"])
    with pytest.raises(InputError, match=r"the activations at block\.2\.linear2 are NaN or infinite"):
        measure_probes(cct, random_probes(cct, wanted, (0,)), digits, normalisation)


def test_measure_leaves_the_network_as_it_is(cct: CCT, digits: ImageSet) -> None:
    cct.train()
    before = {key: tensor.clone() for key, tensor in cct.state_dict().items()}
    measured = measure(cct, (digits, digits), "block.*.linear2", split="test-60", settings=ProbeSettings(RECIPE))
    assert list(measured) == ["block.1.linear2", "block.2.linear2"]
    assert cct.training
    assert all(weight.requires_grad for weight in cct.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in cct.state_dict().items())


def test_a_measurement_shows_itself_and_names_what_it_lacks(cct: CCT, digits: ImageSet) -> None:
    measured = measure(cct, (digits, digits), "block.1.*", split="test-60", settings=ProbeSettings(RECIPE))
    statistics = measured["block.1.ln"].statistics(0.3)
    shown = measured._repr_html_()
    assert shown.count("<tr>") == 1 + len(measured)
    assert f"<td>{statistics.diagonal:.3g}</td>" in shown
    assert shown.count("<img ") == 1, "how they grow along the network"
    with pytest.raises(InputError, match=r"'block\.9\.ln' was not measured; measured: block\.1\.ln, block\.1\.qkv"):
        measured["block.9.ln"]


class Killed(BaseException):
    """Stands for a kill within the process."""


def kill_at_call(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, call: int) -> None:
    original, calls = getattr(owner, name), []

    def interrupted(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if len(calls) == call:
            raise Killed
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, interrupted)


# Two sites: their probes are written by calls 1 and 2, their class means by 3 and 4; then the untrained twin's.
@pytest.mark.parametrize("call", range(1, 9))
def test_a_killed_measurement_ends_as_if_it_had_not_been(
    call: int, cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    data = ProbingData(digits, {digits.split: digits}, normalisation)
    settings = MeasureSettings(("block.*.linear2",), (digits.split,), ProbeSettings(RECIPE, seeds=(0, 1)))
    runs = [RunDirectory(tmp_path / name) for name in ("undisturbed", "killed")]
    for run in runs:
        run.path.mkdir()
    measure_network(cct, data, settings, runs[0])
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at_call(monkeypatch, RunDirectory, "write_tensors", call)
        with pytest.raises(Killed):
            measure_network(cct, data, settings, runs[1])
    measure_network(cct, data, settings, runs[1])
    for folder in ("measure", "measure/untrained"):
        one, other = (load_measurements(run, digits.split, folder=folder) for run in runs)
        assert [m.seed for m in one] == [0, 1]
        for a, b in zip(one, other, strict=True):
            assert list(a) == list(b) == ["block.1.linear2", "block.2.linear2"]
            for name in a:
                assert torch.equal(a[name].class_means, b[name].class_means)
                assert torch.equal(a[name].weight, b[name].weight)
                assert a[name].accuracy == b[name].accuracy


def test_a_killed_measurement_of_other_sites_does_not_block_the_next(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    data, run = ProbingData(digits, {digits.split: digits}, normalisation), RunDirectory(tmp_path)
    first, second = (
        MeasureSettings((f"block.{b}.linear2",), (digits.split,), ProbeSettings(RECIPE), untrained=False)
        for b in (1, 2)
    )
    for settings in (first, second):
        with pytest.MonkeyPatch.context() as monkeypatch:
            kill_at_call(monkeypatch, RunDirectory, "write_tensors", 1)
            with pytest.raises(Killed):
                measure_network(cct, data, settings, run)
    assert len(list(run.checkpoints.glob("probes-network-*.pt"))) == 2
    for settings in (second, first):
        measure_network(cct, data, settings, run)
    assert not any(run.checkpoints.glob("*.pt"))
    assert list(load_measurements(run, digits.split)[0]) == ["block.1.linear2", "block.2.linear2"]


def test_what_another_command_measured_meanwhile_stays(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    run, other = RunDirectory(tmp_path), digits.take(np.arange(60), "other")
    splits = {digits.split: digits}
    wanted = MeasureSettings(("block.*.linear2",), tuple(splits), ProbeSettings(RECIPE), untrained=False)
    with pytest.MonkeyPatch.context() as monkeypatch:
        kill_at_call(monkeypatch, RunDirectory, "write_tensors", 1)
        with pytest.raises(Killed):
            measure_network(cct, ProbingData(digits, splits, normalisation), wanted, run)
    both, file = splits | {"other": other}, tmp_path / "measure" / "block.1.linear2.safetensors"
    one = replace(wanted, sites=("block.1.linear2",), splits=tuple(both))
    measure_network(cct, ProbingData(digits, both, normalisation), one, run)
    before = file.read_bytes()
    measure_network(cct, ProbingData(digits, splits, normalisation), wanted, run)
    assert file.read_bytes() == before
    assert list(load_measurements(run, digits.split)[0]) == ["block.1.linear2", "block.2.linear2"]
    assert not any(run.checkpoints.glob("*.pt"))


def test_the_untrained_twin_lacks_the_weights_that_the_network_lacks(cct: CCT) -> None:
    mask = torch.rand(16, 32, generator=torch.Generator().manual_seed(0)) < 0.5
    apply_masks(cct, {"classifier.blocks.1.linear2": mask})
    twin = untrained_twin(cct, seed=3)
    assert torch.equal(masks_of(twin)["classifier.blocks.1.linear2"], mask)
    trained, fresh = (network.classifier.blocks[1].linear2.weight for network in (cct, twin))
    assert not fresh[~mask].any()
    assert not torch.equal(fresh[mask], trained[mask])


def test_the_untrained_twin_leaves_the_random_state_and_follows_from_its_seed(cct: CCT) -> None:
    before = torch.get_rng_state()
    twin = untrained_twin(cct, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    expected = CCT(cct.config).state_dict()
    assert all(torch.equal(weight, expected[key]) for key, weight in twin.state_dict().items())


def test_tokens_are_normalised_where_there_are_tokens(
    digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    network = VGG(VGGConfig("vgg11", labels=10, image_size=32, channels=1))
    data = ProbingData(digits, {"test": digits}, normalisation)
    settings = MeasureSettings(("linear.*",), probe=ProbeSettings(layer_norm=True))
    with pytest.raises(InputError, match="leave out --layer-norm"):
        measure_network(network, data, settings, RunDirectory(tmp_path))
    assert not (tmp_path / "config.json").exists()


def test_fewer_images_than_a_batch_are_one_batch(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    few = digits.take(torch.arange(40), "few")
    found = [
        train_probes(cct, cct.sites()[:1], few, normalisation, ProbeSettings(probe_recipe(2, batch_size=size)))
        for size in (40, 128)
    ]
    one, other = (probes.state_dict() for probes in found)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_images_of_other_channels_or_labels_do_not_fit(cct: CCT, digits: ImageSet) -> None:
    check_fits(cct, digits)
    with pytest.raises(InputError, match="reads images of 3 channels but those of digits have 1"):
        check_fits(build_network("cct_2_3x1_16", 10, 8, 3), digits)
    with pytest.raises(InputError, match="has 9 outputs but digits has 10 labels"):
        check_fits(build_network("cct_2_3x1_16", 9, 8, 1), digits)


@pytest.mark.parametrize("kind", ["cct_2_3x1_16", "vit_2_patch4_16", "resnet18_3x3"])
def test_the_network_s_own_head_is_measured_as_it_is(kind: str, digits: ImageSet, normalisation: Normalisation) -> None:
    torch.manual_seed(0)
    network = build_network(kind, 10, 8, 1).eval()
    own = sites(network)[-1]
    layer = network.get_submodule(own.module)
    assert isinstance(layer, nn.Linear)
    found = measure(network, (digits, digits), "own_head", split=digits.split)["own_head"]
    images = normalise(digits.batch(torch.arange(60)), normalisation.mean, normalisation.std)
    entered: list[Tensor] = []
    with torch.no_grad(), reading(network, [own], lambda _, nodes: entered.append(nodes)):
        logits = network(images)
    assert torch.equal(found.weight, layer.weight.detach())
    assert found.accuracy == (logits.argmax(1) == digits.labels).double().mean().item()
    expected = torch.stack([entered[0][digits.labels == label].mean(0) for label in range(10)])
    torch.testing.assert_close(found.class_means, expected, rtol=1e-4, atol=1e-5)


def test_probes_learn_beside_a_head_that_stays(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    with torch.no_grad():
        cct.get_submodule("classifier.fc").bias.normal_()  # type: ignore[union-attr]
    settings = ProbeSettings(RECIPE, seeds=(0, 7))
    chosen = select_sites(sites(cct), ["block.1.linear2", "own_head"])
    both = train_probes(cct, chosen, digits, normalisation, settings, tmp_path / "state.pt")
    alone = train_probes(cct, chosen[:1], digits, normalisation, settings)
    assert torch.equal(both["block.1.linear2"].weight, alone["block.1.linear2"].weight)
    found = measure_probes(cct, both, digits, normalisation)
    assert torch.equal(found[0]["own_head"].weight, found[1]["own_head"].weight)
    images = normalise(digits.batch(torch.arange(60)), normalisation.mean, normalisation.std)
    with torch.no_grad():
        answers = cct(images).argmax(1)
    assert [of_seed["own_head"].accuracy for of_seed in found] == [(answers == digits.labels).double().mean()] * 2


def test_a_pruned_head_is_measured_as_the_network_uses_it(cct: CCT, digits: ImageSet) -> None:
    kept = torch.rand(10, 16) > 0.5
    apply_masks(cct, {"classifier.fc": kept})
    assert torch.equal(measure(cct, (digits, digits), "own_head", split=digits.split)["own_head"].weight != 0, kept)


def test_a_head_that_answers_with_other_labels_is_none(cct: CCT, digits: ImageSet) -> None:
    fewer = replace(digits, label_names=digits.label_names[:7], labels=digits.labels % 7)
    with pytest.raises(InputError, match="own_head answers with 10 labels other than the 7 of digits"):
        measure(cct, (fewer, fewer), "own_head", split=digits.split, other_labels=True)
    # Others may be as many.
    with pytest.raises(InputError, match="own_head answers with 10 labels other than the 10 of digits"):
        measure(cct, (digits, digits), "own_head", split=digits.split, other_labels=True)


def test_a_network_s_own_answers_are_not_measured_as_others(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    run, data = RunDirectory(tmp_path), ProbingData(digits, {digits.split: digits}, normalisation)
    settings = MeasureSettings(("block.1.ln",), (digits.split,), ProbeSettings(RECIPE), False, other_labels=True)
    measure_network(cct, data, settings, run)
    measured = run.configuration()["measure"]
    assert "own_head" not in measured["sites"]
    assert "output" not in [layer["name"] for layer in measured["layers"]]
    with pytest.raises(InputError, match="own_head answers with 10 labels other than the 10 of digits"):
        measure_network(cct, data, replace(settings, sites=("own_head",)), run)


def test_after_probes_that_diverge_others_can_be_trained_in_the_same_place(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    run, data = RunDirectory(tmp_path), ProbingData(digits, {digits.split: digits}, normalisation)
    run.configure("train", {"seed": 3})
    wild = replace(RECIPE, learning_rate=1e30, batch_size=10)
    settings = MeasureSettings(("block.1.ln",), (digits.split,), ProbeSettings(wild), untrained=False)
    with pytest.raises(InputError, match="learning rate is too high"):
        measure_network(cct, data, settings, run)
    assert run.settings("measure") == {}
    assert run.settings("train") == {"seed": 3}
    measure_network(cct, data, replace(settings, probe=ProbeSettings(RECIPE)), run)
    # What was kept belongs to its settings.
    with pytest.raises(InputError, match="belongs to another measure configuration"):
        measure_network(cct, data, settings, run)
    with pytest.raises(InputError, match="no site matches"):
        measure_network(cct, data, replace(settings, probe=ProbeSettings(RECIPE), sites=("block.9.ln",)), run)
    assert run.settings("measure")


def test_filters_measured_as_they_are_are_not_mixed_with_scaled_ones(
    digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    run, data = RunDirectory(tmp_path), ProbingData(digits, {digits.split: digits}, normalisation)
    network = Convolutions().eval()
    settings = MeasureSettings(("conv.1",), (digits.split,), ProbeSettings(RECIPE), untrained=False)
    measure_network(network, data, settings, run)
    recorded = run.configuration()
    assert recorded["measure"]["settings"].pop("reads") == {"filters": "of one size"}
    run.write_json("config.json", recorded)  # as a version wrote it that did not scale
    with pytest.raises(InputError, match="belongs to another measure configuration"):
        measure_network(network, data, settings, run)


def test_a_directory_of_an_earlier_version_is_gone_on_with(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    run, data = RunDirectory(tmp_path), ProbingData(digits, {digits.split: digits}, normalisation)
    settings = MeasureSettings(("block.1.ln",), (digits.split,), ProbeSettings(RECIPE), untrained=False)
    measure_network(cct, data, settings, run)
    recorded = run.configuration()
    recorded["measure"]["settings"] = {k: v for k, v in recorded["measure"]["settings"].items() if v is not None}
    recorded["measure"]["settings"]["probe"].pop("rms_scale")
    run.write_json("config.json", recorded)
    measure_network(cct, data, replace(settings, sites=("block.1.qkv",)), run)
    assert len(load_measurements(run, digits.split)[0]) == 2


def test_what_is_stored_is_what_was_measured(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    settings = ProbeSettings(replace(RECIPE, epochs=2), seeds=(5,))
    run = RunDirectory(tmp_path)
    data = ProbingData(digits, {digits.split: digits}, normalisation)
    measure_network(cct, data, MeasureSettings(probe=settings, splits=(digits.split,), untrained=False), run)
    (stored,) = load_measurements(run, digits.split)
    in_memory = measure(cct, (digits, digits), "*", split=digits.split, settings=settings)
    assert_same_measurement(stored, in_memory)
    assert [stored[name].site for name in stored] == sites(cct)
    with pytest.raises(InputError, match=r"block\.1\.ln was not measured on 'train' in .*; measured: test-60"):
        load_measurements(run, "train")
