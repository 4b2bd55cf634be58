"""Networks of others: their sites are found by running them, their activations are what their modules hand on."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from PIL import Image
from timm.models import save_for_hf
from torch import Tensor, nn
from torch.nn import functional as F

import nodelens as nl
from command_line import nodelens
from nodelens.data import load_images
from nodelens.data.normalisation import AsTheyAre, normalisation_of
from nodelens.errors import InputError
from nodelens.files import read_json
from nodelens.hardware import memory_of
from nodelens.heads.study import HeadSettings, HeadStudy, chosen_sites, load_head_data
from nodelens.networks import Network, apply_masks, build_network, load_network, masks_of, reading, sites
from nodelens.networks.adapted import AdaptedConfig
from nodelens.networks.layers import block_patterns, select_layers
from nodelens.networks.published import TimmNetwork
from nodelens.networks.vit import ViT
from nodelens.probing import Probes, ProbeSettings, measure_probes, probe_recipe, train_probes
from nodelens.pruning.retrain import accuracies, retrain, retraining
from nodelens.report.growth import site_ticks
from nodelens.report.heads import check_shown, report_heads
from nodelens.runs import RunDirectory

DIGITS = torch.zeros(2, 1, 8, 8)
SHORT = ProbeSettings(probe_recipe(1))
TINY = {"depths": (1, 1, 1, 1), "dims": (8, 12, 16, 20)}
"""A ConvNeXt: its blocks hand on channels, and the layers within them tokens that lie in a square."""


class Own(nn.Module):
    """A classifier as somebody might have it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1)
        self.twice = nn.ReLU()
        self.last_axis = nn.Linear(6, 5)
        self.dropout = nn.Dropout(0.5)
        self.unused = nn.Linear(3, 3)
        self.split = Split()
        self.head = nn.Linear(5, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.twice(self.first(images)).permute(0, 2, 3, 1)
        x = self.dropout(self.twice(self.last_axis(x)))
        return self.head(self.split(x.flatten(1, 2))[0].mean(dim=1))


class Split(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def seeded() -> Own:
    torch.manual_seed(0)
    return Own()


def test_sites_are_the_outputs_of_modules_that_run_once() -> None:
    own = seeded().train()
    network = nl.adapt(own, DIGITS)
    found = {site.name: (site.nodes, site.layout, site.positions) for site in nl.sites(network)}
    assert found.pop("own_head") == (5, "units", 1)
    assert found.pop("last_axis.input") == (6, "tokens", 1)  # no module has made what these two read
    assert found.pop("head.input") == (5, "units", 1)
    assert found == {"first": (6, "channels", 64), "last_axis": (5, "tokens", 1), "head": (10, "units", 1)}
    assert network.config.labels == 10
    assert not network.training
    assert not own.dropout.training


class Joined(nn.Module):
    """Layers behind filters, behind activations of all kinds, and of each other."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(1, 4, 3, stride=2)
        self.inside = nn.Sequential(nn.Linear(36, 12), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(12, 9))
        self.functional = nn.Linear(9, 8)
        self.plain = nn.Linear(8, 7)
        self.unseen = nn.Linear(7, 7)
        self.labels = nn.Linear(7, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.inside(self.filters(images).flatten(1))
        x = self.plain(self.functional(x.relu()))
        return self.labels(x + self.unseen(self.unseen(x)))


def test_layers_join_what_they_read_and_what_their_nodes_hand_on() -> None:
    network = nl.adapt(Joined(), DIGITS)
    found = {layer.name: (layer.source, layer.target) for layer in network.layers()}
    assert found == {
        "inside.0": ("filters", "inside.1"),  # flattened filters; an activation in place
        "inside.3": ("inside.1", "inside.3"),  # dropout hands on what it gets
        "functional": ("functional.input", "functional"),
        "plain": ("functional", "plain"),
        "output": ("labels.input", None),  # and not what runs twice
    }
    assert nl.adapt(seeded(), DIGITS).layers()[0].target == "last_axis"  # its activation is shared


class Scaled(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * super().forward(x)


class Careless(nn.Module):
    """Layers that are not what they seem."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.first, self.second = nn.Linear(64, 8), nn.Linear(8, 8)
        self.tied, self.scaled, self.head = nn.Linear(8, 8), Scaled(8, 8), nn.Linear(8, 10)
        self.tied.weight = self.second.weight
        self.named, self.more = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.second(self.relu(self.first(images.flatten(1)))))
        x = self.named(input=self.scaled(self.tied(self.more(x))))
        return self.head(x).div_(2.0)


def test_layers_that_are_not_what_they_seem_are_left_out() -> None:
    network = nl.adapt(Careless(), DIGITS)
    found = {layer.name: (layer.source, layer.target) for layer in network.layers()}
    assert found == {
        "first": ("first.input", "first"),
        "more": ("more.input", "more"),  # behind an activation that is shared
        "head": ("named", "head"),  # written to afterwards, so what it gives are no logits
    }
    assert network.output_layer() == ""


def test_a_network_may_have_a_module_called_block() -> None:
    network = nl.adapt(nn.Sequential(OrderedDict(flat=nn.Flatten(), block=mlp(), head=nn.Linear(6, 10))), DIGITS)
    layers = network.layers()
    assert [layer.name for layer in select_layers(layers, block_patterns(layers, None))] == [
        "block.0",
        "block.2",
        "output",
    ]
    assert site_ticks(["block", "block.0", "block.1.x"])[1] == ""


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 12), nn.GELU(), nn.Linear(12, 6))


