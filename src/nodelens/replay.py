"""Steps of many small operations on a GPU, recorded once and then asked for all at once (CUDA graphs)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from nodelens.progress import console

T = TypeVar("T")

WARM_UP = 3
"""Calls before the recording: libraries choose their algorithms and take their memory in the first ones."""


class Replayed(Generic[T]):
    """A function of tensors on a GPU, as the sequence of operations of one call of it.

    Launching an operation takes the host some microseconds, as long as a GPU computes for a small one; it replays a
    recording faster than that. What the function does in Python is done once only. It may not wait for the device, and
    what it returns or writes is overwritten by the next call of this or another such function: they share memory.

    Args:
        work: is called a few times with `inputs`, and then never again.
        inputs: of the shapes and formats of all calls; their values do not matter.

    Raises:
        RuntimeError: the function waits for the device, or does what cannot be recorded.
    """

    def __init__(self, work: Callable[..., T], *inputs: Tensor) -> None:
        self._inputs = [given.clone() for given in inputs]
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP - 1):
                work(*self._inputs)
            # A recording that fails leaves torch's random numbers unusable; so what waits is refused before.
            with nothing_waits():
                work(*self._inputs)
        torch.cuda.current_stream().wait_stream(beside)
        self._graph = torch.cuda.CUDAGraph()
        # Other threads (the one that watches over NCCL) may ask the device meanwhile.
        with torch.cuda.graph(self._graph, pool=_memory().pool(), capture_error_mode="thread_local"):
            self._found = work(*self._inputs)

    def __call__(self, *inputs: Tensor) -> T:
        """What the function returns for these inputs."""
        for held, given in zip(self._inputs, inputs, strict=True):
            held.copy_(given)
        self._graph.replay()
        return self._found


def replayed(work: Callable[..., T], *inputs: Tensor) -> Callable[..., T]:
    """`Replayed` on a GPU; on a CPU the function itself, and where it cannot be recorded: a line says why."""
    if inputs[0].device.type != "cuda":
        return work
    try:
        return Replayed(work, *inputs)
    except RuntimeError as error:
        console.print(f"operations are launched one by one: {error}", highlight=False, markup=False)
        return work


@contextmanager
def nothing_waits() -> Iterator[None]:
    """Within it, what makes the host wait for a GPU raises RuntimeError; for the whole process."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch does not notice all that waits
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@cache
def _memory() -> Any:
    """A recording that nobody replays: the memory that all share is given back with the last one that uses it."""
    kept = torch.cuda.CUDAGraph()
    with torch.cuda.graph(kept, capture_error_mode="thread_local"):
        torch.zeros((), device="cuda")
    return kept
