"""Shards in an object store: rows are read by ranges of bytes, neighbours in one request, several shards at once."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShardError
from .cache import shard_cache
from .objects import ObjectPlace, together
from .place import Place
from .shard import CRC_BYTES, ShardedArray, ShardWriter
from .whole import refuse_shortage

WHOLE_SHARD = 2**18  # a shard of at most so many bytes is read whole: for that much, one request takes as long
KEPT_BYTES = 2**26  # of such shards, per array

Parts = Callable[[Sequence[int], int], Sequence[Any]]
"""What reads parts of a file: takes where they start and the length of each."""


class RemoteShardedArray(ShardedArray):
    """A `ShardedArray` whose shards lie in an object store; any number of threads may read."""

    def __init__(self, path: ObjectPlace, sums: NDArray[Any] | None = None, document: bytes | None = None) -> None:
        super().__init__(path, sums, document)
        self._place = path
        self._chunk = self.dtype.itemsize * int(np.prod(self.shape[1:], dtype=np.int64)) + CRC_BYTES
        told = f"{path} {self.shape} {self.dtype} {self.rows_per_shard} ".encode()
        self._version = None if sums is None else hashlib.sha256(told + sums.tobytes()).hexdigest()  # for a cache
        self._kept: dict[int, bytes] = {}

    def read_into(self, row: int, out: NDArray[Any]) -> None:
        """Read a row into `out`, which is C-contiguous and has the row's shape; raises ShardError for a damaged row."""
        self._read_rows(row // self.rows_per_shard, [row], [out])

    def jobs(self, rows: Sequence[int], out: NDArray[Any]) -> list[Callable[[], None]]:
        """What reads `rows` into out [row ...]: one job per shard."""
        places: dict[int, list[int]] = defaultdict(list)
        for place, row in enumerate(rows):
            places[row // self.rows_per_shard].append(place)
        return [
            partial(self._read_rows, shard, [rows[k] for k in mine], [out[k] for k in mine])
            for shard, mine in places.items()
        ]

    def _read_rows(self, shard: int, rows: Sequence[int], out: Sequence[NDArray[Any]]) -> None:
        file, cache = self._place / self._key(shard), None if self._version is None else shard_cache()
        name = hashlib.sha256(f"{self._version} {shard}".encode()).hexdigest()
        try:
            if cache is not None:
                descriptor = cache.opened(name, self._size_of(shard), file.stream)
                try:
                    if descriptor is not None:
                        return self._take_all(shard, file, rows, out, partial(_parts_of, descriptor))
                except ShardError:  # of the cache, or of the store: what is read there decides
                    cache.remove(name)
                    self._indices.pop(shard, None)
                finally:
                    if descriptor is not None:
                        os.close(descriptor)
            self._take_all(shard, file, rows, out, None)
        except FileNotFoundError:
            raise ShardError(f"{file}: is gone; run `fathom verify`, then `fathom build`") from None

    def _take_all(
        self, shard: int, file: ObjectPlace, rows: Sequence[int], out: Sequence[NDArray[Any]], kept: Parts | None
    ) -> None:
        """Read rows of a shard, from the file that a cache has kept or from the store."""
        chunks = [row % self.rows_per_shard for row in rows]
        if kept is None:
            found = self._chunks(shard, file, chunks)
        else:
            if shard not in self._indices:
                (tail,) = kept([self._size_of(shard) - self._index_bytes], self._index_bytes)
                self._indices[shard] = self._index_in(tail, file)
            found = kept(self._starts(shard, file, chunks), self._chunk)
        for row, chunk, place, data in zip(rows, chunks, out, found, strict=True):
            self._take(file, chunk, row, data, place)

    def _size_of(self, shard: int) -> int:
        """Bytes of a shard's file: its rows, each with a crc32c, and the index."""
        rows = min(self.rows_per_shard, len(self) - shard * self.rows_per_shard)
        return rows * self._chunk + self._index_bytes

    def _chunks(self, shard: int, file: ObjectPlace, chunks: Sequence[int]) -> Sequence[Any]:
        """The bytes of chunks of a shard, each with its crc32c behind it."""
        size = self.rows_per_shard * (self._chunk + 16) + CRC_BYTES
        if size <= WHOLE_SHARD:
            return self._parts_of_whole(shard, file, chunks, size)
        if shard not in self._indices:
            self._indices[shard] = self._index_in(file.read_end(self._index_bytes), file)
        starts = self._starts(shard, file, chunks)
        found = file.read_ranges(starts, self._chunk)
        return [memoryview(part) for part in found]

    def _parts_of_whole(self, shard: int, file: ObjectPlace, chunks: Sequence[int], most: int) -> Sequence[Any]:
        data = self._kept.get(shard)
        if data is None:
            try:
                data = file.read(most)
            except ValueError as error:
                refuse_shortage(error)
                raise ShardError(f"{file}: is damaged ({error}); run `fathom verify`, then `fathom build`") from None
            self._indices[shard] = self._index_in(data[-self._index_bytes :], file)
            while sum(map(len, list(self._kept.values()))) > KEPT_BYTES - most:
                self._kept.pop(next(iter(list(self._kept))), None)
            self._kept[shard] = data
        return [memoryview(data)[start : start + self._chunk] for start in self._starts(shard, file, chunks)]

    def _starts(self, shard: int, file: ObjectPlace, chunks: Sequence[int]) -> list[int]:
        index = self._indices[shard]
        for chunk in chunks:
            if int(index[chunk, 1]) != self._chunk:
                raise ShardError(f"{file}: chunk {chunk} is missing or of another size; run `fathom verify`")
        return [int(index[chunk, 0]) for chunk in chunks]

    def _take(self, file: ObjectPlace, chunk: int, row: int, found: Any, out: NDArray[Any]) -> None:
        data = out.reshape(-1).view(np.uint8)
        if len(found) != self._chunk:
            raise ShardError(f"{file}: chunk {chunk} is damaged; run `fathom verify`, then `fathom build`")
        data[:] = np.frombuffer(found, np.uint8, data.size)
        self._check(file, chunk, row, data, bytes(found[data.size :]))

    def __getstate__(self) -> dict[str, Any]:
        """The state that is sent to other processes, without the shards that are kept."""
        return {**self.__dict__, "_kept": {}}


def _parts_of(descriptor: int, starts: Sequence[int], length: int) -> Sequence[Any]:
    return [os.pread(descriptor, length, start) for start in starts]


class RemoteShardWriter(ShardWriter):
    """Collects the chunks of one shard in memory, and puts them into a store as one object when they are complete."""

    def __init__(self, place: ObjectPlace, chunks: int) -> None:
        super().__init__(Path(place.name), chunks)
        self._place = place

    def __enter__(self) -> RemoteShardWriter:
        """Begin with nothing."""
        self._memory = bytearray()
        return self

    def _write(self, data: NDArray[np.uint8], crc: bytes) -> None:
        self._memory += data.data
        self._memory += crc

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Add the index and put the object; after an error nothing is put."""
        if kind is None:
            self._write_index()
            self._place.put(self._memory)
        self._memory = bytearray()


def shard_writer(place: Place, chunks: int) -> ShardWriter:
    """What writes a shard, wherever it lies."""
    return RemoteShardWriter(place, chunks) if isinstance(place, ObjectPlace) else ShardWriter(place, chunks)


def opened_array(path: Place, sums: NDArray[Any] | None = None, document: bytes | None = None) -> ShardedArray:
    """A sharded array wherever it lies; the arguments are those of `ShardedArray`."""
    if isinstance(path, ObjectPlace):
        return RemoteShardedArray(path, sums, document)
    return ShardedArray(path, sums, document)


def read_rows(wanted: Sequence[tuple[ShardedArray, Sequence[int], NDArray[Any]]]) -> None:
    """Read rows of several arrays, each into an array [row ...]; from an object store, all at the same time."""
    jobs: list[Callable[[], None]] = []
    for array, rows, out in wanted:
        if isinstance(array, RemoteShardedArray):
            jobs += array.jobs(rows, out)
            continue
        for row, place in zip(rows, out, strict=True):
            array.read_into(row, place)
    together(jobs)
