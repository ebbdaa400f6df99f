"""One BLAS thread while a pair is made: the sums of several would depend on the number of cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from threadpoolctl import ThreadpoolController

_controller = ThreadpoolController()
_lock = threading.Lock()
_inside = 0
_limiter: Any = None


def _after_fork() -> None:
    """In a forked process no other thread is inside, and the lock is free."""
    global _lock, _inside
    _lock, _inside = threading.Lock(), 0


os.register_at_fork(after_in_child=_after_fork)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS to one thread; the first to enter sets it and the last to leave restores it, in any thread."""
    global _inside, _limiter  # noqa: PLW0603 (the pool is the process's, so is its count)
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
