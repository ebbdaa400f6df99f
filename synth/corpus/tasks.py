"""Tasks: one shard each, which one worker synthesises and writes alone."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceRejectedError
from ..plan import BucketPlan, Plan
from ..stages.coil_cache import map_cache
from ..stages.coil_estimate import EspiritSpec
from ..stages.coils import draw_coils
from ..storage.arrays import sha256_of
from ..storage.place import Place
from ..storage.remote_shard import shard_writer
from .layout import ARRAYS, NAN, map_shard_sets
from .ledger import Entries, Kind
from .remote_ledger import ledger_of

P = TypeVar("P", bound=Place | PurePosixPath)


@dataclass(frozen=True, slots=True)
class Task:
    """One shard of one bucket, which one worker writes alone."""

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


def finished(root: Place, plan: Plan) -> Entries:
    """The ledger's entries of this plan's tasks; other entries are ignored."""
    return ledger_of(root).read().of(task.name for task in tasks_of(plan))


def write_shard(root: Place, plan: Plan, task: Task) -> dict[str, Any]:
    """Synthesise and write one shard; return its ledger entry: digests, numbers and rejections by row."""
    bucket = bucket_of(plan, task)
    entry = (_write_maps if task.kind == "maps" else _write_pairs)(root, plan, bucket, task)
    sha256 = hashlib.sha256("".join(row["digest"] for row in entry["rows"]).encode()).hexdigest()
    return {"task": task.name, "sha256": sha256, **entry}


def _write_maps(root: Place, plan: Plan, bucket: BucketPlan, task: Task) -> dict[str, Any]:
    recipe, coils, rows = plan.recipe, plan.recipe.coils, []
    assert not isinstance(coils, EspiritSpec)  # it has no sets to share
    (file,) = shard_files(root, bucket, task)
    with shard_writer(file, map_shard_sets(bucket)) as out:
        for k in range(*task.rows):
            maps, _ = recipe.noise.received(map_cache.get(coils, recipe.seed, k, bucket.matrix))
            crc32c = {"maps": out.append(maps)}
            numbers = draw_coils(coils, recipe.seed, k).numbers()
            rows.append({"digest": sha256_of(maps), "numbers": numbers, "crc32c": crc32c})
    return {"rows": rows, "rejected": []}


def _write_pairs(root: Place, plan: Plan, bucket: BucketPlan, task: Task) -> dict[str, Any]:
    rows: list[dict[str, Any]] = []
    rejected: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        names, files = arrays_of(task, bucket), shard_files(root, bucket, task)
        writers = [stack.enter_context(shard_writer(file, plan.shard_pairs)) for file in files]
        for index in bucket.indices[slice(*task.rows)]:
            row: dict[str, Any] = {"index": index, "file": plan.file_of(index)}
            try:
                pair = plan.pair(index)
            except SourceRejectedError as error:
                rejected.append({**row, "reason": str(error)})
                row |= {"source_sha256": "", "digest": _hole_digest(index), "numbers": {}}
                arrays: tuple[NDArray[Any], ...] = hole(bucket)
            else:
                row |= {"source_sha256": pair.source_sha256, "digest": pair.digest(), "numbers": pair.numbers}
                row["findings"] = list(pair.findings)
                row |= {"notes": list(pair.notes)} if pair.notes else {}
                arrays = padded(pair.kspace, bucket.capacity), *pair.arrays[1:]
            row["crc32c"] = {n: w.append(array) for n, w, array in zip(names, writers, arrays, strict=True)}
            rows.append(row)
    return {"rows": rows, "rejected": rejected}


def hole(bucket: BucketPlan) -> tuple[NDArray[Any], ...]:
    """The arrays that are stored where a source was rejected: NaN, and an empty mask."""
    shapes = (bucket.kspace_shape, bucket.target_shape, bucket.maps_shape)
    kspace, target, maps = (np.full(shape, NAN, np.complex64) for shape in shapes)
    return (kspace, np.zeros(bucket.mask_shape, bool), target, *((maps,) if bucket.own_maps else ()))


def padded(kspace: NDArray[np.complex64], capacity: int) -> NDArray[np.complex64]:
    """Packed k-space with NaN up to the bucket's capacity, for masks that sample less than others."""
    missing = capacity - kspace.shape[-1]
    if missing == 0:
        return kspace
    return np.pad(kspace, [(0, 0)] * (kspace.ndim - 1) + [(0, missing)], constant_values=NAN)


