"""How a worker process holds its memory."""

from __future__ import annotations

import contextlib
import ctypes
from functools import lru_cache


@lru_cache
def keep_memory() -> None:
    """Let glibc keep freed arrays for the next pair: Dask's workers start with MALLOC_TRIM_THRESHOLD_ = 64 kB.

    Fetching the same pages anew for every array made synthesis take 1.6 times as long (measured).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**30)
