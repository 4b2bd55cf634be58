"""A frozen network that is too large for one device: in shards over all processes (FSDP).

Each process keeps a part of every weight; the weights of a stage come together while it runs. `accelerate launch`
with a configuration for FSDP asks for it; what that says of the units, of resharding and of offloading is followed.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from nodelens.errors import InputError
from nodelens.networks import Network
from nodelens.processes import in_shards, share, size
from nodelens.training.precision import default_device


def placed(network: Network) -> Network:
    """The network on this process's device, whole, or in shards where that was asked for; in place.

    Raises:
        InputError: accelerate is not installed, or its configuration is for another version of FSDP than the second.
    """
    if size() == 1 or not in_shards():
        return network.to(default_device())
    try:
        from accelerate.utils import FullyShardedDataParallelPlugin
    except ImportError as error:
        raise InputError('accelerate is not installed; run pip install "nodelens[distributed]"') from error
    asked = FullyShardedDataParallelPlugin()
    if asked.fsdp_version != 2:
        raise InputError("a network is put in shards by the second version of FSDP; configure fsdp_version: 2")
    mesh = init_device_mesh(default_device().type, (size(),))

    for unit in (*_units(network, asked.transformer_cls_names_to_wrap), network):
        fully_shard(
            unit, mesh=mesh, reshard_after_forward=asked.reshard_after_forward, offload_policy=asked.cpu_offload
        )
    return network


def keep_step(network: nn.Module, inputs: Tensor, batches: int) -> None:
    """Run a network in shards, after this process's share of some batches, as often as others still run it.

    Args:
        inputs: any; what comes out is not looked at.
    """
    for _ in range(-(-batches // size()) - len(share(range(batches)))):
        network(inputs)


def _units(network: Network, classes: list[str] | None) -> list[nn.Module]:
    """What comes together at a time: modules of the configured classes, or else the network's stages."""
    if classes:
        return [module for module in network.modules() if type(module).__name__ in classes]
    return [stage for stage in network.stages() if isinstance(stage, nn.Module) and stage is not network]
