"""Schedules and optimizers against their closed forms."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from nodelens.errors import InputError
from nodelens.networks import apply_masks, build_network, layer_weight
from nodelens.training import RECIPES, Recipe, recipe
from nodelens.training.muon import StackedMuon
from nodelens.training.optimizer import make_optimizer

STEPS = 10
"""Steps per epoch."""


def test_cosine_goes_from_peak_to_final_rate() -> None:
    chosen = Recipe(epochs=8, learning_rate=0.4, final_learning_rate=0.1, warmup_epochs=0.0)
    assert chosen.rate(0, STEPS) == 0.4
    assert chosen.rate(8 * STEPS, STEPS) == pytest.approx(0.1)
    assert chosen.rate(4 * STEPS, STEPS) == pytest.approx(0.25)
    assert chosen.rate(2 * STEPS, STEPS) == pytest.approx(0.1 + 0.15 * (1 + math.sqrt(0.5)))


def test_cosine_is_the_chebyshev_recurrence_after_the_warm_up() -> None:
    # cos((n+1)h) = 2 cos(h) cos(nh) - cos((n-1)h), whatever computes the cosine.
    chosen = Recipe(epochs=6, learning_rate=1.0, final_learning_rate=-1.0, warmup_epochs=2.0)
    rates = [chosen.rate(step, STEPS) for step in range(2 * STEPS, 6 * STEPS + 1)]
    step = math.cos(math.pi / (4 * STEPS))
    assert rates[0] == 1.0
    assert rates[-1] == pytest.approx(-1.0)
    for before, here, after in zip(rates, rates[1:], rates[2:], strict=False):
        assert after == pytest.approx(2 * step * here - before, abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_warm_up_rises_linearly_to_the_peak(schedule: str) -> None:
    chosen = Recipe(epochs=20, learning_rate=0.5, warmup_epochs=3.0, warmup_learning_rate=0.1, schedule=schedule)
    rates = [chosen.rate(step, STEPS) for step in range(3 * STEPS)]
    assert rates == pytest.approx([0.1 + 0.4 * (step + 1) / (3 * STEPS) for step in range(3 * STEPS)])
    assert rates[-1] == pytest.approx(0.5)
    assert chosen.rate(3 * STEPS, STEPS) == pytest.approx(0.5)


def test_warm_up_may_be_part_of_an_epoch() -> None:
    chosen = Recipe(epochs=10, learning_rate=1.0, warmup_epochs=0.25, warmup_learning_rate=0.0)
    rates = [chosen.rate(step, STEPS) for step in range(STEPS)]
    assert rates[:3] == pytest.approx([0.4, 0.8, 1.0])
    assert all(a >= b for a, b in itertools.pairwise(rates[2:]))


def test_step_decay() -> None:
    chosen = Recipe(epochs=30, learning_rate=0.3, schedule="step", step_factor=0.8, step_epochs=10)
    expected = [0.3] * 10 + [0.24] * 10 + [0.192] * 10
    assert [chosen.rate(epoch * STEPS, STEPS) for epoch in range(30)] == pytest.approx(expected)
    assert [chosen.rate(epoch * STEPS + STEPS - 1, STEPS) for epoch in range(30)] == pytest.approx(expected)


def test_the_recipe_of_the_paper_s_accuracy() -> None:
    chosen = RECIPES["cct-300"]
    assert (chosen.epochs, chosen.batch_size, chosen.optimizer, chosen.weight_decay) == (300, 128, "adamw", 0.06)
    assert chosen.label_smoothing == chosen.attention_dropout == chosen.stochastic_depth == 0.1
    steps = 50_000 // 128
    assert chosen.rate(10 * steps, steps) == 6e-4
    assert chosen.rate(300 * steps, steps) == pytest.approx(1e-5)
    assert 1e-6 < chosen.rate(0, steps) < 2e-6
    augmentation = chosen.augmentation
    assert (augmentation.flip, augmentation.resized_crop, augmentation.rand_augment) == (0.5, (0.8, 1.0), 9.0)
    assert (augmentation.rand_augment_std, augmentation.erase) == (0.5, 0.25)
    assert (augmentation.mixup, augmentation.cutmix, augmentation.mix_probability) == (0.8, 1.0, 1.0)


def test_no_recipe_has_a_rate_that_is_not_positive() -> None:
    for name, chosen in RECIPES.items():
        rates = [chosen.rate(step, STEPS) for step in range(chosen.epochs * STEPS)]
        assert min(rates) > 0, name
        assert max(rates) == pytest.approx(chosen.learning_rate), name


def test_length_and_batch_size_on_request() -> None:
    assert recipe("cct-300") == RECIPES["cct-300"]
    assert recipe("cct-300", 100, 32) == replace(RECIPES["cct-300"], epochs=100, batch_size=32)
    # A warm-up of ten epochs would leave nothing of a run of eight.
    assert recipe("cct-300", 8) == replace(RECIPES["cct-300"], epochs=8, warmup_epochs=2.0)
    assert recipe("cct-300", learning_rate=2e-3) == replace(RECIPES["cct-300"], learning_rate=2e-3)
    # The rate does not rise at the end.
    low = recipe("cct-300", learning_rate=2e-6)
    assert low == replace(RECIPES["cct-300"], learning_rate=2e-6, final_learning_rate=2e-6)


def test_requests_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="unknown recipe 'best'; known: digits, cct-300"):
        recipe("best")
    with pytest.raises(InputError, match="epochs must be at least 1, not 0"):
        recipe("digits", epochs=0)
    with pytest.raises(InputError, match="a learning rate of nan teaches nothing"):
        recipe("digits", learning_rate=float("nan"))
    with pytest.raises(InputError, match="batch_size must be at least 1, not -4"):
        recipe("digits", batch_size=-4)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_weight_decay_spares_exactly_the_vectors(optimizer: str) -> None:
    torch.manual_seed(0)
    network = build_network("cct_2_3x1_16", 10, 8, 1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn_like(weight))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    chosen = Recipe(epochs=1, optimizer=optimizer, learning_rate=0.1, weight_decay=0.5, momentum=0.0)
    if optimizer == "sgd":
        chosen = replace(chosen, momentum=0.9)
    # Without a gradient the decay is all that a step does.
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    make_optimizer(network, chosen).step()
    factor = 1 - 0.1 * 0.5 * (1 + (0.9 if optimizer == "sgd" else 0.0))
    spared = {name for name, weight in network.named_parameters() if torch.equal(weight, before[name])}
    assert spared == {name for name, weight in before.items() if weight.ndim == 1}
    assert any("norm" in name for name in spared)
    for name, weight in network.named_parameters():
        if name not in spared:
            torch.testing.assert_close(weight.detach(), before[name] * factor, rtol=1e-6, atol=0)


def test_sgd_is_nesterov_s() -> None:
    layer = nn.Linear(3, 2, bias=False)
    start = layer.weight.detach().double().clone()
    chosen = Recipe(epochs=1, optimizer="sgd", learning_rate=0.1, weight_decay=0.0, momentum=0.8)
    optimizer = make_optimizer(layer, chosen)
    generator = torch.Generator().manual_seed(0)
    expected, velocity = start, torch.zeros(2, 3, dtype=torch.float64)
    for _ in range(4):
        gradient = torch.randn(2, 3, generator=generator)
        layer.weight.grad = gradient.clone()
        optimizer.step()
        # The step looks ahead along the new velocity (Sutskever et al. 2013, as torch writes it).
        velocity = 0.8 * velocity + gradient.double()
        expected = expected - 0.1 * (gradient.double() + 0.8 * velocity)
    torch.testing.assert_close(layer.weight.detach().double(), expected, rtol=1e-6, atol=1e-7)


def test_adamw_s_first_step_is_the_sign_of_the_gradient() -> None:
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    gradient = torch.tensor([[1.0, -2.0, 0.01], [3.0, -0.5, 7.0]])
    layer.weight.grad, layer.bias.grad = gradient.clone(), torch.zeros(2)
    make_optimizer(layer, Recipe(epochs=1, learning_rate=0.1, weight_decay=0.2)).step()
    torch.testing.assert_close(layer.weight.detach(), before * (1 - 0.1 * 0.2) - 0.1 * gradient.sign())


def test_muon_makes_all_directions_of_a_layer_s_gradient_alike() -> None:
    torch.manual_seed(0)
    network = build_network("cct_2_3x1_16", 10, 8, 1)
    between = {f"{layer.module}.weight" for layer in network.layers() if layer.name != "output"}
    assert len(between) == 8
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for weight in network.parameters():
        weight.grad = torch.randn_like(weight)
    chosen = Recipe(epochs=1, optimizer="muon", learning_rate=0.01, weight_decay=0.0, momentum=0.95)
    make_optimizer(network, chosen).step()
    for name, weight in network.named_parameters():
        step, gradient = before[name] - weight.detach(), weight.grad
        if name not in between:  # AdamW's first step
            torch.testing.assert_close(step, 0.01 * gradient.sign(), rtol=0, atol=2e-6)
            continue
        # Elements of 0.2 times the rate, the usual size of AdamW's (Liu et al. 2025), and each direction alike.
        left, values, right = torch.linalg.svd(gradient, full_matrices=False)
        found = left.T @ step @ right.T / (0.01 * 0.2 * math.sqrt(max(gradient.shape)))
        torch.testing.assert_close(found - found.diag().diag(), torch.zeros_like(found), rtol=0, atol=0.05)
        inner = values > 0.1 * values[0]
        assert inner.sum() > 10
        assert ((found.diag() > 0.6) & (found.diag() < 1.25))[inner].all()


def test_muon_and_adamw_go_on_from_their_states() -> None:
    chosen, found = Recipe(epochs=1, optimizer="muon", momentum=0.95), []
    for interrupted in (False, True):
        torch.manual_seed(0)
        network = build_network("cct_2_3x1_16", 10, 8, 1)
        optimizer = make_optimizer(network, chosen)
        for step in range(4):
            if interrupted and step == 2:
                state = optimizer.state_dict()
                optimizer = make_optimizer(network, chosen)
                optimizer.load_state_dict(state)
            for weight in network.parameters():
                weight.grad = torch.randn_like(weight)
            optimizer.step()
        found.append(network.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_stacked_matrices_take_the_steps_of_torch_s_muon() -> None:
    shapes = [(24, 8), (8, 8), (24, 8), (8, 16), (8, 8), (16, 8), (24, 8)]
    how = {"lr": 0.01, "momentum": 0.9, "weight_decay": 0.3, "adjust_lr_fn": "match_rms_adamw"}
    torch.manual_seed(0)
    start = [torch.randn(shape) for shape in shapes]
    # Of directions nearly as long as one another: of a short one, rounding in bf16 would decide where it goes.
    directions = [nn.init.orthogonal_(torch.empty(shape)) for shape in shapes]
    ours, theirs = ([nn.Parameter(value.clone()) for value in start] for _ in range(2))
    stacked, each = StackedMuon(ours, **how), torch.optim.Muon(theirs, **how)
    for step in range(4):
        for one, other, direction in zip(ours, theirs, directions, strict=True):
            one.grad = (step + 1) * direction + 0.1 * torch.randn_like(direction)
            other.grad = one.grad.clone()
        if step == 3:
            ours[0].grad = theirs[0].grad = None
            stacked.load_state_dict(each.state_dict())
        before = [weight.detach().clone() for weight in theirs]
        stacked.step()
        each.step()
        for one, other, old in zip(ours, theirs, before, strict=True):
            largest = (other - old).abs().max().item()
            assert (largest == 0) == (other is theirs[0] and step == 3)
            # Both round in bf16; the product of a stack may be another one than that of a matrix.
            torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=0.02 * largest)
            one.data.copy_(other.data)


def test_a_checkpoint_of_one_optimizer_is_still_read() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.grad = torch.ones(2, 3)
    before = make_optimizer(layer, Recipe(epochs=1))
    before.step()
    after = make_optimizer(layer, Recipe(epochs=1))
    after.load_state_dict(before.each[0].state_dict())
    assert after.each[0].state[layer.weight]["exp_avg"].equal(torch.full((2, 3), 0.1))


def test_muon_is_refused_where_weights_are_masked() -> None:
    network = build_network("cct_2_3x1_16", 10, 8, 1)
    layer = network.layers()[-2]
    apply_masks(network, {layer.module: torch.eye(*layer_weight(network, layer).shape) > 0})
    with pytest.raises(InputError, match="Muon's steps would move weights that are left out"):
        make_optimizer(network, Recipe(epochs=1, optimizer="muon"))


def test_frozen_weights_are_not_trained() -> None:
    layer = nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    groups = make_optimizer(layer, Recipe(epochs=1)).param_groups
    assert [group["params"] for group in groups] == [[layer.bias]]


def test_slow_weights_carry_their_share_of_the_rate() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(2, 2)
    groups = make_optimizer(nn.Sequential(first, second), Recipe(epochs=1), first.parameters(), 0.01).param_groups
    shares = {id(weight): group["share"] for group in groups for weight in group["params"]}
    assert shares == {id(w): 0.01 for w in first.parameters()} | {id(w): 1.0 for w in second.parameters()}