def test_weights_of_any_network_go_where_nodes_share_no_label() -> None:
    torch.manual_seed(0)
    network = nl.adapt(Joined(), DIGITS)
    measured = nl.measure(network, "digits", settings=SHORT)
    pruned = nl.prune(network, measured, threshold=0.5)
    assert set(pruned.dilution) == {layer.name for layer in network.layers()}
    holds = {name: at.matrices.diagonals(0.5) for name, at in measured.items()}
    weight = pruned.network.get_submodule("network.inside.0").weight
    for node in range(12):
        for filter_ in range(4):
            shared = bool((holds["inside.1"][node] & holds["filters"][filter_]).any())
            assert bool(weight[node, 9 * filter_ : 9 * filter_ + 9].any()) == shared
    kept = pruned.network.get_submodule("network.labels").weight != 0
    assert torch.equal(kept, holds["labels.input"].T)
    assert 0 < pruned.total_dilution < 1


class Attention(nn.Module):
    """As timm has it; or as the hub has it, where what the heads have found is handed on to a layer elsewhere."""

    def __init__(self, nodes: int, heads: int, behind: nn.Module | None = None) -> None:
        super().__init__()
        self.num_heads = heads
        self.query, self.key, self.value = (nn.Linear(nodes, nodes) for _ in range(3))
        self.behind = behind

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, None]:
        batch, tokens, nodes = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, self.num_heads, -1).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        found = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, nodes)
        return (found, None) if self.behind is None else self.behind(found)


class Fewer(Attention):
    """Whose keys and values are of fewer tokens than its queries."""

    def __init__(self, nodes: int, heads: int) -> None:
        super().__init__(nodes, heads, nn.Linear(nodes, nodes))

    def forward(self, x: Tensor) -> Tensor:
        fewer = F.avg_pool1d(x.mT, 2).mT
        q, k, v = (
            layer(read).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for layer, read in ((self.query, x), (self.key, fewer), (self.value, fewer))
        )
        return self.behind(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))  # type: ignore[misc, no-any-return]


