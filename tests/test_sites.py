"""Site patterns, and reading without disturbing the network."""

import pytest
import torch
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.networks import build_network, reading, select_sites, sites


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_network("cct_3_3x1_16", 10, 8, 1).eval()


def names(network: nn.Module, patterns: str | list[str]) -> list[str]:
    return [site.name for site in select_sites(sites(network), patterns)]


def test_a_star_stays_within_one_dotted_part(network: nn.Module) -> None:
    assert names(network, "block.*.linear2") == ["block.1.linear2", "block.2.linear2", "block.3.linear2"]
    assert names(network, "block.2.linear*") == ["block.2.linear1", "block.2.linear2"]
    assert names(network, "block.2.*.no_skip") == ["block.2.projection.no_skip", "block.2.linear2.no_skip"]
    assert names(network, "block.[13].ln") == ["block.1.ln", "block.3.ln"]
    assert names(network, "*") == [site.name for site in sites(network)]


def test_chosen_sites_come_once_and_in_the_network_s_order(network: nn.Module) -> None:
    patterns = ["block.2.linear2", "block.1.ln", "block.*.linear2", "block.1.ln"]
    assert names(network, patterns) == ["block.1.ln", "block.1.linear2", "block.2.linear2", "block.3.linear2"]


@pytest.mark.parametrize("pattern", ["block.4.linear2", "block.*", "linear2", "block.1.LN", "", "*.*"])
def test_a_pattern_that_matches_nothing_is_named(network: nn.Module, pattern: str) -> None:
    with pytest.raises(InputError, match=r"no site matches .*; this network has 28: block\.1\.ln, ") as raised:
        select_sites(sites(network), ["block.1.ln", pattern])
    assert repr(pattern) in str(raised.value)


def test_a_network_without_sites_is_refused() -> None:
    with pytest.raises(InputError, match="Linear does not say which sites it has"):
        sites(nn.Linear(2, 2))


def test_reading_changes_no_output_and_leaves_no_hook(network: nn.Module) -> None:
    images = torch.randn(2, 1, 8, 8)
    read: dict[str, Tensor] = {}
    with torch.inference_mode():
        before = network(images)
        with reading(network, sites(network), read.__setitem__):
            during = network(images)
        read.clear()
        after = network(images)
    assert torch.equal(before, during)
    assert torch.equal(before, after)
    assert not read


def test_hooks_are_removed_when_the_reader_fails(network: nn.Module) -> None:
    def fail(site: str, activations: Tensor) -> None:
        raise RuntimeError(site)

    images = torch.randn(2, 1, 8, 8)
    with pytest.raises(RuntimeError, match=r"block\.1\.ln"), reading(network, sites(network), fail):
        network(images)
    assert network(images).shape == (2, 10)


def test_sites_are_read_in_the_order_in_which_they_arise(network: nn.Module) -> None:
    order: list[str] = []
    with torch.inference_mode(), reading(network, sites(network), lambda site, _: order.append(site)):
        network(torch.randn(1, 1, 8, 8))
    assert order == [site.name for site in sites(network)]
