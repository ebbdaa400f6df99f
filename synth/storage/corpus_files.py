"""The files of a corpus, without its recipe: attributes, codecs, and the arrays of each bucket."""

from __future__ import annotations

import contextlib
import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.storage import LocalStore, StorePath

from ..errors import CorpusError, StorageError, UnfinishedCorpusError
from .objects import ObjectPlace
from .place import Place, names_in_folder
from .remote_files import MAX_METADATA, SLACK, RemoteFiles
from .remote_shard import opened_array
from .shard import ShardedArray, crc32c_of
from .whole import read_document, refuse_shortage, refuse_strange

SCHEMA = 1  # raised by every change of what is stored
DAMAGED = (
    RecursionError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    NotImplementedError,
    OSError,
    MemoryError,
)
"""What zarr raises where metadata are damaged."""
PLAIN = (BytesCodec(), Crc32cCodec())
CODECS = frozenset({"bytes", "crc32c", "sharding_indexed", "zstd", "blosc", "gzip"})  # none of them runs code


def building_path(path: Path) -> Path:
    """The folder in which a corpus is built until it is finished; raises StorageError for a root folder."""
    if not path.name:
        raise StorageError(f"{path}: is a root folder, which nothing can replace; give a folder to make below it")
    return path.with_name(path.name + ".building")


def unlinked_building_path(path: Path) -> Path:
    """As `building_path`; raises StorageError for a symbolic link, which may lead to a folder of somebody else's."""
    root = building_path(path)
    if root.is_symlink():
        raise StorageError(f"{root}: is a symbolic link to {root.readlink()}; remove it, or choose another --out")
    return root


class RegularFiles(LocalStore):
    """A folder of zarr files, for reading: pipes, devices and large documents raise ValueError before they are read."""

    def __init__(self, root: Path | str) -> None:
        super().__init__(root, read_only=True)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """One file, or a range of its bytes."""
        self._look_at(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(self, key: str, **how: Any) -> Any:
        """As `get`."""
        self._look_at(key)
        return super().get_sync(key, **how)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """Ranges of bytes of several files."""
        wanted = list(key_ranges)
        for key, _ in wanted:
            self._look_at(key)
        return await super().get_partial_values(prototype, wanted)

    def _look_at(self, key: str) -> None:
        path = self.root / key
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = path.stat()
            if not stat.S_ISDIR(status.st_mode):  # for zarr a folder is no chunk
                refuse_strange(path, status, MAX_METADATA if path.name == "zarr.json" else None)

    def refuse_large(self, array: zarr.Array[Any]) -> None:
        """Raise ValueError where a chunk's file is larger than all values of an array of numbers, or of one set."""
        for file in (self.root / array.path / "c").glob("**/*"):
            if not file.is_dir():
                refuse_strange(file, file.stat(), array.nbytes + SLACK)


@dataclass(frozen=True)
class Bucket:
    """Pairs of one shape, opened for reading."""

    path: Place  # the corpus
    name: str
    arrays: dict[str, zarr.Array[Any]]

    own_maps: bool = False  # row k of `maps` belongs to pair k
    sums: dict[str, int] = field(default_factory=dict)  # crc32c of arrays of numbers; an earlier version kept none
    _opened: dict[str, ShardedArray] = field(default_factory=dict, repr=False, compare=False)

    def row(self, name: str, row: SupportsIndex) -> NDArray[Any]:
        """A row of `kspace`, `mask`, `target` or `maps`; raises ShardError where it is damaged or its file is gone.

        Of a file that is gone, zarr reads the fill value.
        """
        return self.sharded(name)[int(row)]

    def sharded(self, name: str) -> ShardedArray:
        """The array `kspace`, `mask`, `target` or `maps`, whose rows are checked as they are read."""
        if name not in self._opened:
            self._opened[name] = opened_array(self.path / self.name / name, self.sums_of(name))
        return self._opened[name]

    def numbers(self, name: str) -> NDArray[Any]:
        """All rows of a number; raises CorpusError where the array is missing, or is not the one that was written."""
        if name not in self.arrays:
            raise CorpusError(f"{self.name} has no '{name}': the corpus is damaged; the same `fathom build` mends it")
        try:
            values = values_of(self.arrays[name])
        except DAMAGED as error:
            refuse_shortage(error)
            raise CorpusError(
                f"{self.name}/{name} is damaged ({error}); the same `fathom build` mends the corpus"
            ) from None
        if self.sums and self.sums.get(name) != crc32c_of(values):
            raise CorpusError(
                f"{self.name}/{name} is not what was written there: the corpus is damaged; the same `fathom build` "
                "mends it"
            )
        return values

    def sums_of(self, array: str) -> NDArray[Any] | None:
        """The crc32c of each row of `kspace`, `mask`, `target` or `maps`; None where an earlier version kept none."""
        return self.numbers(f"{array}_crc32c") if self.sums else None

    @cached_property
    def valid_rows(self) -> NDArray[Any]:
        """The rows whose source was not rejected; raises CorpusError where that is damaged."""
        valid = self.numbers("valid")
        found = np.flatnonzero(valid == 1)
        if len(found) + np.count_nonzero(valid == 0) != len(valid):
            raise CorpusError(f"{self.name}/valid is damaged; the same `fathom build` mends the corpus")
        return found

    @cached_property
    def map_rows(self) -> NDArray[Any]:
        """The row of `maps` that belongs to each pair."""
        found = self.numbers("maps_index")
        if self.own_maps:
            return np.arange(len(found))
        known = np.isfinite(found)
        return (found if known.all() else np.where(known, found, -1)).astype(np.int64)  # a rejected pair has NaN there


def stored_attributes(root: Place) -> dict[str, Any]:
    """Fathom's attributes of a corpus, finished or not; raises CorpusError where there are none."""
    attributes = None
    try:
        attributes = json.loads(read_document(root / "zarr.json"))["attributes"]["fathom"]
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, RecursionError) as error:
        refuse_shortage(error)
    if not isinstance(attributes, dict):
        if (root / "recipe.json").is_file() and (root / "ledger.jsonl").is_file():
            raise CorpusError(f"{root}: its zarr.json is damaged; the same `fathom build` mends it")
        state = "is not a corpus of Fathom's" if root.exists() else "does not exist"
        raise CorpusError(f"{root} {state}; give the folder that `fathom build` made")
    if attributes.get("schema") != SCHEMA:
        raise CorpusError(
            f"{root} has corpus schema {attributes.get('schema')}, this Fathom reads {SCHEMA}; build it again"
        )
    kinds = {"recipe": dict, **({"content_hash": str, "summary": dict} if attributes.get("complete") else {})}
    for name, kind in kinds.items():
        if not isinstance(attributes.get(name), kind):
            raise CorpusError(
                f"{root}: its zarr.json has no '{name}', so it is damaged; the same `fathom build` mends it"
            )
    return attributes


