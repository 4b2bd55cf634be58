"""Probes: trained side by side as if alone, against plain autograd, and without touching the network."""

import copy
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import Tensor, nn

from nodelens.data import Augmentation, ImageSet, Normalisation, load_images, normalisation_of
from nodelens.errors import InputError
from nodelens.networks import CCT, Site, build_network, reading, select_sites
from nodelens.networks.network import Network
from nodelens.probing import Probe, Probes, ProbeSettings, probe_recipe, train_probes
from nodelens.probing.reads import reads
from nodelens.probing.train import probe_gradients
from nodelens.training import RECIPES, Recipe
from nodelens.training.batches import Batch, training_batches

CPU = torch.device("cpu")
RECIPE = Recipe(
    epochs=2, batch_size=32, learning_rate=1e-2, final_learning_rate=0.0, augmentation=Augmentation(crop_padding=1)
)
SETTINGS = ProbeSettings(RECIPE, seeds=(0, 1))
SCALED = replace(SETTINGS, rms_scale=True)


@dataclass(frozen=True)
class ConvolutionsConfig:
    labels: int = 10
    image_size: int = 8
    channels: int = 1


class Convolutions(Network):
    """Two convolutions with batch norm, then hidden units: filters and units as sites."""

    family = "test"

    def __init__(self) -> None:
        super().__init__()
        self.config = ConvolutionsConfig()
        self.features = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 3), nn.ReLU()
        )
        self.hidden = nn.Sequential(nn.Linear(12, 6), nn.ReLU(), nn.Dropout())
        self.output = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.output(self.hidden(self.features(images).flatten(1)))

    def sites(self) -> list[Site]:
        return [
            Site("conv.1", 4, "features.3", "output", "channels", 16),
            Site("conv.2", 3, "features.5", "output", "channels", 4),
            Site("linear.1", 6, "hidden.1", "output", "units"),
        ]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return load_images("digits", "train", cache=tmp_path_factory.mktemp("cache")).take(torch.arange(100), "train-100")


@pytest.fixture(scope="module")
def normalisation(digits: ImageSet) -> Normalisation:
    return normalisation_of(digits)


@pytest.fixture
def convolutions() -> Convolutions:
    torch.manual_seed(0)
    network = Convolutions()
    network(torch.randn(50, 1, 8, 8))
    return network.eval()


@pytest.fixture(params=["cct", "convolutions"])
def network(request: pytest.FixtureRequest) -> Network:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Network)
    return found


@pytest.fixture
def batch(digits: ImageSet, normalisation: Normalisation) -> Batch:
    return next(iter(training_batches(digits, RECIPE, 0, normalisation, CPU)))


def literal_pool(activations: Tensor, pool_weight: Tensor, real: Tensor | None = None) -> Tensor:
    """a = softmax_T(x·g + c), z = Σ_t a_t x_t (method, section 2), over the tokens that are no filling."""
    weights = (activations * pool_weight).sum(-1).exp() * (1 if real is None else real)
    shares = weights / weights.sum(1, keepdim=True)
    return (shares[..., None] * activations).sum(1)


def literal_logits(probe: Probe, activations: Tensor, weights: dict[str, Tensor], real: Tensor | None = None) -> Tensor:
    if probe.site.layout == "tokens":
        pooled = literal_pool(activations, weights["pool_weight"], real)
    else:
        pooled = activations.reshape(len(activations), -1)
    return torch.einsum("bk,jk->bj", pooled, weights["weight"])


def activations_of(network: Network, images: Tensor) -> dict[str, Tensor]:
    read: dict[str, Tensor] = {}
    with torch.no_grad(), reading(network, network.sites(), read.__setitem__):
        network(images)
    return read


def randomised(probes: Probes, seed: int) -> Probes:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in probes.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return probes


def test_logits_and_gradients_are_those_of_plain_autograd(network: Network, batch: Batch) -> None:
    check_against_autograd(network, batch)


def test_what_fills_up_a_text_is_not_pooled(batch: Batch) -> None:
    torch.manual_seed(0)
    network = build_network("bert_2_64", 10, 0, 0, vocabulary=30, positions=12).eval()
    tokens = network.example(len(batch.images))
    lengths = torch.randint(1, 13, (len(tokens), 1), generator=torch.Generator().manual_seed(0))
    real = torch.arange(12) < lengths
    check_against_autograd(network, replace(batch, images=tokens * real), real)


