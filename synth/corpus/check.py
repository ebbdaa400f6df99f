"""Checks of a corpus: every byte of its shards, its metadata and its numbers are compared with its plan and ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
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
from .tasks import Task, arrays_of, bucket_of, finished


@dataclass(frozen=True)
class CorpusCheck:
    """Compares a corpus, finished or not, with its plan and its ledger.

    Every method says what is wrong, in sentences that name the part.
    """

    root: Path
    plan: Plan
    entries: Entries  # of its ledger

    @classmethod
    def of(cls, root: Path, plan: Plan) -> CorpusCheck:
        """The check of the corpus in the folder `root`."""
        return cls(root, plan, finished(root, plan))

    def shard(self, task: Task) -> str | None:
        """What is wrong with a shard, or None; digests and crc32c check every byte."""
        entry, (first, end) = self.entries.get(task.name), task.rows
        if entry is None:
            return f"{task.name}: is not in the ledger"
        if len(entry["rows"]) != end - first:
            return f"{task.name}: the ledger has {len(entry['rows'])} rows for it instead of {end - first}"
        bucket = bucket_of(self.plan, task)
        if task.kind == "pairs" and [row.get("index") for row in entry["rows"]] != list(bucket.indices[first:end]):
            return f"{task.name}: the ledger lists other pairs for it than the recipe asks for"
        check = _map_is_good if task.kind == "maps" else _pair_is_good
        try:
            arrays = [ShardedArray(self.root / task.bucket / name) for name in arrays_of(task, bucket)]
            for row, stored in zip(range(first, end), entry["rows"], strict=True):
                if not check(self.plan, [array[row] for array in arrays], stored):
                    return f"{task.name}: row {row} differs from what was written"
        except (OSError, ValueError, KeyError, TypeError, ShardError) as error:
            return f"{task.name}: {error}"
        return None

    def documents(self) -> list[str]:
        """Names of metadata files that differ from the plan.

        The root's changes when the corpus is finished, so only its recipe and attributes are compared.
        """
        expected = {k: v for k, v in metadata_documents(self.plan).items() if k != "zarr.json"}
        wrong = [key for key, document in expected.items() if not _holds(self.root / key, document)]
        try:
            stored = json.loads((self.root / "zarr.json").read_bytes())["attributes"]["fathom"]
            recipe = Recipe.model_validate_json(json.dumps(stored["recipe"]))  # older recipes lack later optional keys
            said = {k: v for k, v in corpus_attributes(self.plan).items() if k not in ("complete", "recipe")}
            same = recipe == self.plan.recipe and all(stored[key] == value for key, value in said.items())
            same = same and stored.get("stages", {}) == self.plan.stages
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            same = False
        return wrong if same else [*wrong, "zarr.json"]

    def numbers(self) -> list[str]:
        """Which arrays of numbers differ from the ledger, one sentence each."""
        return [
            f"{bucket.name}/{name}: differs from the ledger"
            for bucket in self.plan.buckets
            for name, values in named_numbers(bucket.name, self.entries).items()
            if not self._has_number(f"{bucket.name}/{name}", values)
        ]

    def _has_number(self, path: str, values: NDArray[Any]) -> bool:
        try:
            stored = zarr.open_array(LocalStore(self.root, read_only=True), path=path, mode="r", zarr_format=3)
            return np.array_equal(np.asarray(stored[...]), values, equal_nan=values.dtype.kind == "f")
        except (OSError, ValueError, KeyError, RuntimeError, TypeError):
            return False


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


def _holds(file: Path, document: bytes) -> bool:
    return file.is_file() and file.read_bytes() == document
