"""torch's own transformer layers, opened: the same numbers, and what stands between them is seen."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nodelens as nl
from nodelens.heads.accuracies import head_sites, silencing
from nodelens.networks import reading
from nodelens.networks.opened import OpenAttention, opened
from nodelens.probing import ProbeSettings, probe_recipe

TOKENS = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(1))
OTHERS = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(2))


def attention(**options: Any) -> nn.MultiheadAttention:
    torch.manual_seed(0)
    made = nn.MultiheadAttention(8, 2, **options).eval()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.5)
    return made


LATER = torch.ones(5, 5).triu(1).bool()
ABSENT = torch.arange(5) > torch.tensor([[4], [2], [0]])


@pytest.mark.parametrize("by_batch", [True, False])
@pytest.mark.parametrize(
    ("made", "called"),
    [
        ({}, {}),
        ({}, {"need_weights": False}),
        ({}, {"average_attn_weights": False}),
        ({}, {"attn_mask": LATER, "need_weights": False, "is_causal": True}),
        ({}, {"attn_mask": torch.randn(6, 5, 5, generator=torch.Generator().manual_seed(3))}),
        ({}, {"key_padding_mask": ABSENT}),
        ({"bias": False}, {"key_padding_mask": ABSENT, "attn_mask": LATER}),
        ({"add_bias_kv": True, "add_zero_attn": True}, {"attn_mask": LATER}),
    ],
)
def test_an_opened_attention_is_torch_s_own(by_batch: bool, made: dict[str, Any], called: dict[str, Any]) -> None:
    closed = attention(batch_first=by_batch, **made)
    tokens = TOKENS if by_batch else TOKENS.transpose(0, 1)
    of_torch, ours = (one(tokens, tokens, tokens, **called) for one in (closed, opened(deepcopy(closed))))
    torch.testing.assert_close(ours[0], of_torch[0])
    torch.testing.assert_close(ours[1], of_torch[1])
    assert (ours[1] is None) == (of_torch[1] is None)


@pytest.mark.parametrize("by_batch", [True, False])
def test_an_opened_attention_takes_keys_and_values_of_others(by_batch: bool) -> None:
    closed = attention(batch_first=by_batch, kdim=6, vdim=6)
    queries, others = (one if by_batch else one.transpose(0, 1) for one in (TOKENS, OTHERS))
    found, weights = opened(deepcopy(closed))(queries, others, others)
    expected = closed(queries, others, others)
    torch.testing.assert_close((found, weights), expected)
    alone = attention(batch_first=by_batch)
    torch.testing.assert_close(opened(deepcopy(alone))(*[TOKENS[0]] * 3), alone(*[TOKENS[0]] * 3))


def test_an_opened_attention_learns_as_torch_s_own() -> None:
    closed, own = attention(batch_first=True), opened(attention(batch_first=True))
    for one in (closed, own):
        one.train()(TOKENS, TOKENS, TOKENS)[0].square().sum().backward()
    for (name, weight), (_, expected) in zip(own.named_parameters(), closed.named_parameters(), strict=True):
        assert weight.grad is not None, name
        torch.testing.assert_close(weight.grad, expected.grad, rtol=1e-4, atol=1e-4)


class Special(nn.MultiheadAttention):
    """Somebody's own: what it computes is not known."""


def test_only_torch_s_own_is_opened() -> None:
    special = Special(8, 2)
    assert type(opened(nn.Sequential(special))[0]) is Special  # type: ignore[index]
    assert not opened(nn.Sequential(nn.TransformerEncoder(layer(), 1)))[0].use_nested_tensor  # type: ignore[index]


def layer(by_batch: bool = True) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=by_batch)


