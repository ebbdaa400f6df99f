"""The files of a corpus in an object store, for zarr: read only, and small ones read ahead, many at a time."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Any

import numpy as np
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from .objects import ObjectPlace, together

MAX_METADATA = 2**28  # bytes of a zarr.json; that of a root holds the metadata of all arrays once more
SLACK = 2**20  # bytes that a chunk's codecs may add to its values


class RemoteFiles(Store):
    """Objects below a place, for reading; errors are those of `ObjectPlace`."""

    supports_writes = supports_deletes = False
    supports_listing = True

    def __init__(self, root: ObjectPlace) -> None:
        super().__init__(read_only=True)
        self.root = root
        self._kept: dict[str, bytes] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteFiles) and other.root == self.root

    def read_ahead(self, group: str) -> dict[str, bytes]:
        """The zarr.json of every array of a group by the array's name; keeps the values of arrays of numbers, too."""
        names = (self.root / group).folders()
        found = together([partial(self._if_there, f"{group}/{name}/zarr.json", MAX_METADATA) for name in names])
        documents = {name: data for name, data in zip(names, found, strict=True) if data is not None}
        wanted = {f"{group}/{name}/{key}": most for name, d in documents.items() for key, most in _only_chunk(d)}
        values = together([partial(self._if_there, key, most) for key, most in wanted.items()])
        self._kept |= {key: data for key, data in zip(wanted, values, strict=True) if data is not None}
        return documents

    def _if_there(self, key: str, most: int | None) -> bytes | None:
        try:
            return (self.root / key).read(most)
        except FileNotFoundError:
            return None

    def _get(self, key: str, wanted: Any) -> bytes | None:
        place = self.root / key
        try:
            match wanted:
                case None if key in self._kept:
                    return self._kept[key]
                case None:
                    return place.read(MAX_METADATA if place.name == "zarr.json" else None)
                case RangeByteRequest(start, end):
                    return bytes(place.read_ranges([start], end - start)[0])
                case SuffixByteRequest(count):
                    return place.read_end(count)
                case OffsetByteRequest(offset):
                    return place.read()[offset:]
        except FileNotFoundError:
            return None
        raise ValueError(f"{place}: cannot read {wanted}")

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """One object, or a range of its bytes; None where it is not there."""
        data = await asyncio.to_thread(self._get, key, byte_range)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> Any:
        """Ranges of bytes of several objects."""
        return await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges))

    async def exists(self, key: str) -> bool:
        """Whether an object is there."""
        return await asyncio.to_thread((self.root / key).is_file)

    async def set(self, key: str, value: Any) -> None:
        """Refuse: the store is for reading."""
        self._check_writable()

    async def delete(self, key: str) -> None:
        """Refuse: the store is for reading."""
        self._check_writable()

    async def list(self) -> AsyncIterator[str]:
        """The keys of all objects."""
        for key, _ in self.root.below():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin with `prefix`."""
        async for key in self.list():
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names right below `prefix`."""
        start = f"{prefix.strip('/')}/" if prefix else ""
        found = {key.removeprefix(start).split("/")[0] async for key in self.list_prefix(start)}
        for name in sorted(found):
            yield name


def _only_chunk(data: bytes) -> list[tuple[str, int]]:
    """The key, and the most bytes, of the chunk of an array of numbers, which has one; empty for any other document."""
    try:
        document = json.loads(data)
        shape, grid = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
        if shape != grid or any(codec["name"] == "sharding_indexed" for codec in document["codecs"]):
            return []
        size = math.prod(shape) * np.dtype(document["data_type"]).itemsize
        return [("c/" + "/".join("0" * len(shape)), size + SLACK)]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []  # whoever opens the array says what is wrong with it
