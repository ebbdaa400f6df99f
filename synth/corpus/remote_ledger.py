"""The ledger of a corpus in an object store, where no line can be added to an object: one object per line."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import IO, Any

from ..errors import ClaimedError
from ..storage.objects import AT_ONCE, ObjectPlace, together
from ..storage.place import Place
from .ledger import Ledger, line_of

FOLDER = "ledger"


class RemoteLedger(Ledger):
    """``ledger.jsonl``, and the lines written after it as ``ledger/00000001.json`` and so on, in that order.

    A line is written on the condition that its number is not there, so that of two builds only one can go on. When the
    corpus is finished, `gather` makes one object of them.
    """

    def __init__(self, root: ObjectPlace) -> None:
        super().__init__(root)
        self._root, self._next = root, 0

    def _opened(self) -> IO[bytes]:
        """All lines, copied to a file of this machine, since they are read in many small parts."""
        with ExitStack() as opened:
            file = opened.enter_context(tempfile.TemporaryFile(prefix="fathom-ledger-"))
            for part in self._parts():
                file.write(part)
            file.seek(0)
            opened.pop_all()  # whoever reads the entries closes it
        return file

    def _parts(self) -> Iterator[Any]:
        """The bytes of ``ledger.jsonl``, and then of each single line."""
        place = self._root / "ledger.jsonl"
        if place.is_file():
            yield from place.stream()
        names = self._names()
        for first in range(0, len(names), AT_ONCE):
            some = names[first : first + AT_ONCE]
            found = together([partial((self._root / FOLDER / name).read, None) for name in some])
            yield b"".join(line.removesuffix(b"\n") + b"\n" for line in found)

    def _names(self) -> list[str]:
        return sorted(name for name, _ in (self._root / FOLDER).below())

    def append(self, entry: dict[str, Any]) -> None:
        """Add one line; raises ClaimedError where another build has added the line of that number."""
        if not self._next:
            last = max((name.removesuffix(".json") for name in self._names()), default="0")
            self._next = int(last) + 1
        if not (self._root / FOLDER / f"{self._next:08d}.json").put_new(line_of(entry)):
            raise ClaimedError(f"{self._root}: another `fathom build` goes on with it; wait for it to end")
        self._next += 1

    def gather(self) -> None:
        """Write all lines into ``ledger.jsonl``."""
        if self._names() or not (self._root / "ledger.jsonl").is_file():
            with self._opened() as file:
                (self._root / "ledger.jsonl").put(file)

    def sweep(self) -> None:
        """Remove the single lines, which `gather` has written into one object."""
        together([(self._root / FOLDER / name).delete for name in self._names()])


def ledger_of(root: Place) -> Ledger:
    """The ledger of a corpus, wherever that lies."""
    return RemoteLedger(root) if isinstance(root, ObjectPlace) else Ledger(root)