class Attending(nn.Module):
    """Two blocks of attention on the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(8, 12)
        self.first = Attention(12, 3, nn.Linear(12, 12))
        self.second = Attention(12, 2)
        self.dense = nn.Linear(12, 12)
        self.head = nn.Linear(12, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.rows(images[:, 0])
        x = x + self.first(x.tanh())
        return self.head((x + self.dense(self.second(x)[0])).mean(dim=1))


def attending() -> Attending:
    torch.manual_seed(0)
    return Attending()


def test_the_heads_of_any_attention_are_found() -> None:
    network = nl.adapt(attending(), DIGITS)
    assert {site.name: (site.heads, site.block) for site in network.sites() if site.heads or site.block} == {
        "first.behind.input": (3, 1),
        "dense.input": (2, 2),
    }
    # What three layers read is one site.
    assert {layer.source for layer in network.layers() if layer.name.startswith("second.")} == {"second.query.input"}


@pytest.mark.parametrize(
    ("attention", "found"),
    [
        (Attention(12, 3, nn.Sequential(nn.Linear(12, 12), nn.Dropout())), "0.behind.0.input"),
        (Attention(12, 3, nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.Linear(24, 12))), None),  # more than attends
        (nn.MultiheadAttention(12, 3, batch_first=True), "0.out_proj.input"),
        (Fewer(12, 3), "0.behind.input"),
    ],
)
def test_heads_are_found_where_nodes_are_theirs(attention: nn.Module, found: str | None) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.ModuleList([attention])
            self.dense, self.head = nn.Linear(12, 12), nn.Linear(12, 10)

        def forward(self, rows: Tensor) -> Tensor:
            three = isinstance(attention, nn.MultiheadAttention)
            x = attention(rows, rows, rows)[0] if three else attention(rows)
            return self.head(self.dense(x).mean(dim=1))  # type: ignore[no-any-return]

    of_heads = [site.name for site in nl.adapt(Network(), torch.randn(2, 7, 12)).sites() if site.heads]
    assert of_heads == ([f"attention.{found}"] if found else [])


def test_heads_stand_beside_layers_of_positions() -> None:
    network = build_network("timm:test_vit_relpos", 10, 64, 1)
    found = {site.name: site.heads for site in network.sites() if site.heads}
    assert found == {f"blocks.{block}.attn.proj.input": 3 for block in range(len(network.network.blocks))}  # type: ignore[union-attr, arg-type]


def test_heads_of_any_network_are_studied(tmp_path: Path) -> None:
    network = nl.adapt(attending(), DIGITS)
    digits = load_images("digits", "test")
    loaded = load_head_data(network, "digits", "train")
    study = HeadStudy(network, loaded, HeadSettings("2", probe=ProbeSettings(probe_recipe(1))), RunDirectory(tmp_path))
    tables = report_heads(study, silence=True)
    assert [site.name for site in study.sites] == ["dense.input"]
    assert not study.pictured
    assert tables

    # The same network with the second head's half of the projection's columns zero.
    without = attending()
    with torch.no_grad():
        without.dense.weight[:, 6:] = 0
    pixels, labels = next(iter(digits.batches(len(digits))))
    normalised = normalisation_of(load_images("digits", "train")).applied(pixels, torch.device("cpu"))
    right = (without(normalised).argmax(dim=1) == labels).double()
    expected = torch.stack([right[labels == label].mean() for label in range(10)])
    assert torch.allclose(study.silenced["dense.input"].without[1], expected)
    with pytest.raises(InputError, match="there is no block 3 with attention heads; choose of 1, 2"):
        chosen_sites(network, "3")
    with pytest.raises(InputError, match="it is not known where its tokens lie"):
        check_shown(network, digits, [0], None)


class TwoHeads(nn.Module):
    """Answers with the mean of two layers, or with one of them inside of another module."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        self.own_head = nn.Linear(64, 10)
        self.both = both

    def forward(self, images: Tensor) -> Tensor:
        beside, answer = self.own_head(images.flatten(1)), self.head(images)
        return (beside + answer) / 2 if self.both else answer


def test_the_layer_that_a_network_answers_from_is_the_one_whose_output_it_gives() -> None:
    assert nl.adapt(TwoHeads(both=False), DIGITS).output_layer() == "network.head.1"
    assert nl.adapt(TwoHeads(both=True), DIGITS).output_layer() == ""
    # A module of that name keeps it.
    found = [site.name for site in nl.sites(nl.adapt(TwoHeads(both=False), DIGITS))]
    assert found.count("own_head") == 1


def test_a_network_in_training_stays_so_while_its_sites_are_found() -> None:
    with pytest.raises(InputError, match="this Sequential gives"):
        nl.adapt(frozen := nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), torch.ones(2, 3, 4, 4))
    assert all(module.training for module in frozen.modules())
    assert torch.equal(frozen[1].running_mean, torch.zeros(2))  # type: ignore[arg-type]


def test_activations_are_what_the_modules_hand_on() -> None:
    network, images = nl.adapt(seeded(), DIGITS), torch.randn(3, 1, 8, 8)
    read: dict[str, Tensor] = {}
    with torch.inference_mode(), reading(network, sites(network), read.__setitem__):
        logits = network(images)
        own = seeded().eval()
        first = own.first(images)
        assert torch.equal(read["first"], first)
        tokens = own.last_axis(first.relu().permute(0, 2, 3, 1)).reshape(3, 64, 5)
        torch.testing.assert_close(read["last_axis"], tokens)
        assert torch.equal(read["head"], logits)


