"""Networks handed on to other programs: a dense checkpoint with the published names, or an ONNX file.

The masks of a pruned network are folded into its weights: what is masked is an ordinary zero in the file.
"""

from __future__ import annotations

import copy
import importlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nodelens.errors import InputError
from nodelens.files import write_atomically, write_tensors
from nodelens.networks.families import describe, load_network
from nodelens.networks.masking import plain_state, remove_masks
from nodelens.networks.network import Network, longest_text

IMAGES, TOKENS, OUTPUT = "images", "tokens", "logits"
"""Names in an ONNX file: normalised float32 images (batch, channel, height, width) or int64 tokens (batch, token), and
logits (batch, label)."""


def export_checkpoint(
    source: str | Path, path: str | Path, *, heads: int | None = None, image_size: int | None = None
) -> Path:
    """Export a network that is stored somewhere; `nodelens export`.

    Args:
        source: whatever `load_network` reads, pruned or not.
        path: file to be written, as for `export_network`.
        heads, image_size: where the source does not tell.

    Raises:
        InputError: what `load_network` and `export_network` refuse, and a file that would replace the source.
    """
    path = Path(path)
    _check_ending(path)
    stored = Path(source) / "model.safetensors" if Path(source).is_dir() else Path(source)
    if path.exists() and stored.exists() and path.samefile(stored):
        # A dense copy in the place of a pruned network would lose its masks.
        raise InputError(f"{path} is the network that is exported; give another file")
    return export_network(load_network(source, heads=heads, image_size=image_size), path)


def export_network(network: Network, path: str | Path) -> Path:
    """Write a network for use elsewhere; a file of that name is replaced in one step.

    Args:
        network: pruned or dense; it is left as it is.
        path: its ending says what is written, always with the names of the published checkpoints:
            `.safetensors`, which `load_network` reads back, with what the network's own checkpoint said of it
            (normalisation, test accuracy) beside the weights; `.pth`, a state dict of tensors, loads with
            `weights_only=True`; `.onnx`, one file for batches of any size, in eval mode.

    Returns:
        The path.

    Raises:
        InputError: another ending, a package that is not installed, or a file that cannot be written.
    """
    path = Path(path)
    _check_ending(path)
    WRITERS[path.suffix](network, path)
    return path


def metadata_of(network: Network) -> dict[str, str]:
    """Family and configuration, and what the network's checkpoint says of itself, but for its masks."""
    said = {key: text for key, text in network.checkpoint_metadata.items() if key != "masks"}
    return said | describe(network)


def dense_copy(network: Network) -> Network:
    """A copy in eval mode on the CPU whose masked weights are ordinary zeros."""
    dense = copy.deepcopy(network).cpu().eval()
    remove_masks(dense)
    return dense


def onnx_model(network: Network) -> Any:
    """The network as an `onnx.ModelProto` with the input `images` (or `tokens`) and the output `logits`.

    Its metadata are those of the exported checkpoint, so that the normalisation of the images, or the tokeniser, is
    known.

    Raises:
        InputError: the packages of the extra `onnx` are not installed.
    """
    onnx = _package("onnx")
    _package("onnxscript")
    # Two inputs, not one: a dimension of one would be taken for fixed.
    example = network.example(2)
    program = torch.onnx.export(
        dense_copy(network).float(),
        (example,),
        input_names=[TOKENS if longest_text(network) else IMAGES],
        output_names=[OUTPUT],
        dynamic_shapes=({0: "batch"},),
        dynamo=True,
        external_data=False,
        verbose=False,  # or it prints its progress to stdout
    )
    model = program.model_proto  # type: ignore[union-attr]
    _forget_origin(model.graph)
    onnx.helper.set_model_props(model, metadata_of(network))
    return model


def _forget_origin(graph: Any) -> None:
    """Drop the exporter's notes, which name the source files by their paths on this machine."""
    for part in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("metadata_props")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f'{name} is not installed; run pip install "nodelens[onnx]"') from error


def _check_ending(path: Path) -> None:
    if path.suffix not in WRITERS:
        raise InputError(f"{path} ends in none of {', '.join(WRITERS)}; the ending says what is written")


def _write_safetensors(network: Network, path: Path) -> None:
    write_tensors(path, plain_state(network), metadata_of(network))


def _write_pickle(network: Network, path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({key: tensor.detach().cpu().contiguous() for key, tensor in plain_state(network).items()}, buffer)
    write_atomically(path, buffer.getvalue())


def _write_onnx(network: Network, path: Path) -> None:
    write_atomically(path, onnx_model(network).SerializeToString())


WRITERS: dict[str, Callable[[Network, Path], None]] = {
    ".safetensors": _write_safetensors,
    ".pth": _write_pickle,
    ".onnx": _write_onnx,
}
"""Ending -> what writes such a file."""