def sealed_sums(attributes: dict[str, Any], bucket: str) -> dict[str, int]:
    """The crc32c of a bucket's arrays of numbers by name; empty in a corpus of an earlier version.

    Raises ValueError where the attributes are damaged.
    """
    match attributes.get("sealed", {"crc32c": {}}):
        case {"crc32c": dict(sums)}:
            mine = {path.removeprefix(f"{bucket}/"): crc for path, crc in sums.items() if path.startswith(f"{bucket}/")}
            if sums and not mine:
                raise ValueError(f"the checksums of {bucket} are missing")
            return mine
    raise ValueError("its checksums are missing")


def refuse_unfinished(path: Place) -> None:
    """Raise UnfinishedCorpusError where the build of a corpus has not ended."""
    unfinished = isinstance(path, Path) and not path.exists() and building_path(path).exists()
    with contextlib.suppress(CorpusError):  # another function reports a damaged or missing corpus
        unfinished = unfinished or not stored_attributes(path).get("complete")
    if unfinished:
        raise UnfinishedCorpusError(f"{path} is unfinished; run the same `fathom build` again to finish it")


def maps_of_corpus(path: Place) -> list[ShardedArray]:
    """The array of maps [set coil y x] of every bucket of a finished corpus; raises CorpusError."""
    refuse_unfinished(path)
    attributes = stored_attributes(path)
    names = sorted(name for name in names_in_folder(path) if (path / name / "zarr.json").is_file())
    try:
        buckets = [open_bucket(path, n, own_maps=False, sums=sealed_sums(attributes, n)) for n in names]
        return [bucket.sharded("maps") for bucket in buckets]
    except DAMAGED as error:
        raise damaged_metadata(path, error) from None


def damaged_metadata(path: Place, error: Exception) -> CorpusError:
    """The error of a corpus whose arrays cannot be opened."""
    refuse_shortage(error)
    return CorpusError(f"{path}: its metadata is damaged ({error}); the same `fathom build` mends it")


def content_hash_of(path: Place) -> str:
    """Content hash of a finished corpus; raises CorpusError."""
    refuse_unfinished(path)
    return str(stored_attributes(path)["content_hash"])


def open_bucket(path: Place, name: str, *, own_maps: bool, sums: dict[str, int]) -> Bucket:
    """The arrays of a bucket; raises CorpusError, or what zarr raises where they are damaged."""
    arrays = {}
    store, documents = _documents_of(path, name)
    for key, data in documents.items():
        document = json.loads(data)
        if document["node_type"] == "array":
            _check_codecs(f"{path}/{name}/{key}", document["codecs"])
            arrays[key] = zarr.Array.from_dict(StorePath(store, f"{name}/{key}"), document)
    return Bucket(path, name, arrays, own_maps, sums)


def _documents_of(path: Place, name: str) -> tuple[Store, dict[str, bytes]]:
    """What reads a corpus's files for zarr, and the zarr.json of every array of a bucket."""
    if isinstance(path, ObjectPlace):
        remote = RemoteFiles(path)
        return remote, remote.read_ahead(name)
    files = sorted((path / name).glob("*/zarr.json"))
    return RegularFiles(path), {file.parent.name: read_document(file, MAX_METADATA) for file in files}


def values_of(array: zarr.Array[Any]) -> NDArray[Any]:
    """All values of a small array; raises ValueError where its files are larger than these."""
    store = array.store
    if isinstance(store, RegularFiles):
        store.refuse_large(array)
        if array.chunks == array.shape and getattr(array.metadata, "codecs", ()) == PLAIN:  # zarr copies them thrice
            data = read_document(store.root / array.path / array.metadata.encode_chunk_key((0,) * array.ndim))
            values = np.frombuffer(data, array.dtype, array.size).reshape(array.shape)
            if data[array.nbytes :] != crc32c_of(values).to_bytes(4, "little"):
                raise ValueError("its checksum is wrong")
            return values
    return np.asarray(array[...])


def _check_codecs(where: str, codecs: Any) -> None:
    names = {codec["name"] for codec in _codecs(codecs)}
    if not names <= CODECS:
        raise CorpusError(f"{where} uses the codecs {sorted(names - CODECS)}, which are not among {sorted(CODECS)}")


def _codecs(codecs: Any) -> Iterator[dict[str, Any]]:
    for codec in codecs:
        yield codec
        configuration = codec.get("configuration", {})
        yield from _codecs(configuration.get("codecs", []))
        yield from _codecs(configuration.get("index_codecs", []))