def check_against_autograd(network: Network, batch: Batch, real: Tensor | None = None) -> None:
    probes = randomised(Probes(network.sites(), 10, seeds=(4, 5, 6)), 0)
    losses = probe_gradients(network, reads(network, probes), batch, "fp32")
    activations = activations_of(network, batch.images)
    for probe in probes:
        for i in range(3):
            alone = {name: weight[i].detach().double().requires_grad_() for name, weight in probe.named_parameters()}
            logits = literal_logits(probe, activations[probe.site.name].double(), alone, real)
            found = probe(activations[probe.site.name], real)[i].detach()
            torch.testing.assert_close(found, logits.detach().float(), rtol=1e-4, atol=1e-5)
            log_shares = logits - logits.exp().sum(1, keepdim=True).log()
            loss = -(batch.targets.double() * log_shares).sum(1).mean()
            loss.backward()
            assert losses[probe.site.name][i].item() == pytest.approx(loss.item(), rel=1e-5)
            for name, weight in probe.named_parameters():
                assert weight.grad is not None
                expected = alone[name].grad
                assert expected is not None
                # The pooling's bias moves all tokens alike: its gradient is zero but for rounding.
                torch.testing.assert_close(weight.grad[i], expected.float(), rtol=1e-3, atol=1e-6)
        assert probe.weight.grad is not None
        assert probe.weight.grad.abs().max() > 1e-4


def pretend_cpu(monkeypatch: pytest.MonkeyPatch, matrix_units: bool, products: bool) -> None:
    """A CPU that multiplies bf16 in units of their own, or at all."""
    for room in ("nodelens.networks.attention", "nodelens.probing.readout"):
        monkeypatch.setattr(f"{room}.MATRIX_UNITS", matrix_units)
    monkeypatch.setattr("nodelens.probing.readout.BF16_PRODUCTS", products)


