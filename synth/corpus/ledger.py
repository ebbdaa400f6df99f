"""What has been built: one durable line per finished shard, with digests and numbers of its pairs."""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import io
import json
import os
import re
import weakref
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from ..storage.place import Place
from ..storage.whole import open_stored

MAX_LINE = 2**26  # bytes of a line; a pair takes about a thousand

Entries = Mapping[str, dict[str, Any]]
Kind = Literal["pairs", "maps"]
NAMES = ("file", "source_sha256")
SUM = b', "line_sha256": "%s"}'
SUMMED = re.compile(rb'(.*), "line_sha256": "([0-9a-f]{64})"\}', re.DOTALL)


class StoredEntries(Mapping[str, dict[str, Any]]):
    """Entries of a ledger by task name; an entry is read from the file whenever it is asked for.

    In memory are a name and a place per entry, so that a ledger may have any size. One thread may read.
    """

    def __init__(self, file: IO[bytes], places: dict[str, int], opened: StoredEntries | None = None) -> None:
        self._file, self._places = file, places
        self._opened = opened or weakref.finalize(self, file.close)  # it stays open as long as any of its entries

    def __getitem__(self, name: str) -> dict[str, Any]:
        """One entry, as a new object."""
        self._file.seek(self._places[name])
        entry: dict[str, Any] = json.loads(self._file.readline(MAX_LINE))
        entry.pop("line_sha256", None)
        return entry

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._places)

    def of(self, names: Iterable[str]) -> StoredEntries:
        """The entries of these names that are there, in the order of the names."""
        places = {name: self._places[name] for name in names if name in self._places}
        return StoredEntries(self._file, places, self)


class Ledger:
    """``ledger.jsonl``: one line per finished shard; only the driver appends lines, each on disk before the next.

    A line ends with the sha256 of what stands before it; a line that has changed does not count, so that its shard is
    made again. Lines of earlier versions have no such sum. A line ``{"void": task}`` cancels the entry of a shard that
    was found damaged.
    """

    def __init__(self, root: Place) -> None:
        self.path: Place = root / "ledger.jsonl"

    def read(self) -> StoredEntries:
        """Entries by task name; lines that are cut off by a crash, or damaged, are left out."""
        file, places = self._opened(), dict[str, int]()
        found = StoredEntries(file, places)  # from now on, it closes the file
        for place, entry in _lines(file, self.path):
            if "void" in entry:
                places.pop(entry["void"], None)
            else:
                places[entry["task"]] = place
        return found

    def sources(self, but: Container[str] = ()) -> dict[int, str]:
        """sha256 of the source of every pair that was ever made, by the pair's index; also of damaged shards' pairs.

        The tasks `but` are left out.
        """
        with self._opened() as file:
            entries = (entry for _, entry in _lines(file, self.path) if "/pairs/" in entry.get("task", ""))
            rows = (row for entry in entries if entry["task"] not in but for row in entry["rows"])
            return {row["index"]: row["source_sha256"] for row in rows if row["source_sha256"]}

    def _opened(self) -> IO[bytes]:
        """All its lines as a file; raises ValueError for a pipe or a device, or StoreError."""
        try:
            return open_stored(self.path) if self.path.exists() else io.BytesIO()
        except ValueError as error:
            raise ValueError(
                f"{error}, or remove it and run the same `fathom build`, which makes the pairs anew"
            ) from None

    def append(self, entry: dict[str, Any]) -> None:
        """Add one line, durably; if a crash cut off the last line, begin a new line after it."""
        assert isinstance(self.path, Path)
        with self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" * torn)
            file.write(line_of(entry))
            file.flush()
            os.fsync(file.fileno())

    def void(self, task: str) -> None:
        """Cancel an entry, because its shard is damaged or its sources may be repaired before the next try."""
        self.append({"void": task})


