"""Settings of each of Fathom's processes: how many threads its libraries start, and how much freed memory it keeps."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy.linalg  # noqa: F401 (numpy and scipy each bring a BLAS, and the controller knows those that are loaded)
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController


@lru_cache
def keep_memory() -> None:
    """Let glibc keep freed arrays for the next pair or step; Dask's workers start with MALLOC_TRIM_THRESHOLD_ = 64 kB.

    Otherwise the process requests memory pages from the system anew for every array. Then synthesis took 1.6 times as
    long, and a step of training 1.2 times (measured; with two processes at once about twice).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_threshold = -1, -3
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**30)


_controller = ThreadpoolController()
_lock = threading.Lock()
_inside = 0
_limiter: Any = None


def _after_fork() -> None:
    """In a forked process no other thread is inside `one_blas_thread`: renew the lock and the count."""
    global _lock, _inside
    _lock, _inside = threading.Lock(), 0


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread; the first caller to enter sets the limit, the last to leave restores the old one."""
    global _inside, _limiter  # noqa: PLW0603 (the pool belongs to the process, and so does the count)
    with _lock:
        if _inside == 0:
            _limiter = _controller.limit(limits=1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _limiter.restore_original_limits()
