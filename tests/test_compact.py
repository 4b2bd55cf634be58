"""Removal of dead nodes and packed execution: the same function in fewer operations."""

from __future__ import annotations

import copy
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nodelens import adapt
from nodelens.errors import InputError
from nodelens.networks import CCT, Network, apply_masks, build_network, layer_weight, layers, masks_of, sites
from nodelens.networks.dead import remove_hidden
from nodelens.pruning.compact import compact
from nodelens.pruning.packed import PackedLinear, SparseLinear, best_cuts, gathered, segment_sizes


def sparse_masks(network: Network, kept: float, seed: int) -> dict[str, torch.Tensor]:
    """Random masks that leave many nodes without any connection."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in layers(network):
        rows, columns = layer_weight(network, layer).shape
        mask = torch.rand(rows, columns, generator=generator) < kept
        mask &= (torch.rand(rows, 1, generator=generator) < 0.6) & (torch.rand(1, columns, generator=generator) < 0.6)
        found[layer.module] = mask
    return found


def assert_same_function(network: nn.Module, other: nn.Module, *shape: int) -> None:
    images = torch.randn(5, *shape, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(other(images), network(images), rtol=0, atol=1e-10)


@pytest.mark.parametrize("kept", [0.9, 0.3, 0.03, 0.0])
@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_compacted_cct_computes_the_same_with_fewer_weights(cct: CCT, kept: float, multiple: int, seed: int) -> None:
    apply_masks(cct.double(), sparse_masks(cct, kept, seed))
    before = copy.deepcopy(cct.state_dict())
    smaller = compact(cct, multiple)
    assert_same_function(cct, smaller, 1, 8, 8)
    assert sum(w.numel() for w in smaller.parameters()) < sum(w.numel() for w in cct.parameters())
    for block in smaller.network.classifier.blocks:  # type: ignore[union-attr]
        assert block.linear1.out_features % multiple == 0
        assert all(size % (multiple * block.self_attn.heads) == 0 for size in block.self_attn.sizes)
    assert masks_of(cct)
    assert all(torch.equal(before[key], value) for key, value in cct.state_dict().items())


def test_nothing_is_removed_from_a_dense_network(cct: CCT) -> None:
    smaller = compact(cct.double())
    assert_same_function(cct, smaller, 1, 8, 8)
    assert sum(w.numel() for w in smaller.parameters()) == sum(w.numel() for w in cct.parameters())


def test_a_multiple_below_one_is_refused(cct: CCT) -> None:
    with pytest.raises(InputError, match="multiple=0"):
        compact(cct, 0)


def test_a_whole_head_and_unequal_heads_are_removed(cct: CCT) -> None:
    attention = cct.double().classifier.blocks[0].self_attn
    width, size = cct.config.width, cct.config.width // cct.config.heads
    mask = torch.ones(3 * width, width, dtype=torch.bool)
    mask[0:1] = False  # a query dimension of head 0: its key dimension goes with it
    mask[2 * width + size : 2 * width + 2 * size] = False  # all values of head 1
    mask[2 * width + 3] = False  # one value of head 0
    apply_masks(cct, {"classifier.blocks.0.self_attn.qkv": mask})
    smaller = compact(cct, 1)
    found = smaller.network.classifier.blocks[0].self_attn  # type: ignore[union-attr, index]
    assert attention.heads == cct.config.heads
    assert found.heads == cct.config.heads - 1
    # Other heads have all their dimensions alive, so head 0 keeps its dead ones.
    assert found.sizes == (3 * size, 3 * size, 3 * size)
    assert_same_function(cct, smaller, 1, 8, 8)


def test_dead_hidden_nodes_of_a_vgg_go_layer_after_layer() -> None:
    torch.manual_seed(0)
    first, second, third = (nn.Linear(a, b).double() for a, b in ((3, 4), (4, 4), (4, 2)))
    with torch.no_grad():
        third.weight[:, 0] = 0
        second.weight[1:, 2] = 0  # hidden node 2 leads to the dead node 0 alone
        second.weight[0, 2] = 1
    dense = copy.deepcopy(nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third))
    for pair in ((second, third), (first, second)):
        remove_hidden(*pair, nn.functional.relu)
    assert (first.out_features, second.out_features) == (3, 3)
    assert_same_function(dense, nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third), 3)


@pytest.mark.slow
def test_a_compacted_vgg_computes_the_same() -> None:
    torch.manual_seed(0)
    network = build_network("vgg11", 10, 32, 3).double().eval()
    apply_masks(network, sparse_masks(network, 0.001, 0))
    smaller = compact(network)
    assert_same_function(network, smaller, 3, 32, 32)
    assert sum(w.numel() for w in smaller.parameters()) < 0.9 * sum(w.numel() for w in network.parameters())


def test_a_compacted_network_is_not_mistaken_for_one_that_can_be_measured(cct: CCT) -> None:
    with pytest.raises(ValueError, match="does not say which sites it has"):
        sites(compact(cct))


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.integers(1, 5), st.booleans())
@settings(max_examples=60)
def test_packed_and_sparse_layers_compute_the_same(
    outputs: int, inputs: int, kept: float, groups: int, bias: bool
) -> None:
    generator = torch.Generator().manual_seed(outputs * 100 + inputs)
    layer = nn.Linear(inputs, outputs, bias=bias).double().requires_grad_(False)
    layer.weight *= torch.rand(outputs, inputs, generator=generator) < kept
    x = torch.randn(2, 3, inputs, dtype=torch.float64, generator=generator)
    packed = PackedLinear(layer, gathered(layer.weight != 0, [groups])[0])
    torch.testing.assert_close(packed(x), layer(x), rtol=0, atol=1e-10)
    torch.testing.assert_close(SparseLinear(layer)(x), layer(x), rtol=0, atol=1e-10)
    assert int(torch.count_nonzero(layer.weight)) <= packed.multiply_adds <= outputs * inputs


def test_nodes_that_share_labels_are_gathered() -> None:
    generator = torch.Generator().manual_seed(0)
    label_of_output = torch.randint(4, (40,), generator=generator)
    label_of_input = torch.randint(4, (30,), generator=generator)
    mask = label_of_output[:, None] == label_of_input
    groups = gathered(mask, [4])[0]
    assert sorted(np.concatenate(groups).tolist()) == list(range(40))
    assert sorted({int(label_of_output[i]) for i in group} for group in groups) == [{0}, {1}, {2}, {3}] or all(
        len({int(label_of_output[i]) for i in group}) == 1 for group in groups
    )
    layer = nn.Linear(30, 40).requires_grad_(False)
    layer.weight *= mask
    assert PackedLinear(layer, groups).multiply_adds == int(mask.sum())


def test_cuts_are_the_best_of_all() -> None:
    generator = np.random.default_rng(0)
    for rows, groups in ((6, 3), (5, 5), (4, 1), (7, 2)):
        reads = generator.random((rows, 9)) < 0.3
        sizes = segment_sizes(reads)
        for begin in range(rows):
            for end in range(begin + 1, rows + 1):
                assert sizes[begin, end] == reads[begin:end].any(axis=0).sum() * (end - begin)
        found = best_cuts(sizes, groups)
        assert [begin for begin, _ in found] == [0, *(end for _, end in found[:-1])]
        assert found[-1][1] == rows
        assert len(found) <= groups
        totals = []
        for inner in combinations(range(1, rows), groups - 1):
            edges = [0, *inner, rows]
            totals.append(sum(sizes[a, b] for a, b in pairwise(edges)))
        assert sum(sizes[begin, end] for begin, end in found) == min(totals)


class Mixed(nn.Module):
    """Hidden nodes between two layers; such that others read, that depend on each other, and that a skip carries on."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.free = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.GELU(), nn.Linear(24, 12, bias=False))
        self.read_twice, self.first, self.second = nn.Linear(12, 24), nn.Linear(24, 12), nn.Linear(24, 12)
        self.shares = nn.Sequential(nn.Linear(12, 24), nn.Softmax(dim=1), nn.Linear(24, 12))
        self.carried, self.on = nn.Linear(12, 12), nn.Linear(12, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.read_twice(self.free(images))
        x = self.shares(self.first(x) + self.second(x))
        carried = self.carried(x)
        return self.head(carried + self.on(carried))  # type: ignore[no-any-return]


def test_dead_nodes_of_any_network_are_removed_where_nothing_else_reads_them() -> None:
    network = adapt(Mixed(), torch.zeros(2, 1, 4, 4)).double()
    apply_masks(network, sparse_masks(network, 0.5, seed=0))
    smaller = compact(network, 1)
    assert_same_function(network, smaller, 1, 4, 4)
    own = smaller.network.network
    assert own.free[1].out_features == own.free[3].in_features < 24  # type: ignore[union-attr, index]
    assert own.read_twice.out_features == own.shares[0].out_features == 24  # type: ignore[union-attr, index]
    assert own.carried.out_features == 12  # type: ignore[union-attr]
    assert network.network.free[1].out_features == 24  # type: ignore[union-attr, index]


def test_a_compacted_transformer_of_torch_computes_the_same() -> None:
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation=nn.GELU())
    network = adapt(nn.Sequential(nn.Flatten(1, 2), block, nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 2, 4, 8))
    apply_masks(network.double(), sparse_masks(network, 0.5, seed=0))
    smaller = compact(network, 1)
    assert_same_function(network, smaller, 2, 4, 8)
