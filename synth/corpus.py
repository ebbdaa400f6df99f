"""Reading a corpus, and finding what is wrong with one."""

from __future__ import annotations

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

from .ledger import Entries, Ledger
from .pair import pair_digest
from .plan import Plan
from .recipe import Recipe
from .shard import ShardedArray, ShardError
from .store import ARRAYS, SCHEMA, CorpusError, Task, UnfinishedCorpusError, building_path, sha256_of

CODECS = frozenset({"bytes", "crc32c", "sharding_indexed", "zstd", "blosc", "gzip"})  # none of them runs code


@dataclass(frozen=True)
class Bucket:
    """Pairs of one shape, opened for reading."""

    name: str
    arrays: dict[str, zarr.Array[Any]]

    def numbers(self, name: str) -> NDArray[Any]:
        """All rows of a number."""
        return np.asarray(self.arrays[name][:])

    @cached_property
    def number_names(self) -> list[str]:
        """Names of the per-pair numbers."""
        return [
            n for n in self.arrays if n not in (*ARRAYS, "maps", "index", "valid") and not n.startswith("maps_coils")
        ]


@dataclass(frozen=True)
class Corpus:
    """A finished corpus, opened for reading; raises nothing that opening did not."""

    path: Path
    attributes: dict[str, Any]
    buckets: list[Bucket]

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
        """Its ledger."""
        return Ledger(self.path).read()


def stored_attributes(root: Path) -> dict[str, Any]:
    """Fathom's attributes of a corpus or an unfinished one; raises CorpusError where there are none."""
    try:
        attributes = json.loads((root / "zarr.json").read_bytes())["attributes"]["fathom"]
    except (FileNotFoundError, NotADirectoryError):
        raise CorpusError(
            f"{root} is not a corpus: it has no zarr.json; give the folder that `fathom build` made"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise CorpusError(f"{root} is not a corpus of Fathom's: its zarr.json does not say so") from None
    if attributes.get("schema") != SCHEMA:
        raise CorpusError(
            f"{root} has corpus schema {attributes.get('schema')}, this Fathom reads {SCHEMA}; build it again"
        )
    return dict(attributes)


def stored_plan(root: Path) -> Plan:
    """The plan that a corpus, finished or not, was begun with."""
    recipe = Recipe.model_validate_json(json.dumps(stored_attributes(root)["recipe"]))
    return Plan(recipe, tuple(json.loads((root / "sources.json").read_bytes())))


def open_corpus(path: str | Path) -> Corpus:
    """Open a finished corpus; raises CorpusError, or UnfinishedCorpusError, with the remedy."""
    path = Path(path)
    if not path.exists() and building_path(path).exists():
        raise UnfinishedCorpusError(f"{path} is unfinished; run the same `fathom build` again to finish it")
    attributes = stored_attributes(path)
    if not attributes.get("complete"):
        raise UnfinishedCorpusError(f"{path} is unfinished; run the same `fathom build` again to finish it")
    root = zarr.open_group(LocalStore(path, read_only=True), mode="r", zarr_format=3, use_consolidated=False)
    buckets = []
    for name in sorted(attributes["summary"]["buckets"]):
        group = root[name]
        if not isinstance(group, zarr.Group):
            raise CorpusError(f"{path}/{name} is not a group; run `fathom verify`")
        arrays = dict(group.arrays())
        for key, array in arrays.items():
            _check_codecs(f"{path}/{name}/{key}", array)
        buckets.append(Bucket(name, arrays))
    return Corpus(path, attributes, buckets)


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
    check = _map_is_good if task.kind == "maps" else _pair_is_good
    try:
        names = ("maps",) if task.kind == "maps" else ARRAYS
        arrays = [ShardedArray(root / task.bucket / name) for name in names]
        for row, stored in zip(range(*task.rows), entry["rows"], strict=True):
            if not check(plan, [array[row] for array in arrays], stored):
                return f"{task.name}: row {row} differs from what was written"
    except (OSError, ValueError, KeyError, ShardError) as error:
        return f"{task.name}: {error}"
    return None


def _map_is_good(plan: Plan, arrays: list[NDArray[Any]], stored: dict[str, Any]) -> bool:
    return bool(sha256_of(arrays[0]) == stored["digest"])


def _pair_is_good(plan: Plan, arrays: list[NDArray[Any]], stored: dict[str, Any]) -> bool:
    kspace, mask, target = arrays
    if not stored["numbers"]:
        return bool(np.isnan(kspace).all() and np.isnan(target).all() and not mask.any())
    if plan.recipe.kspace == "packed":
        count = int(mask.sum())
        if not np.isnan(kspace[..., count:]).all():
            return False
        kspace = kspace[..., :count]
    digest = pair_digest(stored["index"], stored["source_sha256"], kspace, mask, target, stored["numbers"])
    return digest == str(stored["digest"])
