"""Columns: every number of the pairs, or map sets, of a bucket; written and checked shard by shard.

A column is an array of the corpus with one chunk, whose file holds its values (little endian) and their crc32c. So it
can be written, and compared with the ledger, without ever being in memory as a whole.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from ..plan import Plan
from ..storage.place import Place
from ..storage.whole import named, read_document
from .layout import number_file
from .ledger import Entries, Kind, shards_of

CRC_BYTES = 4


@dataclass(frozen=True)
class Column:
    """A number of all rows of a bucket, without its values.

    Attributes
    ----------
    shape, dtype
        [row ...], and the type of its values.
    crc32c, sha256
        Of its values; of its file, which holds the values and their crc32c.
    of_pairs
        Whether it is a number that was drawn or measured for pairs; not of map sets, and no checksum.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    crc32c: int
    sha256: str
    of_pairs: bool

    @property
    def ndim(self) -> int:
        """Number of its axes."""
        return len(self.shape)

    @property
    def file_bytes(self) -> int:
        """Bytes of its file."""
        return int(np.prod(self.shape)) * self.dtype.itemsize + CRC_BYTES


Columns = dict[str, dict[str, Column]]
"""Columns by the names of their bucket and array."""


def columns_of(plan: Plan, entries: Entries, folder: Path | None = None) -> Columns:
    """All columns of a finished ledger, by bucket and array; with a `folder`, their files are written below it.

    ``kspace_crc32c`` and the like hold the crc32c of each row of an array, where the ledger has them for all rows.
    A number that a row lacks, such as one whose source was rejected, is NaN there.
    """
    return {bucket.name: _columns(bucket.name, entries, folder and folder / bucket.name) for bucket in plan.buckets}


def _columns(bucket: str, entries: Entries, folder: Path | None) -> dict[str, Column]:
    found: dict[str, Column] = {}
    kinds: tuple[tuple[Kind, str], ...] = (("pairs", ""), ("maps", "maps_"))
    for kind, prefix in kinds:
        growing: dict[str, _Growing] = {}
        rows = 0
        for entry in shards_of(bucket, kind, entries):
            for name, values in _tables(entry["rows"], kind, prefix, growing).items():
                if name not in growing:
                    growing[name] = _Growing(values, rows, folder and folder / name)
                growing[name].add(values)
            rows += len(entry["rows"])
        done = {name: growing[name].column(name, rows, of_pairs=kind == "pairs") for name in sorted(growing)}
        found |= {name: column for name, column in done.items() if column is not None}
    return found


def _tables(rows: Sequence[Any], kind: Kind, prefix: str, known: dict[str, _Growing]) -> dict[str, NDArray[Any]]:
    """The values [row ...] of each column in a shard, NaN where a row lacks a number."""
    table: dict[str, NDArray[Any]] = {}
    for name in {name for row in rows for name in row["numbers"]}:
        example = np.asarray(next(row["numbers"][name] for row in rows if name in row["numbers"]), float)
        hole = np.full(example.shape, np.nan).tolist()
        table[prefix + name] = np.array([row["numbers"].get(name, hole) for row in rows], float)
    for name, column in known.items():
        if name not in table and column.is_number:
            table[name] = np.full((len(rows), *column.shape), np.nan)
    if kind == "pairs":
        table["index"] = np.array([row["index"] for row in rows], np.int64)
        table["valid"] = np.array([bool(row["numbers"]) for row in rows], np.int8)
    for array in {name for row in rows for name in row.get("crc32c", {})}:
        if all(array in row.get("crc32c", {}) for row in rows):
            table[f"{array}_crc32c"] = np.array([row["crc32c"][array] for row in rows], np.int64)
    return table


class _Growing:
    """A column of which not all shards have been read."""

    def __init__(self, first: NDArray[Any], rows: int, folder: Path | None) -> None:
        self.shape, self.dtype, self.is_number = first.shape[1:], first.dtype, first.dtype.kind == "f"
        self._rows, self._crc, self._sha256 = 0, 0, hashlib.sha256()
        self._file = None if folder is None else Path(number_file(folder.as_posix(), first))
        if folder is not None:
            shutil.rmtree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink(missing_ok=True)
        if self._file is not None:
            self._file.parent.mkdir(parents=True)
        if self.is_number and rows:
            self.add(np.full((rows, *self.shape), np.nan))

    def add(self, values: NDArray[Any]) -> None:
        """Add the values of the next rows."""
        if values.shape[1:] != self.shape:
            raise ValueError(f"numbers of shapes {self.shape} and {values.shape[1:]} have one name")
        self._rows += len(values)
        self._crc = int(google_crc32c.extend(self._crc, values.tobytes()))
        self._write(values.tobytes())

    def _write(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._file is not None:
            with named(self._file), self._file.open("ab") as file:
                file.write(data)

    def column(self, name: str, rows: int, *, of_pairs: bool) -> Column | None:
        """The whole column; None, and no file, where it does not have all rows: only sums can lack some."""
        if self._rows != rows:
            if self._file is not None:
                shutil.rmtree(self._file.parents[len(self.shape) + 1])
            return None
        self._write(self._crc.to_bytes(CRC_BYTES, "little"))
        drawn = of_pairs and self.is_number
        return Column((rows, *self.shape), self.dtype, self._crc, self._sha256.hexdigest(), drawn)


def column_values(root: Place, path: str, column: Column) -> NDArray[Any]:
    """The values of a column of the corpus in `root`, from its file, which is as its `Column` says."""
    data = read_document(root / number_file(path, column), column.file_bytes)
    return np.frombuffer(data, column.dtype, int(np.prod(column.shape))).reshape(column.shape)
