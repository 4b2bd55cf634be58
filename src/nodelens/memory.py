"""How the process deals with memory that was freed."""

from __future__ import annotations

import ctypes
import sys

# From glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for the next tensor instead of giving it back to the system.

    Every step frees and asks for the same large tensors. By default each comes from the system anew, and every
    page of it faults when it is first touched: a tenth of a training step of CCT-7/3x2 on a CPU
    (benchmarks/training.py). It concerns the whole process, so only the command line does it.

    Returns:
        Whether it could be done; other C libraries do without.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Neither mapped pages of its own for a large tensor, nor a heap that shrinks; each returns 1 on success.
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
