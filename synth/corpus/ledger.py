"""What has been built: one durable line per finished shard, with digests and numbers of its pairs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..storage.place import Place
from ..storage.whole import open_stored

MAX_LINE = 2**26  # bytes of a line; a pair takes about a thousand

Entries = dict[str, dict[str, Any]]
Kind = Literal["pairs", "maps"]
NAMES = ("file", "source_sha256")
SUM = b', "line_sha256": "%s"}'
SUMMED = re.compile(rb'(.*), "line_sha256": "([0-9a-f]{64})"\}', re.DOTALL)


class Ledger:
    """``ledger.jsonl``: one line per finished shard; only the driver appends lines, each on disk before the next.

    A line ends with the sha256 of what stands before it; a line that has changed does not count, so that its shard is
    made again. Lines of earlier versions have no such sum. A line ``{"void": task}`` cancels the entry of a shard that
    was found damaged.
    """

    def __init__(self, root: Place) -> None:
        self.path: Place = root / "ledger.jsonl"

    def read(self) -> Entries:
        """Entries by task name; lines that are cut off by a crash, or damaged, are left out."""
        entries: Entries = {}
        for entry in self._lines():
            if "void" in entry:
                entries.pop(entry["void"], None)
            else:
                entries[entry["task"]] = entry
        return entries

    def sources(self) -> dict[int, str]:
        """sha256 of the source of every pair that was ever made, by the pair's index; also of damaged shards' pairs."""
        rows = (row for entry in self._lines() if "/pairs/" in entry.get("task", "") for row in entry["rows"])
        return {row["index"]: row["source_sha256"] for row in rows if row["source_sha256"]}

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What its lines say; raises ValueError for a pipe or a device, and for a line longer than any of Fathom's."""
        if not self.path.exists():
            return
        with open_stored(self.path) as file:
            while line := file.readline(MAX_LINE):
                if len(line) == MAX_LINE:
                    raise ValueError(f"{self.path}: has a line of more than {MAX_LINE:,} bytes; restore it")
                entry = entry_in(line.removesuffix(b"\n"))
                if entry is not None:
                    yield entry

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


def content_hash(entries: Entries) -> str:
    """sha256 of the digests of all pairs, in the order of their indices, and of all maps; of nothing else."""
    pairs = sorted(
        (row["index"], row["digest"])
        for e in entries.values()
        if "/pairs/" in e["task"]
        for row in e["rows"]
        if row["numbers"]
    )
    maps = sorted(row["digest"] for e in entries.values() if "/maps/" in e["task"] for row in e["rows"])
    return hashlib.sha256(json.dumps([pairs, maps]).encode()).hexdigest()


def _rows_of(bucket: str, entries: Entries, kind: str) -> list[dict[str, Any]]:
    """The rows of a bucket's shards in their order."""
    prefix = f"{bucket}/{kind}/"
    shards = sorted(
        (e for name, e in entries.items() if name.startswith(prefix)), key=lambda e: int(e["task"].rsplit("/", 1)[1])
    )
    return [row for entry in shards for row in entry["rows"]]


def numbers_of(bucket: str, entries: Entries, kind: Kind) -> dict[str, NDArray[Any]]:
    """Every number of a bucket by name, as an array whose first axis is the row; NaN where the pair was rejected."""
    rows = _rows_of(bucket, entries, kind)
    table: dict[str, NDArray[Any]] = {}
    for name in sorted({name for row in rows for name in row["numbers"]}):
        example = np.asarray(next(row["numbers"][name] for row in rows if name in row["numbers"]), float)
        hole = np.full(example.shape, np.nan).tolist()
        table[name] = np.array([row["numbers"].get(name, hole) for row in rows], float)
    if kind == "pairs":
        table["index"] = np.array([row["index"] for row in rows], np.int64)
        table["valid"] = np.array([bool(row["numbers"]) for row in rows], np.int8)
    return table


def named_numbers(bucket: str, entries: Entries) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by their names in the corpus.

    ``kspace_crc32c`` and the like hold the crc32c of each row of an array, where the ledger has them for all rows.
    """
    maps = {f"maps_{name}": values for name, values in numbers_of(bucket, entries, "maps").items()}
    sums: dict[str, NDArray[Any]] = {}
    for kind in ("pairs", "maps"):
        rows = _rows_of(bucket, entries, kind)
        for array in sorted({name for row in rows for name in row.get("crc32c", {})}):
            if all(array in row.get("crc32c", {}) for row in rows):
                sums[f"{array}_crc32c"] = np.array([row["crc32c"][array] for row in rows], np.int64)
    return {**numbers_of(bucket, entries, "pairs"), **maps, **sums}
