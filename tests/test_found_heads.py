"""Heads are told by trying: what looks like an attention and mixes, adds or follows it with something else is none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nodelens as nl
from nodelens.networks.windows import found_windows

ROWS = torch.randn(2, 8, 12, generator=torch.Generator().manual_seed(0))


class Attention(nn.Module):
    """Two heads on the rows of an input, (batch, token, 12)."""

    num_heads = 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.kv, self.proj = nn.Linear(12, 12), nn.Linear(12, 24), nn.Linear(12, 12)
        self.extra, self.hidden, self.mlp = nn.Conv1d(12, 12, 1), nn.Linear(12, 16), nn.Linear(16, 12)
        self.mixing = nn.Linear(2, 2)
        self.positions, self.bias = nn.Linear(1, 5), nn.Linear(5, 2)

    def heads(self, x: Tensor, fewer: Tensor | None = None) -> Tensor:
        q = self.q(x).unflatten(2, (2, 6)).transpose(1, 2)
        k, v = self.kv(x if fewer is None else fewer).unflatten(2, (2, 2, 6)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Plain(Attention):
    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x))  # type: ignore[no-any-return]


class HandsOn(Attention):
    def forward(self, x: Tensor) -> Tensor:
        return self.heads(x)


class Fewer(Attention):
    """Keys and values of fewer tokens."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x, F.avg_pool1d(x.mT, 2).mT))  # type: ignore[no-any-return]


class LendsWeights(Attention):
    """Computes queries without calling their layer, as BEiT and SwinV2 do."""

    def heads(self, x: Tensor, fewer: Tensor | None = None) -> Tensor:
        q = F.linear(x, self.q.weight).unflatten(2, (2, 6)).transpose(1, 2)
        k, v = F.linear(x, self.kv.weight).unflatten(2, (2, 2, 6)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x))  # type: ignore[no-any-return]


class OfPositions(Attention):
    """A bias of every head is made of positions by layers of its own."""

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(8.0)[None, :, None]
        bias = self.bias(self.positions(places).relu()).permute(0, 2, 1)[:, :, None]
        q = self.q(x).unflatten(2, (2, 6)).transpose(1, 2)
        k, v = self.kv(x).unflatten(2, (2, 2, 6)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class OneToken(Attention):
    """One token asks, all answer: the attention of a class token."""

    def heads(self, x: Tensor, fewer: Tensor | None = None) -> Tensor:
        q = self.q(x[:, :1]).unflatten(2, (2, 6)).transpose(1, 2)
        k, v = self.kv(x).unflatten(2, (2, 2, 6)).permute(2, 0, 3, 1, 4)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x))  # type: ignore[no-any-return]


class AddedBehind(Attention):
    """What entered is added to what the projection makes, within the module."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.proj(self.heads(x))  # type: ignore[no-any-return]


class Grouped(Attention):
    """Four heads of three nodes; two of them at a time share their keys and values."""

    num_heads, num_key_value_groups = 4, 2

    def heads(self, x: Tensor, fewer: Tensor | None = None) -> Tensor:
        q = self.q(x).unflatten(2, (4, 3)).transpose(1, 2)
        kv = self.kv(x)[:, :, :12].unflatten(2, (2, 2, 3)).permute(2, 0, 3, 1, 4)
        k, v = kv.repeat_interleave(2, dim=2)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x))  # type: ignore[no-any-return]


class Keys(Grouped):
    """Says how many keys there are."""

    num_key_value_groups, num_kv_heads = 0, 2


class GroupedUnsaid(Grouped):
    num_key_value_groups = 1


class Wide(Plain):
    """Says how wide a head is."""

    num_heads, head_dim = 0, 6


class TooWide(Plain):
    num_heads, head_dim = 0, 5


class Cached(Plain):
    """Keeps keys of the pass, as transformers does."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        return super().forward(x if cache is None else cache.longer(x))


class Cache:
    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def get_seq_length(self) -> int:
        return sum(rows.shape[1] for rows in self.rows)

    def longer(self, x: Tensor) -> Tensor:
        self.rows.append(x)
        if len(self.rows) > 1:
            raise RuntimeError("longer than the mask")
        return x


class PooledMlp(Attention):
    """An MLP on the mean of the tokens follows."""

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(F.gelu(self.hidden(self.proj(self.heads(x)).mean(dim=1, keepdim=True))))  # type: ignore[no-any-return]


class Convolved(Attention):
    """A convolution mixes what the heads have found."""

    def forward(self, x: Tensor) -> Tensor:
        return self.extra(self.heads(x, F.avg_pool1d(x.mT, 2).mT).mT).mT  # type: ignore[no-any-return]


class Added(Attention):
    """What entered is added to what the heads have found."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.heads(x)


class Talking(Attention):
    """The maps of the heads are mixed."""

    def forward(self, x: Tensor) -> Tensor:
        q = self.q(x).unflatten(2, (2, 6)).transpose(1, 2)
        k, v = self.kv(x).unflatten(2, (2, 2, 6)).permute(2, 0, 3, 1, 4)
        maps = self.mixing((q @ k.mT).permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(dim=3)
        return self.proj((maps @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Interleaved(Attention):
    """Nodes of the heads take turns."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x).unflatten(2, (2, 6)).mT.flatten(2))  # type: ignore[no-any-return]


