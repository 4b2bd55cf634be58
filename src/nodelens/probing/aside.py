"""What probes compute on a GPU, beside the pass that they read.

A probe's operations are small and leave most of a GPU idle, and they depend on nothing but its site. So they run on
streams of their own while the network goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from typing import TypeVar

import torch
from torch import Tensor, nn

from nodelens.networks import Site, reading
from nodelens.training.precision import Precision, autocast

T = TypeVar("T")

STREAMS = 4
"""Of so many sites the probes may compute at once; so many activations outlive their layer."""


class Aside:
    """Functions of activations, run on streams of their own; in their turn where there are none.

    Args:
        device: of the activations.
        streams: how many functions may run at once, on a GPU; 0 for none.
    """

    def __init__(self, device: torch.device, streams: int = STREAMS) -> None:
        self._streams = [torch.cuda.Stream(device) for _ in range(streams if device.type == "cuda" else 0)]  # type: ignore[no-untyped-call]
        self._free = cycle(self._streams)
        self._running: deque[tuple[torch.cuda.Stream, Tensor]] = deque()

    def run(self, work: Callable[[Tensor], T], activations: Tensor) -> T:
        """What `work` makes of the activations, which nothing may write to before it is done.

        It is to be used after `finished` only.
        """
        if not self._streams:
            return work(activations)
        if len(self._running) == len(self._streams):
            self._wait_for_oldest()
        stream = next(self._free)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            found = work(activations)
        # Kept until then: the memory of what is forgotten belongs to the next layer.
        self._running.append((stream, activations))
        return found

    @contextmanager
    def finished(self) -> Iterator[None]:
        """At its end everything that was run within is done, for what follows on the current stream."""
        try:
            yield
        finally:
            while self._running:
                self._wait_for_oldest()

    def _wait_for_oldest(self) -> None:
        torch.cuda.current_stream().wait_stream(self._running.popleft()[0])


def needs_turns(
    network: nn.Module, sites: Sequence[Site], inputs: Tensor, precision: Precision, reads: int = STREAMS
) -> bool:
    """Whether what reads a network may not run beside it, as one pass tells.

    It may not where the network writes to what was read before as many further sites are read (as ReLU in place does),
    nor where a site is read twice: what the second finds is added to what the first one did.
    """
    kept: deque[tuple[Tensor, int]] = deque()
    written, seen = [], []

    def let_go(left: int) -> None:
        while len(kept) > left:
            activations, version = kept.popleft()
            written.append(activations._version != version)

    def reader(site: str, activations: Tensor) -> None:
        seen.append(site)
        let_go(reads - 1)
        kept.append((activations, activations._version))

    with torch.no_grad(), reading(network, sites, reader), autocast(inputs.device, precision):
        network(inputs)
    let_go(0)
    return any(written) or len(seen) != len(set(seen))
