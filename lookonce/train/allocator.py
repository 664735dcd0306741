"""Memory that is kept between steps.

A training step asks for the same large arrays again and again. The C library hands each back to the system at once and
fetches it anew, page by page; on Linux with glibc that is nearly half the time of a step.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h: what mallopt calls these.
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD = -1, -2, -3
LARGEST = (1 << 31) - 1


def keep_memory() -> bool:
    """Let this process keep what it frees, for itself. False where the C library cannot be told so."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    wanted = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: LARGEST, TOP_PAD: 256 << 20}
    done = [mallopt(option, value) for option, value in wanted.items()]         # all of them, whatever one says
    return done == [1, 1, 1]
