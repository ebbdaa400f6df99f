"""What has been built: one durable line per finished shard, with digests and numbers of its pairs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Entries = dict[str, dict[str, Any]]
Kind = Literal["pairs", "maps"]


class Ledger:
    """``ledger.jsonl``: one line per finished shard; only the driver appends lines, each on disk before the next.

    A line ``{"void": task}`` cancels the entry of a shard that was found damaged.
    """

    def __init__(self, root: Path) -> None:
        self.path = root / "ledger.jsonl"

    def read(self) -> Entries:
        """Entries by task name; a last line that was cut off by a crash is left out."""
        entries: Entries = {}
        if not self.path.exists():
            return entries
        for line in self.path.read_bytes().split(b"\n"):
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # torn by a crash, or empty: that shard counts as not finished
            match entry:
                case {"void": str(task)}:
                    entries.pop(task, None)
                case {"task": str(task), "rows": list(), "rejected": list()}:
                    entries[task] = entry
        return entries

    def sources(self) -> dict[int, str]:
        """sha256 of the source of every pair that was ever made, by the pair's index; also of damaged shards' pairs."""
        found: dict[int, str] = {}
        if self.path.exists():
            for line in self.path.read_bytes().split(b"\n"):
                with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError):
                    found |= {r["index"]: r["source_sha256"] for r in json.loads(line)["rows"] if r["source_sha256"]}
        return found

    def append(self, entry: dict[str, Any]) -> None:
        """Add one line, durably; if a crash cut off the last line, begin a new line after it."""
        with self.path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                torn = file.read(1) != b"\n"
                file.write(b"\n" * torn)
            file.write(json.dumps(entry).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def void(self, task: str) -> None:
        """Cancel an entry, because its shard is damaged or its sources may be repaired before the next try."""
        self.append({"void": task})


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


def numbers_of(bucket: str, entries: Entries, kind: Kind) -> dict[str, NDArray[Any]]:
    """Every number of a bucket by name, as an array whose first axis is the row; NaN where the pair was rejected."""
    prefix = f"{bucket}/{kind}/"
    shards = sorted(
        (e for name, e in entries.items() if name.startswith(prefix)), key=lambda e: int(e["task"].rsplit("/", 1)[1])
    )
    rows = [row for entry in shards for row in entry["rows"]]
    table: dict[str, NDArray[Any]] = {}
    for name in sorted({name for row in rows for name in row["numbers"]}):
        example = np.asarray(next(row["numbers"][name] for row in rows if name in row["numbers"]), float)
        hole = np.full(example.shape, np.nan)
        table[name] = np.stack([np.asarray(row["numbers"].get(name, hole), float) for row in rows])
    if kind == "pairs":
        table["index"] = np.array([row["index"] for row in rows], np.int64)
        table["valid"] = np.array([bool(row["numbers"]) for row in rows], np.int8)
    return table


def named_numbers(bucket: str, entries: Entries) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by their names in the corpus."""
    maps = {f"maps_{name}": values for name, values in numbers_of(bucket, entries, "maps").items()}
    return {**numbers_of(bucket, entries, "pairs"), **maps}
