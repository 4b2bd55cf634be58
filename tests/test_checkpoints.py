"""Checkpoint files: what loads, and the sentence that a user hears when one does not."""

import json
import math
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision import models

from nodelens.data import load_images
from nodelens.data.normalisation import normalisation_from
from nodelens.errors import InputError
from nodelens.files import write_tensors
from nodelens.networks import CCT, CCTConfig, apply_masks, build_network, describe, load_network, masks_of, stored
from nodelens.runs import RunDirectory

TRAINED = Path(__file__).parents[1] / "docs/results/cct_7_3x2_own/training/model.safetensors"
"""The network of the results, trained by `nodelens train` on CIFAR-100."""


@pytest.fixture
def network() -> CCT:
    torch.manual_seed(0)
    built = build_network("cct_2_3x1_16", 10, 8, 1)
    assert isinstance(built, CCT)
    return built.eval()


@pytest.fixture
def state(network: CCT) -> dict[str, Tensor]:
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


def assert_same(loaded: torch.nn.Module, network: CCT) -> None:
    assert loaded.config == network.config
    assert not loaded.training
    expected = network.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("name", "labels", "image_size"),
    [
        ("cct_2_3x2", 10, 32),
        ("cct_4_3x1", 10, 16),
        ("cct_7_3x1", 100, 32),
        ("cct_7_7x2", 102, 224),
        ("cct_6_3x1", 3, 8),
    ],
)
def test_published_files_say_it_all_without_metadata(name: str, labels: int, image_size: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network(name, labels, image_size)
    assert isinstance(network, CCT)
    save_file(network.state_dict(), tmp_path / "published.safetensors")
    assert_same(load_network(tmp_path / "published.safetensors", labels=labels), network)


def test_heads_that_the_file_does_not_tell_can_be_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CCT(CCTConfig(2, 3, 1, 16, 2, 32, 10, 8, 1)).eval()
    file = tmp_path / "two_heads.safetensors"
    save_file(network.state_dict(), file)
    assert load_network(file).config.heads == 4
    assert_same(load_network(file, heads=2), network)
    save_file(network.state_dict(), file, {"heads": "2"})
    assert_same(load_network(file), network)


def test_the_description_restores_what_shapes_do_not_tell(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = CCT(CCTConfig(2, 3, 1, 16, 2, 32, 10, 7, 1, attention_dropout=0.3, stochastic_depth=0.2)).eval()
    save_file(network.state_dict(), tmp_path / "described.safetensors", describe(network))
    assert_same(load_network(tmp_path / "described.safetensors"), network)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "optimizer": {"lr": 0.1}},
        lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
        lambda state: {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "module.", "both"],
)
def test_pickled_state_dicts_load(
    wrapped: Callable[[dict[str, Tensor]], object], network: CCT, state: dict[str, Tensor], tmp_path: Path
) -> None:
    torch.save(wrapped(state), tmp_path / "network.pth")
    loaded = load_network(tmp_path / "network.pth", labels=10)
    assert_same(loaded, network)
    images = torch.randn(2, 1, 8, 8)
    with torch.inference_mode():
        assert torch.equal(loaded(images), network(images))


def test_the_positional_embedding_is_taken_bit_by_bit(state: dict[str, Tensor], tmp_path: Path) -> None:
    # Bits that any arithmetic would lose: a negative zero and the smallest subnormal.
    embedding = state["classifier.positional_emb"]
    embedding[0, 0, :2] = torch.tensor([-0.0, 1e-45])
    save_file(state, tmp_path / "network.safetensors")
    loaded = load_network(tmp_path / "network.safetensors").classifier.positional_emb
    assert torch.equal(loaded.view(torch.int32), embedding.view(torch.int32))


