"""A cache of recently used map sets, because many pairs use the same set."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

from ..process import one_blas_thread
from ..storage.arrays import stamp
from .coil_loops import Maps
from .coils import LibrarySpec, SharedCoils, draw_coils


class MapCache:
    """Recently used map sets, at most `max_bytes` of them; safe under threads."""

    def __init__(self, max_bytes: int = 512 * 2**20) -> None:
        self._maps: OrderedDict[tuple[Any, ...], Maps] = OrderedDict()
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        """Make a new lock in a forked process: a thread that exists only in the parent may hold the old one."""
        self._lock = threading.Lock()

    def get(self, spec: SharedCoils, seed: int, index: int, shape: tuple[int, int]) -> Maps:
        """Maps [coil y x] of a set; they are computed only if the cache does not hold them."""
        key = (spec, seed, index, shape, stamp(spec.path) if isinstance(spec, LibrarySpec) else None)
        with self._lock:
            if key in self._maps:
                self._maps.move_to_end(key)
                return self._maps[key]
        with one_blas_thread():
            maps = draw_coils(spec, seed, index).maps(shape)
        maps.setflags(write=False)
        with self._lock:
            self._maps[key] = maps
            while len(self._maps) > 1 and sum(m.nbytes for m in self._maps.values()) > self._max_bytes:
                self._maps.popitem(last=False)
        return maps


map_cache = MapCache()
