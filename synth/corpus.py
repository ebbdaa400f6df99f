"""Reading a corpus, and finding what is wrong with one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import LocalStore

from .layout import SCHEMA, CorpusError, Task, UnfinishedCorpusError, arrays_of, building_path
from .ledger import Entries
from .pair import pair_digest
from .plan import Plan
from .recipe import Recipe
from .shard import ShardedArray, ShardError
from .store import finished, named_numbers, sha256_of

CODECS = frozenset({"bytes", "crc32c", "sharding_indexed", "zstd", "blosc", "gzip"})  # none of them runs code


@dataclass(frozen=True)
class Bucket:
    """Pairs of one shape, opened for reading."""

    name: str
    arrays: dict[str, zarr.Array[Any]]

    own_maps: bool = False  # row k of `maps` is pair k's

    def numbers(self, name: str) -> NDArray[Any]:
        """All rows of a number; raises CorpusError where it is lost."""
        if name not in self.arrays:
            raise CorpusError(f"{self.name} has no '{name}': the corpus is damaged; the same `fathom build` mends it")
        return np.asarray(self.arrays[name][:])

    @cached_property
    def valid_rows(self) -> NDArray[Any]:
        """The rows whose source was not rejected."""
        return np.flatnonzero(self.numbers("valid") == 1)

    @cached_property
    def map_rows(self) -> NDArray[Any]:
        """The row of `maps` that belongs to each pair."""
        found = np.nan_to_num(self.numbers("maps_index"), nan=-1)  # a rejected pair has NaN there
        return np.arange(len(found)) if self.own_maps else found.astype(np.int64)


@dataclass(frozen=True)
class Corpus:
    """A finished corpus, opened for reading; raises nothing that opening did not."""

    path: Path
    attributes: dict[str, Any]
    buckets: list[Bucket]

    @property
    def places(self) -> list[tuple[Bucket, int]]:
        """Bucket and row of every valid pair."""
        return [(bucket, int(row)) for bucket in self.buckets for row in bucket.valid_rows]

    @property
    def content_hash(self) -> str:
        """The hash of its pairs."""
        return str(self.attributes["content_hash"])

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe that it was made from, resolved."""
        return Recipe.model_validate_json(json.dumps(self.attributes["recipe"]))

    @cached_property
    def plan(self) -> Plan:
        """Its recipe and list of sources."""
        return stored_plan(self.path)

    def entries(self) -> Entries:
        """Its ledger's entries."""
        return finished(self.path, self.plan)


def stored_attributes(root: Path) -> dict[str, Any]:
    """Fathom's attributes of a corpus, finished or not; raises CorpusError where there are none."""
    try:
        attributes = dict(json.loads((root / "zarr.json").read_bytes())["attributes"]["fathom"])
    except (FileNotFoundError, NotADirectoryError):
        attributes = None
    except (ValueError, KeyError, TypeError, RecursionError):
        attributes = None
    if attributes is None:
        if (root / "recipe.json").is_file() and (root / "ledger.jsonl").is_file():
            raise CorpusError(f"{root}: its zarr.json is damaged; the same `fathom build` mends it")
        raise CorpusError(f"{root} is not a corpus of Fathom's; give the folder that `fathom build` made")
    if attributes.get("schema") != SCHEMA:
        raise CorpusError(
            f"{root} has corpus schema {attributes.get('schema')}, this Fathom reads {SCHEMA}; build it again"
        )
    return attributes


def stored_plan(root: Path) -> Plan:
    """The plan that a corpus, finished or not, was begun with; raises CorpusError where that cannot be read."""
    try:
        attributes = json.loads((root / "recipe.json").read_bytes())
        files = json.loads((root / "sources.json").read_bytes())
        if attributes["schema"] != SCHEMA:
            raise CorpusError(
                f"{root} has corpus schema {attributes['schema']}, this Fathom reads {SCHEMA}; build it again"
            )
        if any(Path(f).is_absolute() or ".." in Path(f).parts for f in files):
            raise ValueError("sources.json leads out of the folder of sources")
        return Plan(Recipe.model_validate_json(json.dumps(attributes["recipe"])), tuple(str(f) for f in files))
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError(f"{root} is not a corpus of Fathom's; give the folder that `fathom build` made") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(
            f"{root}: recipe.json or sources.json is damaged ({type(error).__name__}), so nobody can say what was "
            "built; restore them, or build under another name"
        ) from None


def open_corpus(path: str | Path) -> Corpus:
    """Open a finished corpus; raises CorpusError, or UnfinishedCorpusError, with the remedy."""
    path = Path(path)
    refuse_unfinished(path)
    attributes = stored_attributes(path)
    plan = stored_plan(path)
    own = plan.recipe.own_maps
    try:
        return Corpus(path, attributes, [_open_bucket(path, b.name, own_maps=own) for b in plan.buckets])
    except (KeyError, ValueError, OSError) as error:
        raise CorpusError(f"{path}: its metadata is damaged ({error}); the same `fathom build` mends it") from None


def refuse_unfinished(path: Path) -> None:
    """Raise UnfinishedCorpusError where the build of a corpus has not ended."""
    unfinished = not path.exists() and building_path(path).exists()
    with contextlib.suppress(CorpusError):  # damaged, or none at all: not for this function to say
        unfinished = unfinished or not stored_attributes(path).get("complete")
    if unfinished:
        raise UnfinishedCorpusError(f"{path} is unfinished; run the same `fathom build` again to finish it")


def _open_bucket(path: Path, name: str, *, own_maps: bool) -> Bucket:
    group = zarr.open_group(
        LocalStore(path, read_only=True), path=name, mode="r", zarr_format=3, use_consolidated=False
    )
    arrays = dict(group.arrays())
    for key, array in arrays.items():
        _check_codecs(f"{path}/{name}/{key}", array)
    bucket = Bucket(name, arrays, own_maps)
    if not np.isin(bucket.numbers("valid"), (0, 1)).all():
        raise CorpusError(f"{path}/{name}/valid is damaged; the same `fathom build` mends it")
    return bucket


def _check_codecs(where: str, array: zarr.Array[Any]) -> None:
    names = {codec["name"] for codec in _codecs(array.metadata.to_dict()["codecs"])}
    if not names <= CODECS:
        raise CorpusError(f"{where} uses the codecs {sorted(names - CODECS)}, which are not among {sorted(CODECS)}")


def _codecs(codecs: Any) -> Iterator[dict[str, Any]]:
    for codec in codecs:
        yield codec
        configuration = codec.get("configuration", {})
        yield from _codecs(configuration.get("codecs", []))
        yield from _codecs(configuration.get("index_codecs", []))


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