class Reader(nn.Module):
    """As a textbook has it: words, an encoder that leaves out what fills up a text, and the mean of its words."""

    def __init__(self, by_batch: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.by_batch = by_batch
        self.words = nn.Embedding(9, 8, padding_idx=0)
        self.encoder = nn.TransformerEncoder(layer(by_batch), 2, enable_nested_tensor=by_batch)
        self.head = nn.Linear(8, 2)

    def forward(self, texts: Tensor) -> Tensor:
        there = (texts > 0)[..., None]
        words = self.words(texts)
        x = self.encoder(words if self.by_batch else words.transpose(0, 1), src_key_padding_mask=texts == 0)
        x = (x if self.by_batch else x.transpose(0, 1)).masked_fill(~there, 0.0)
        return self.head(x.sum(dim=1) / there.sum(dim=1))  # type: ignore[no-any-return]


WORDS = torch.randint(1, 9, (24, 5), generator=torch.Generator().manual_seed(0))
TEXTS = WORDS * (torch.arange(5) < torch.arange(24)[:, None] % 5 + 1)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("by_batch", [True, False])
def test_the_heads_of_torch_s_encoder_are_found(by_batch: bool) -> None:
    reader = Reader(by_batch).eval()
    with torch.no_grad():
        expected = reader(TEXTS)
    network = nl.adapt(reader, TEXTS, padding=0)
    heads = head_sites(network)
    projection = "encoder.layers.{}.self_attn.out_proj"
    assert [(site.name, site.heads) for site in heads] == [(projection.format(i) + ".input", 2) for i in (0, 1)]
    pairs = {layer.name: (layer.source, layer.target) for layer in network.layers()}
    assert pairs[projection.format(0)] == (heads[0].name, projection.format(0))
    assert pairs["output"] == ("head.input", None)
    with torch.no_grad():
        torch.testing.assert_close(network(TEXTS), expected)
        # Silencing a head is taking its columns from the projection.
        with silencing(network, heads[1], torch.arange(8) < 4):
            silenced = network(TEXTS)
        reader.encoder.layers[1].self_attn.out_proj.weight[:, :4] = 0  # type: ignore[union-attr, index, operator]
        torch.testing.assert_close(network(TEXTS), silenced)
        assert not torch.allclose(silenced, expected)


def test_nodes_of_torch_s_encoder_do_not_see_what_fills_up_a_text() -> None:
    network = nl.adapt(Reader(by_batch=True), TEXTS, padding=0)
    longer = torch.cat([TEXTS, torch.zeros(24, 3).long()], dim=1)
    settings = ProbeSettings(probe_recipe(2))
    halves = (nl.Examples(texts, torch.arange(24) % 2, ("even", "odd")) for texts in (TEXTS, longer))
    found = [
        nl.measure(network, (one, one), ["encoder.layers.*.self_attn.out_proj.input", "encoder"], settings=settings)
        for one in halves
    ]
    assert len(found[0]) == 3
    for name, site in found[0].items():
        torch.testing.assert_close(site.class_means, found[1][name].class_means)
        assert site.class_means.std() > 0


class MeanOfAll(Reader):
    """Takes the mean of what fills up a text, too."""

    def forward(self, texts: Tensor) -> Tensor:
        return self.head(self.encoder(self.words(texts), src_key_padding_mask=texts == 0).mean(dim=1))  # type: ignore[no-any-return]


class Wrapped(nn.Module):
    """A projection of which torch's attention reads the weight alone."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = inner.weight, inner.bias

    def forward(self, x: Tensor) -> Tensor:
        return 2 * torch.nn.functional.linear(x, self.weight, self.bias)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_network_for_which_padding_counts_is_refused() -> None:
    with pytest.raises(nl.InputError, match=r"MeanOfAll depends on what its nn\.TransformerEncoder makes of padding"):
        nl.adapt(MeanOfAll(by_batch=True), TEXTS, padding=0)


@pytest.mark.parametrize("hooked", [True, False])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_a_projection_that_does_more_stays_closed(hooked: bool) -> None:
    network = Reader(by_batch=True)
    first = network.encoder.layers[0].self_attn
    if hooked:
        first.out_proj.register_forward_hook(lambda _, __, output: 2 * output)  # type: ignore[union-attr]
    else:
        first.out_proj = Wrapped(first.out_proj)  # type: ignore[union-attr, arg-type, assignment]
    found = head_sites(nl.adapt(network, TEXTS, padding=0))
    assert [site.name for site in found] == ["encoder.layers.1.self_attn.out_proj.input"]


def test_an_opened_attention_hands_its_heads_on_one_after_another() -> None:
    """What enters the projection is each head's mean of its own values: here with weights that are all alike."""
    closed = attention(batch_first=False)
    with torch.no_grad():
        closed.in_proj_weight[:8] = 0  # queries without any, so that every token is attended to alike
        closed.in_proj_bias[:8] = 0
    open_one = opened(closed)
    seen: dict[str, Tensor] = {}
    site = nl.Site("entered", 8, "out_proj", "input", heads=2)
    with torch.no_grad(), reading(open_one, [site], seen.__setitem__):
        open_one(*[TOKENS.transpose(0, 1)] * 3)
    assert isinstance(open_one, OpenAttention)
    values = TOKENS @ closed.in_proj_weight[16:].T + closed.in_proj_bias[16:]
    for token, following in pairwise(seen["entered"].unbind(dim=1)):
        torch.testing.assert_close(token, following)
    torch.testing.assert_close(seen["entered"][:, 0], values.mean(dim=1).detach())
