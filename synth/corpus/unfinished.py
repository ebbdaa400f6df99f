"""A corpus that is being built: its metadata, its numbers, and its name when it is whole."""

from __future__ import annotations

import json
import os
import warnings
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
from .ledger import Entries, content_hash, named_numbers
from .tasks import Task, finished, shard_files, tasks_of


def prepare(path: Path, plan: Plan) -> None:
    """Write sources and metadata of an unfinished corpus; what is there already and right stays untouched."""
    building = building_path(path)
    building.mkdir(parents=True, exist_ok=True)
    documents = {
        "sources.json": json.dumps(list(plan.files)).encode(),
        "recipe.json": json.dumps(corpus_attributes(plan), indent=2).encode(),
        **metadata_documents(plan),
    }
    for key, document in documents.items():
        target = building / key
        if not target.exists() or target.read_bytes() != document:
            write_whole(target, document)


def finalize(path: Path, plan: Plan, summary: dict[str, Any], papers: dict[str, bytes] | None = None) -> str:
    """Write numbers, summary, attributes and `papers` of a complete build; name the corpus; return the content hash.

    Raises CorpusError where a shard is missing from the ledger or from the disk.
    """
    root = building_path(path)
    entries = finished(root, plan)
    buckets = {bucket.name: bucket for bucket in plan.buckets}

    def files_of(task: Task) -> list[Path]:
        return shard_files(root, buckets[task.bucket], task, own_maps=plan.recipe.own_maps)

    missing = [
        task.name
        for task in tasks_of(plan)
        if task.name not in entries or not all(file.exists() for file in files_of(task))
    ]
    if missing:
        raise CorpusError(f"{path}: {len(missing)} shards are missing ({missing[0]} ...); run the build again")
    for stray in root.rglob("*.partial"):
        stray.unlink()
    for task in tasks_of(plan):
        for file in files_of(task):
            _force_to_disk(file)
    for bucket in plan.buckets:
        write_numbers(root, bucket.name, entries)
    content = content_hash(entries)
    attributes = {**corpus_attributes(plan), "complete": True, "content_hash": content, "summary": summary}
    for name, document in (papers or {}).items():
        write_whole(root / name, document)
    write_whole(root / "summary.json", json.dumps({"content_hash": content, **summary}, indent=2).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr: consolidated metadata is not yet in the v3 specification
        group = zarr.open_group(LocalStore(root), mode="r+", zarr_format=3, use_consolidated=False)
        group.attrs.update({"fathom": attributes})
        zarr.consolidate_metadata(group.store)
    root.rename(path)
    return content


def _force_to_disk(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_numbers(root: Path, bucket: str, entries: Entries) -> None:
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
