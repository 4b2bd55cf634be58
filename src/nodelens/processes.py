"""Several processes that do one piece of work together, as `torchrun` or `accelerate launch` start them.

All run the same program. Each reads its share of the images, and what is summed over images is added up over the
processes. The run directory belongs to the first process alone: it writes there, and what it reads the others are
told, so that they need not even see the disk. With one process nothing is sent and nothing waits.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from datetime import timedelta
from functools import wraps
from typing import ParamSpec, TypeVar, cast

import torch

# Before any group is joined: its functions keep the group of the moment of their import as a default. Optimizers import
# it too, and a group that is kept has threads at the program's end, which now and then abort it.
import torch.distributed.nn
from torch import Tensor
from torch import distributed as dist
from torch.distributed.rendezvous import rendezvous

from nodelens.errors import InputError, ProcessLostError

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long a process waits for the others; one that has ended is noticed at once by whoever started them."""

_is_alone: ContextVar[bool] = ContextVar("is_alone", default=False)


def size() -> int:
    """Number of processes that work together; 1 without a launcher."""
    return 1 if _is_alone.get() or not dist.is_available() or not dist.is_initialized() else dist.get_world_size()


def rank() -> int:
    """Which of them this one is; 0 is the first."""
    return 0 if size() == 1 else dist.get_rank()


def default_device() -> torch.device:
    """Where this process computes: on its GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def in_shards() -> bool:
    """Whether accelerate's configuration asks for FSDP, which keeps a part of the network in each process."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def refuse_shards(command: str) -> None:
    """
    Raises:
        InputError: FSDP is asked for, and the command works with whole networks only.
    """
    if in_shards():
        raise InputError(f"{command} keeps the network whole in every process; start it without FSDP")


def share(items: Sequence[T]) -> Sequence[T]:
    """This process's run of the items; the runs of all processes differ in length by at most one.

    >>> share(range(10))
    range(0, 10)
    """
    return items[len(items) * rank() // size() : len(items) * (rank() + 1) // size()]


def add_up(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes, in place; each process gives the same shapes."""
    if size() == 1:
        return
    alike = defaultdict(list)
    for tensor in tensors:
        alike[tensor.dtype, tensor.device].append(tensor)
    with torch.no_grad():
        for parts in alike.values():
            # One message instead of one per tensor.
            sums = torch.cat([part.reshape(-1) for part in parts])
            with _noticing_loss():
                dist.all_reduce(sums)
            for part, total in zip(parts, torch.split(sums, [part.numel() for part in parts]), strict=True):
                part.copy_(total.view(part.shape))


def largest(number: int) -> int:
    """The largest of the numbers that the processes give."""
    if size() == 1:
        return number
    found = torch.tensor(number)  # on the CPU: it waits for no GPU
    with _noticing_loss():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return int(found)


def by_first(function: Callable[P, T]) -> Callable[P, T]:
    """The first process alone does it; all get what it returns, or the InputError that it raises."""

    @wraps(function)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        if size() == 1:
            return function(*args, **kwargs)
        outcome: list[tuple[T | None, InputError | None]] = [(None, None)]
        if rank() == 0:
            outcome = [_outcome(lambda: function(*args, **kwargs))]
        with _noticing_loss():
            dist.broadcast_object_list(outcome, src=0, device=torch.device("cpu"))
        found, error = outcome[0]
        if error is not None:
            raise error
        return cast(T, found)

    return told


def first_only(function: Callable[P, None]) -> Callable[P, None]:
    """The first process alone does it; the others go on at once."""

    @wraps(function)
    def done(*args: P.args, **kwargs: P.kwargs) -> None:
        if rank() == 0:
            function(*args, **kwargs)

    return done


@contextmanager
def alone() -> Iterator[None]:
    """Work as if this were the only process while the block runs: for what one of several does by itself."""
    token = _is_alone.set(True)
    try:
        yield
    finally:
        _is_alone.reset(token)


@contextmanager
def joined() -> Iterator[None]:
    """Work together with the processes that a launcher started beside this one; on its own without a launcher.

    All but the first are silent. An error that stops the work leaves the block in one process, for it to be said
    once; in the others the program ends.

    Raises:
        InputError: fewer GPUs than processes on this machine.
        ProcessLostError: another process ended.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    store, own, processes = next(rendezvous("env://"))
    lost = False
    try:
        backend = _backend()
        dist.init_process_group(backend, store=store, rank=own, world_size=processes, timeout=PATIENCE)
        with _silent(own > 0), _noticing_loss_in_shards():
            yield
    except (InputError, ProcessLostError) as error:
        lost = isinstance(error, ProcessLostError)
        if not _speaks(store):
            sys.exit(1 if lost else 2)
        raise
    finally:
        # However the program ends (the command line by SystemExit): a group whose threads are still there when the
        # interpreter ends now and then aborts it. For a process that was lost it might wait forever.
        if not lost and dist.is_initialized():
            # A network in shards may hold groups of its own: one process in sixteen was aborted, with this none in 48.
            gc.collect()
            dist.destroy_process_group()


def _backend() -> str:
    """How tensors travel; on GPUs also which one is this process's."""
    if not torch.cuda.is_available():
        return "gloo"
    local, devices = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= devices:
        raise InputError(f"this machine has {devices} GPU(s), too few for its processes; start at most {devices} on it")
    torch.cuda.set_device(local)
    return "cpu:gloo,cuda:nccl"


def _outcome(function: Callable[[], T]) -> tuple[T | None, InputError | None]:
    try:
        with alone():
            return function(), None
    except InputError as error:
        return None, error


def _speaks(store: dist.Store) -> bool:
    """Whether this is the process that says what went wrong: the first one that asks."""
    try:
        return bool(store.add("nodelens/spoken", 1) == 1)
    except RuntimeError:  # it has gone with the first process, which has spoken or was killed
        return False


@contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    with ExitStack() as stack:
        if wanted:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


@contextmanager
def _noticing_loss(of: Callable[[RuntimeError], bool] = lambda error: True) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not of(error):
            raise
        raise ProcessLostError(
            "another process of this job has ended; what is finished is kept: run the same command again to go on"
        ) from error


def _noticing_loss_in_shards() -> AbstractContextManager[None]:
    """FSDP exchanges weights wherever a network in shards is run, and says in its backend's words what went wrong."""
    return _noticing_loss(
        lambda error: in_shards() and (isinstance(error, dist.DistError) or "gloo" in str(error).lower())
    )
