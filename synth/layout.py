"""How a corpus lies on disk: its groups and arrays, its shards, and which task writes which. Format: zarr v3.

A corpus is built under ``NAME.building`` and gets its name when it is whole. One group per shape holds the arrays
``kspace``, ``mask``, ``target`` (first axis: pair) and ``maps`` (first axis: map set); one chunk is one pair, one
shard one file, written by one task. Every drawn or measured number is a 1-D array (or one more axis). Chunks are
uncompressed (noise does not compress) and carry a crc32c; a hole reads as NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec
from zarr.storage import MemoryStore

from .ledger import Kind
from .plan import BucketPlan, Plan

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

    @property
    def pairs(self) -> int:
        """How many pairs it makes."""
        return self.rows[1] - self.rows[0] if self.kind == "pairs" else 0


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
        sets, rows = (pairs, step) if plan.recipe.own_maps else (plan.recipe.coils.sets, map_shard_sets(bucket))
        _create(group, "maps", (sets, *maps_shape), rows, "complex64", NAN)
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


def arrays_of(task: Task, *, own_maps: bool) -> tuple[str, ...]:
    """The arrays that a task writes: kspace, mask and target, with maps where each pair has its own, or maps."""
    if task.kind == "maps":
        return ("maps",)
    return (*ARRAYS, "maps") if own_maps else ARRAYS


def shard_files(root: Path, bucket: BucketPlan, task: Task, *, own_maps: bool) -> list[Path]:
    """The files that a task writes."""
    ndims = {"kspace": 1 + len(bucket.kspace_shape), "mask": 1 + len(bucket.mask_shape), "target": 3, "maps": 4}
    names = arrays_of(task, own_maps=own_maps)
    return [root / bucket.name / n / "c" / "/".join([str(task.number)] + ["0"] * (ndims[n] - 1)) for n in names]
