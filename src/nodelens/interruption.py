"""Being asked to end: Ctrl-C, or SIGTERM from a scheduler; and the checkpoint that is written before.

Only the command line heeds signals (`heeding_signals`); used as a library, nodelens leaves them to the program around
it. Whatever is written is written whole, so a command may stop anywhere; a training loop finishes its step and writes
its checkpoint first (`Checkpoints`), so that not even the steps since the last one are lost.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

EPOCH_SECONDS = 10.0
"""Least time between two checkpoints at the ends of epochs: on a GPU an epoch takes a second or two."""


class Interrupted(BaseException):
    """A signal asked the command to end.

    Not an Exception: no clause that expects a damaged file or a missing network may take it for one.
    """

    def __init__(self, asked: signal.Signals) -> None:
        super().__init__(f"stopped by {asked.name}; run the same command again to go on from here")
        self.exit_code = 128 + asked
        """Exit code of a process that a signal ended, as a shell reports it: 130 or 143."""


class Listener:
    """The handler of SIGNALS: raises `Interrupted` at once, within a training step when it is finished."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.within_step = False
        self.has_raised = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        impatient = self.asked is not None and number == signal.SIGINT
        self.asked = self.asked or signal.Signals(number)
        if impatient or not self.within_step:
            self.stop()

    def agree(self, due: bool = False) -> tuple[bool, bool]:
        """Whether to stop, and whether a checkpoint is due: of several processes all do what one is to do.

        A signal that comes while they agree is for the next time: the others have not heard of it.
        """
        from nodelens.processes import largest  # with torch, which the command line does not load to say what it can do

        asked, any_due = divmod(largest(2 * (self.asked or 0) + due), 2)
        if asked:
            self.asked = signal.Signals(asked)
        return asked > 0, any_due > 0

    def stop(self) -> None:
        """Raise what was asked for, once: signals tend to come in pairs, and what cleans up must be left alone.

        Raises:
            Interrupted: a signal has come.
        """
        if self.asked is not None and not self.has_raised:
            self.has_raised = True
            raise Interrupted(self.asked)


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Turn SIGNALS into `Interrupted` inside the block; one that the process was told to ignore stays ignored."""
    listener = Listener()
    heeded = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, listener) for number in heeded}
    try:
        yield
    finally:
        if not listener.has_raised:  # else the process is about to end, and has been asked to already
            for number, handler in before.items():
                signal.signal(number, handler)


def _listener() -> Listener:
    """The one that is installed; without one nothing is ever asked."""
    installed = (signal.getsignal(number) for number in SIGNALS)
    return next((handler for handler in installed if isinstance(handler, Listener)), Listener())


class Checkpoints:
    """When a training loop writes its checkpoint: after an epoch, seldom within one, and before it is stopped.

    Args:
        save: writes it; None where nothing is kept.
        seconds: least time between two within an epoch, by a clock that nobody sets; at an epoch's end `EPOCH_SECONDS`,
            and the first epoch's end is always kept.
    """

    def __init__(self, save: Callable[[], None] | None, seconds: float) -> None:
        self._save, self._seconds = save, seconds
        self._saved, self._kept = time.monotonic(), False
        self._listener = _listener()

    def __enter__(self) -> Checkpoints:
        self._listener.within_step = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._listener.agree()
        finally:
            self._listener.within_step = False
        if kind is None:
            self._listener.stop()

    def after_step(self, ends_epoch: bool) -> None:
        """Write the checkpoint if it is time for one.

        Raises:
            Interrupted: a signal has come, to this process or another of the job; the checkpoint is written.
        """
        since = time.monotonic() - self._saved
        due = since > self._seconds or (ends_epoch and (since > EPOCH_SECONDS or not self._kept))
        stopping, due = self._listener.agree(due)
        if self._save is not None and (stopping or due):
            self._save()
            self._saved, self._kept = time.monotonic(), True
        if stopping:
            self._listener.stop()
