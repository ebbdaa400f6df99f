"""A corpus that is being built: its metadata, the ledger of its shards, and the renaming when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from ..errors import CorpusError
from ..plan import Plan
from ..storage.arrays import sha256_of_file
from ..storage.corpus_files import building_path
from ..storage.shard import ShardedArray, crc32c_of
from ..storage.whole import holds, write_whole
from .layout import corpus_attributes, create_number, metadata_documents, number_axes, source_document
from .ledger import Entries, Ledger, content_hash, named_numbers
from .tasks import Task, arrays_of, bucket_of, finished, shard_files, tasks_of


@dataclass(frozen=True)
class UnfinishedCorpus:
    """The corpus of a plan while it is being built, in a folder beside its final name `path`.

    Any worker may write a shard (`synth.corpus.tasks.write_shard`); the driver alone keeps the ledger.
    """

    path: Path
    plan: Plan

    @property
    def root(self) -> Path:
        """The folder that holds it until it is finished."""
        return building_path(self.path)

    @property
    def ledger(self) -> Ledger:
        """The ledger of its shards."""
        return Ledger(self.root)

    def prepare(self) -> None:
        """Write the list of sources and the metadata; files that are already there and correct stay untouched."""
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
        files = {task.name: shard_files(root, bucket_of(self.plan, task), task) for task in tasks_of(self.plan)}
        missing = [name for name, there in files.items() if name not in entries or not all(f.exists() for f in there)]
        if missing:
            raise CorpusError(f"{self.path}: {len(missing)} shards are missing ({missing[0]} ...); run the build again")
        for stray in root.rglob("*.partial"):
            stray.unlink()
        for file in (file for there in files.values() for file in there):
            _force_to_disk(file)
        self._complete_sums(entries)
        written = {bucket.name: named_numbers(bucket.name, entries) for bucket in self.plan.buckets}
        for bucket, numbers in written.items():
            _write_numbers(root, bucket, numbers)
        content = content_hash(entries)
        for name, document in (papers or {}).items():
            write_whole(root / name, document)
        seal = _seal(root, papers or {}, written)
        told = {"content_hash": content, **summary, "sealed": seal}
        write_whole(root / "summary.json", json.dumps(told, indent=2).encode())
        said: dict[str, Any] = {"complete": True, "content_hash": content, "summary": summary, "sealed": seal}
        said = {**corpus_attributes(self.plan), **said}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: consolidated metadata is not yet in the v3 specification
            group = zarr.open_group(LocalStore(root), mode="r+", zarr_format=3, use_consolidated=False)
            group.attrs.update({"fathom": said})
            zarr.consolidate_metadata(group.store)
        root.rename(self.path)
        return content

    def _complete_sums(self, entries: Entries) -> None:
        """Add each row's crc32c to the entries of an earlier version, from its shard, which has been checked."""
        documents = metadata_documents(self.plan)
        for task in tasks_of(self.plan):
            entry, bucket = entries[task.name], bucket_of(self.plan, task)
            names = arrays_of(task, bucket)
            if all(row.get("crc32c", {}).keys() >= {*names} for row in entry["rows"]):
                continue
            keys = {name: f"{task.bucket}/{name}" for name in names}
            arrays = {n: ShardedArray(self.root / k, None, documents[f"{k}/zarr.json"]) for n, k in keys.items()}
            for number, row in zip(range(*task.rows), entry["rows"], strict=True):
                row["crc32c"] = {name: crc32c_of(array[number]) for name, array in arrays.items()}
            self.ledger.append(entry)


def _seal(root: Path, papers: Iterable[str], numbers: dict[str, dict[str, NDArray[Any]]]) -> dict[str, Any]:
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


def _write_numbers(root: Path, bucket: str, numbers: dict[str, NDArray[Any]]) -> None:
    """Write the numbers of pairs and of map sets as arrays."""
    group = zarr.open_group(LocalStore(root), path=bucket, mode="r+", zarr_format=3)
    axes = number_axes(numbers)
    for name, values in numbers.items():
        create_number(group, name, values, axes[name])[...] = values
