"""How a process that makes and drops large arrays holds its memory."""

from __future__ import annotations

import contextlib
import ctypes
from functools import lru_cache


@lru_cache
def keep_memory() -> None:
    """Let glibc keep freed arrays for the next pair or step; Dask's workers start with MALLOC_TRIM_THRESHOLD_ = 64 kB.

    Fetching the same pages anew for every array made synthesis take 1.6 times as long, and a step of training 1.2 times
    (measured; with two processes at once about twice).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**30)
