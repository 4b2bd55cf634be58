"""Exported networks compute what the original does, wherever they run."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from nodelens.errors import InputError
from nodelens.files import read_metadata
from nodelens.networks import (
    CCT,
    Network,
    apply_masks,
    export_checkpoint,
    export_network,
    layer_weight,
    layers,
    load_network,
    masks_of,
    stored,
)
from nodelens.networks.export import dense_copy
from nodelens.runs import RunDirectory

# Float32, other kernels, other orders of summation; logits are of the order of 1.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def masked(network: Network) -> Network:
    generator = torch.Generator().manual_seed(0)
    shapes = {layer.module: layer_weight(network, layer).shape for layer in layers(network)}
    apply_masks(network, {name: torch.rand(shape, generator=generator) < 0.3 for name, shape in shapes.items()})
    return network


@pytest.fixture(params=["dense", "pruned", "vgg"])
def network(request: pytest.FixtureRequest) -> Network:
    made: Network = request.getfixturevalue("vgg" if request.param == "vgg" else "cct")
    return masked(made) if request.param == "pruned" else made


def images_for(network: Network, batch: int) -> Tensor:
    side = network.config.image_size
    return torch.randn(batch, network.config.channels, side, side, generator=torch.Generator().manual_seed(batch))


@torch.no_grad()
def logits(network: nn.Module, images: Tensor) -> Tensor:
    return network(images)  # type: ignore[no-any-return]


def run_onnx(path: Path, images: Tensor) -> Tensor:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert [tensor.name for tensor in session.get_inputs()] == ["images"]
    assert session.get_inputs()[0].type == "tensor(float)"
    (found,) = session.run(["logits"], {"images": images.numpy()})
    return torch.from_numpy(np.asarray(found))


def test_an_onnx_file_gives_the_same_logits_for_any_batch(
    network: Network, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = export_network(network.train(), tmp_path / "network.onnx")
    assert network.training
    network.eval()
    for batch in (1, 5):
        images = images_for(network, batch)
        torch.testing.assert_close(run_onnx(path, images), logits(network, images), **CLOSE)
    assert [file.name for file in tmp_path.iterdir()] == ["network.onnx"]
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_dense_checkpoint_has_the_published_names_and_the_same_logits(
    ending: str, network: Network, tmp_path: Path
) -> None:
    masks = masks_of(network)
    path = export_network(network, tmp_path / f"network{ending}")
    state = load_file(path) if ending == ".safetensors" else torch.load(path, weights_only=True)
    fresh = dense_copy(network)
    for tensor in fresh.state_dict().values():
        tensor.zero_()
    fresh.load_state_dict(state, strict=True)
    images = images_for(network, 5)
    assert torch.equal(logits(fresh, images), logits(network, images))
    assert all(not state[f"{module}.weight"][~mask].any() for module, mask in masks.items())
    assert masks_of(network).keys() == masks.keys()


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_a_pruned_network_is_read_back_dense(ending: str, cct: CCT, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    tensors, metadata = stored(masked(cct))
    run.write_tensors("model.safetensors", tensors, metadata | {"mean": "[0.5]", "test_accuracy": "0.75000"})
    path = tmp_path / f"dense{ending}"
    assert export_checkpoint(run.path, path) == path
    back = load_network(path)
    assert back.config.labels == 10
    assert not masks_of(back)
    images = images_for(cct, 5)
    assert torch.equal(logits(load_network(path, image_size=8), images), logits(cct, images))
    if ending == ".safetensors":
        assert back.config == cct.config
        said = read_metadata(path)
        assert (said["mean"], said["test_accuracy"]) == ("[0.5]", "0.75000")
        assert "masks" not in said


def test_an_onnx_file_says_how_images_are_normalised_and_not_where_it_was_made(cct: CCT, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    cct.checkpoint_metadata = {"mean": "[0.5]", "masks": "{}"}
    path = export_network(cct, tmp_path / "network.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert (said["family"], said["mean"]) == ("cct", "[0.5]")
    assert "masks" not in said
    assert str(Path(__file__).parents[1]).encode() not in path.read_bytes()


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".onnx"])
def test_a_file_that_exists_is_replaced_whole(
    ending: str, cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"network{ending}"
    path.write_bytes(b"before")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            export_network(cct, path)
    assert path.read_bytes() == b"before"
    export_network(cct, path)
    assert len(path.read_bytes()) > 10_000


def test_the_network_itself_is_not_replaced(cct: CCT, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.write_tensors("model.safetensors", *stored(masked(cct)))
    before = run.model.read_bytes()
    for source in (run.path, run.model):
        with pytest.raises(InputError, match=r"is the network that is exported; give another file"):
            export_checkpoint(source, run.model)
    assert run.model.read_bytes() == before


def test_bad_input_is_a_sentence(cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("network.pt2", "network"):
        with pytest.raises(InputError, match=rf"{name} ends in none of \.safetensors, \.pth, \.onnx"):
            export_network(cct, tmp_path / name)
    with pytest.raises(InputError, match="ends in none of"):
        export_checkpoint("nowhere.safetensors", tmp_path / "network.zip")
    with pytest.raises(InputError, match=r"there is no checkpoint nowhere"):
        export_checkpoint("nowhere.safetensors", tmp_path / "network.pth")
    for package in ("onnx", "onnxscript"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            with pytest.raises(InputError, match=rf'{package} is not installed; run pip install "nodelens\[onnx\]"'):
                export_network(cct, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())