@pytest.mark.parametrize(("matrix_units", "products"), [(True, True), (False, True), (False, False)])
def test_bf16_gradients_are_fp32_s_but_for_rounding(
    cct: CCT, batch: Batch, matrix_units: bool, products: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_cpu(monkeypatch, matrix_units, products)
    gradients = {}
    for precision in ("fp32", "bf16"):
        probes = randomised(Probes(cct.sites(), 10, seeds=(0,)), 0)
        probe_gradients(cct, reads(cct, probes), batch, precision)
        gradients[precision] = {name: weight.grad for name, weight in probes.named_parameters()}
    for name, exact in gradients["fp32"].items():
        rounded = gradients["bf16"][name]
        assert rounded.dtype == torch.float32
        assert not torch.equal(rounded, exact), name
        assert (rounded - exact).norm() < 0.05 * exact.norm(), name


def train_some(
    network: Network, names: Sequence[str], digits: ImageSet, normalisation: Normalisation, settings: ProbeSettings
) -> Probes:
    return train_probes(copy.deepcopy(network), select_sites(network.sites(), names), digits, normalisation, settings)


def test_probes_side_by_side_are_those_trained_alone(
    network: Network, digits: ImageSet, normalisation: Normalisation
) -> None:
    together = train_some(network, "*", digits, normalisation, SETTINGS)
    untrained = Probes(network.sites(), 10, SETTINGS.seeds)
    for site in network.sites():
        alone = train_some(network, [site.name], digits, normalisation, SETTINGS)[site.name]
        for name, weight in together[site.name].named_parameters():
            torch.testing.assert_close(weight, getattr(alone, name), rtol=1e-5, atol=1e-6)
        assert (alone.weight - untrained[site.name].weight).abs().max() > 0.01


@pytest.mark.parametrize("settings", [SETTINGS, SCALED])
def test_a_seed_among_others_is_that_seed_alone(
    settings: ProbeSettings, network: Network, digits: ImageSet, normalisation: Normalisation
) -> None:
    both = train_some(network, "*", digits, normalisation, settings)
    second = train_some(network, "*", digits, normalisation, replace(settings, seeds=(1,)))
    for site in network.sites():
        for name, weight in both[site.name].named_parameters():
            torch.testing.assert_close(weight[1], getattr(second[site.name], name)[0], rtol=1e-3, atol=1e-4)
            assert not torch.allclose(weight[0], weight[1], atol=1e-2)


def test_the_network_is_only_read(network: Network, digits: ImageSet, normalisation: Normalisation) -> None:
    # In train mode batch norm and dropout would give it away.
    network.train()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    train_probes(network, network.sites(), digits, normalisation, SETTINGS)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(weight.grad is None for weight in network.parameters())
    hooks = [h for m in network.modules() for h in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    assert not hooks


def test_probes_learn(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    settings = ProbeSettings(replace(RECIPE, epochs=30, augmentation=Augmentation(flip=0.0)))
    wanted = select_sites(cct.sites(), "block.1.linear2")
    probe = train_probes(cct, wanted, digits, normalisation, settings)["block.1.linear2"]
    images = next(iter(training_batches(digits, replace(settings.recipe, batch_size=100), 0, normalisation, CPU)))
    logits = probe(activations_of(cct, images.images)["block.1.linear2"])[0]
    # Even an untrained network's tokens tell digits apart; chance is 0.1.
    assert (logits.argmax(1) == images.targets.argmax(1)).float().mean() > 0.5
    assert not any(weight.requires_grad for weight in probe.parameters())


class Killed(BaseException):
    """Stands for a kill within the process."""


@pytest.mark.parametrize("settings", [SETTINGS, SCALED])
@pytest.mark.parametrize("batches", [0, 2, 3, 5])
def test_a_killed_training_ends_as_if_it_had_not_been(
    batches: int, settings: ProbeSettings, cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    undisturbed = train_probes(cct, cct.sites(), digits, normalisation, settings)

    def interrupted(*arguments: Any) -> Iterator[Batch]:
        for done, found in enumerate(training_batches(*arguments)):
            if done == batches:
                raise Killed
            yield found

    state = tmp_path / "probes.pt"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys.modules["nodelens.probing.train"], "training_batches", interrupted)
        with pytest.raises(Killed):
            train_probes(cct, cct.sites(), digits, normalisation, settings, state, checkpoint_seconds=0.0)
    assert state.exists() == (batches > 0)
    resumed = train_probes(cct, cct.sites(), digits, normalisation, settings, state, checkpoint_seconds=0.0)
    expected = undisturbed.state_dict()
    assert all(torch.equal(weight, expected[key]) for key, weight in resumed.state_dict().items())


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_scaled_probes_are_those_of_scaled_activations(
    optimizer: str, convolutions: Convolutions, digits: ImageSet, normalisation: Normalisation
) -> None:
    sites, recipe = select_sites(convolutions.sites(), ["linear.1"]), probe_recipe(3, None, optimizer, 20, 0.0)
    settings = ProbeSettings(recipe, seeds=(0, 1))
    # Of all images of a batch the same, so that the first batch's mean square is that of any.
    same = digits.take(torch.zeros(100, dtype=torch.long), "same")
    images = normalisation.applied(same.batch(torch.arange(20)), CPU)
    factor = activations_of(convolutions, images)["linear.1"].square().mean().rsqrt()
    scaled = copy.deepcopy(convolutions)
    with torch.no_grad():
        for weight in (scaled.hidden[0].weight, scaled.hidden[0].bias):
            weight.mul_(factor)
    by_hand = train_probes(scaled, sites, same, normalisation, settings)["linear.1"]
    probe = train_probes(convolutions, sites, same, normalisation, replace(settings, rms_scale=True))["linear.1"]
    assert 0 < factor < 0.9 or factor > 1.1
    torch.testing.assert_close(probe.weight, by_hand.weight * factor, rtol=1e-4, atol=1e-6)


def test_a_scaled_probe_knows_the_same_of_a_louder_network(
    cct: CCT, digits: ImageSet, normalisation: Normalisation
) -> None:
    names, louder = ["block.1.linear2", "block.2.qkv"], copy.deepcopy(cct)
    # A power of two rounds alike.
    with torch.no_grad():
        for weight in louder.get_submodule("classifier.blocks.1.self_attn.qkv").parameters():
            weight.mul_(64)
    one = train_some(cct, names, digits, normalisation, SCALED)
    other = train_some(louder, names, digits, normalisation, SCALED)
    for name, factor in zip(names, (1, 64), strict=True):
        assert torch.equal(one[name].weight, factor * other[name].weight)
        assert torch.equal(one[name].pool_weight, factor * other[name].pool_weight)


def test_what_a_probe_normalises_is_not_scaled(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    names = ["block.1.linear2"]
    plain, scaled = (
        train_some(cct, names, digits, normalisation, replace(SETTINGS, layer_norm=True, rms_scale=rms))
        for rms in (None, True)
    )
    assert torch.equal(scaled[names[0]].weight, plain[names[0]].weight)


def test_the_scale_of_texts_is_that_of_their_own_tokens_in_however_many_processes(
    batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    # As many nodes as tokens: the pooler's nodes are none.
    network = build_network("bert_1_64", 10, 0, 0, vocabulary=30, positions=64, heads=4).eval()
    tokens = network.example(8)
    real = torch.arange(64) < torch.tensor([[3], [64], [10], [5], [40], [2], [9], [60]])
    texts = replace(batch, images=tokens * real, targets=batch.targets[:8])
    sites = select_sites(network.sites(), ["block.1.linear1", "pooler"])
    activations = activations_of(network, texts.images)
    expected = [
        x.double().square().mean().rsqrt() for x in (activations["block.1.linear1"][real], activations["pooler"])
    ]

    def scales(of: Batch) -> list[Tensor]:
        probes = list(Probes(sites, 10, seeds=(0,)))
        room._scale(network, probes, of, "fp32")
        return [probe.scale for probe in probes if probe.scale is not None]

    room = sys.modules["nodelens.probing.train"]
    torch.testing.assert_close(scales(texts), [scale.float() for scale in expected])
    first, others = list[Tensor](), list[Tensor]()
    monkeypatch.setattr(room, "add_up", lambda parts: first.extend(part.clone() for part in parts))
    halves = [
        replace(texts, images=texts.images[half], targets=texts.targets[half], share=0.5)
        for half in (slice(4), slice(4, 8))
    ]
    scales(halves[0])
    monkeypatch.setattr(
        room, "add_up", lambda parts: others.extend(part.add_(one) for part, one in zip(parts, first, strict=True))
    )
    torch.testing.assert_close(scales(halves[1]), [scale.float() for scale in expected], rtol=1e-6, atol=0)
    assert len(others) == 2


def test_by_default_the_probes_of_filters_are_scaled(
    convolutions: Convolutions, digits: ImageSet, normalisation: Normalisation
) -> None:
    default, never, always = (
        train_some(convolutions, "*", digits, normalisation, replace(SETTINGS, rms_scale=scale))
        for scale in (None, False, True)
    )
    for site, expected in (("conv.1", always), ("conv.2", always), ("linear.1", never)):
        assert torch.equal(default[site].weight, expected[site].weight)
        assert not torch.allclose(always[site].weight, never[site].weight)


def test_silent_nodes_leave_a_scaled_probe_finite(
    convolutions: Convolutions, digits: ImageSet, normalisation: Normalisation
) -> None:
    with torch.no_grad():
        convolutions.hidden[0].weight.zero_()
        convolutions.hidden[0].bias.fill_(-1)
    assert all(probe.weight.isfinite().all() for probe in train_some(convolutions, "*", digits, normalisation, SCALED))


def test_a_state_of_other_sites_is_refused(
    cct: CCT, digits: ImageSet, normalisation: Normalisation, tmp_path: Path
) -> None:
    state = tmp_path / "probes.pt"
    train_probes(cct, select_sites(cct.sites(), "block.1.ln"), digits, normalisation, SETTINGS, state)
    with pytest.raises(InputError, match=r"probes\.pt is of other sites; delete it"):
        train_probes(cct, select_sites(cct.sites(), "block.2.ln"), digits, normalisation, SETTINGS, state)


def test_layer_norm_before_the_pooling_is_torch_s(cct: CCT) -> None:
    site = select_sites(cct.sites(), "block.2.linear2")[0]
    plain, normed = (Probes([site], 10, (0, 1), layer_norm=on)[site.name] for on in (False, True))
    normed.load_state_dict(plain.state_dict())
    x = 3 + 5 * torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(normed(x), plain(F.layer_norm(x, (16,))), rtol=1e-6, atol=1e-6)
    for i in range(2):
        pooled = literal_pool(F.layer_norm(x, (16,)), plain.pool_weight[i])
        torch.testing.assert_close(normed.pool(x)[i], pooled, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(normed(x), plain(x), atol=0.1)


def test_filters_are_read_at_every_position_node_by_node(convolutions: Convolutions) -> None:
    site = convolutions.sites()[0]
    probe = Probes([site], 10, (0,))[site.name]
    x = torch.randn(5, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    only_node_2 = torch.zeros_like(probe.weight)
    only_node_2[:, :, 2 * 16 : 3 * 16] = probe.weight[:, :, 2 * 16 : 3 * 16].detach()
    weight = probe.weight[0].detach().reshape(10, 4, 4, 4)
    with torch.no_grad():
        probe.weight.copy_(only_node_2)
        torch.testing.assert_close(probe(x)[0], torch.einsum("bhw,jhw->bj", x[:, 2], weight[:, 2]))
    assert probe.pool_weight is None


def test_initial_weights_depend_on_site_and_seed_only(cct: CCT) -> None:
    everything = Probes(cct.sites(), 10, (0, 7))
    some = Probes(cct.sites()[5:6], 10, (7, 3))
    name = cct.sites()[5].name
    assert torch.equal(everything[name].weight[1], some[name].weight[0])
    assert torch.equal(everything[name].pool_weight[1], some[name].pool_weight[0])
    assert not torch.equal(everything[name].weight[0], everything[name].weight[1])
    assert not torch.equal(everything["block.1.ln"].weight, everything["block.2.ln"].weight)
    # Uniform within ±1/√inputs, as nn.Linear begins.
    assert everything["block.1.qkv"].weight.abs().max() <= 48**-0.5
    assert everything["block.1.qkv"].weight.std().item() == pytest.approx((48 * 3) ** -0.5, rel=0.1)


def test_the_default_recipe_is_the_paper_s_rate_and_decay() -> None:
    chosen = probe_recipe(9)
    assert (chosen.epochs, chosen.optimizer, chosen.learning_rate, chosen.weight_decay) == (9, "adamw", 5e-3, 5e-2)
    assert chosen.rate(90, 10) == pytest.approx(0.0)


def test_sgd_finds_the_only_minimum_of_a_penalised_probe(
    convolutions: Convolutions, digits: ImageSet, normalisation: Normalisation
) -> None:
    site, penalty = select_sites(convolutions.sites(), ["linear.1"]), 0.02
    recipe = probe_recipe(400, 0.2, "sgd", batch_size=100, flip=0.0, weight_decay=penalty)
    probes = train_probes(convolutions, site, digits, normalisation, ProbeSettings(recipe, seeds=(0, 1)))
    found = probes["linear.1"].weight.double()
    images = normalisation.applied(digits.batch(torch.arange(100)), CPU)
    nodes = activations_of(convolutions, images)["linear.1"].double()
    targets = torch.full((100, 10), recipe.label_smoothing / 10, dtype=torch.float64)
    targets[torch.arange(100), digits.labels] += 1 - recipe.label_smoothing

    def loss(weight: Any) -> Any:
        w = torch.tensor(weight.reshape(10, 6), requires_grad=True)
        total = F.cross_entropy(nodes @ w.T, targets) + penalty / 2 * w.square().sum()
        total.backward()
        return total.item(), w.grad.numpy().ravel()

    best = minimize(loss, torch.zeros(60, dtype=torch.float64).numpy(), jac=True, options={"gtol": 1e-9})
    expected = torch.tensor(best.x.reshape(10, 6))
    for weight in found:  # wherever it began
        torch.testing.assert_close(weight, expected, rtol=1e-3, atol=1e-4)
    # There W is the mean product of what the answer lacks and the activation, divided by the penalty.
    lacking = targets - (nodes @ expected.T).softmax(dim=1)
    torch.testing.assert_close(lacking.T @ nodes / 100 / penalty, expected, rtol=1e-4, atol=1e-5)


def test_probes_of_mixed_images_are_those_of_a_plain_loop(
    convolutions: Convolutions, digits: ImageSet, normalisation: Normalisation
) -> None:
    strong = RECIPES["cct-300"].augmentation
    recipe = probe_recipe(4, 0.02, batch_size=20, flip=0.0, augmentation=strong)
    assert recipe.augmentation == replace(strong, flip=0.0)
    site = select_sites(convolutions.sites(), ["linear.1"])
    weight = Probes(site, 10, (0,))["linear.1"].weight[0].detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([weight], weight_decay=recipe.weight_decay)
    for step, batch in enumerate(training_batches(digits, recipe, 0, normalisation, CPU)):
        assert ((batch.targets > 0.011).sum(1) == 2).any(), "no image of two labels"
        nodes = activations_of(convolutions, batch.images)["linear.1"]
        optimizer.zero_grad()
        F.cross_entropy(nodes @ weight.T, batch.targets).backward()
        optimizer.param_groups[0]["lr"] = recipe.rate(step, 5)
        optimizer.step()
    found = train_probes(convolutions, site, digits, normalisation, ProbeSettings(recipe))["linear.1"].weight[0]
    torch.testing.assert_close(found, weight.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decay", [-0.1, float("nan"), float("inf")])
def test_a_weight_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="weight decay"):
        probe_recipe(1, weight_decay=decay)


def test_a_damaged_network_is_a_sentence(cct: CCT, digits: ImageSet, normalisation: Normalisation) -> None:
    with torch.no_grad():
        cct.classifier.blocks[1].linear1.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"the probe at block\.2\.linear1 has a loss that is not finite"):
        train_probes(cct, cct.sites(), digits, normalisation, SETTINGS)
