"""A corpus that is being built: its metadata, the ledger of its shards, and the renaming when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from ..errors import CorpusError
from ..plan import Plan
from ..storage.corpus_files import building_path
from ..storage.whole import write_whole
from .layout import corpus_attributes, metadata_documents
from .ledger import Entries, Ledger, content_hash, named_numbers
from .tasks import Task, bucket_of, finished, shard_files, tasks_of


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
            "sources.json": json.dumps(list(self.plan.files)).encode(),
            "recipe.json": json.dumps(corpus_attributes(self.plan), indent=2).encode(),
            **metadata_documents(self.plan),
        }
        for key, document in documents.items():
            target = self.root / key
            if not target.exists() or target.read_bytes() != document:
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
        for bucket in self.plan.buckets:
            _write_numbers(root, bucket.name, entries)
        content = content_hash(entries)
        for name, document in (papers or {}).items():
            write_whole(root / name, document)
        write_whole(root / "summary.json", json.dumps({"content_hash": content, **summary}, indent=2).encode())
        said: dict[str, Any] = {"complete": True, "content_hash": content, "summary": summary}
        said = {**corpus_attributes(self.plan), **said}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # zarr: consolidated metadata is not yet in the v3 specification
            group = zarr.open_group(LocalStore(root), mode="r+", zarr_format=3, use_consolidated=False)
            group.attrs.update({"fathom": said})
            zarr.consolidate_metadata(group.store)
        root.rename(self.path)
        return content


def _force_to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_numbers(root: Path, bucket: str, entries: Entries) -> None:
    """Write the numbers of pairs and of map sets as arrays, in one chunk each."""
    group = zarr.open_group(LocalStore(root), path=bucket, mode="r+", zarr_format=3)
    for name, values in named_numbers(bucket, entries).items():
        array = group.create_array(
            name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=Crc32cCodec(),
            fill_value=np.nan if values.dtype.kind == "f" else -1,  # a lost chunk must not read as zeros
            overwrite=True,
            config={"write_empty_chunks": True},
        )
        array[...] = values
