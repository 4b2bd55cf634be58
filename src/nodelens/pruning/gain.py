"""What pruning gains, each measure by itself: weights, bytes on disk, multiply-adds, memory, and measured time.

None stands for another: a network with a fifth of its weights can take as long as the dense one.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from jaxtyping import Float, Shaped
from safetensors.torch import save
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from nodelens.errors import InputError
from nodelens.networks import Network, dense_copy, entering, masks_of, plain_state, stored
from nodelens.pruning.compact import compact
from nodelens.pruning.execution import DENSE, Trial, choose_executions, executed, executions_of
from nodelens.pruning.retrain import Rows
from nodelens.timing import ratio, take_turns
from nodelens.training.precision import Precision, autocast

COMPACT, PACKED = "compact", "packed"
"""The network without its dead nodes; also with the fastest execution of each layer. Dense it has zeros instead."""


def sizes(network: Network) -> Rows:
    """Weights and bytes on disk of a pruned network and of the dense one that it was.

    Raises:
        InputError: no layer of the network is masked.
    """
    masks = masks_of(network)
    if not masks:
        raise InputError("the network is not pruned: none of its layers has a mask; run `nodelens prune` first")
    masked, kept = (sum(int(count(m)) for m in masks.values()) for count in (torch.numel, torch.count_nonzero))
    weights = sum(weight.numel() for weight in network.parameters())
    dense = {name: weight.contiguous() for name, weight in plain_state(network).items()}
    pruned = {name: weight.contiguous() for name, weight in stored(network)[0].items()}
    return [
        {"network": "dense", "weights": weights, "in_pruned_layers": masked, "bytes": len(save(dense))},
        {
            "network": "pruned",
            "weights": weights - masked + kept,
            "in_pruned_layers": kept,
            "bytes": len(save(pruned)),
        },
    ]


def costs(
    network: Network,
    images: Shaped[Tensor, "batch ..."],
    batch_sizes: Sequence[int] = (1, 64),
    precision: Precision = "fp32",
    rounds: int = 15,
) -> tuple[Rows, Rows]:
    """Multiply-adds, peak memory and latency of a pruned network, executed in three ways.

    Args:
        images: normalised; at least as many as the largest batch.

    Returns:
        A row per batch size and way, and a row per batch size, layer and execution tried.
    """
    rows: Rows = []
    tried: Rows = []
    dense, smaller = dense_copy(network).to(images.device), compact(network)
    ways_of = executions_of(smaller, precision)
    for size in batch_sizes:
        batch = images[:size]
        chosen, trials = choose_executions(smaller, ways_of, batch, precision, rounds)
        networks = {DENSE: dense, COMPACT: smaller, PACKED: executed(smaller, chosen)}
        seconds = latencies(networks, batch, precision, rounds)
        work = {name: multiply_adds(each, batch[:1]) for name, each in networks.items() if name != PACKED}
        work[PACKED] = work[COMPACT] - spared(smaller, trials, batch[:1])
        for name, each in networks.items():
            rows.append(
                {
                    "batch": size,
                    "executed": name,
                    "multiply_adds": work[name],
                    "peak_bytes": peak_bytes(each, batch, precision),
                    "milliseconds": 1000 * median(seconds[name]),
                    "ratio": ratio(seconds, name, DENSE),
                }
            )
        tried += [{"batch": size, **vars(trial)} for trial in trials]
    return rows, tried


@torch.inference_mode()
def latencies(
    networks: Mapping[str, nn.Module], images: Tensor, precision: Precision = "fp32", rounds: int = 15
) -> dict[str, list[float]]:
    """Seconds per batch of every network, in turns."""

    def work(network: nn.Module) -> Callable[[], object]:
        def classify() -> object:
            with autocast(images.device, precision):
                return network(images)

        return classify

    return take_turns({name: work(network) for name, network in networks.items()}, rounds, warm_up=3)


@torch.inference_mode()
def multiply_adds(network: nn.Module, image: Float[Tensor, "one channel height width"]) -> int:
    """Multiply-adds of one image, zeros included, attention too."""
    # torch counts every attention kernel but the CPU's.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops}
    with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        network(image)
    return int(counter.get_total_flops()) // 2


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def spared(network: nn.Module, trials: Sequence[Trial], image: Tensor) -> int:
    """Multiply-adds per image that the chosen executions leave out."""
    vectors: dict[str, int] = {}

    def count(layer: str, x: Tensor) -> None:
        vectors[layer] = x.numel() // x.shape[-1]

    with entering(network, [trial.layer for trial in trials if trial.chosen], count), torch.inference_mode():
        network(image)
    dense = {trial.layer: trial.multiply_adds for trial in trials if trial.execution == DENSE}
    return sum(vectors[t.layer] * (dense[t.layer] - t.multiply_adds) for t in trials if t.chosen)


class TensorsAlive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the bytes of all tensors that come into being while it is entered.

    Attributes:
        peak: most bytes alive at once. Scratch memory inside a kernel is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        given = {id(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(results):
            if id(storage) not in given and id(storage) not in self._seen:
                self._follow(storage)
        return results

    def _follow(self, storage: torch.UntypedStorage) -> None:
        number, size = id(storage), storage.nbytes()
        self._seen.add(number)
        self.alive += size
        self.peak = max(self.peak, self.alive)

        def forget() -> None:
            self._seen.discard(number)
            self.alive -= size

        weakref.finalize(storage, forget)


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    leaves = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]
    return [leaf.untyped_storage() for leaf in leaves]


def peak_bytes(network: nn.Module, images: Tensor, precision: Precision = "fp32") -> int:
    """Most bytes alive at once while a batch is classified: weights, images and activations."""
    held = [*network.parameters(), *network.buffers(), images]
    weights = sum(_bytes(tensor) for tensor in held)
    with torch.inference_mode(), TensorsAlive() as alive, autocast(images.device, precision):
        network(images)
    return int(weights + alive.peak)


def _bytes(tensor: Tensor) -> int:
    if tensor.layout == torch.sparse_csr:
        return sum(_bytes(part) for part in (tensor.values(), tensor.crow_indices(), tensor.col_indices()))
    return tensor.numel() * tensor.element_size()