def test_a_run_directory_loads(network: CCT, tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run").write_tensors("model.safetensors", network.state_dict(), describe(network))
    assert_same(load_network(tmp_path / "run"), network)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty holds no model\.safetensors; finish"):
        load_network(tmp_path / "empty")


def refusal(file: Path, **given: int) -> str:
    """The one sentence that refuses a file and names it."""
    with pytest.raises(InputError) as raised:
        load_network(file, **given)
    message = str(raised.value)
    assert file.name in message
    return message


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_truncated_file(share: float, suffix: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / f"cut.{suffix}"
    if suffix == "pth":
        torch.save(state, file)
    else:
        save_file(state, file)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    assert "truncated" in refusal(file)


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_of_something_else(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"page.{suffix}"
    file.write_text("<html>404 Not Found</html>\n" * 20)
    assert "is truncated or not a" in refusal(file)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no checkpoint" in refusal(tmp_path / "nowhere.safetensors")
    assert "there is no checkpoint" in refusal(tmp_path / "nowhere.pth")


class Malice:
    """Unpickled carelessly, it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_wants_to_execute_code(legacy: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "malice.pth"
    malicious = {**state, "classifier.fc.bias": Malice(marker)}
    torch.save(malicious, file, _use_new_zipfile_serialization=not legacy)
    message = refusal(file)
    assert not marker.exists()
    assert "wants to execute code while loading and was not loaded" in message
    # The same file does execute it where pickles are trusted, so the test could fail.
    torch.load(file, weights_only=False)
    assert marker.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_bare_pickle_that_wants_to_execute_code(protocol: int, tmp_path: Path) -> None:
    marker, file = tmp_path / "marker", tmp_path / "malice.pth"
    file.write_bytes(pickle.dumps({"weight": Malice(marker)}, protocol))
    message = refusal(file)
    assert not marker.exists()
    assert "wants to execute code while loading and was not loaded" in message


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {"epoch": 3, "state": torch.zeros(2)}, {}])
def test_a_pickle_without_a_state_dict(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pth")
    message = refusal(tmp_path / "other.pth")
    assert "holds no state dict of tensors" in message or "is no CCT, ViT, BERT, ResNet or VGG" in message


def test_a_pickle_whose_keys_are_no_names(tmp_path: Path) -> None:
    torch.save({0: torch.zeros(2), 1: torch.zeros(2)}, tmp_path / "numbered.pth")
    assert "holds no state dict of tensors" in refusal(tmp_path / "numbered.pth")


def test_a_wrong_shape_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    state["classifier.blocks.1.linear2.weight"] = torch.zeros(16, 31)
    save_file(state, tmp_path / "shape.safetensors")
    message = refusal(tmp_path / "shape.safetensors")
    assert "classifier.blocks.1.linear2.weight has shape (16, 31), this network needs (16, 32)" in message


def test_another_number_of_labels(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "ten.safetensors")
    assert "has 10 outputs but the data has 100 labels" in refusal(tmp_path / "ten.safetensors", labels=100)


def test_heads_that_do_not_divide_the_width(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "heads.safetensors")
    assert "3 heads do not divide a width of 16" in refusal(tmp_path / "heads.safetensors", heads=3)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_are_not_finite(value: float, state: dict[str, Tensor], tmp_path: Path) -> None:
    state["classifier.blocks.0.norm1.bias"][5] = value
    save_file(state, tmp_path / "diverged.safetensors")
    message = refusal(tmp_path / "diverged.safetensors")
    assert "classifier.blocks.0.norm1.bias holds NaN or infinite weights" in message


def test_foreign_and_missing_keys(state: dict[str, Tensor], tmp_path: Path) -> None:
    file = tmp_path / "keys.safetensors"
    save_file({**state, "classifier.extra": torch.zeros(1)}, file)
    assert "missing [], unknown ['classifier.extra']" in refusal(file)
    del state["classifier.norm.bias"]
    save_file(state, file)
    assert "missing ['classifier.norm.bias'], unknown []" in refusal(file)
    save_file({"conv1.weight": torch.zeros(2), "fc.weight": torch.zeros(2)}, file)
    assert "is no CCT, ViT, BERT, ResNet or VGG: its first parameters are conv1.weight, fc.weight" in refusal(file)


@pytest.mark.parametrize(
    "metadata",
    [
        {"family": "cct", "config": "{not json"},
        {"family": "cct", "config": json.dumps({"depth": 3})},
        {"family": "cct", "config": json.dumps([1, 2])},
        {"heads": "four"},
        {"heads": "0"},
    ],
    ids=["no json", "unknown field", "a list", "no number", "zero heads"],
)
def test_metadata_that_makes_no_sense(metadata: dict[str, str], state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "metadata.safetensors", metadata)
    refusal(tmp_path / "metadata.safetensors")


PARTS = {
    "bert": ["embeddings.words.weight", "blocks.0.attention.qkv.weight"],
    "cct": ["tokenizer.conv_layers.0.0.weight", "classifier.fc.weight", "classifier.blocks.1.linear1.weight"],
    "vit": ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "pos_embed"],
}
"""Of some families, names that tell them from the others."""


def test_an_alexnet_is_no_vgg(tmp_path: Path) -> None:
    with torch.device("meta"):
        names = models.alexnet().state_dict()
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "alexnet.pth")
    assert "is no CCT, ViT, BERT, ResNet or VGG: its first parameters are features.0" in refusal(
        tmp_path / "alexnet.pth"
    )


def test_a_part_of_a_network_says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "part.pth"
    torch.save({name: torch.zeros(64, 64) for name in PARTS["bert"]}, file)
    assert "the names of a bert, but not its weights or their shapes: 'blocks.0.linear1.weight' is" in refusal(file)
    first, *others = PARTS["cct"]
    torch.save({first: torch.zeros(8, 3, 3, 3)} | {name: torch.zeros(10, 8) for name in others}, file)
    assert "the names of a cct, but not its weights or their shapes: 'classifier.blocks.0.linear1" in refusal(file)


@pytest.mark.parametrize("family", PARTS)
@pytest.mark.parametrize("shape", [(), (0,), (8,), (0, 0), (0, 0, 0, 0), (8, 8, 8, 8)])
def test_a_foreign_file_is_refused_whatever_its_shapes(family: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.save({name: torch.zeros(shape) for name in PARTS[family]}, tmp_path / "foreign.pth")
    assert "describes no network that can be built: it" in refusal(tmp_path / "foreign.pth")


@pytest.mark.parametrize("config", [{"name": "vgg7"}, {"name": 3}, {"labels": -1}, {"labels": "ten"}])
def test_settings_of_no_network(config: dict[str, object], tmp_path: Path) -> None:
    described = {"family": "vgg", "config": json.dumps(config)}
    save_file({"weight": torch.zeros(1)}, tmp_path / "settings.safetensors", described)
    assert "describes no network that can be built" in refusal(tmp_path / "settings.safetensors")


def test_heads_of_a_network_without_any(tmp_path: Path) -> None:
    torch.save(build_network("resnet18_3x3", 10, 32).state_dict(), tmp_path / "resnet.pth")
    assert "has no attention heads whose number could be chosen" in refusal(tmp_path / "resnet.pth", heads=4)


@pytest.mark.parametrize(
    "masks", ["3", "[]", "{", '{"W": 3}', '{"W": [10]}', '{"W": [10, "8"]}', '{"W": [-10, 16]}', '{"W": [10, 16.0]}']
)
def test_masks_that_the_metadata_do_not_describe(masks: str, network: CCT, tmp_path: Path) -> None:
    apply_masks(network, {"classifier.fc": torch.arange(160).reshape(10, 16) % 2 == 0})
    tensors, metadata = stored(network)
    file = tmp_path / "masked.safetensors"
    save_file(tensors, file, metadata)
    assert torch.equal(masks_of(load_network(file))["classifier.fc"], masks_of(network)["classifier.fc"])
    save_file(tensors, file, metadata | {"masks": masks.replace("W", "classifier.fc.weight")})
    refusal(file)
    bits, kept = "classifier.fc.weight.mask", "classifier.fc.weight.kept"
    for foreign in ({bits: torch.zeros(20)}, {bits: torch.tensor(3, dtype=torch.uint8)}, {kept: torch.zeros(80, 1)}):
        save_file(tensors | foreign, file, metadata)
        assert "is damaged" in refusal(file)


def held(network: torch.nn.Module) -> list[tuple[str, Tensor]]:
    """Its parameters, and its buffers whether they are stored or not."""
    return [*network.named_parameters(), *network.named_buffers()]


@pytest.mark.parametrize("built", ["cct_2_3x1_16", "vit_2_patch4_16", "bert_2_64", "resnet18_3x3", "vgg11_bn_512"])
def test_loading_draws_no_random_numbers(built: str, tmp_path: Path) -> None:
    size, channels = (0, 0) if built.startswith("bert") else (32, 3)
    network = build_network(built, 10, size, channels).eval()
    network.load_state_dict({key: torch.rand(w.shape).to(w.dtype) for key, w in network.state_dict().items()})
    file = tmp_path / "network.safetensors"
    write_tensors(file, *stored(network))
    before = torch.get_rng_state()
    loaded, again = load_network(file), load_network(file)
    assert torch.equal(torch.get_rng_state(), before)
    file.write_bytes(bytes(file.stat().st_size))  # what was loaded lies in memory, and is shared with nobody
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.fill_(torch.nan)
    for (name, own), (called, found) in zip(held(network), held(loaded), strict=True):
        assert (name, own.dtype, own.requires_grad, own.stride()) == (
            called,
            found.dtype,
            found.requires_grad,
            found.stride(),
        )
        assert torch.equal(own, found)
    with torch.inference_mode():
        assert torch.equal(loaded(network.example(2)), network(network.example(2)))


def test_half_precision_is_loaded_as_single(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({key: tensor.half() for key, tensor in state.items()}, tmp_path / "half.safetensors")
    loaded = load_network(tmp_path / "half.safetensors").state_dict()
    assert all(torch.equal(loaded[key], tensor.half().float()) for key, tensor in state.items())


def test_an_unknown_family(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "new.safetensors", {"family": "mlp", "config": "{}"})
    assert "the family 'mlp' is unknown" in refusal(tmp_path / "new.safetensors")


@pytest.mark.slow
@pytest.mark.skipif(
    not (Path(os.environ.get("NODELENS_DATA", "/nowhere")) / "cifar100").is_dir(), reason="needs CIFAR-100"
)
def test_a_trained_checkpoint_has_its_accuracy() -> None:
    network = load_network(TRAINED)
    test = load_images("cifar100", "test").take(torch.arange(1000), "test-1000")
    normalisation = normalisation_from(network.checkpoint_metadata)
    assert normalisation is not None
    with torch.inference_mode():
        correct = sum(
            int((network(normalisation.applied(pixels, torch.device("cpu"))).argmax(1) == labels).sum())
            for pixels, labels in test.batches(100)
        )
    # Its file says how many of 10,000; three standard errors of 1,000.
    known = float(network.checkpoint_metadata["test_accuracy"])
    assert known > 0.65
    assert abs(correct / 1000 - known) < 3 * math.sqrt(known * (1 - known) / 1000)
