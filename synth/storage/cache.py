"""A folder of this machine that keeps shards of an object store: whole or not at all, the least recently used go first.

``FATHOM_CACHE=/scratch/pairs`` names the folder and ``FATHOM_CACHE_GB=100`` the most that it may hold. Any number of
threads and processes may use it at the same time. A file is written under another name and then renamed; whoever reads
a file that another process removes goes on reading, as files that are open stay.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import stat
import threading
import uuid
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import StorageError

FOLDER, SIZE = "FATHOM_CACHE", "FATHOM_CACHE_GB"
OURS = re.compile(r"[0-9a-f]{64}(?:\.[0-9a-f]{32}\.partial)?")  # no other file is touched


class ShardCache:
    """At most `most` bytes of files in `folder`; files that are being written count with the size they will have."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def opened(self, name: str, size: int, fetch: Callable[[], Iterable[Any]]) -> int | None:
        """Descriptor of the file `name` of `size` bytes, for reading; what `fetch` gives is kept if it is not there.

        None where there is no room for it, or where `fetch` gives another number of bytes.
        """
        if size > self._most:
            return None
        with self._locks[name]:  # of several threads that need a file, one fetches it
            found = self._there(name, size)
            if found is None and self._added(name, size, fetch):
                found = self._there(name, size)
            return found

    def remove(self, name: str) -> None:
        """Remove a file, because it is damaged."""
        (self._folder / name).unlink(missing_ok=True)

    def _there(self, name: str, size: int) -> int | None:
        try:
            descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:
            return None
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            os.close(descriptor)
            return None
        with contextlib.suppress(OSError):  # of another user
            os.utime(descriptor)  # when it was last used
        return descriptor

    def _added(self, name: str, size: int, fetch: Callable[[], Iterable[Any]]) -> bool:
        partial = self._folder / f"{name}.{uuid.uuid4().hex}.partial"
        try:
            with self._alone():
                if not self._make_room(size):
                    return False
                file = partial.open("xb")
                fcntl.flock(file, fcntl.LOCK_EX)  # as long as this process lives, nobody removes it
                os.posix_fallocate(file.fileno(), 0, size)
            with file:
                written = sum(file.write(part) for part in fetch())
                file.flush()
                if written != size or os.fstat(file.fileno()).st_size != size:
                    return False
                partial.replace(self._folder / name)
                return True
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            warnings.warn(f"{self._folder}: the disk is full, so that shards are not kept; lower {SIZE}", stacklevel=2)
            return False
        finally:
            partial.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One thread of one process at a time."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _held(self) -> tuple[list[tuple[int, int, str]], int]:
        """When each whole file was last used, its bytes and its path; the bytes of all, also of those on their way."""
        files, held = [], 0
        for entry, status in _listed(self._folder):
            if entry.name.endswith(".partial"):
                held += 0 if _was_left(entry.path) else status.st_size
            else:
                files.append((status.st_mtime_ns, status.st_size, entry.path))
                held += status.st_size
        return files, held

    def _make_room(self, size: int) -> bool:
        """Remove the least recently used files until `size` bytes more fit; False where they do not fit."""
        files, held = self._held()
        for _, bytes_of_file, path in sorted(files):
            if held + size <= self._most:
                break
            Path(path).unlink(missing_ok=True)
            held -= bytes_of_file
        return held + size <= self._most


def _listed(folder: Path) -> list[tuple[os.DirEntry[str], os.stat_result]]:
    """Fathom's files with their status; the folder is read again where another process renamed one meanwhile."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            entries = [e for e in os.scandir(folder) if OURS.fullmatch(e.name) and e.is_file(follow_symlinks=False)]
            return [(entry, entry.stat()) for entry in entries]


def _was_left(partial: str) -> bool:
    """Remove a file whose writer is gone; return whether it was one."""
    with contextlib.suppress(OSError), Path(partial).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises BlockingIOError while its writer lives
        Path(partial).unlink()  # raises FileNotFoundError if its writer has just renamed it: it is whole, and counts
        return True
    return False


def shard_cache() -> ShardCache | None:
    """The cache that the environment names, or None; raises StorageError for a size that is no number."""
    folder, size = os.environ.get(FOLDER, ""), os.environ.get(SIZE, "")
    return _cache(folder, size) if folder else None


@lru_cache(maxsize=4)
def _cache(folder: str, size: str) -> ShardCache:
    try:
        most = int(float(size) * 1e9)
    except (ValueError, OverflowError):
        most = 0
    if most <= 0:
        raise StorageError(f"{FOLDER}={folder} needs {SIZE}, the most gigabytes that it may hold; it is {size!r}")
    return ShardCache(Path(folder).expanduser(), most)
