"""The corpus on disk: its layout, its ledger, its writer and its reader. Format: zarr v3, described in the README.

A corpus is built under ``NAME.building`` and gets its name when it is whole. One group per shape holds the arrays
``kspace``, ``mask``, ``target`` (first axis: pair) and ``maps`` (first axis: map set); one chunk is one pair, one
shard one file, written by one task. Every drawn or measured number is a 1-D array (or one more axis), written at the
end from the ledger. Chunks are uncompressed (noise does not compress) and carry a crc32c; a hole reads as NaN.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore, MemoryStore

from .coils import draw_coils, map_cache
from .images import SourceRejectedError
from .ledger import Entries, Kind, Ledger, content_hash, numbers_of
from .plan import BucketPlan, Plan
from .shard import ShardWriter

SCHEMA = 1  # raised by every change of what is stored
MAP_SHARD_BYTES = 64 * 2**20
ARRAYS = ("kspace", "mask", "target")
NAN = complex(np.nan, np.nan)


class CorpusError(RuntimeError):
    """A corpus that cannot be used as it is; the message names it and the remedy."""


class UnfinishedCorpusError(CorpusError):
    """A corpus whose build has not ended."""


@dataclass(frozen=True)
class Task:
    """One shard of one bucket: what one worker writes, alone."""

    bucket: str
    kind: Kind
    number: int
    rows: tuple[int, int]  # first and last + 1, along the first axis of the arrays

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        return f"{self.bucket}/{self.kind}/{self.number}"


def building_path(path: Path) -> Path:
    """Where a corpus stands until it is finished."""
    return path.with_name(path.name + ".building")


def tasks_of(plan: Plan) -> list[Task]:
    """All shards of a corpus, maps first: pairs need them, and a reader can look at them early."""
    tasks = []
    for bucket in plan.buckets:
        sizes: dict[Kind, tuple[int, int]] = {
            "maps": (plan.recipe.coils.sets, map_shard_sets(bucket)),
            "pairs": (len(bucket.indices), plan.shard_pairs),
        }
        for kind, (rows, step) in sizes.items():
            starts = range(0, rows, step)
            tasks += [Task(bucket.name, kind, n, (a, min(a + step, rows))) for n, a in enumerate(starts)]
    return tasks


def map_shard_sets(bucket: BucketPlan) -> int:
    """Map sets per shard."""
    return max(1, MAP_SHARD_BYTES // (8 * bucket.coils * bucket.matrix[0] * bucket.matrix[1]))


def metadata_documents(plan: Plan) -> dict[str, bytes]:
    """Every zarr.json of an unfinished corpus by its path: groups, and arrays without their data."""
    store = MemoryStore()
    root = zarr.create_group(store=store, zarr_format=3, attributes={"fathom": corpus_attributes(plan)})
    for bucket in plan.buckets:
        group = root.create_group(bucket.name)
        pairs, step = len(bucket.indices), plan.shard_pairs
        maps_shape = (bucket.coils, *bucket.matrix)
        _create(group, "kspace", (pairs, *bucket.kspace_shape), step, "complex64", NAN)
        _create(group, "mask", (pairs, *bucket.mask_shape), step, "bool", False)
        _create(group, "target", (pairs, *bucket.matrix), step, "complex64", NAN)
        sets = plan.recipe.coils.sets
        _create(group, "maps", (sets, *maps_shape), map_shard_sets(bucket), "complex64", NAN)
    return {key: value.to_bytes() for key, value in store._store_dict.items()}


def corpus_attributes(plan: Plan) -> dict[str, Any]:
    """What the root group says of a corpus."""
    return {
        "schema": SCHEMA,
        "complete": False,
        "name": plan.recipe.name,
        "recipe": plan.recipe.model_dump(mode="json"),
        "recipe_hash": plan.recipe.hash(),
    }


def _create(group: zarr.Group, name: str, shape: tuple[int, ...], step: int, dtype: str, fill: Any) -> None:
    axes = {
        "kspace": ["pair", "coil", "y", "line"] if len(shape) == 4 else ["pair", "coil", "point"],
        "mask": ["pair", "y", "x"][-len(shape) :] if len(shape) == 3 else ["pair", "x"],
        "target": ["pair", "y", "x"],
        "maps": ["set", "coil", "y", "x"],
    }[name]
    group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(1, *shape[1:]),
        shards=(step, *shape[1:]),
        compressors=Crc32cCodec(),
        filters=None,
        fill_value=fill,
        dimension_names=axes,
        config={"write_empty_chunks": True},
    )


def prepare(path: Path, plan: Plan) -> None:
    """Write sources and metadata of an unfinished corpus; what is there already and right stays untouched."""
    building = building_path(path)
    building.mkdir(parents=True, exist_ok=True)
    write_whole(building / "sources.json", json.dumps(list(plan.files)).encode())
    for key, document in metadata_documents(plan).items():
        target = building / key
        if not target.exists() or target.read_bytes() != document:
            write_whole(target, document)


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def write_shard(root: Path, plan: Plan, task: Task) -> dict[str, Any]:
    """Synthesise and write one shard; return its ledger entry: digests, numbers and rejections by row."""
    bucket = next(b for b in plan.buckets if b.name == task.bucket)
    entry = (_write_maps if task.kind == "maps" else _write_pairs)(root, plan, bucket, task)
    sha256 = hashlib.sha256("".join(row["digest"] for row in entry["rows"]).encode()).hexdigest()
    return {"task": task.name, "sha256": sha256, **entry}


def _write_maps(root: Path, plan: Plan, bucket: BucketPlan, task: Task) -> dict[str, Any]:
    recipe, rows = plan.recipe, []
    (file,) = shard_files(root, bucket, task)
    with ShardWriter(file, map_shard_sets(bucket)) as out:
        for k in range(*task.rows):
            maps = map_cache.get(recipe.coils, recipe.seed, k, bucket.matrix)
            out.append(maps)
            numbers = draw_coils(recipe.coils, recipe.seed, k).numbers()
            rows.append({"digest": sha256_of(maps), "numbers": numbers})
    return {"rows": rows, "rejected": []}


def _write_pairs(root: Path, plan: Plan, bucket: BucketPlan, task: Task) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        files = shard_files(root, bucket, task)
        writers = [stack.enter_context(ShardWriter(file, plan.shard_pairs)) for file in files]
        for index in bucket.indices[slice(*task.rows)]:
            row: dict[str, Any] = {"index": index, "file": plan.file_of(index)}
            try:
                pair = plan.pair(index)
            except SourceRejectedError as error:
                rejected.append({**row, "reason": str(error)})
                row |= {"source_sha256": "", "digest": _hole_digest(index), "numbers": {}}
                arrays = _hole(bucket)
            else:
                row |= {"source_sha256": pair.source_sha256, "digest": pair.digest(), "numbers": pair.numbers}
                arrays = padded(pair.kspace, bucket.capacity), pair.mask.sampled, pair.target
            for writer, array in zip(writers, arrays, strict=True):
                writer.append(array)
            rows.append(row)
    return {"rows": rows, "rejected": rejected}


def _hole(bucket: BucketPlan) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What stands where a source was rejected: NaN, and an empty mask."""
    kspace, target = (np.full(shape, NAN, np.complex64) for shape in (bucket.kspace_shape, bucket.matrix))
    return kspace, np.zeros(bucket.mask_shape, bool), target