def _lines(file: IO[bytes], path: Place) -> Iterator[tuple[int, dict[str, Any]]]:
    """Where each entry's line begins, and what it says; raises ValueError for a line longer than any of Fathom's."""
    place = 0
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"{path}: has a line of more than {MAX_LINE:,} bytes; restore it")
        entry = entry_in(line.removesuffix(b"\n"))
        if entry is not None:
            yield place, entry
        place += len(line)


def line_of(entry: dict[str, Any]) -> bytes:
    """An entry as a line, with its sum."""
    said = json.dumps(entry).encode()
    return said[:-1] + SUM % hashlib.sha256(said).hexdigest().encode() + b"\n"


def entry_in(line: bytes) -> dict[str, Any] | None:
    """The entry in a line, or None where the line is no entry, is cut off, or has changed since it was written."""
    if found := SUMMED.fullmatch(line):
        line = found[1] + b"}"
        if hashlib.sha256(line).hexdigest().encode() != found[2]:
            return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match entry:
        case {"void": str()}:
            return {"void": entry["void"]}
        case {"task": str(task), "rows": list(rows), "rejected": list(rejected)}:
            kind = task.split("/")[1] if task.count("/") == 2 else ""
            good = all(_is_row(row, kind) for row in rows) and all(_is_rejection(row) for row in rejected)
            return entry if good else None
    return None


def _is_row(row: Any, kind: str) -> bool:
    match row:
        case {"digest": str(), "numbers": dict(numbers)} if all(map(_is_number, numbers.values())):
            named = isinstance(row.get("index"), int) and all(isinstance(row.get(n), str) for n in NAMES)
            findings, sums = row.get("findings", []), row.get("crc32c", {})
            listed = isinstance(findings, list) and all(isinstance(finding, str) for finding in findings)
            summed = isinstance(sums, dict) and all(type(crc) is int and 0 <= crc < 2**32 for crc in sums.values())
            return (named or kind != "pairs") and listed and summed
    return False


def _is_rejection(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("reason"), str)


def _is_number(value: Any) -> bool:
    """Whether a value is a number, or numbers in the form of an array."""
    if isinstance(value, list):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            return np.asarray(value, float).size > 0
        return False
    return isinstance(value, (int, float))


def shards_of(bucket: str, kind: Kind, entries: Entries) -> Iterator[dict[str, Any]]:
    """The entries of a bucket's shards in the order of their rows."""
    prefix = f"{bucket}/{kind}/"
    numbers = sorted(int(name.removeprefix(prefix)) for name in entries if name.startswith(prefix))
    return (entries[f"{prefix}{number}"] for number in numbers)


def pair_rows(entries: Entries) -> Iterator[dict[str, Any]]:
    """The rows of all pairs in the order of their indices; of each bucket, one shard is in memory."""

    def rows_of(bucket: str) -> Iterator[dict[str, Any]]:
        for entry in shards_of(bucket, "pairs", entries):
            yield from sorted(entry["rows"], key=_identity)

    buckets = dict.fromkeys(name.split("/")[0] for name in entries)
    return heapq.merge(*(rows_of(bucket) for bucket in buckets), key=_identity)


def _identity(row: dict[str, Any]) -> tuple[int, str]:
    return row["index"], row["digest"]


def content_hash(entries: Entries) -> str:
    """sha256 of the digests of all pairs, in the order of their indices, and of all maps; of nothing else.

    It is that of the JSON text ``[[[index, digest], ...], [digest, ...]]``, which is never in memory as a whole.
    """
    found, comma = hashlib.sha256(b"[["), ""
    for row in pair_rows(entries):
        if row["numbers"]:
            found.update(comma.encode() + json.dumps(_identity(row)).encode())
            comma = ", "
    maps = (entry for name, entry in entries.items() if "/maps/" in name)
    digests = sorted(row["digest"] for entry in maps for row in entry["rows"])
    found.update(f"], {json.dumps(digests)}]".encode())
    return found.hexdigest()
