"""Files of weights: read without executing code, and loaded into a network that they must fit."""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from nodelens.errors import InputError


def read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, or of a pickle of tensors alone, which has no metadata.

    Raises:
        InputError: a truncated or foreign file; a pickle that wants to execute code.
    """
    return _read_pickle(path) if path.suffix in (".pth", ".pt", ".bin") else _read_safetensors(path)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} is truncated or not a safetensors file ({error}); fetch it again") from error


def _read_pickle(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with warnings.catch_warnings(action="ignore"):  # of other protocols of pickles than torch's own
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch refuses a pickle's function or class with one of these words, and garbage with others.
        refused = ("GLOBAL", "Unsupported class", "unrecognized function")
        if any(word in str(error) for word in refused) or _names_code(path):
            raise InputError(
                f"{path} wants to execute code while loading and was not loaded; save its state_dict as safetensors"
            ) from error
        raise InputError(f"{path} is truncated or not a checkpoint; fetch it again") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise InputError(f"{path} holds no state dict of tensors; save the network's state_dict()")
    # Prefixes that torch.compile and DataParallel put before every name.
    return {key.removeprefix("_orig_mod.").removeprefix("module."): tensor for key, tensor in content.items()}, {}


def _names_code(path: Path) -> bool:
    """Whether a file is a pickle that names a function or class; nothing of it is executed."""
    try:
        return any(one.name in ("GLOBAL", "STACK_GLOBAL") for one, _, _ in pickletools.genops(path.read_bytes()))
    except (OSError, ValueError):
        return False


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str | Path) -> None:
    own = network.state_dict()
    missing, foreign = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    if missing or foreign:
        raise InputError(
            f"{source} does not fit {type(network).__name__}: missing {missing[:3]}, unknown {foreign[:3]}"
        )
    for key, tensor in own.items():
        if tensor.shape != state[key].shape:
            found, wanted = tuple(state[key].shape), tuple(tensor.shape)
            raise InputError(
                f"{source}: {key} has shape {found}, this network needs {wanted}; check heads and image size"
            )
    network.load_state_dict(dict(state))


def check_finite(state: Mapping[str, Tensor], source: str | Path) -> None:
    for key, tensor in state.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{source}: {key} holds NaN or infinite weights; the training diverged, take an earlier checkpoint"
            )
