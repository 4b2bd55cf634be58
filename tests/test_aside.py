"""Probes that compute beside the pass they read: when that is allowed, and that it changes nothing."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nodelens.data import ImageSet, normalisation_of
from nodelens.networks import Site, build_network
from nodelens.probing import ProbeSettings, probe_recipe, train_probes
from nodelens.probing.aside import Aside, needs_turns
from nodelens.training.precision import Precision
from test_processes import assert_close

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class WritesLater(nn.Module):
    """Five layers, each of its own output; the first one's is written to before the layer `at`."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(5))
        self.at = at

    def forward(self, x: Tensor) -> Tensor:
        first = x = self.layers[0](x)
        for i, layer in enumerate(self.layers[1:], start=1):
            if i == self.at:
                first += 1
            x = layer(x)
        return x


def sites_of(network: WritesLater) -> list[Site]:
    return [Site(f"layer.{i}", 4, f"layers.{i}", "output") for i in range(len(network.layers))]


@pytest.mark.parametrize(("at", "expected"), [(1, True), (2, True), (3, False), (9, False)])
def test_what_is_written_to_while_it_may_still_be_read(at: int, expected: bool) -> None:
    network = WritesLater(at)
    # Of two at once the first is done before the third is read, behind which layer 3 comes.
    assert needs_turns(network, sites_of(network), torch.randn(2, 3, 4), "fp32", reads=2) == expected


def test_relu_in_place_is_noticed_and_a_transformer_writes_to_nothing() -> None:
    relu = nn.Sequential(nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 4))
    sites = [Site("first", 4, "0", "output", "units"), Site("last", 4, "2", "output", "units")]
    assert needs_turns(relu, sites, torch.randn(2, 4), "fp32")
    assert not needs_turns(relu, sites[1:], torch.randn(2, 4), "fp32")
    network = build_network("cct_2_3x1_16", 10, 8, 1).eval()
    assert not needs_turns(network, network.sites(), torch.randn(2, 1, 8, 8), "bf16")


def test_a_layer_that_runs_twice_is_noticed() -> None:
    layer = nn.Linear(4, 4)
    site = Site("twice", 4, "0", "output", "units")
    assert needs_turns(nn.Sequential(layer, nn.ReLU(), layer), [site], torch.randn(2, 4), "fp32")
    assert not needs_turns(nn.Sequential(layer, nn.ReLU(), nn.Linear(4, 4)), [site], torch.randn(2, 4), "fp32")


def test_without_streams_everything_is_done_in_its_turn() -> None:
    aside = Aside(torch.device("cpu"))
    with aside.finished():
        assert [aside.run(lambda x: int(x) + 1, torch.tensor(i)) for i in range(6)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_network_waits_for_the_oldest_and_in_the_end_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    class Stream:
        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: Stream) -> None:
            asked.append((self.name, "waits for", other.name))

    made = iter("abcdef")
    network = Stream("network")
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Stream(next(made)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: network)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    aside = Aside(torch.device("cuda"), streams=2)
    with aside.finished():
        for i in range(3):
            aside.run(lambda x: asked.append(("site", str(int(x)))), torch.tensor(i))
    here, there = "network", "waits for"
    expected = [("a", there, here), ("site", "0"), ("b", there, here), ("site", "1")]
    expected += [(here, there, "a"), ("a", there, here), ("site", "2"), (here, there, "b"), (here, there, "a")]
    assert asked == expected


@GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_probes_beside_the_pass_are_those_in_their_turn(precision: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(1280, 32, 32, 3), dtype=np.uint8)
    names, labels = tuple("abcdefghij"), torch.arange(1280) % 10
    images = ImageSet("noise", "train", pixels, np.arange(1280), labels, names, (), (), fingerprint="0" * 32)
    torch.manual_seed(0)
    network = build_network("cct_7_3x1", 10, 32).to("cuda").eval()
    settings, found = ProbeSettings(probe_recipe(2), seeds=(0, 1, 2), precision=precision), []
    for in_turn in (False, True):
        if in_turn:
            monkeypatch.setattr(sys.modules["nodelens.probing.train"], "needs_turns", lambda *_: True)
        probes = train_probes(network, network.sites(), images, normalisation_of(images), settings)
        found.append({name: weight.cpu() for name, weight in probes.state_dict().items()})
    assert_close(found[0], found[1], 1e-3 if precision == "fp32" else 3e-2)
