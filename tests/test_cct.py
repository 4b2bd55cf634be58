"""CCT against a literal re-implementation that starts from the state dict alone (method, section 7)."""

import math
from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nodelens.errors import InputError
from nodelens.networks import CCT, CCTConfig, build_network, reading
from nodelens.networks.attention import attend, attend_materialised
from nodelens.networks.cct import StochasticDepth, cct_config
from nodelens.training import TrainSettings, recipe

SMALL = CCTConfig(layers=2, kernel=3, convolutions=2, width=12, heads=3, feedforward=20, labels=5, image_size=16)
BLOCK_SITES = (
    "ln",
    "qkv",
    "attention",
    "projection.no_skip",
    "projection",
    "norm",
    "linear1",
    "linear2.no_skip",
    "linear2",
)


def perturbed(config: CCTConfig, dtype: torch.dtype = torch.float32, seed: int = 0) -> CCT:
    """A network whose every weight, norms and biases included, differs from its initial value."""
    torch.manual_seed(seed)
    network = CCT(config).to(dtype).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return network


def layer_norm(x: Tensor, state: Mapping[str, Tensor], prefix: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{prefix}.weight"] + state[f"{prefix}.bias"]


def linear(x: Tensor, state: Mapping[str, Tensor], prefix: str) -> Tensor:
    return torch.einsum("...i,oi->...o", x, state[f"{prefix}.weight"]) + state[f"{prefix}.bias"]


def softmax(scores: Tensor, dim: int) -> Tensor:
    weights = (scores - scores.amax(dim, keepdim=True)).exp()
    return weights / weights.sum(dim, keepdim=True)


def literal_attention(qkv: Tensor, heads: int) -> Tensor:
    """Head by head, token by token: each owns a run of the nodes of Q, K and V."""
    width = qkv.shape[-1] // 3
    q, k, v = qkv[..., :width], qkv[..., width : 2 * width], qkv[..., 2 * width :]
    size = width // heads
    mixed = torch.empty_like(q)
    for h in range(heads):
        own = slice(h * size, (h + 1) * size)
        for t in range(q.shape[1]):
            scores = (q[:, t, None, own] * k[:, :, own]).sum(-1) / math.sqrt(size)
            mixed[:, t, own] = (softmax(scores, 1)[..., None] * v[:, :, own]).sum(1)
    return mixed


def literal_forward(
    state: Mapping[str, Tensor], images: Tensor, layers: int, heads: int, kernel: int, convolutions: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and what every site must read, from the formulas of method.md and nothing of the package."""
    x = images
    for i in range(convolutions):
        weight = state[f"tokenizer.conv_layers.{i}.0.weight"]
        x = F.conv2d(x, weight, stride=max(1, kernel // 2 - 1), padding=max(1, kernel // 2))
        x = F.max_pool2d(x.clamp(min=0), kernel_size=3, stride=2, padding=1)
    x = x.reshape(*x.shape[:2], -1).permute(0, 2, 1) + state["classifier.positional_emb"]
    found = {}
    for i in range(layers):
        prefix = f"classifier.blocks.{i}"
        ln = layer_norm(x, state, f"{prefix}.pre_norm")
        qkv = torch.einsum("...i,oi->...o", ln, state[f"{prefix}.self_attn.qkv.weight"])
        attention = literal_attention(qkv, heads)
        projected = linear(attention, state, f"{prefix}.self_attn.proj")
        projection = x + projected
        norm = layer_norm(projection, state, f"{prefix}.norm1")
        hidden = linear(norm, state, f"{prefix}.linear1")
        linear1 = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        linear2 = linear(linear1, state, f"{prefix}.linear2")
        x = norm + linear2
        values = (ln, qkv, attention, projected, projection, norm, linear1, linear2, x)
        found.update({f"block.{i + 1}.{name}": v for name, v in zip(BLOCK_SITES, values, strict=True)})
    x = layer_norm(x, state, "classifier.norm")
    shares = softmax(linear(x, state, "classifier.attention_pool"), 1)
    return linear((shares * x).sum(1), state, "classifier.fc"), found


@pytest.mark.parametrize(
    ("name", "labels", "image_size", "tokens", "parameters", "millions"),
    [
        ("cct_2_3x2", 10, 32, 64, 283_723, 0.28),
        ("cct_4_3x2", 10, 32, 64, 482_123, 0.48),
        ("cct_7_3x2", 100, 32, 64, 3_876_389, 3.88),
        ("cct_7_3x1", 100, 32, 256, 3_783_269, 3.78),
        ("cct_7_7x2", 102, 224, 196, 4_573_735, 4.57),
    ],
)
def test_published_variants_have_their_tokens_and_parameters(
    name: str, labels: int, image_size: int, tokens: int, parameters: int, millions: float
) -> None:
    network = build_network(name, labels, image_size)
    counted = sum(weight.numel() for weight in network.parameters())
    assert counted == parameters
    assert round(counted / 1e6, 2) == millions
    assert network.config.tokens == tokens
    assert network.classifier.positional_emb.shape[1] == tokens


def test_tokens_are_as_many_as_the_convolutions_make() -> None:
    for kernel, convolutions, side in [(3, 1, 8), (3, 2, 17), (7, 2, 64), (5, 1, 23), (1, 3, 32), (7, 1, 30)]:
        config = CCTConfig(1, kernel, convolutions, 8, 2, 8, 3, side)
        network = CCT(config)
        with torch.inference_mode():
            assert network.tokenizer(torch.zeros(1, 3, side, side)).shape == (1, config.tokens, 8)


def test_state_dict_keys_are_the_published_ones() -> None:
    published = {f"tokenizer.conv_layers.{i}.0.weight" for i in range(2)}
    published |= {"classifier.positional_emb"}
    published |= {f"classifier.{layer}.{p}" for layer in ("attention_pool", "norm", "fc") for p in ("weight", "bias")}
    for i in range(7):
        prefix = f"classifier.blocks.{i}"
        layers = ("pre_norm", "norm1", "linear1", "linear2", "self_attn.proj")
        published |= {f"{prefix}.{layer}.{p}" for layer in layers for p in ("weight", "bias")}
        published |= {f"{prefix}.self_attn.qkv.weight"}
    assert set(build_network("cct_7_3x2", 100, 32).state_dict()) == published


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize(("kernel", "convolutions"), [(3, 2), (3, 1), (7, 1)])
def test_logits_equal_the_literal_network(
    dtype: torch.dtype, tolerance: float, gradient: bool, kernel: int, convolutions: int
) -> None:
    # With and without gradients: attention takes another way in each.
    config = CCTConfig(2, kernel, convolutions, 12, 3, 20, 5, 16)
    network = perturbed(config, dtype)
    images = torch.randn(3, 3, 16, 16, dtype=dtype, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(gradient):
        logits = network(images).detach()
    expected, _ = literal_forward(network.state_dict(), images, 2, 3, kernel, convolutions)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


def test_every_site_reads_the_quantity_of_its_definition() -> None:
    network = perturbed(SMALL, torch.float64)
    images = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    read: dict[str, Tensor] = {}
    with torch.inference_mode(), reading(network, network.sites(), read.__setitem__):
        network(images)
    _, expected = literal_forward(network.state_dict(), images, 2, 3, 3, 2)
    assert [site.name for site in network.sites()] == list(expected)
    assert set(read) == set(expected)
    for site in network.sites():
        assert read[site.name].shape == (2, SMALL.tokens, site.nodes)
        torch.testing.assert_close(read[site.name], expected[site.name], rtol=1e-10, atol=1e-10)


def test_sites_of_the_paper_have_its_nodes_and_heads() -> None:
    sites = {site.name: site for site in build_network("cct_7_3x1", 100, 32).sites()}
    assert len(sites) == 63
    nodes = {name.removeprefix("block.7."): s.nodes for name, s in sites.items() if s.block == 7}
    assert nodes == dict(zip(BLOCK_SITES, (256, 768, 256, 256, 256, 256, 512, 256, 256), strict=True))
    assert {name for name, site in sites.items() if site.heads == 4} == {f"block.{b}.attention" for b in range(1, 8)}
    assert {site.heads for site in sites.values()} == {0, 4}


@pytest.mark.parametrize("tokens", [1, 16, 65])
def test_attention_written_out_equals_the_fused_kernel(tokens: int) -> None:
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = torch.randn(3, 2, 4, tokens, 16, dtype=torch.float64, generator=generator).unbind(0)
    fused = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(attend_materialised(q, k, v), fused, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(attend(q.requires_grad_(), k, v).detach(), fused, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("matrix_units", [True, False])
def test_attention_in_bf16_is_the_same_on_every_cpu(matrix_units: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from nodelens.networks import attention

    monkeypatch.setattr(attention, "MATRIX_UNITS", matrix_units)
    called = []
    monkeypatch.setattr(attention, "attend_materialised", lambda *a: called.append(1) or attend_materialised(*a))
    q, k, v = torch.randn(3, 2, 4, 20, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = F.scaled_dot_product_attention(q, k, v)
    half = attend(q.bfloat16(), k.bfloat16(), v.bfloat16())
    torch.testing.assert_close(half.float(), expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(attend(q, k, v), expected)
    assert bool(called) == (not matrix_units)  # fp32 without gradients is fused everywhere


def test_attention_dropout_keeps_the_mean_and_drops_its_share() -> None:
    torch.manual_seed(0)
    q = k = torch.zeros(1, 1, 200, 200)
    # Equal scores and one-hot values: the output is the attention matrix, 1/200 everywhere without dropout.
    kept = attend_materialised(q, k, torch.eye(200)[None, None], dropout=0.25) * 200
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert abs((kept == 0).float().mean().item() - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 200**2)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    layer = StochasticDepth(0.3)
    x = torch.zeros(20_000, 2, 3)
    branch = torch.ones_like(x)
    out = layer(x, branch)
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    spread = math.sqrt(0.3 / 0.7 / len(x))
    assert abs(out[:, 0, 0].mean().item() - 1) < 5 * spread
    assert torch.equal(layer.eval()(x, branch), branch)


def test_stochastic_depth_rises_linearly_over_the_blocks() -> None:
    network = CCT(CCTConfig(layers=5, width=8, heads=2, feedforward=8, image_size=8, stochastic_depth=0.2))
    rates = [block.drop_path.probability for block in network.classifier.blocks]
    assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


def test_initial_weights_follow_the_recipe() -> None:
    torch.manual_seed(0)
    network = build_network("cct_7_3x1", 100, 32)
    assert network.classifier.positional_emb.std().item() == pytest.approx(0.2, rel=0.02)
    assert network.classifier.blocks[3].linear1.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not network.classifier.blocks[3].linear1.bias.any()
    assert not network.classifier.fc.bias.any()


def test_changes_reach_the_network_and_its_dropout_only_when_it_trains() -> None:
    network = build_network("cct_2_3x1_16", 10, 8, 1, attention_dropout=0.5, stochastic_depth=0.4)
    assert network.classifier.blocks[0].self_attn.dropout == 0.5
    assert network.classifier.blocks[1].drop_path.probability == pytest.approx(0.4)
    images = torch.randn(4, 1, 8, 8)
    assert torch.equal(network.eval()(images), network(images))
    assert not torch.equal(network.train()(images), network(images))


def test_variant_names() -> None:
    assert cct_config("cct_3_3x1_64", 10, 32, 3) == CCTConfig(3, 3, 1, 64, 4, 128, 10, 32, 3)
    assert cct_config("resnet18", 10, 32, 3) is None
    assert cct_config("cct_7_3x1x", 10, 32, 3) is None
    with pytest.raises(InputError, match="cct_5_3x1: CCT comes with 2, 4, 6, 7, 14 layers"):
        build_network("cct_5_3x1", 10, 32)
    with pytest.raises(InputError, match="unknown network 'alexnet'"):
        TrainSettings("alexnet", recipe("digits"))  # before any data are read
    with pytest.raises(InputError, match="unknown network 'alexnet'"):
        build_network("alexnet", 10, 32)
    with pytest.raises(InputError, match="4 heads do not divide a width of 18"):
        build_network("cct_2_3x1_18", 10, 32)
