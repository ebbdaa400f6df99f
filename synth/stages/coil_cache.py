"""A cache of recently used map sets, because many pairs use the same set."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..process import one_blas_thread
from ..storage.arrays import stamp
from .coil_loops import Maps
from .coils import LibrarySpec, SharedCoils, draw_coils


class MapCache:
    """Recently used map sets, at most `max_bytes` of them; safe under threads."""

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        self._held: OrderedDict[tuple[Any, ...], NDArray[Any]] = OrderedDict()
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Make a new lock in a forked process: a thread that exists only in the parent may hold the old one."""
        self._lock = threading.Lock()

    def get(self, spec: SharedCoils, seed: int, index: int, shape: tuple[int, int]) -> Maps:
        """Maps [coil y x] of a set; they are computed only if the cache does not hold them."""
        return self._get("maps", spec, seed, index, shape)

    def shading(self, spec: SharedCoils, seed: int, index: int, shape: tuple[int, int]) -> NDArray[np.float32] | float:
        """Brightness [y x] that a set of coils gives to images; 1 where the section does not ask for it."""
        return self._get("shading", spec, seed, index, shape) if getattr(spec, "shading", None) else 1.0

    def _get(self, what: str, spec: SharedCoils, seed: int, index: int, shape: tuple[int, int]) -> NDArray[Any]:
        key = (what, spec, seed, index, shape, stamp(spec.path) if isinstance(spec, LibrarySpec) else None)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        with one_blas_thread():
            made: NDArray[Any] = getattr(draw_coils(spec, seed, index), what)(shape)
        made.setflags(write=False)
        with self._lock:
            self._held[key] = made
            while len(self._held) > 1 and sum(m.nbytes for m in self._held.values()) > self._max_bytes:
                self._held.popitem(last=False)
        return made


map_cache = MapCache()
