"""A corpus that is being built: its metadata, the ledger of its shards, and the renaming when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore, MemoryStore

from ..errors import CorpusError
from ..plan import Plan
from ..storage.arrays import sha256_of_file
from ..storage.corpus_files import building_path
from ..storage.lease import FOLDER as CLAIM
from ..storage.objects import ObjectPlace, together
from ..storage.place import Place
from ..storage.remote_shard import opened_array
from ..storage.shard import crc32c_of
from ..storage.whole import holds, write_whole
from .columns import Columns, columns_of
from .layout import corpus_attributes, metadata_documents, number_documents, source_document
from .ledger import Entries, Ledger, content_hash
from .remote_ledger import RemoteLedger, ledger_of
from .tasks import ShardPaths, Task, arrays_of, bucket_of, finished, shard_files, tasks_of


@dataclass(frozen=True)
class UnfinishedCorpus:
    """The corpus of a plan while it is being built, in a folder beside its final name `path`.

    Any worker may write a shard (`synth.corpus.tasks.write_shard`); the driver alone keeps the ledger.
    """

    path: Place
    plan: Plan

    @property
    def root(self) -> Place:
        """The folder that holds it until it is finished; in an object store, its own place."""
        return self.path if isinstance(self.path, ObjectPlace) else building_path(self.path)

    @property
    def ledger(self) -> Ledger:
        """The ledger of its shards."""
        return ledger_of(self.root)

    def prepare(self) -> None:
        """Write the list of sources and the metadata; files that are already there and correct stay untouched."""
        if isinstance(self.root, Path):
            self.root.mkdir(parents=True, exist_ok=True)
        documents = {
            "sources.json": source_document(self.plan),
            "recipe.json": json.dumps(corpus_attributes(self.plan), indent=2).encode(),
            **metadata_documents(self.plan),
        }
        for key, document in documents.items():
            target = self.root / key
            if not holds(target, document):
                write_whole(target, document)

    def empty(self) -> None:
        """Remove everything from the folder; only for a corpus that holds no pair yet."""
        if isinstance(self.root, ObjectPlace):
            kept = f"{CLAIM}/"
            together([(self.root / name).delete for name, _ in self.root.below() if not name.startswith(kept)])
            return
        for old in self.root.iterdir():
            shutil.rmtree(old) if old.is_dir() else old.unlink()

    def entries(self) -> Entries:
        """The ledger's entries of finished shards."""
        return finished(self.root, self.plan)

    def missing(self) -> list[Task]:
        """The shards that are still to be made."""
        done = self.entries()
        return [task for task in tasks_of(self.plan) if task.name not in done]

    def bytes_of(self, tasks: list[Task]) -> int:
        """Approximate bytes that shards take on disk."""
        total = 0
        for task in tasks:
            bucket = bucket_of(self.plan, task)
            pair = bucket.pair_bytes + (bucket.maps_bytes if bucket.own_maps else 0)
            total += (pair if task.kind == "pairs" else bucket.maps_bytes) * (task.rows[1] - task.rows[0])
        return total

    def write_numbers(self) -> tuple[Entries, Columns]:
        """Write the arrays of numbers of all shards; return the ledger's entries and what was written.

        Raises CorpusError where a shard is missing from the ledger or from the disk.
        """
        root, entries = self.root, self.entries()
        self._secure(entries)
        if self._complete_sums(entries):
            entries = self.entries()
        if isinstance(root, Path):
            columns = columns_of(self.plan, entries, root)
        else:
            with tempfile.TemporaryDirectory(prefix="fathom-numbers-") as name:
                folder = Path(name)
                columns = columns_of(self.plan, entries, folder)
                files = [file for file in folder.rglob("*") if file.is_file()]
                together([partial((root / f.relative_to(folder).as_posix()).put, f) for f in files])
        documents = {root / key: document for key, document in _number_documents(columns).items()}
        together([partial(write_whole, place, document) for place, document in documents.items()])
        return entries, columns

    def finish(
        self,
        summary: dict[str, Any],
        papers: dict[str, bytes] | None = None,
        written: tuple[Entries, Columns] | None = None,
    ) -> str:
        """Write summary, attributes and the documents `papers`, rename the folder, return the content hash.

        `written` is what `write_numbers` returned, which is called where it is not given.
        """
        entries, columns = written or self.write_numbers()
        root, content = self.root, content_hash(entries)
        if isinstance(root, ObjectPlace):
            RemoteLedger(root).gather()
        for name, document in (papers or {}).items():
            write_whole(root / name, document)
        seal = _seal(root, papers or {}, columns)
        told = {"content_hash": content, **summary, "sealed": seal}
        write_whole(root / "summary.json", json.dumps(told, indent=2).encode())
        said: dict[str, Any] = {"complete": True, "content_hash": content, "summary": summary, "sealed": seal}
        said = {**corpus_attributes(self.plan), **said}
        if isinstance(root, ObjectPlace):
            memory = _in_memory({**metadata_documents(self.plan), **_number_documents(columns)})
            _complete(memory, said)
            (root / "zarr.json").put(memory._store_dict["zarr.json"].to_bytes())  # from now on, it is finished
            RemoteLedger(root).sweep()
            return content
        _complete(LocalStore(root), said)
        assert isinstance(self.path, Path)
        root.rename(self.path)
        return content

    def _secure(self, entries: Entries) -> None:
        """Have every shard's file on disk, and no other; raises CorpusError where one is missing."""
        root, there = self.root, _shards_below(self.root, self.plan)
        missing, first = 0, ""
        for task in tasks_of(self.plan):
            files = shard_files(root, bucket_of(self.plan, task), task)
            if task.name in entries and all(
                file.exists() if there is None else there[f"{task.bucket}/{array}"][task.number]
                for file, array in zip(files, arrays_of(task, bucket_of(self.plan, task)), strict=True)
            ):
                continue
            missing, first = missing + 1, first or task.name
        if missing:
            raise CorpusError(f"{self.path}: {missing} shards are missing ({first} ...); run the build again")
        if isinstance(root, Path):
            for stray in root.rglob("*.partial"):
                stray.unlink()
            for task in tasks_of(self.plan):
                for file in shard_files(root, bucket_of(self.plan, task), task):
                    _force_to_disk(file)

    def _complete_sums(self, entries: Entries) -> bool:
        """Add each row's crc32c to the entries of an earlier version, from its shard, which has been checked.

        Return whether the ledger has changed.
        """
        documents, changed = metadata_documents(self.plan), False
        for task in tasks_of(self.plan):
            entry, bucket = entries[task.name], bucket_of(self.plan, task)
            names = arrays_of(task, bucket)
            if all(row.get("crc32c", {}).keys() >= {*names} for row in entry["rows"]):
                continue
            keys = {name: f"{task.bucket}/{name}" for name in names}
            arrays = {n: opened_array(self.root / k, None, documents[f"{k}/zarr.json"]) for n, k in keys.items()}
            for number, row in zip(range(*task.rows), entry["rows"], strict=True):
                row["crc32c"] = {name: crc32c_of(array[number]) for name, array in arrays.items()}
            self.ledger.append(entry)
            changed = True
        return changed


