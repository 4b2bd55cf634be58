"""Layers by the sites that they join, and masks that hold."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from nodelens.errors import InputError
from nodelens.networks import (
    CCT,
    apply_masks,
    block_numbers,
    build_alike,
    build_network,
    fingerprint,
    layer_between,
    layer_weight,
    layers,
    load_network,
    masks_of,
    plain_state,
    reading,
    remove_masks,
    select_layers,
    settings_of,
    sites,
    stored,
    without_skip,
)
from nodelens.runs import RunDirectory


def some_masks(network: nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    chosen = layers(network)
    return {layer.module: torch.rand(layer_weight(network, layer).shape, generator=generator) < 0.3 for layer in chosen}


@pytest.mark.parametrize("name", ["cct_2_3x1_16", "vgg11"])
def test_a_layer_maps_its_source_site_to_its_target_site(name: str) -> None:
    network = build_network(name, 10, 32, 3).eval()
    by_name = {site.name: site for site in sites(network)}
    for layer in layers(network):
        weight = layer_weight(network, layer)
        assert weight.shape[1] % by_name[layer.source].nodes == 0
        assert weight.shape[0] == (by_name[layer.target].nodes if layer.target else 10)
    assert layers(network)[-1].name == "output"


def test_two_networks_of_equal_weights_and_other_heads_are_not_the_same() -> None:
    one, other = (build_network("cct_2_3x1_16", 10, 32, 3, heads=heads) for heads in (4, (4, 2)))
    other.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert not torch.equal(one.eval()(images), other.eval()(images))
    assert fingerprint(one) != fingerprint(other)
    same = build_network("cct_2_3x1_16", 10, 32, 3, heads=(4, 4))
    same.load_state_dict(one.state_dict())
    assert fingerprint(one) == fingerprint(same)


@pytest.mark.parametrize("blocks", ["7-1,3", "3,7-1", "2-1"])
def test_a_range_of_blocks_counts_upwards(blocks: str) -> None:
    with pytest.raises(InputError, match=r"counts downwards; give 1-"):
        block_numbers(blocks)
    assert block_numbers("3,1-2,5-5") == [3, 1, 2, 5]


@pytest.mark.parametrize(
    ("name", "setting", "known"),
    [
        ("cct_2_3x1_16", "atention_dropout", "attention_dropout, stochastic_depth"),
        ("vgg11", "attention_dropout", "it has dropout"),
        ("resnet18", "heads", "it has none"),
        ("timm:resnet10t", "drop_path_rate", "it has none"),
    ],
)
def test_a_setting_that_a_network_does_not_have_is_refused(name: str, setting: str, known: str) -> None:
    with pytest.raises(InputError, match=f"{name} has no setting '{setting}'; it has .*") as raised:
        build_network(name, 10, 32, 3, **{setting: 1})
    assert known in str(raised.value)


@pytest.mark.parametrize("name", ["cct_2_3x1_16", "vit_2_patch4_16", "bert_2_64", "resnet18", "vgg11"])
def test_the_settings_of_a_network_are_those_that_it_can_be_built_with(name: str) -> None:
    given = (10, 0, 0) if name.startswith("bert") else (10, 32, 3)
    network = build_network(name, *given)
    assert settings_of(name) == settings_of(network)
    values = {setting: getattr(network.config, setting) for setting in settings_of(name)}
    assert build_network(name, *given, **values).config == network.config
    assert build_alike(network, *given, **values).config == network.config
    with pytest.raises(InputError, match="has no setting 'depth'"):
        build_alike(network, *given, depth=3)


def test_the_source_site_of_a_layer_is_what_enters_it(cct: CCT) -> None:
    seen = {}
    with torch.no_grad(), reading(cct, sites(cct), lambda site, x: seen.setdefault(site, x)):
        handles = [
            cct.get_submodule(layer.module).register_forward_pre_hook(
                lambda _, inputs, name=layer.name: seen.setdefault(f"enters {name}", inputs[0])
            )
            for layer in layers(cct)[:-1]
        ]
        cct(torch.randn(2, 1, 8, 8))
    for handle in handles:
        handle.remove()
    for layer in layers(cct)[:-1]:
        torch.testing.assert_close(seen[f"enters {layer.name}"], seen[layer.source], rtol=0, atol=0)


def test_stages_together_are_the_network(cct: CCT) -> None:
    images = torch.randn(3, 1, 8, 8)
    x = images
    for stage in cct.stages():
        x = stage(x)
    assert torch.equal(x, cct(images))
    assert len(cct.stages()) == cct.config.layers + 2


def test_layers_are_chosen_by_patterns_and_by_sites(cct: CCT) -> None:
    available = layers(cct)
    assert [layer.name for layer in select_layers(available, ["block.2.*", "output"])] == [
        "block.2.qkv",
        "block.2.projection",
        "block.2.linear1",
        "block.2.linear2",
        "output",
    ]
    assert layer_between(available, "block.1.norm", "block.1.linear1").name == "block.1.linear1"
    assert layer_between(available, "block.2.linear2", None).name == "output"
    with pytest.raises(InputError, match=r"no fully connected layer joins block\.1\.ln and block\.2\.qkv"):
        layer_between(available, "block.1.ln", "block.2.qkv")
    with pytest.raises(InputError, match="no layer matches"):
        select_layers(available, "block.9.*")
    targets = [layer.target for layer in without_skip(available, sites(cct))[:4]]
    assert targets == ["block.1.qkv", "block.1.projection.no_skip", "block.1.linear1", "block.1.linear2.no_skip"]


def test_a_masked_network_computes_with_zeros(cct: CCT) -> None:
    masks, images = some_masks(cct), torch.randn(3, 1, 8, 8)
    by_hand = copy.deepcopy(cct)
    with torch.no_grad():
        for module, mask in masks.items():
            by_hand.get_submodule(module).weight.mul_(mask)
    apply_masks(cct, masks)
    assert torch.equal(cct(images), by_hand(images))
    assert {module: mask.tolist() for module, mask in masks_of(cct).items()} == {
        module: mask.tolist() for module, mask in masks.items()
    }
    state = plain_state(cct)
    assert sorted(state) == sorted(by_hand.state_dict())
    assert all(torch.equal(state[key], value) for key, value in by_hand.state_dict().items())
    remove_masks(cct)
    assert not masks_of(cct)
    assert torch.equal(cct(images), by_hand(images))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("autocast", [False, True])
def test_masked_weights_stay_zero_through_every_step(cct: CCT, optimizer: str, autocast: bool) -> None:
    masks = some_masks(cct)
    apply_masks(cct, masks)
    parameters = list(cct.parameters())
    steps = (
        torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)
        if optimizer == "adamw"
        else torch.optim.SGD(parameters, lr=1e-2, momentum=0.9, nesterov=True)
    )
    before = plain_state(cct)
    for _ in range(3):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = cct(torch.randn(4, 1, 8, 8)).square().sum()
        loss.backward()
        steps.step()
        steps.zero_grad()
        for module, mask in masks.items():
            layer = cct.get_submodule(module)
            assert not layer.weight[~mask].any()
            assert not layer.weight[~mask].signbit().any()
            assert not layer.parametrizations["weight"].original[~mask].any()
    after = plain_state(cct)
    assert all(not torch.equal(before[key], after[key]) for key in before if key.endswith("linear1.weight"))


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("-inf")])
def test_nothing_of_a_masked_weight_comes_through(cct: CCT, value: float) -> None:
    masks = some_masks(cct)
    with torch.no_grad():
        for module, mask in masks.items():
            cct.get_submodule(module).weight[~mask] = value
    apply_masks(cct, masks)
    for module, mask in masks.items():
        weight = cct.get_submodule(module).weight
        assert not weight[~mask].any()
        assert not weight[~mask].signbit().any()


def test_a_new_mask_replaces_the_old_one(cct: CCT) -> None:
    first, second = some_masks(cct, 0), some_masks(cct, 1)
    apply_masks(cct, first)
    apply_masks(cct, second)
    assert all(torch.equal(mask, second[module]) for module, mask in masks_of(cct).items())
    module = "classifier.fc"
    assert not cct.get_submodule(module).weight[~(first[module] & second[module])].any()


def test_a_copy_s_masks_are_its_own(cct: CCT) -> None:
    masks, images = some_masks(cct), torch.randn(3, 1, 8, 8)
    apply_masks(cct, masks)
    expected = cct(images)
    dense, other = copy.deepcopy(cct), copy.deepcopy(cct)
    remove_masks(dense)
    apply_masks(other, some_masks(cct, 1))
    assert torch.equal(cct(images), expected)
    assert torch.equal(dense(images), expected)
    assert not masks_of(dense)
    assert all(torch.equal(mask, masks[module]) for module, mask in masks_of(cct).items())
    assert all(torch.equal(mask, some_masks(cct, 1)[module]) for module, mask in masks_of(other).items())
    remove_masks(cct)
    assert torch.equal(cct(images), expected)


def test_masks_that_fit_no_weight_are_refused_and_nothing_is_masked(cct: CCT) -> None:
    masks = some_masks(cct)
    with pytest.raises(InputError, match=r"shape \(2, 2\); its weight needs"):
        apply_masks(cct, masks | {"classifier.fc": torch.ones(2, 2, dtype=torch.bool)})
    with pytest.raises(InputError, match=r"no layer 'classifier\.nothing'"):
        apply_masks(cct, masks | {"classifier.nothing": torch.ones(2, 2, dtype=torch.bool)})
    assert not masks_of(cct)


def test_a_pruned_network_is_stored_small_and_read_back_equal(cct: CCT, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_tensors("dense.safetensors", *stored(cct))
    apply_masks(cct, some_masks(cct))
    run.write_tensors("model.safetensors", *stored(cct))
    back = load_network(tmp_path)
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(back(images), cct(images))
    assert masks_of(back).keys() == masks_of(cct).keys()
    assert all(torch.equal(mask, masks_of(back)[module]) for module, mask in masks_of(cct).items())
    assert run.model.stat().st_size < 0.6 * (tmp_path / "dense.safetensors").stat().st_size


def test_a_file_whose_mask_does_not_fit_is_refused(cct: CCT, tmp_path: Path) -> None:
    apply_masks(cct, some_masks(cct))
    tensors, metadata = stored(cct)
    run = RunDirectory(tmp_path)
    for change in (
        {"classifier.fc.weight.mask": torch.zeros(1, dtype=torch.uint8)},
        {"classifier.fc.weight.kept": torch.zeros(1)},
    ):
        run.write_tensors("model.safetensors", tensors | change, metadata)
        with pytest.raises(InputError, match=r"damaged: .*classifier\.fc\.weight"):
            load_network(tmp_path)


def two_process_step(rank: int, folder: str, module: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 3))
    mask = torch.rand(8, 6) < 0.4
    apply_masks(layers, {module: mask})
    network = nn.parallel.DistributedDataParallel(layers)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0.1)
    torch.manual_seed(rank)
    for _ in range(3):
        network(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    weight = layers.get_submodule(module).weight.detach()
    torch.save({"weight": weight, "mask": mask}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_masks_hold_in_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(two_process_step, (str(tmp_path), "0"), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first["weight"], second["weight"])
    assert not first["weight"][~first["mask"]].any()
    assert first["weight"][first["mask"]].all()


def compiled_steps(_: int, folder: str) -> None:
    torch.manual_seed(0)
    network = build_network("cct_2_3x1_16", 10, 8, 1)
    masks = some_masks(network)
    apply_masks(network, masks)
    images = torch.randn(4, 1, 8, 8)
    compiled = torch.compile(network)
    torch.testing.assert_close(compiled(images), network(images), rtol=1e-4, atol=1e-5)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(2):
        compiled(images).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    weights = {module: network.get_submodule(module).weight.detach() for module in masks}
    torch.save({module: (weights[module], mask) for module, mask in masks.items()}, f"{folder}/compiled.pt")


@pytest.mark.slow
def test_masks_hold_in_a_compiled_network(tmp_path: Path) -> None:
    # In a process of its own: the checks of shapes that the tests wrap around every function do not compile.
    torch.multiprocessing.spawn(compiled_steps, (str(tmp_path),))
    found = torch.load(tmp_path / "compiled.pt", weights_only=True)
    assert all(not weight[~mask].any() and bool(weight[mask].any()) for weight, mask in found.values())