def _hole_digest(index: int) -> str:
    return hashlib.sha256(f"{index} rejected".encode()).hexdigest()


def tasks_of(plan: Plan) -> list[Task]:
    """All shards of a corpus, maps first: pairs need them, and a reader can look at them early."""
    tasks = []
    for bucket in plan.buckets:
        sizes: dict[Kind, tuple[int, int]] = {
            "maps": (plan.recipe.shared_map_sets, map_shard_sets(bucket)),
            "pairs": (len(bucket.indices), plan.shard_pairs),
        }
        for kind, (rows, step) in sizes.items():
            starts = range(0, rows, step)
            tasks += [Task(bucket.name, kind, n, (a, min(a + step, rows))) for n, a in enumerate(starts)]
    return tasks


def bucket_of(plan: Plan, task: Task) -> BucketPlan:
    """The bucket that a task belongs to."""
    return next(bucket for bucket in plan.buckets if bucket.name == task.bucket)


def arrays_of(task: Task, bucket: BucketPlan) -> tuple[str, ...]:
    """The arrays that a task writes: kspace, mask, target (and maps, where each pair has its own), or maps alone."""
    if task.kind == "maps":
        return ("maps",)
    return (*ARRAYS, "maps") if bucket.own_maps else ARRAYS


def shard_files(root: P, bucket: BucketPlan, task: Task) -> list[P]:
    """The files that a task writes."""
    shapes = {"kspace": bucket.kspace_shape, "mask": bucket.mask_shape}
    shapes |= {"target": bucket.target_shape, "maps": bucket.maps_shape}
    names = arrays_of(task, bucket)
    keys = [f"{bucket.name}/{n}/c/" + "/".join([str(task.number)] + ["0"] * len(shapes[n])) for n in names]
    return [cast(P, root / key) for key in keys]


class ShardPaths:
    """The paths of all shards of a plan below the corpus, without a list of them."""

    def __init__(self, plan: Plan) -> None:
        self._last: dict[str, tuple[int, list[str]]] = {}  # by array: number of shards, and what follows a number
        for task in tasks_of(plan):
            for file in shard_files(PurePosixPath(), bucket_of(plan, task), task):
                self._last["/".join(file.parts[:2])] = task.number + 1, list(file.parts[4:])
        self.arrays = [*self._last]

    def count(self, array: str) -> int:
        """Number of shards of an array."""
        return self._last[array][0]

    def number(self, path: str) -> tuple[str, int] | None:
        """The array and the number of the shard with this path; None where no shard has it."""
        array, number, rest = self._parts(path)
        return (array, number) if number is not None and rest == self._last[array][1] else None

    def is_folder(self, path: str) -> bool:
        """Whether shards lie below a path."""
        array, number, rest = self._parts(path)
        if array not in self._last:
            return False
        end = self._last[array][1]
        return path == f"{array}/c" or (number is not None and len(rest) < len(end) and rest == end[: len(rest)])

    def _parts(self, path: str) -> tuple[str, int | None, list[str]]:
        parts = path.split("/")
        array, number = "/".join(parts[:2]), parts[3] if len(parts) > 3 and parts[2] == "c" else ""
        shards, _ = self._last.get(array, (0, []))
        right = number.isdecimal() and str(int(number[:20])) == number and int(number) < shards
        return array, int(number) if right else None, parts[4:]