def test_nodes_of_a_network_of_one_s_own_are_measured() -> None:
    network = nl.adapt(seeded(), DIGITS)
    data = tuple(load_images("digits", split).take(torch.arange(200), split) for split in ("train", "test"))
    found = nl.measure(network, data, "last_axis", settings=ProbeSettings(probe_recipe(2)))
    assert found["last_axis"].matrices.class_means.shape == (10, 5)
    assert found["last_axis"].statistics(0.3).nodes == 5


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Linear(3, 3), r"Linear cannot be run on inputs of \(2, 3, 8, 8\)"),
        (nn.Conv2d(3, 4, 1), r"gives \(batch, label\), this Conv2d gives \(2, 4, 8, 8\)"),
        (Split(), "this Split gives tuple"),
    ],
)
def test_what_is_no_classifier_of_images(network: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nl.adapt(network, torch.zeros(2, 3, 8, 8))


def test_one_input_shows_no_batch() -> None:
    with pytest.raises(InputError, match="give at least two"):
        nl.adapt(seeded(), DIGITS[:1])


def test_filters_are_found_whatever_the_sizes() -> None:
    spectra = nn.Sequential(
        nn.Unflatten(1, (1, 64)), nn.Conv1d(1, 6, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(180, 3)
    )
    found = {
        site.name: (site.layout, site.nodes, site.positions) for site in nl.adapt(spectra, torch.randn(2, 64)).sites()
    }
    assert found == {
        "0": ("tokens", 64, 1),
        "1": ("channels", 6, 60),
        "2": ("channels", 6, 60),
        "3": ("channels", 6, 30),
        "4": ("units", 180, 1),
        "5": ("units", 3, 1),
    }
    # As many filters as pixels in a row; written to in place; handed on as it is.
    square = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten(), nn.Linear(512, 3)
    )
    sites = nl.adapt(square, torch.randn(2, 3, 8, 8)).sites()
    assert [(site.name, site.layout) for site in sites] == [
        ("0", "channels"),
        ("1", "channels"),
        ("3", "units"),
        ("4", "units"),
    ]


def test_filters_of_rows_are_what_silencing_finds() -> None:
    torch.manual_seed(0)
    network = nl.adapt(
        nn.Sequential(nn.Unflatten(1, (1, 12)), nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(40, 2)), torch.randn(2, 12)
    )
    rows = nl.Examples(torch.randn(30, 12), torch.arange(30) % 2, ("low", "high"))
    probes = train_probes(network, [network.sites()[1]], rows, AsTheyAre(), ProbeSettings(probe_recipe(1)))
    (measured,) = measure_probes(network, probes, rows, AsTheyAre())
    activations = network.network[1](network.network[0](rows.inputs)).detach()  # type: ignore[index]
    weight = probes["1"].weight[0].reshape(2, 4, 10)
    for node in range(4):
        fields = torch.einsum("bp,jp->bj", activations[:, node], weight[:, node])
        expected = torch.stack([fields[rows.labels == label].mean(dim=0) for label in (0, 1)])
        found = measured["1"].matrices
        product = found.class_means[:, node] @ found.weight[:, node].T
        torch.testing.assert_close(product.float(), expected, rtol=1e-4, atol=1e-5)


def test_weights_that_are_computed_are_no_masks() -> None:
    torch.manual_seed(0)
    hidden = nn.utils.parametrizations.weight_norm(nn.Linear(6, 4))
    network = nl.adapt(nn.Sequential(hidden, nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 6))
    rows = nl.Examples(torch.randn(20, 6), torch.arange(20) % 2, ("low", "high"))
    found = nl.measure(network, (rows, rows), "1", settings=SHORT)
    assert masks_of(network) == {}
    assert len(found.network) == 32


@pytest.mark.parametrize("norm", [nn.utils.parametrizations.weight_norm, nn.utils.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_layers_whose_weight_is_computed_are_not_to_be_pruned(norm: Callable[[nn.Module], nn.Module]) -> None:
    network = nl.adapt(nn.Sequential(norm(nn.Linear(6, 4)), nn.ReLU(), nn.Linear(4, 2)), torch.randn(2, 6))
    assert [layer.name for layer in network.layers()] == ["output"]
    mask = torch.ones(4, 6, dtype=torch.bool)
    with pytest.raises(InputError, match=r"network\.0 computes its weight of other parameters"):
        apply_masks(network, {"network.0": mask})
    # A layer that holds a mask already can be given another.
    for kept in (~mask, mask):
        apply_masks(network, {"network.2": kept[:2, :4]})
        assert torch.equal(masks_of(network)["network.2"], kept[:2, :4])
        again = nl.adapt(network.network, torch.randn(2, 6))
        assert [layer.name for layer in again.layers()] == ["output"]


def untyped(call: Callable[..., object]) -> Callable[..., object]:
    """As a user has it, whose calls nobody checks before the library does."""
    return getattr(call, "__wrapped__", call)  # type: ignore[no-any-return]


def test_what_a_user_confuses_is_one_sentence() -> None:
    rows = two_kinds(20)
    network = nl.adapt(nn.Sequential(nn.Linear(6, 2)), rows.inputs[:2])
    for data in (rows, (rows,), (rows.inputs, rows.labels)):
        with pytest.raises(InputError, match="data are the name of a data set, or a pair"):
            untyped(nl.measure)(network, data)
    with pytest.raises(InputError, match=r"an example is a tensor of torch, not a ndarray"):
        untyped(nl.adapt)(nn.Linear(6, 2), rows.inputs.numpy())
    with pytest.raises(InputError, match="there is no data set 'cifar1'"):
        nl.measure(network, "cifar1")
    three = nl.Examples(rows.inputs, rows.labels + torch.arange(20) // 19, ("a", "b", "c"))
    with pytest.raises(InputError, match="own_head answers with 2 labels other than the 3 of examples"):
        nl.measure(network, (three, three), "own_head")
    shares = nl.adapt(nn.Sequential(nn.Linear(6, 2), nn.Softmax(dim=1)), torch.randn(2, 6))
    with pytest.raises(InputError, match="own_head does not exist here: no fully connected layer makes the logits"):
        nl.measure(shares, (rows, rows), "own_head")


def test_the_weights_of_an_adapted_network_are_for_its_owner_to_load(tmp_path: Path) -> None:
    network = nl.adapt(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), DIGITS)
    nl.export_network(network, tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match=r"weights of a network given to nl\.adapt; build it as it was"):
        load_network(tmp_path / "mine.safetensors")


def test_a_measurement_is_printed_as_a_small_table() -> None:
    network = nl.adapt(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), DIGITS)
    found = nl.measure(network, "digits", settings=SHORT)
    lines = str(found).splitlines()
    assert lines[0] == "test, threshold 0.3, greedy clusters"
    assert [line.split()[0] for line in lines[1:]] == ["site", *found]
    assert len({len(line) for line in lines[1:]}) == 1
    first = next(iter(found.values()))
    assert repr(first) in repr(found)
    assert "snr" not in repr(found), "a debugger shows it without taking statistics"
    assert len(repr(first)) < 120
    assert f"accuracy {first.accuracy:.4f}" in repr(first)
    assert f"snr {first.statistics().snr:.4g}" in repr(first.statistics())


def test_what_cannot_be_measured_is_one_sentence() -> None:
    rows = nl.Examples(torch.randn(20, 6), torch.arange(20) % 2, ("low", "high"))
    turned = nl.Examples(rows.inputs, 1 - rows.labels, ("high", "low"))
    network = nn.Linear(6, 2)
    with pytest.raises(InputError, match="other labels than what is learnt, or in another order"):
        nl.measure(nl.adapt(network, rows.inputs[:2]), (rows, turned))
    halves = nl.adapt(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.randn(2, 1, 8, 8)).to(torch.bfloat16)
    with pytest.raises(InputError, match=r"weights are torch.bfloat16; measure network.float\(\)"):
        nl.measure(halves, "digits")


@pytest.mark.parametrize(
    ("network", "example", "inputs", "message"),
    [
        (nn.Sequential(nn.Linear(6, 2)), (2, 6), (20, 7), r"Sequential cannot be run on inputs of \(2, 7\): mat1"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
            (2, 3, 8, 8),
            (20, 3, 12, 12),
            r"on inputs of \(3, 12, 12\) 0 has 100 places for each filter, not 36",
        ),
    ],
)
def test_inputs_of_another_shape_are_refused(
    network: nn.Module, example: tuple[int, ...], inputs: tuple[int, ...], message: str
) -> None:
    learnt = nl.Examples(torch.randn(inputs), torch.arange(20) % 2, ("low", "high"))
    with pytest.raises(InputError, match=message):
        nl.measure(nl.adapt(network, torch.randn(example)), (learnt, learnt))


class Twice(Network):
    """Declares a site that runs twice in a pass."""

    config = AdaptedConfig(2)

    def __init__(self) -> None:
        super().__init__()
        self.again, self.head = nn.Linear(6, 6), nn.Linear(6, 2)

    def sites(self) -> list[nl.Site]:
        return [nl.Site("again", 6, "again", "output", layout="units")]

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.again(self.again(rows)))  # type: ignore[no-any-return]


def two_kinds(count: int) -> nl.Examples:
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return nl.Examples(rows, (rows[:, 0] > 0).long(), ("low", "high"))


def test_a_site_that_runs_twice_is_refused() -> None:
    learnt = two_kinds(20)
    with pytest.raises(InputError, match="again runs 2 times in a pass; choose sites that run once"):
        nl.measure(Twice(), (learnt, learnt))


def test_a_network_that_mixes_its_inputs_is_refused() -> None:
    torch.manual_seed(0)
    learnt = two_kinds(40)
    norms = [nn.BatchNorm1d(6, track_running_stats=own) for own in (False, True)]
    mixing, apart, drawing = (
        nl.adapt(nn.Sequential(nn.Linear(6, 6), one, nn.Linear(6, 2)), learnt.inputs[:2]) for one in (*norms, Noisy())
    )
    with pytest.raises(InputError, match="what Sequential makes of an input depends on those that it is given beside"):
        nl.measure(mixing, (learnt, learnt))
    for network in (apart, drawing):
        assert nl.measure(network, (learnt, learnt), "0", settings=SHORT)["0"].accuracy > 0


class Noisy(nn.Module):
    """Computes something else each time, but of each input by itself."""

    def forward(self, rows: Tensor) -> Tensor:
        return rows + torch.randn_like(rows)


class Overwriting(nn.Module):
    """Scales its inputs where they lie."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.hidden(rows.mul_(0.5).sub_(1.0)).relu())  # type: ignore[no-any-return]


def test_what_a_network_writes_to_its_inputs_reaches_nobody_else() -> None:
    learnt = two_kinds(300)
    given = learnt.inputs.clone()
    network = nl.adapt(Overwriting(), learnt.inputs[:2])
    variants = {name: copy.deepcopy(network) for name in ("a", "b", "c")}
    reached = accuracies(variants, learnt, AsTheyAre())
    expected = float((Overwriting()(given.clone()).argmax(1) == learnt.labels).float().mean())
    assert reached == dict.fromkeys(variants, pytest.approx(expected))
    layers = network.layers()
    rows = retrain(variants, layers, learnt, AsTheyAre(), retraining(1), evaluated={"test": learnt})
    assert len({row["loss"] for row in rows if row["epoch"]}) == 1
    torch.testing.assert_close(learnt.inputs, given, rtol=0, atol=0)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_networks_of_half_precision_are_measured_behind_their_layers_too(half: torch.dtype) -> None:
    torch.manual_seed(0)
    whole = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), Mean(), nn.Linear(8, 2))
    tokens = torch.randn(60, 3, 6)
    learnt = nl.Examples(tokens, (tokens[:, :, 0].sum(dim=1) > 0).long(), ("low", "high"))
    same = nl.Examples(learnt.inputs.to(half), learnt.labels, learnt.label_names)
    exact, rounded = (
        nl.measure(nl.adapt(network, of.inputs[:2]), (of, of), "2", settings=SHORT)["2"]
        for network, of in ((whole, learnt), (copy.deepcopy(whole).to(half), same))
    )
    torch.testing.assert_close(rounded.class_means, exact.class_means, rtol=0.05, atol=0.02)
    assert learnt.fingerprint != same.fingerprint


class Mean(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.mean(dim=1)


def test_an_example_without_finite_logits_is_refused() -> None:
    network = nn.Linear(6, 2)
    with torch.no_grad():
        network.weight[0, 0] = torch.inf
    with pytest.raises(InputError, match="Linear makes NaN or infinite logits of the example"):
        nl.adapt(network, torch.randn(2, 6))


def test_inputs_of_a_network_of_ours_are_of_its_size() -> None:
    digits = nl.Examples(torch.randn(20, 1, 8, 8), torch.arange(20) % 2, ("low", "high"))
    with pytest.raises(InputError, match=r"block.1.output has 64 places for each filter, not 256"):
        nl.measure(build_network("resnet18_3x3", 2, 16, 1), (digits, digits), "block.1.output")


class Pooled(nn.Module):
    """Convolves images of any size; what it pools has no axes of size one, be it the batch's."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv2d(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pool(self.filters(images)).squeeze()).log_softmax(dim=1)  # type: ignore[no-any-return]


@pytest.mark.parametrize("site", ["pool", "head"])
def test_what_has_no_places_is_measured_on_inputs_of_any_size(site: str) -> None:
    learnt, larger = (nl.Examples(torch.randn(20, 3, n, n), torch.arange(20) % 2, ("a", "b")) for n in (8, 12))
    network = nl.adapt(Pooled(), torch.randn(2, 3, 8, 8))
    assert nl.measure(network, (learnt, larger), site, settings=SHORT)[site].accuracy >= 0
    with pytest.raises(InputError, match="filters has 100 places for each filter, not 36"):
        nl.measure(network, (learnt, larger), ["filters", site])


def test_texts_may_be_longer_than_the_example() -> None:
    learnt, longer = (nl.Examples(torch.randint(0, 9, (20, n)), torch.arange(20) % 2, ("a", "b")) for n in (4, 6))
    network = nl.adapt(Sorter(), learnt.inputs[:2, :3])
    assert nl.measure(network, (learnt, longer), "words", settings=SHORT)["words"].class_means.shape == (2, 6)


class Sorter(nn.Module):
    """Tells by its words which of two kinds a text is; its output has the form of a transformer of the hub."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.mix = nn.Linear(6, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, words: Tensor) -> object:
        return SimpleNamespace(logits=self.head(self.mix(self.words(words)).relu().mean(dim=1)))


def test_texts_are_measured_as_their_tokens() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    # Words 1 to 4 make a text of the first kind, 5 to 8 one of the second.
    words = torch.randint(1, 5, (40, 3), generator=generator) + 4 * labels[:, None]
    sorter = Sorter()
    learnt, measured = (nl.Examples(words[half], labels[half], ("low", "high")) for half in (slice(20), slice(20, 40)))
    network = nl.adapt(sorter, words[:2])
    assert [(site.name, site.layout) for site in nl.sites(network)] == [
        ("words", "tokens"),
        ("mix", "tokens"),
        ("head.input", "units"),
        ("head", "units"),
        ("own_head", "units"),
    ]
    found = nl.measure(
        network, (learnt, measured), "words", settings=ProbeSettings(probe_recipe(100, learning_rate=0.1))
    )
    assert found["words"].accuracy == 1.0
    # By hand: tokens pooled with the probe's shares, averaged over the texts of each label.
    same = measure_probes(network, probes := trained_probes(network, learnt), measured, AsTheyAre(), batch_size=7)[0][
        "words"
    ]
    activations = sorter.words(measured.inputs).detach()
    shares = (activations @ probes["words"].pool_weight[0]).softmax(dim=1)
    pooled = (shares[..., None] * activations).sum(dim=1)
    expected = torch.stack([pooled[measured.labels == label].mean(dim=0) for label in (0, 1)])
    torch.testing.assert_close(same.class_means, expected)


def test_what_fills_up_a_text_of_any_network_is_not_read() -> None:
    torch.manual_seed(0)
    words = torch.randint(1, 9, (12, 4)) * (torch.arange(4) < torch.arange(12)[:, None] % 4 + 1)
    texts, longer = (
        nl.Examples(tokens, torch.arange(12) % 2, ("low", "high")) for tokens in (words, F.pad(words, (0, 3)))
    )
    network = nl.adapt(Sorter(), words[:2], padding=0)
    found = [nl.measure(network, (one, one), "mix", settings=ProbeSettings(probe_recipe(2))) for one in (texts, longer)]
    torch.testing.assert_close(found[0]["mix"].class_means, found[1]["mix"].class_means)
    torch.testing.assert_close(found[0]["mix"].weight, found[1]["mix"].weight)


def trained_probes(network: Network, learnt: nl.Examples) -> Probes:
    words = [site for site in sites(network) if site.name == "words"]
    return train_probes(network, words, learnt, AsTheyAre(), ProbeSettings(probe_recipe(3)))


def test_a_network_that_reads_no_images_is_not_given_any() -> None:
    network = nl.adapt(Sorter(), torch.ones(2, 3).long())
    with pytest.raises(InputError, match="reads no square images as those of digits"):
        nl.measure(network, "digits")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0]), "the test examples are 2 inputs and 1 labels; give one for each"),
        (torch.tensor([0, 2]), "labels are numbers from 0 to 1"),
        (torch.tensor([-1, 0]), "labels are numbers from 0 to 1"),
    ],
)
def test_examples_that_are_none(labels: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nl.Examples(torch.zeros(2, 3), labels, ("a", "b"))


def test_examples_are_told_apart_by_all_that_they_hold() -> None:
    inputs, labels, names = torch.arange(6).reshape(2, 3), torch.tensor([0, 1]), ("a", "b")
    first = nl.Examples(inputs, labels, names)
    assert first.fingerprint == nl.Examples(inputs.clone(), labels.clone(), names).fingerprint
    others = [(inputs + 1, labels), (inputs, 1 - labels), (inputs.int(), labels), (inputs[:, None], labels)]
    assert len({first.fingerprint, *(nl.Examples(*other, names).fingerprint for other in others)}) == 5


def test_probes_without_room_are_refused_in_one_sentence() -> None:
    digits = load_images("digits", "train").take(torch.arange(8), "train")
    network = nl.adapt(seeded(), DIGITS)
    huge = [site for site in sites(network) if site.name == "first"]
    there_is = memory_of(torch.device("cpu"))
    assert there_is is not None
    settings = ProbeSettings(seeds=tuple(range(1 + there_is // (16 * 10 * 6 * 64))))
    with pytest.raises(InputError, match=r"the probes of 1 sites need \d+ GiB and there are"):
        train_probes(network, huge, digits, normalisation_of(digits), settings)


@pytest.fixture(scope="module")
def convnext() -> nn.Module:
    torch.manual_seed(0)
    described = {"input_size": (3, 32, 32)}
    network = timm.create_model("convnext_tiny", num_classes=3, pretrained_cfg_overlay=described, **TINY)
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network.eval()


@pytest.fixture(scope="module")
def published(convnext: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What timm saves for the hub, read from disk instead."""
    folder = tmp_path_factory.mktemp("timm")
    save_for_hf(convnext, folder, model_args=TINY)
    return f"timm:local-dir:{folder}"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, generator = tmp_path_factory.mktemp("photographs"), torch.Generator().manual_seed(0)
    for split, label in [(split, label) for split in ("train", "test") for label in ("dark", "light")]:
        (folder / split / label).mkdir(parents=True)
        for i in range(6):
            pixels = torch.randint(0, 120, (32, 32, 3), generator=generator) + 120 * (label == "light")
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / split / label / f"{i}.png")
    return folder


