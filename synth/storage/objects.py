"""Objects in a store (S3, Google, Azure): read whole or in part, listed, written whole or not at all, deleted.

The package obstore does the talking, which is optional: ``pip install "fathom-mri[s3]"``. Credentials and endpoints
come from the environment alone (`synth.storage.credentials`), and no message or file repeats them. Requests that fail
for a reason that may pass are sent again, after pauses that double.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, TypeVar

from ..errors import StorageError
from .credentials import access
from .store_errors import told

SCHEMES = ("s3", "gs", "az")
MINUTE = 60  # seconds
AT_ONCE = 32  # requests that a process sends at the same time
GAP = 2**18  # ranges with at most so many bytes between them are read in one request

T = TypeVar("T")


@dataclass(frozen=True)
class ObjectPlace:
    """An object in a store, or all objects below a name, as in a folder; it has the methods of a `Path` it can have.

    Attributes
    ----------
    store
        The address of the store: ``s3://bucket``.
    key
        The name of the object in it, with parts separated by /; empty for the whole store.
    """

    store: str
    key: str

    def __str__(self) -> str:
        return f"{self.store}/{self.key}" if self.key else self.store

    def __truediv__(self, name: str | PurePosixPath) -> ObjectPlace:
        """The object `name` below this one."""
        return ObjectPlace(self.store, f"{self.key}/{name}" if self.key else str(name))

    @property
    def name(self) -> str:
        """The last part of its key; of a whole store, the store's name."""
        return self.key.rpartition("/")[2] or self.store.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """The ending of its name, such as ``.zarr``."""
        return PurePosixPath(self.key).suffix

    @property
    def parent(self) -> ObjectPlace:
        """What it lies below."""
        return ObjectPlace(self.store, self.key.rpartition("/")[0])

    def is_file(self) -> bool:
        """Whether it is an object."""
        try:
            self.size()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        """Whether objects lie below it, as in a folder; not where it is an object itself."""
        return not self.is_file() and next(self.below(), None) is not None

    def exists(self) -> bool:
        """Whether it is an object, or any object lies below it."""
        return self.is_file() or next(self.below(), None) is not None

    def size(self) -> int:
        """Number of bytes; raises FileNotFoundError."""
        return int(self._ask(lambda library, store: library.head(store, self.key))["size"])

    def version(self) -> tuple[str, int]:
        """What changes when it is written anew, and its bytes; asked once a minute; raises FileNotFoundError."""
        return _version(self, int(time.monotonic() // MINUTE))

    def read(self, most: int | None = None) -> bytes:
        """All bytes, in one request; raises FileNotFoundError, or ValueError where it has more than `most` bytes."""

        def ask(library: Any, store: Any) -> bytes:
            found = library.get(store, self.key)
            size = found.meta["size"]
            if most is not None and size > most:
                raise ValueError(f"{self}: has {size:,} bytes, more than the {most:,} that it can need; restore it")
            return bytes(found.bytes())

        return self._ask(ask)

    def read_end(self, count: int) -> bytes:
        """The last `count` bytes, or all where it has fewer; raises FileNotFoundError.

        The size is asked first, because Azure and some servers of S3 do not know ranges that count from the end.
        """
        size = self.size()
        return bytes(self.read_ranges([max(0, size - count)], min(count, size))[0]) if size else b""

    def read_ranges(self, starts: Sequence[int], length: int) -> list[Any]:
        """A buffer of `length` bytes from each start, one request per run of neighbours; raises FileNotFoundError."""
        lengths = [length] * len(starts)
        return self._ask(
            lambda library, store: library.get_ranges(
                store, self.key, starts=list(starts), lengths=lengths, coalesce=GAP
            )
        )

    def stream(self) -> Iterator[Any]:
        """Its bytes as buffers one after the other; raises FileNotFoundError."""
        with told(self):
            yield from _library().get(_store(self.store), self.key).stream()

    def below(self) -> Iterator[tuple[str, int]]:
        """The path, from here, and the number of bytes of every object below it."""
        prefix = f"{self.key}/" if self.key else ""
        with told(self):
            for page in _library().list(_store(self.store), prefix or None):
                yield from ((found["path"].removeprefix(prefix), int(found["size"])) for found in page)

    def folders(self) -> list[str]:
        """The sorted names, right below it, that have objects below them."""
        return sorted(PurePosixPath(path).name for path in self._level()["common_prefixes"])

    def names(self) -> set[str]:
        """All names right below it, as those of the files and folders in a folder."""
        found = self._level()
        return {
            PurePosixPath(path).name for path in (*found["common_prefixes"], *(o["path"] for o in found["objects"]))
        }

    def _level(self) -> Any:
        return self._ask(lambda library, store: library.list_with_delimiter(store, f"{self.key}/"))

    def put(self, data: Any) -> None:
        """Write it whole, in place of what is there."""
        self._ask(lambda library, store: library.put(store, self.key, data))

    def put_new(self, data: bytes) -> bool:
        """Write it whole if nothing is there, which the store decides; False where something else is there."""
        try:
            self._ask(lambda library, store: library.put(store, self.key, data, mode="create", use_multipart=False))
        except FileExistsError:
            return self.read() == data  # the answer to a request that was sent twice: it is ours
        return True

    def delete(self) -> None:
        """Remove it, if it is there."""
        try:
            self._ask(lambda library, store: library.delete(store, self.key))
        except FileNotFoundError:
            return

    def _ask(self, request: Callable[[Any, Any], T]) -> T:
        with told(self):
            return request(_library(), _store(self.store))


@lru_cache(maxsize=65536)
def _version(place: ObjectPlace, minute: int) -> tuple[str, int]:
    found = place._ask(lambda library, store: library.head(store, place.key))
    return str(found["e_tag"] or found["last_modified"]), int(found["size"])


def together(jobs: Sequence[Callable[[], T]]) -> list[T]:
    """The results of all jobs, which wait for a store at the same time; they must not call `together` themselves."""
    if len(jobs) < 2:
        return [job() for job in jobs]
    return list(_threads(os.getpid()).map(lambda job: job(), jobs))


@lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fathom-store")


_used_by: int | None = None  # the process that began to use the library
_beginning = threading.Lock()


def _library() -> Any:
    """The package obstore; raises StorageError where it is not installed, or was used before this process was forked.

    Its threads do not live on in a forked process, which would wait for them for ever.
    """
    global _used_by  # noqa: PLW0603 (of the process, as the library's threads are)
    try:
        import obstore
    except ImportError:
        raise StorageError(
            "to read and write object stores, Fathom needs the package obstore, which is not installed; run: "
            'pip install "fathom-mri[s3]"'
        ) from None
    with _beginning:
        _used_by = _used_by or os.getpid()
    if _used_by != os.getpid():
        raise StorageError(
            "this process was forked from one that has used an object store, and the connections do not survive that; "
            'start workers anew: make_loader(..., context="spawn") or '
            'DataLoader(..., multiprocessing_context="spawn"), or read by threads'
        )
    return obstore


@lru_cache(maxsize=64)
def _store(address: str) -> Any:
    from obstore.store import from_url

    return from_url(address, **access(address))
