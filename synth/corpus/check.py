"""What is wrong with a corpus: every byte of its shards, its metadata and its numbers, against its ledger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from ..errors import ShardError
from ..pair import pair_digest
from ..plan import Plan
from ..recipe import Recipe
from ..storage.arrays import sha256_of
from ..storage.shard import ShardedArray
from .layout import corpus_attributes, metadata_documents
from .ledger import Entries, named_numbers
from .tasks import Task, arrays_of


def check_shard(root: Path, plan: Plan, task: Task, entry: dict[str, Any] | None) -> str | None:
    """What is wrong with a shard: None, or one sentence that names it. Every byte counts: digests and crc32c."""
    if entry is None:
        return f"{task.name}: is not in the ledger"
    if len(entry["rows"]) != task.rows[1] - task.rows[0]:
        return f"{task.name}: the ledger has {len(entry['rows'])} rows of it, not {task.rows[1] - task.rows[0]}"
    if task.kind == "pairs":
        indices = next(b.indices for b in plan.buckets if b.name == task.bucket)[slice(*task.rows)]
        if [row.get("index") for row in entry["rows"]] != list(indices):
            return f"{task.name}: the ledger has other pairs in it than the recipe"
    check = _map_is_good if task.kind == "maps" else _pair_is_good
    try:
        names = arrays_of(task, own_maps=plan.recipe.own_maps)
        arrays = [ShardedArray(root / task.bucket / name) for name in names]
        for row, stored in zip(range(*task.rows), entry["rows"], strict=True):
            if not check(plan, [array[row] for array in arrays], stored):
                return f"{task.name}: row {row} differs from what was written"
    except (OSError, ValueError, KeyError, TypeError, ShardError) as error:
        return f"{task.name}: {error}"
    return None


def _map_is_good(plan: Plan, arrays: list[NDArray[Any]], stored: dict[str, Any]) -> bool:
    return bool(sha256_of(arrays[0]) == stored["digest"])


def _pair_is_good(plan: Plan, arrays: list[NDArray[Any]], stored: dict[str, Any]) -> bool:
    kspace, mask, *others = arrays
    if not stored["numbers"]:
        return bool(np.isnan(kspace).all() and all(np.isnan(a).all() for a in others) and not mask.any())
    if plan.recipe.kspace == "packed":
        count = int(mask.sum())
        if not np.isnan(kspace[..., count:]).all():
            return False
        kspace = kspace[..., :count]
    digest = pair_digest(stored["index"], stored["source_sha256"], (kspace, mask, *others), stored["numbers"])
    return digest == str(stored["digest"])


def wrong_numbers(root: Path, bucket: str, entries: Entries) -> list[str]:
    """Arrays of numbers that are not what the ledger says, each as one sentence that names it."""
    problems = []
    for name, values in named_numbers(bucket, entries).items():
        try:
            stored = zarr.open_array(LocalStore(root, read_only=True), path=f"{bucket}/{name}", mode="r", zarr_format=3)
            same = np.array_equal(np.asarray(stored[...]), values, equal_nan=values.dtype.kind == "f")
        except (OSError, ValueError, KeyError, RuntimeError, TypeError):
            same = False
        if not same:
            problems.append(f"{bucket}/{name}: is not what the ledger says")
    return problems


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