def test_any_network_of_timm_is_loaded_and_kept(convnext: nn.Module, published: str, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    network = load_network(published)
    assert torch.equal(torch.get_rng_state(), before)
    images = torch.randn(2, 3, 32, 32)
    assert isinstance(network, TimmNetwork)
    assert (network.config.labels, network.config.image_size) == (3, 32)
    with torch.inference_mode():
        assert torch.equal(network(images), convnext(images))
    layouts = {site.name: site.layout for site in sites(network)}
    assert layouts["stages.2.blocks.0"] == "channels"
    assert layouts["stages.1.blocks.0.norm"] == "tokens"
    assert layouts["head.fc"] == "units"
    nl.export_network(network, tmp_path / "kept.safetensors")
    kept = load_network(tmp_path / "kept.safetensors")
    with torch.inference_mode():
        assert torch.equal(kept(images), convnext(images))


def test_the_sites_of_a_network_are_listed(published: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert nodelens("sites", published) == 0
    shown = capsys.readouterr().out.splitlines()
    found = sites(load_network(published))
    assert shown[0].startswith(f"{len(found)} sites of timm:local-dir:")
    listed = [line.split() for line in shown[4:] if line.strip()]
    assert listed == [[site.name, site.layout, str(site.nodes), str(site.positions)] for site in found]


def test_any_network_of_timm_is_measured_beside_an_untrained_one(
    published: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("measure", published, "--data", str(photographs), "--epochs", "2", "--out", str(tmp_path))
    assert nodelens(*asked) == 2
    assert "`measure --other-labels` takes any" in capsys.readouterr().err
    assert nodelens(*asked, "--other-labels", "--sites", "stages.*.blocks.0") == 0
    shown = capsys.readouterr().out
    assert "stages.3.blocks.0" in shown
    assert "untrained" in shown
    assert nodelens("report", str(tmp_path)) == 0
    layers = {layer["name"] for layer in read_json(tmp_path / "config.json")["measure"]["layers"]}
    assert layers == {f"stages.{stage}.blocks.0.mlp.{layer}" for stage in (1, 2, 3) for layer in ("fc1", "fc2")}


def test_any_network_of_timm_is_trained_and_pruned(photographs: Path, tmp_path: Path) -> None:
    name = ("train", "timm:test_convnext", "--data", str(photographs), "--batch-size", "4", "--epochs", "1")
    assert nodelens(*name, "--out", str(tmp_path / "run")) == 0
    network = load_network(tmp_path / "run")
    assert isinstance(network, TimmNetwork)
    assert network.config == build_network("timm:test_convnext", 2, 32).config
    pruning = ("--layers", "stages.3.blocks.0.mlp.*,output", "--threshold", "0.9", "--baseline", "random")
    little = ("--seeds", "1", "--epochs", "1", "--probe-epochs", "1", "--held-out", "0.5")
    assert nodelens("prune", str(tmp_path / "run"), *pruning, *little, "--name", "few") == 0
    weight = load_network(tmp_path / "run" / "prune" / "few").get_submodule("network.stages.3.blocks.0.mlp.fc1").weight
    assert 0 < int((weight == 0).sum()) < weight.numel()


def test_a_vit_of_timm_becomes_one_of_ours() -> None:
    network = build_network("timm:test_vit", 5, 160)
    assert network.family == "vit"
    assert isinstance(network, Network)
    assert "block.1.attention" in [site.name for site in sites(network)]


def test_a_fresh_layer_scale_hides_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 4}

    def kind(activation: str) -> nn.Module:
        return timm.create_model("deit3_small_patch16_224", act_layer=activation, **size).eval()

    for activation, family in (("relu", "timm"), ("gelu", "vit")):
        monkeypatch.setattr("nodelens.networks.published._untrained", lambda _, activation=activation: kind(activation))
        network = build_network("timm:own", 4, 16)
        assert network.family == family
        if isinstance(network, ViT):
            assert network.blocks[0].ls1.gamma.abs().max() < 1e-4  # fresh as timm made it


def test_what_computes_otherwise_is_no_vit_of_ours(tmp_path: Path) -> None:
    size = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3}
    theirs = timm.create_model("vit_tiny_patch16_224", act_layer="relu", num_classes=4, **size).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight += 0.3 * torch.randn_like(weight)
    save_for_hf(theirs, tmp_path, model_args=size | {"act_layer": "relu"})
    network, images = load_network(f"timm:local-dir:{tmp_path}"), torch.randn(2, 3, 16, 16)
    assert isinstance(network, TimmNetwork)
    with torch.inference_mode():
        assert torch.equal(network(images), theirs(images))
    assert "blocks.1" in [site.name for site in sites(network)]
