"""Files that are read whole, if they are files at all, or written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import StorageError, StoreError
from .objects import ObjectPlace
from .place import Place

LARGEST_DOCUMENT = 2**30  # bytes of a file that is read at once: of a document, not of pairs


def open_regular(path: Path, most: int | None = None) -> int:
    """Descriptor of a file, for reading; raises OSError, or ValueError for a pipe, a device, or more than `most` bytes.

    To open a pipe does not wait for its other end here, and nothing is read from it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        refuse_strange(path, os.fstat(descriptor), most)
    except ValueError:
        os.close(descriptor)
        raise
    return descriptor


def refuse_strange(path: Path, status: os.stat_result, most: int | None = None) -> None:
    """Raise ValueError unless a file is a regular file (no pipe, device or folder) of at most `most` bytes."""
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"{path}: is a pipe, a device or a folder, not a file; restore it")
    if most is not None and status.st_size > most:
        raise ValueError(f"{path}: has {status.st_size:,} bytes, more than the {most:,} that it can need; restore it")


def read_document(path: Place, most: int = LARGEST_DOCUMENT) -> bytes:
    """All bytes of a file; raises OSError, or ValueError for a pipe, a device, or more than `most` bytes."""
    if isinstance(path, ObjectPlace):
        return path.read(most)
    with os.fdopen(open_regular(path, most), "rb") as file:
        return file.read()


def refuse_strange_document(path: Place) -> None:
    """Raise what `read_document` raises for a file that is gone or no document, without reading it."""
    if isinstance(path, Path):
        os.close(open_regular(path, LARGEST_DOCUMENT))
    elif (size := path.size()) > LARGEST_DOCUMENT:
        raise ValueError(f"{path}: has {size:,} bytes, more than the {LARGEST_DOCUMENT:,} that it can need; restore it")


def open_stored(path: Place) -> IO[bytes]:
    """A file, opened for reading; raises OSError, or ValueError for a pipe or a device."""
    if isinstance(path, ObjectPlace):
        return io.BytesIO(read_document(path))
    return os.fdopen(open_regular(path), "rb")


class UncheckedWarning(UserWarning):
    """A file of an earlier version is used, which has no checksum: damage in it would not be noticed."""


def write_whole(path: Place, data: bytes) -> None:
    """Write a small file whole or not at all, and durably; raises OSError that names the file."""
    if isinstance(path, ObjectPlace):
        path.put(data)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    if partial.is_symlink():
        partial.unlink()  # it leads to a file of somebody else's
    with named(path), partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Add a file's name to an OSError that has none, as those of `write` have not: the disk is full, for example."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def refuse_shortage(error: Exception) -> None:
    """Raise an error again if the process lacks descriptors or memory, or a store does not answer.

    Such an error says nothing about the file.
    """
    if isinstance(error, StoreError | StorageError) or (
        isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
    ):
        raise error


def holds(path: Place, document: bytes) -> bool:
    """Whether a file is there and holds these bytes."""
    try:
        return read_document(path, len(document)) == document
    except (OSError, ValueError) as error:
        refuse_shortage(error)
        return False
