"""Writing a corpus: its metadata, its shards, its numbers, and its name when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec
from zarr.storage import LocalStore

from .coils import EspiritSpec, draw_coils
from .images import SourceRejectedError
from .layout import (
    NAN,
    CorpusError,
    Task,
    building_path,
    corpus_attributes,
    map_shard_sets,
    metadata_documents,
    shard_files,
    tasks_of,
)
from .ledger import Entries, Ledger, content_hash, numbers_of
from .map_cache import map_cache
from .plan import BucketPlan, Plan
from .recipe import Recipe
from .shard import ShardWriter


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


def wrong_documents(root: Path, plan: Plan) -> list[str]:
    """Metadata of a corpus, finished or not, that is not what its plan says; the root's changes when it is finished."""
    expected = {k: v for k, v in metadata_documents(plan).items() if k != "zarr.json"}
    wrong = [key for key, document in expected.items() if not _holds(root / key, document)]
    try:
        stored = json.loads((root / "zarr.json").read_bytes())["attributes"]["fathom"]
        recipe = Recipe.model_validate_json(json.dumps(stored["recipe"]))  # an older one lacks what was optional since
        said = {k: v for k, v in corpus_attributes(plan).items() if k not in ("complete", "recipe")}
        same = recipe == plan.recipe and all(stored[key] == value for key, value in said.items())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        same = False
    return wrong if same else [*wrong, "zarr.json"]


def _holds(file: Path, document: bytes) -> bool:
    return file.is_file() and file.read_bytes() == document


def finished(root: Path, plan: Plan) -> Entries:
    """The ledger's entries of this plan's tasks; whatever else stands in the ledger does not count."""
    entries = Ledger(root).read()
    return {task.name: entries[task.name] for task in tasks_of(plan) if task.name in entries}


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
    recipe, coils, rows = plan.recipe, plan.recipe.coils, []
    assert not isinstance(coils, EspiritSpec)  # it has no sets to share
    (file,) = shard_files(root, bucket, task, own_maps=plan.recipe.own_maps)
    with ShardWriter(file, map_shard_sets(bucket)) as out:
        for k in range(*task.rows):
            maps = map_cache.get(coils, recipe.seed, k, bucket.matrix)
            out.append(maps)
            numbers = draw_coils(coils, recipe.seed, k).numbers()
            rows.append({"digest": sha256_of(maps), "numbers": numbers})
    return {"rows": rows, "rejected": []}


def _write_pairs(root: Path, plan: Plan, bucket: BucketPlan, task: Task) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        files = shard_files(root, bucket, task, own_maps=plan.recipe.own_maps)
        writers = [stack.enter_context(ShardWriter(file, plan.shard_pairs)) for file in files]
        for index in bucket.indices[slice(*task.rows)]:
            row: dict[str, Any] = {"index": index, "file": plan.file_of(index)}
            try:
                pair = plan.pair(index)
            except SourceRejectedError as error:
                rejected.append({**row, "reason": str(error)})
                row |= {"source_sha256": "", "digest": _hole_digest(index), "numbers": {}}
                arrays: tuple[NDArray[Any], ...] = hole(bucket, own_maps=plan.recipe.own_maps)
            else:
                row |= {"source_sha256": pair.source_sha256, "digest": pair.digest(), "numbers": pair.numbers}
                row["findings"] = list(pair.findings)
                arrays = padded(pair.kspace, bucket.capacity), *pair.arrays[1:]
            for writer, array in zip(writers, arrays, strict=True):
                writer.append(array)
            rows.append(row)
    return {"rows": rows, "rejected": rejected}


def hole(bucket: BucketPlan, *, own_maps: bool) -> tuple[NDArray[Any], ...]:
    """What stands where a source was rejected: NaN, and an empty mask."""
    shapes = (bucket.kspace_shape, bucket.matrix, (bucket.coils, *bucket.matrix))
    kspace, target, maps = (np.full(shape, NAN, np.complex64) for shape in shapes)
    return (kspace, np.zeros(bucket.mask_shape, bool), target, *((maps,) if own_maps else ()))


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


def named_numbers(bucket: str, entries: Entries) -> dict[str, NDArray[Any]]:
    """Arrays of numbers by the names that they have in the corpus."""
    maps = {f"maps_{name}": values for name, values in numbers_of(bucket, entries, "maps").items()}
    return {**numbers_of(bucket, entries, "pairs"), **maps}