def _shards_below(root: Place, plan: Plan) -> dict[str, bytearray] | None:
    """Of a store, by array and number, whether a shard is there, from a list of all objects; None for a folder."""
    if isinstance(root, Path):
        return None
    shards = ShardPaths(plan)
    found = {array: bytearray(shards.count(array)) for array in shards.arrays}
    for name, _ in root.below():
        if place := shards.number(name):
            found[place[0]][place[1]] = 1
    return found


def _number_documents(columns: Columns) -> dict[str, bytes]:
    """The zarr.json of every array of numbers by its path."""
    found = {bucket: number_documents(named) for bucket, named in columns.items()}
    return {f"{b}/{name}/zarr.json": document for b, named in found.items() for name, document in named.items()}


def _complete(store: Store, attributes: dict[str, Any]) -> None:
    """Write the attributes of the root group, and the metadata of all arrays once more beside them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr: consolidated metadata is not yet in the v3 specification
        group = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        group.attrs.update({"fathom": attributes})
        zarr.consolidate_metadata(group.store)


def _in_memory(files: dict[str, bytes]) -> MemoryStore:
    return MemoryStore({key: default_buffer_prototype().buffer.from_bytes(data) for key, data in files.items()})


def _seal(root: Place, papers: Iterable[str], columns: Columns) -> dict[str, Any]:
    """The sha256 of documents that nothing else tells, and the crc32c of every array of numbers by its path."""
    files = ("ledger.jsonl", "sources.json", *papers)
    return {
        "sha256": {name: sha256_of_file(root / name) for name in files},
        "crc32c": {f"{b}/{name}": column.crc32c for b, named in columns.items() for name, column in named.items()},
    }


def _force_to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
