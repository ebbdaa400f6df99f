"""Shards of a zarr v3 array: chunks are written as a stream, and each is read directly into an existing array.

The format is zarr's ``sharding_indexed`` codec with the index at the end and the inner codecs ``bytes`` (little endian)
and ``crc32c``: each chunk's bytes and their crc32c, then offset and length of every chunk (uint64), then the crc32c of
that index. zarr-python reads and writes the same files, but copies each chunk several times on its way and needs the
whole shard in memory; it was measured to take five times as long to write and several times as long to read.
"""

from __future__ import annotations

import json
import os
import stat
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ..errors import ShardError
from .place import Place
from .whole import named, read_document

CRC_BYTES = 4
EMPTY = np.uint64(2**64 - 1)  # offset and length of a chunk that is not there


def crc32c_of(array: NDArray[Any]) -> int:
    """crc32c of an array's bytes, as it stands behind the array's chunk on disk."""
    return int(google_crc32c.value(_bytes_of(array)))


def _crc32c(data: NDArray[np.uint8]) -> bytes:
    return crc32c_of(data).to_bytes(CRC_BYTES, "little")


def _bytes_of(array: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


class ShardWriter:
    """Writes the chunks of one shard in order; the file gets its name when it is whole.

    The file is not forced to the disk here, because that would slow down the writers: `UnfinishedCorpus.finish` does so
    before it renames the corpus, and a build that is resumed after a crash checks every finished shard.
    """

    def __init__(self, path: Path, chunks: int) -> None:
        self._path, self._partial = path, path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
        self._index = np.full((chunks, 2), EMPTY)
        self._count = self._offset = 0

    def __enter__(self) -> ShardWriter:
        """Open the file under a partial name."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._partial.open("wb", buffering=0)
        return self

    def append(self, chunk: NDArray[Any]) -> int:
        """Write the next chunk; return its crc32c."""
        data = _bytes_of(chunk)
        crc = crc32c_of(data)
        self._write(data, crc.to_bytes(CRC_BYTES, "little"))
        self._index[self._count] = self._offset, data.size + CRC_BYTES
        self._offset += data.size + CRC_BYTES
        self._count += 1
        return crc

    def _write(self, data: NDArray[np.uint8], crc: bytes) -> None:
        with named(self._path):
            for view in (data.data, memoryview(crc)):
                written = 0
                while written < len(view):
                    written += self._file.write(view[written:]) or 0

    def _write_index(self) -> None:
        index = _bytes_of(self._index.astype("<u8"))
        self._write(index, _crc32c(index))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the index and rename the file; after an error, remove the partial file."""
        try:
            if kind is None:
                self._write_index()
                self._partial.replace(self._path)
        finally:
            self._file.close()
            self._partial.unlink(missing_ok=True)


class ShardedArray:
    """A sharded array [row ...] with one chunk per row, read row by row into existing arrays.

    A file is open only while a row is read (to open it takes 20 microseconds, to read a row a millisecond), so any
    number of threads and of forked processes may read, and a corpus may have any number of shards.

    Parameters
    ----------
    path
        The array's folder.
    sums
        The crc32c of every row [row], which binds what is read to its row: a chunk's own crc32c also holds where whole
        shards were exchanged. None leaves that out.
    document
        The array's zarr.json, by default that of the folder.
    """

    def __init__(self, path: Place, sums: NDArray[Any] | None = None, document: bytes | None = None) -> None:
        self.path, self._sums = path, sums
        try:
            self._read_document(json.loads(read_document(path / "zarr.json") if document is None else document))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ShardError(
                f"{path}/zarr.json is damaged ({type(error).__name__}); run `fathom verify`, then `fathom build`"
            ) from None
        if sums is not None and len(sums) != len(self):
            raise ShardError(f"{path} has {len(self)} rows and {len(sums)} checksums; run `fathom verify`")

    def _read_document(self, document: Any) -> None:
        path, sharding = self.path, document["codecs"][0]
        inner = [codec["name"] for codec in sharding.get("configuration", {}).get("codecs", [])]
        if len(document["codecs"]) != 1 or sharding["name"] != "sharding_indexed" or inner != ["bytes", "crc32c"]:
            raise ShardError(f"{path}: its chunks are not plain bytes with crc32c; build the corpus with this Fathom")
        self.shape: tuple[int, ...] = tuple(int(size) for size in document["shape"])
        self.dtype = np.dtype(document["data_type"])
        self.rows_per_shard = int(document["chunk_grid"]["configuration"]["chunk_shape"][0])
        if self.rows_per_shard < 1 or min(self.shape) < 0:
            raise ValueError("a size is not positive")
        self._indices: dict[int, NDArray[np.uint64]] = {}

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[Any]:
        """One row, as a new array."""
        out = np.empty(self.shape[1:], self.dtype)
        self.read_into(row, out)
        return out

    def read_into(self, row: int, out: NDArray[Any]) -> None:
        """Read a row into `out`, which is C-contiguous and has the row's shape; raises ShardError for a damaged row."""
        shard, chunk = divmod(row, self.rows_per_shard)
        file = f"{self.path}/{self._key(shard)}"
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # a pipe in place of the file does not block
        except FileNotFoundError:
            raise ShardError(f"{file}: is gone; run `fathom verify`, then `fathom build`") from None
        try:
            if shard not in self._indices:
                self._indices[shard] = self._read_index(descriptor, file)
            offset, length = (int(v) for v in self._indices[shard][chunk])
            data, crc = out.reshape(-1).view(np.uint8), bytearray(CRC_BYTES)
            if length != data.size + CRC_BYTES:
                raise ShardError(f"{file}: chunk {chunk} is missing or of another size; run `fathom verify`")
            read = os.preadv(descriptor, [data.data, crc], offset)
            self._check(file, chunk, row, data, crc if read == length else b"")
        except OSError as error:
            told = f"cannot be read ({error.strerror}); run `fathom verify`, then `fathom build`"
            raise ShardError(f"{file}: {told}") from None
        finally:
            os.close(descriptor)

    def _check(self, file: Any, chunk: int, row: int, data: NDArray[np.uint8], crc: bytes | bytearray) -> None:
        """Raise ShardError where bytes that were read do not have their crc32c, or are not those of the row."""
        found = crc32c_of(data)
        if len(crc) != CRC_BYTES or int.from_bytes(crc, "little") != found:
            raise ShardError(f"{file}: chunk {chunk} is damaged; run `fathom verify`, then `fathom build`")
        if self._sums is not None and found != self._sums[row]:
            raise ShardError(
                f"{file}: chunk {chunk} is not what was written there; run `fathom verify`, then `fathom build`"
            )

    def _key(self, shard: int) -> str:
        """The path of a shard's file below the array's folder."""
        return "c/" + "/".join([str(shard)] + ["0"] * (len(self.shape) - 1))

    @property
    def _index_bytes(self) -> int:
        return 16 * self.rows_per_shard + CRC_BYTES

    def _read_index(self, descriptor: int, file: str) -> NDArray[np.uint64]:
        size, status = self._index_bytes, os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ShardError(f"{file}: is no file; run `fathom verify`, then `fathom build`")
        return self._index_in(os.pread(descriptor, size, max(status.st_size - size, 0)), file)

    def _index_in(self, tail: bytes, file: Any) -> NDArray[np.uint64]:
        """The index [chunk, (offset, length)] in the last bytes of a shard's file."""
        size = self._index_bytes
        if len(tail) != size or tail[-CRC_BYTES:] != _crc32c(np.frombuffer(tail, np.uint8, size - CRC_BYTES)):
            raise ShardError(f"{file}: its index is damaged; run `fathom verify`, then `fathom build`")
        return np.frombuffer(tail, "<u8", 2 * self.rows_per_shard).reshape(-1, 2)
