"""Files that a library wants on a disk: an object is copied there, a local file is itself."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from .objects import ObjectPlace
from .place import Place
from .whole import named

LONGEST_NAME = 100
PREFIX = "fathom-copy-"


class Copy:
    """A copy of an object in a temporary folder, named as it is, until `remove`, or nothing refers to it."""

    def __init__(self, place: ObjectPlace) -> None:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        self.remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)  # also at the process's end
        self.path = Path(folder) / place.name[-LONGEST_NAME:]
        try:
            with named(self.path), self.path.open("wb") as file:
                for part in place.stream():
                    file.write(part)
        except BaseException:
            self.remove()
            raise

    def removed(self) -> None:
        """Remove it: what a reader of it holds, so that it lasts as long as the reader."""
        self.remove()


@contextlib.contextmanager
def local_copy(place: Place) -> Iterator[Path]:
    """A local file, or a copy of an object that is removed at the end; raises FileNotFoundError, StoreError."""
    if isinstance(place, Path):
        yield place
        return
    copy = Copy(place)
    try:
        yield copy.path
    finally:
        copy.remove()


@contextlib.contextmanager
def kept_copy(place: Place) -> Iterator[Path]:
    """As `local_copy`, but the last two copies stay, for files from which several things are read."""
    if isinstance(place, Path):
        yield place
        return
    copy = _kept(place, place.version())
    yield copy.path


@lru_cache(maxsize=2)
def _kept(place: ObjectPlace, version: tuple[str, int]) -> Copy:
    return Copy(place)


def told_of(place: Place, text: str) -> str:
    """A message with an object's address in place of its copy's path."""
    if isinstance(place, Path):
        return text
    return re.sub(rf"{re.escape(tempfile.gettempdir())}/{PREFIX}\w+/", lambda _: f"{place.parent}/", text)
