"""The ledger of a corpus in an object store, where no line can be added to an object: one object per line."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ..errors import ClaimedError
from ..storage.objects import ObjectPlace, together
from ..storage.place import Place
from .ledger import Ledger, entry_in, line_of

FOLDER = "ledger"


class RemoteLedger(Ledger):
    """``ledger.jsonl``, and the lines written after it as ``ledger/00000001.json`` and so on, in that order.

    A line is written on the condition that its number is not there, so that of two builds only one can go on. When the
    corpus is finished, `gather` makes one object of them.
    """

    def __init__(self, root: ObjectPlace) -> None:
        super().__init__(root)
        self._root, self._next = root, 0

    def _lines(self) -> Iterator[dict[str, Any]]:
        yield from super()._lines()
        yield from (entry for data in self._parts() if (entry := entry_in(data.removesuffix(b"\n"))) is not None)

    def _parts(self) -> list[bytes]:
        return together([partial((self._root / FOLDER / name).read, None) for name in self._names()])

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
        parts = self._parts()
        place = self._root / "ledger.jsonl"
        before = [place.read()] if place.is_file() else []
        if parts or not before:
            place.put(b"".join([*before, *parts]))

    def sweep(self) -> None:
        """Remove the single lines, which `gather` has written into one object."""
        together([(self._root / FOLDER / name).delete for name in self._names()])


def ledger_of(root: Place) -> Ledger:
    """The ledger of a corpus, wherever that lies."""
    return RemoteLedger(root) if isinstance(root, ObjectPlace) else Ledger(root)
