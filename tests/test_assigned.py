"""Diagonals assigned in advance, and the masks that follow from them, against their definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nodelens.errors import InputError
from nodelens.measures import assigned_diagonals
from nodelens.networks import CCT, VGG, layer_weight, layers, select_layers
from nodelens.training.assigned import Assignment, assigned_masks, site_diagonals


def assign(nodes: int, labels: int, size: int, seed: int) -> torch.Tensor:
    return assigned_diagonals(nodes, labels, size, torch.Generator().manual_seed(seed))


@given(st.integers(1, 40), st.integers(1, 30), st.data(), st.integers(0, 99))
def test_every_node_gets_so_many_labels_and_every_label_as_many_nodes(
    nodes: int, labels: int, data: st.DataObject, seed: int
) -> None:
    size = data.draw(st.integers(1, labels))
    diagonals = assign(nodes, labels, size, seed)
    assert diagonals.shape == (nodes, labels)
    assert diagonals.sum(dim=1).tolist() == [size] * nodes
    appearances = diagonals.sum(dim=0)
    assert appearances.max() - appearances.min() <= 1
    assert torch.equal(diagonals, assign(nodes, labels, size, seed))


def test_nodes_share_labels_as_if_drawn_at_random() -> None:
    nodes, labels, size = 60, 20, 5
    together = torch.zeros(nodes, nodes)
    draws = 200
    for seed in range(draws):
        diagonals = assign(nodes, labels, size, seed).float()
        together += diagonals @ diagonals.T / draws
    # A label has 15 of 60 nodes: of the other 59, 14 share it. Two nodes share 5 · 14 / 59 labels on average, with the
    # hypergeometric variance 5 · 1/4 · 3/4 · 15/19; the largest of 1770 pairs stays within 4.5 standard errors.
    apart = together[~torch.eye(nodes, dtype=torch.bool)]
    assert float(apart.mean()) == pytest.approx(5 * 14 / 59)
    assert float((apart - apart.mean()).abs().max()) < 4.5 * (0.74 / draws) ** 0.5
    assert not torch.equal(assign(nodes, labels, size, 0), assign(nodes, labels, size, 1))


@pytest.mark.parametrize("size", [0, -1, 8])
def test_more_labels_than_there_are_or_none_are_refused(size: int) -> None:
    with pytest.raises(InputError, match=rf"a node cannot have {size} of 7 labels; give 1 to 7"):
        assign(5, 7, size, 0)


@pytest.mark.parametrize("family", ["cct", "vgg"])
def test_a_weight_is_kept_iff_its_nodes_were_assigned_a_common_label(
    family: str, request: pytest.FixtureRequest
) -> None:
    network: CCT | VGG = request.getfixturevalue(family)
    chosen = layers(network)
    diagonals = site_diagonals(network, chosen, 2, seed=3)
    masks = assigned_masks(network, Assignment(2, ("*",)), seed=3)
    assert list(masks) == [layer.module for layer in chosen]
    for layer in chosen:
        mask, source = masks[layer.module], diagonals[layer.source]
        assert mask.shape == layer_weight(network, layer).shape
        positions = mask.shape[1] // len(source)
        into = [set(row.nonzero().flatten().tolist()) for row in source for _ in range(positions)]
        target = diagonals[layer.target] if layer.target else torch.eye(10, dtype=torch.bool)
        out = [set(row.nonzero().flatten().tolist()) for row in target]
        assert mask.tolist() == [[bool(o & i) for i in into] for o in out]


def test_the_residual_stream_shares_its_labels_and_no_other_sites_do(cct: CCT) -> None:
    diagonals = site_diagonals(cct, layers(cct), 3)
    stream = {f"block.{b}.{name}" for b in (1, 2) for name in ("ln", "projection", "norm", "linear2")}
    assert stream <= diagonals.keys()
    assert all(torch.equal(diagonals[name], diagonals["block.1.ln"]) for name in stream)
    others = [diagonals["block.1.ln"], *(diagonals[name] for name in diagonals.keys() - stream)]
    assert len({tuple(found.flatten().tolist()) for found in others}) == len(others) == 7
    assert not torch.equal(diagonals["block.1.ln"], site_diagonals(cct, layers(cct), 3, seed=1)["block.1.ln"])


def test_sites_keep_their_labels_whatever_layers_are_chosen(cct: CCT) -> None:
    every = assigned_masks(cct, Assignment(2, ("*",)))
    some = assigned_masks(cct, Assignment(2, ("block.2.*",)))
    assert list(some) == [layer.module for layer in select_layers(layers(cct), "block.2.*")]
    assert all(torch.equal(mask, every[module]) for module, mask in some.items())


def test_the_control_keeps_as_many_weights_of_each_layer_whatever_their_labels(cct: CCT) -> None:
    assigned, drawn = (assigned_masks(cct, Assignment(2, ("*",), control), seed=3) for control in (None, "random"))
    again, other = (assigned_masks(cct, Assignment(2, ("*",), "random"), seed=seed) for seed in (3, 4))
    for module, mask in assigned.items():
        assert int(drawn[module].sum()) == int(mask.sum())
        assert torch.equal(drawn[module], again[module])
        assert not torch.equal(drawn[module], mask)
        assert not torch.equal(drawn[module], other[module])
    # As often where labels are shared as elsewhere.
    kept = torch.cat([mask.flatten() for mask in assigned.values()])
    share = torch.cat([mask.flatten() for mask in drawn.values()])[kept].double().mean()
    assert float(share) == pytest.approx(float(kept.double().mean()), abs=0.05)


def test_assignments_that_cannot_be_made_are_refused(cct: CCT) -> None:
    with pytest.raises(InputError, match=r"a node cannot have 11 of 10 labels"):
        assigned_masks(cct, Assignment(11))
    with pytest.raises(InputError, match=r"no layer matches 'block\.9\.\*'"):
        assigned_masks(cct, Assignment(2, ("block.9.*",)))


def test_a_label_without_a_node_is_refused(vgg: VGG) -> None:
    with pytest.raises(
        InputError, match=r"8 nodes of linear\.1 with 1 labels each leave some of 10 labels .* at least 2"
    ):
        assigned_masks(vgg, Assignment(1, ("*",)))