class Closed(nn.MultiheadAttention):
    """What it hands on is projected already, by a layer that it does not call."""

    def __init__(self) -> None:
        super().__init__(12, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x, x, x)[0]


class Reader(nn.Module):
    def __init__(self, attention: nn.Module) -> None:
        super().__init__()
        self.attention, self.dense, self.head = attention, nn.Linear(12, 12), nn.Linear(12, 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.dense(self.attention(rows)).mean(dim=1))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (Plain, "attention.proj.input"),
        (HandsOn, "dense.input"),
        (Fewer, "attention.proj.input"),
        (LendsWeights, "attention.proj.input"),
        (OfPositions, "attention.proj.input"),
        (OneToken, "attention.proj.input"),
        (AddedBehind, "attention.proj.input"),
        (Grouped, "attention.proj.input"),
        (Keys, "attention.proj.input"),
        (GroupedUnsaid, None),
        (Wide, "attention.proj.input"),
        (TooWide, None),
        (PooledMlp, None),
        (Convolved, None),
        (Added, None),
        (Talking, None),
        (Interleaved, None),
        (Closed, None),
    ],
)
def test_heads_are_told_by_what_they_compute(kind: type[nn.Module], found: str | None) -> None:
    own = Reader(kind())
    before = {name: weight.clone() for name, weight in own.state_dict().items()}
    network = nl.adapt(own, ROWS)
    assert [site.name for site in network.sites() if site.heads] == ([found] if found else [])
    assert all(torch.equal(before[name], weight) for name, weight in own.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in own.modules())


@pytest.mark.parametrize(("kind", "heads"), [(Plain, 2), (Wide, 2), (Grouped, 4)])
def test_their_number_is_as_said(kind: type[nn.Module], heads: int) -> None:
    assert [site.heads for site in nl.adapt(Reader(kind()), ROWS).sites() if site.heads] == [heads]


@pytest.mark.parametrize(("kind", "sharing"), [(Plain, 1), (Wide, 1), (Grouped, 2), (Keys, 2)])
def test_how_many_share_keys_and_values_is_as_said(kind: type[nn.Module], sharing: int) -> None:
    assert [site.sharing for site in nl.adapt(Reader(kind()), ROWS).sites() if site.heads] == [sharing]


class WithCache(Reader):
    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.dense(self.attention(rows, cache=Cache())).mean(dim=1))  # type: ignore[no-any-return]


def test_a_module_runs_again_without_the_cache_of_the_pass() -> None:
    network = nl.adapt(WithCache(Cached()), ROWS)
    assert [site.name for site in network.sites() if site.heads] == ["attention.proj.input"]


class Writes(Plain):
    """Writes to what enters, which others go on with."""

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.heads(x.mul_(1.5)))  # type: ignore[no-any-return]


class GoesOn(Reader):
    def forward(self, rows: Tensor) -> Tensor:
        x = rows.clone()
        return self.head((self.dense(self.attention(x)) + x).mean(dim=1))  # type: ignore[no-any-return]


class Once(Plain):
    """Cannot be run again."""

    ran = 0

    def forward(self, x: Tensor) -> Tensor:
        self.ran += 1
        if self.ran % 6 == 0:
            raise RuntimeError("once too often")
        return super().forward(x)


def test_trying_leaves_the_pass_as_it_is() -> None:
    own = GoesOn(Writes())
    seen: list[Tensor] = []
    own.head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    network = nl.adapt(own, ROWS)
    assert [site.name for site in network.sites() if site.heads] == ["attention.proj.input"]
    # In one of these passes heads were tried, in the midst of it.
    assert len(seen) == 2
    torch.testing.assert_close(seen[1], seen[0], rtol=0, atol=0)


def test_a_module_that_cannot_run_again_has_no_heads() -> None:
    assert not [site for site in nl.adapt(Reader(Once()), ROWS).sites() if site.heads]


class Beside(nn.Module):
    """Runs its layer on the images and on something that every image shares, on the axis of the batch."""

    def __init__(self, shared: int) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.randn(shared, 8, 6))
        self.rows, self.head = nn.Linear(8, 6), nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        both = torch.cat([images[:, 0, :, :6], self.shared])
        inner = self.rows(F.pad(both, (0, 2)))
        return self.head(inner[: len(images)].mean(dim=1))  # type: ignore[no-any-return]


class OnTheBatch(Attention):
    """(batch · head, token, token) enters a softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(dim=2)

    def forward(self, images: Tensor) -> Tensor:
        x = F.pad(images[:, 0], (0, 4))
        q, (k, v) = (
            self.q(x).unflatten(2, (2, 6)).transpose(1, 2),
            self.kv(x).unflatten(2, (2, 2, 6)).permute(2, 0, 3, 1, 4),
        )
        maps = self.softmax((q @ k.mT).flatten(0, 1)).unflatten(0, (-1, 2))
        return self.proj((maps @ v).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


@pytest.mark.parametrize("network", [Beside(2), Beside(10), Reader(OnTheBatch())])
def test_what_shares_the_axis_of_the_batch_is_no_window(network: nn.Module) -> None:
    assert found_windows(network, torch.zeros(2, 1, 8, 8)) == {}
