"""Files that a library wants on a disk: an object is copied there, a local file is itself."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .objects import ObjectPlace
from .place import Place
from .whole import named

LONGEST_NAME = 100


class Copy:
    """A copy of an object in a temporary folder, under the object's name, until it is removed."""

    def __init__(self, place: ObjectPlace) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fathom-")
        self.path = Path(self._folder.name) / place.name[-LONGEST_NAME:]
        try:
            with named(self.path), self.path.open("wb") as file:
                for part in place.stream():
                    file.write(part)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the copy."""
        self._folder.cleanup()


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
