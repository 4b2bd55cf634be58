"""A network that is too large for one device: in shards over all processes (FSDP).

Each process keeps a part of every weight; the weights of a stage come together while it runs. `accelerate launch`
with a configuration for FSDP asks for it; what that says of the units, of resharding and of offloading is followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from nodelens.errors import InputError
from nodelens.processes import default_device, in_shards, share, size

N = TypeVar("N", bound=nn.Module)


def placed(network: N, stages: Sequence[Callable[[Tensor], Tensor]]) -> N:
    """The network on this process's device, whole, or in shards where that was asked for; in place.

    Args:
        stages: of its forward pass; those that are modules come together at a time, unless others are configured.

    Raises:
        InputError: accelerate is not installed, or its configuration is for another version of FSDP than the second.
    """
    if size() == 1 or not in_shards():
        return network.to(default_device())
    try:
        from accelerate.utils import FullyShardedDataParallelPlugin
    except ImportError as error:
        raise InputError('accelerate is not installed; run pip install "nodelens[distributed]"') from error
    # Before accelerate reads it: for the first version it looks for a GPU, and ends where there is none.
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise InputError("a network is put in shards by the second version of FSDP; configure fsdp_version: 2")
    asked = FullyShardedDataParallelPlugin()
    mesh = init_device_mesh(default_device().type, (size(),))
    units: list[nn.Module] = [*_units(network, stages, asked.transformer_cls_names_to_wrap), network]
    for unit in units:
        fully_shard(
            unit, mesh=mesh, reshard_after_forward=asked.reshard_after_forward, offload_policy=asked.cpu_offload
        )
    return network


def is_sharded(network: nn.Module) -> bool:
    """Whether each process has a part of the network only; its gradients come as the mean over all processes."""
    return isinstance(network, FSDPModule)


def device_of(network: nn.Module) -> torch.device:
    """Where a network computes; its shards may lie elsewhere in between (offloading)."""
    return default_device() if is_sharded(network) else next(network.parameters()).device


def whole_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that lie in shards, whole in every process; others as they are. All processes are to call it."""
    return {key: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor for key, tensor in tensors.items()}


def sharded_state(
    network: nn.Module, optimizers: Sequence[torch.optim.Optimizer]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Weights and optimizers of a network in shards, whole and on the CPU: in the first process; all are to call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict  # slow to import

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights, moments = get_state_dict(network, optimizers, options=options)
    return dict(weights), dict(moments)


def restore_shards(
    network: nn.Module, optimizers: Sequence[torch.optim.Optimizer], weights: dict[str, Any], moments: dict[str, Any]
) -> None:
    """Put a network in shards back to where `sharded_state` was called; each process is given all of it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    options = StateDictOptions(full_state_dict=True)
    set_state_dict(network, optimizers, model_state_dict=weights, optim_state_dict=moments, options=options)


def keep_step(network: nn.Module, inputs: Tensor, batches: int) -> None:
    """Run a network in shards, after this process's share of some batches, as often as others still run it.

    Args:
        inputs: any; what comes out is not looked at.
    """
    for _ in range(-(-batches // size()) - len(share(range(batches)))):
        network(inputs)


def _units(
    network: nn.Module, stages: Sequence[Callable[[Tensor], Tensor]], classes: list[str] | None
) -> list[nn.Module]:
    """What comes together at a time: modules of the configured classes, or else the network's stages."""
    if classes:
        return [module for module in network.modules() if type(module).__name__ in classes]
    return [stage for stage in stages if isinstance(stage, nn.Module) and stage is not network]
