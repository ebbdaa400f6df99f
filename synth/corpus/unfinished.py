"""A corpus that is being built: its metadata, the ledger of its shards, and the renaming when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import zarr
from numpy.typing import NDArray
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
from .layout import corpus_attributes, create_number, metadata_documents, number_axes, source_document
from .ledger import Entries, Ledger, content_hash, named_numbers
from .remote_ledger import RemoteLedger, ledger_of
from .tasks import Task, arrays_of, bucket_of, finished, shard_files, tasks_of


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

    def finish(self, summary: dict[str, Any], papers: dict[str, bytes] | None = None) -> str:
        """Write numbers, summary, attributes and the documents `papers`, rename the folder, return the content hash.

        Raises CorpusError where a shard is missing from the ledger or from the disk.
        """
        root, entries = self.root, self.entries()
        self._secure(entries)
        self._complete_sums(entries)
        if isinstance(root, ObjectPlace):
            RemoteLedger(root).gather()
        written = {bucket.name: named_numbers(bucket.name, entries) for bucket in self.plan.buckets}
        for bucket, numbers in written.items():
            if isinstance(root, Path):
                _write_numbers(LocalStore(root), bucket, numbers)
        documents = {} if isinstance(root, Path) else self._number_files(written)
        together([partial(write_whole, root / key, data) for key, data in documents.items()])
        content = content_hash(entries)
        for name, document in (papers or {}).items():
            write_whole(root / name, document)
        seal = _seal(root, papers or {}, written)
        told = {"content_hash": content, **summary, "sealed": seal}
        write_whole(root / "summary.json", json.dumps(told, indent=2).encode())
        said: dict[str, Any] = {"complete": True, "content_hash": content, "summary": summary, "sealed": seal}
        said = {**corpus_attributes(self.plan), **said}
        if isinstance(root, ObjectPlace):
            memory = _in_memory({**metadata_documents(self.plan), **documents})
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
        root = self.root
        keys = {
            task.name: [file.as_posix() for file in shard_files(PurePosixPath(), bucket_of(self.plan, task), task)]
            for task in tasks_of(self.plan)
        }
        there = {name for name, _ in root.below()} if isinstance(root, ObjectPlace) else None
        missing = [
            name
            for name, files in keys.items()
            if name not in entries or not all((root / f).exists() if there is None else f in there for f in files)
        ]
        if missing:
            raise CorpusError(f"{self.path}: {len(missing)} shards are missing ({missing[0]} ...); run the build again")
        if isinstance(root, Path):
            for stray in root.rglob("*.partial"):
                stray.unlink()
            for file in (root / key for files in keys.values() for key in files):
                _force_to_disk(file)

    def _number_files(self, numbers: dict[str, dict[str, NDArray[Any]]]) -> dict[str, bytes]:
        """The files of the arrays of numbers by their paths, as zarr writes them."""
        before = metadata_documents(self.plan)
        memory = _in_memory(before)
        for bucket, named in numbers.items():
            _write_numbers(memory, bucket, named)
        return {key: value.to_bytes() for key, value in memory._store_dict.items() if key not in before}

    def _complete_sums(self, entries: Entries) -> None:
        """Add each row's crc32c to the entries of an earlier version, from its shard, which has been checked."""
        documents = metadata_documents(self.plan)
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


def _complete(store: Store, attributes: dict[str, Any]) -> None:
    """Write the attributes of the root group, and the metadata of all arrays once more beside them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr: consolidated metadata is not yet in the v3 specification
        group = zarr.open_group(store, mode="r+", zarr_format=3, use_consolidated=False)
        group.attrs.update({"fathom": attributes})
        zarr.consolidate_metadata(group.store)


def _in_memory(files: dict[str, bytes]) -> MemoryStore:
    return MemoryStore({key: default_buffer_prototype().buffer.from_bytes(data) for key, data in files.items()})


def _seal(root: Place, papers: Iterable[str], numbers: dict[str, dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """The sha256 of documents that nothing else tells, and the crc32c of every array of numbers by its path."""
    files = ("ledger.jsonl", "sources.json", *papers)
    return {
        "sha256": {name: sha256_of_file(root / name) for name in files},
        "crc32c": {f"{b}/{name}": crc32c_of(values) for b, held in numbers.items() for name, values in held.items()},
    }


def _force_to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_numbers(store: Store, bucket: str, numbers: dict[str, NDArray[Any]]) -> None:
    """Write the numbers of pairs and of map sets as arrays."""
    group = zarr.open_group(store, path=bucket, mode="r+", zarr_format=3)
    axes = number_axes(numbers)
    for name, values in numbers.items():
        create_number(group, name, values, axes[name])[...] = values