def padded(kspace: NDArray[np.complex64], capacity: int) -> NDArray[np.complex64]:
    """Packed k-space with NaN up to the bucket's capacity, for masks that sample less than others."""
    missing = capacity - kspace.shape[-1]
    if missing == 0:
        return kspace
    return np.pad(kspace, [(0, 0)] * (kspace.ndim - 1) + [(0, missing)], constant_values=NAN)


def _hole_digest(index: int) -> str:
    return hashlib.sha256(f"{index} rejected".encode()).hexdigest()


def sha256_of(array: NDArray[Any]) -> str:
    """sha256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def finalize(path: Path, plan: Plan, summary: dict[str, Any]) -> str:
    """Write numbers, summary and attributes of a complete build, and give the corpus its name; return the content hash.

    Raises CorpusError where a shard is missing from the ledger or from the disk.
    """
    root = building_path(path)
    entries = Ledger(root).read()
    buckets = {bucket.name: bucket for bucket in plan.buckets}
    missing = [
        task.name
        for task in tasks_of(plan)
        if task.name not in entries or not all(file.exists() for file in shard_files(root, buckets[task.bucket], task))
    ]
    if missing:
        raise CorpusError(f"{path}: {len(missing)} shards are missing ({missing[0]} ...); run the build again")
    for stray in root.rglob("*.partial"):
        stray.unlink()
    for bucket in plan.buckets:
        write_numbers(root, bucket.name, entries)
    content = content_hash(entries)
    attributes = {**corpus_attributes(plan), "complete": True, "content_hash": content, "summary": summary}
    write_whole(root / "summary.json", json.dumps({"content_hash": content, **summary}, indent=2).encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr: consolidated metadata is not yet in the v3 specification
        group = zarr.open_group(LocalStore(root), mode="r+", zarr_format=3, use_consolidated=False)
        group.attrs.update({"fathom": attributes})
        zarr.consolidate_metadata(group.store)
    root.rename(path)
    return content


def shard_files(root: Path, bucket: BucketPlan, task: Task) -> list[Path]:
    """The files that a task writes: of kspace, mask and target, or of maps."""
    ndims = {"kspace": 1 + len(bucket.kspace_shape), "mask": 1 + len(bucket.mask_shape), "target": 3, "maps": 4}
    names = ("maps",) if task.kind == "maps" else ARRAYS
    return [root / bucket.name / n / "c" / "/".join([str(task.number)] + ["0"] * (ndims[n] - 1)) for n in names]


def write_numbers(root: Path, bucket: str, entries: Entries) -> None:
    """Write the numbers of pairs and of map sets as arrays, in one chunk each."""
    group = zarr.open_group(LocalStore(root), path=bucket, mode="r+", zarr_format=3)
    for name, values in named_numbers(bucket, entries).items():
        group.create_array(name, data=values, compressors=Crc32cCodec(), chunks=values.shape, overwrite=True)


def named_numbers(bucket: str, entries: Entries) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by the names that they have in the corpus."""
    maps = {f"maps_{name}": values for name, values in numbers_of(bucket, entries, "maps").items()}
    return {**numbers_of(bucket, entries, "pairs"), **maps}
