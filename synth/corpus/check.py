"""Checks of a corpus: every byte of its shards, its metadata and its numbers are compared with its plan and ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ShardError
from ..pair import pair_digest
from ..plan import Plan
from ..recipe import Recipe
from ..storage.arrays import sha256_of, sha256_of_file
from ..storage.listing import folders_of, strangers
from ..storage.place import Place
from ..storage.remote_shard import opened_array
from ..storage.shard import ShardedArray
from ..storage.whole import refuse_shortage
from .columns import Column, Columns, columns_of
from .documents import consolidated_is_right, is_right, read_document
from .layout import corpus_attributes, metadata_documents, number_documents, number_file, source_document
from .ledger import Entries
from .tasks import ShardPaths, Task, arrays_of, bucket_of, finished

FINISHED = ("content_hash", "summary", "sealed")  # attributes that a corpus gets when it is finished
SEALED = ("ledger.jsonl", "sources.json")
EARLIER = "an earlier version of Fathom wrote the corpus"
OLD = {
    "README.md": f"{EARLIER}, which kept no checksum of it",
    "croissant.json": f"{EARLIER}, which kept no checksum of it",
    "ledger.jsonl": f"{EARLIER}, which kept no checksum of the times and versions in it",
    "sources.json": f"{EARLIER}, which kept no checksum of the names that no pair was made from",
    "exchanged shards": f"{EARLIER}; this check finds them, but a dataset that reads them does not",
}


@dataclass(frozen=True)
class CorpusCheck:
    """Compares a corpus, finished or not, with its plan and its ledger.

    Every method says what is wrong, in sentences that name the part.
    """

    root: Place
    plan: Plan
    entries: Entries  # of its ledger

    @classmethod
    def of(cls, root: Place, plan: Plan) -> CorpusCheck:
        """The check of the corpus in the folder `root`."""
        return cls(root, plan, finished(root, plan))

    @cached_property
    def _expected(self) -> dict[str, bytes]:
        return metadata_documents(self.plan)

    @cached_property
    def root_document(self) -> dict[str, Any]:
        """The zarr.json of the root; empty where it is damaged."""
        stored = read_document(self.root / "zarr.json")
        return stored if isinstance(stored, dict) else {}

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Fathom's attributes of the root; empty where they are damaged."""
        attributes = self.root_document.get("attributes")
        stored = attributes.get("fathom") if isinstance(attributes, dict) and len(attributes) == 1 else None
        return stored if isinstance(stored, dict) else {}

    def shard(self, task: Task) -> str | None:
        """What is wrong with a shard, or None; digests and crc32c check every byte."""
        entry, (first, end) = self.entries.get(task.name), task.rows
        if entry is None:
            return f"{task.name}: is not in the ledger"
        if len(entry["rows"]) != end - first:
            return f"{task.name}: the ledger has {len(entry['rows'])} rows for it instead of {end - first}"
        bucket = bucket_of(self.plan, task)
        if task.kind == "pairs" and [row["index"] for row in entry["rows"]] != list(bucket.indices[first:end]):
            return f"{task.name}: the ledger lists other pairs for it than the recipe asks for"
        shapes = self._shapes[f"{task.bucket}/{task.kind}"]
        if any(np.shape(value) != shapes[name] for row in entry["rows"] for name, value in row["numbers"].items()) or (
            task.kind == "maps" and any(row["numbers"].keys() != shapes.keys() for row in entry["rows"])
        ):
            return f"{task.name}: the ledger has numbers of other shapes or names for it than for other shards"
        check = _map_is_good if task.kind == "maps" else _pair_is_good
        try:
            arrays = [self._array(f"{task.bucket}/{name}") for name in arrays_of(task, bucket)]
            for row, stored in zip(range(first, end), entry["rows"], strict=True):
                if not check(self.plan, [array[row] for array in arrays], stored):
                    return f"{task.name}: row {row} differs from what was written"
        except (OSError, ValueError, KeyError, TypeError, ShardError) as error:
            refuse_shortage(error)
            return f"{task.name}: {error}"
        return None

    @cached_property
    def _shapes(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """The shape of every number of pairs and of map sets, as it first occurs in the ledger."""
        found: dict[str, dict[str, tuple[int, ...]]] = {}
        for name, entry in self.entries.items():
            shapes = found.setdefault(name.rpartition("/")[0], {})
            for row in entry["rows"]:
                for number, value in row["numbers"].items():
                    if number not in shapes:
                        shapes[number] = np.shape(value)
        return found

    def _array(self, path: str) -> ShardedArray:
        """An array as the plan describes it: a damaged zarr.json does not condemn its shards."""
        return opened_array(self.root / path, document=self._expected[f"{path}/zarr.json"])

    def sources(self) -> str | None:
        """What sources.json says otherwise than the ledger, or None."""
        rows = (row for name, entry in self.entries.items() if "/pairs/" in name for row in entry["rows"])
        for row in rows:
            name = self.plan.file_of(row["index"])
            if row["file"] != name:
                return f"sources.json names {name} for pair {row['index']}, which was made from {row['file']}"
        mine = hashlib.sha256(source_document(self.plan)).hexdigest()
        summary = read_document(self.root / "summary.json")
        seals = [self.seal, summary.get("sealed") if isinstance(summary, dict) else None]  # one may be damaged
        sums = [seal["sha256"].get("sources.json") for seal in seals if seal and isinstance(seal.get("sha256"), dict)]
        if sums and mine not in sums:
            return "sources.json names other files than those that the corpus was made from"
        return None

    def documents(self) -> list[str]:
        """Names of documents that differ from the plan; of the root's, what is the same in a finished corpus."""
        expected = {key: document for key, document in self._expected.items() if key != "zarr.json"}
        wrong = [
            key for key, document in expected.items() if not is_right(key, read_document(self.root / key), document)
        ]
        if not self._are_of_the_plan(read_document(self.root / "recipe.json")):
            wrong.append("recipe.json")
        if read_document(self.root / "sources.json") != list(self.plan.files):
            wrong.append("sources.json")  # in the layout of its text: the plan was read from it
        if not self._are_of_the_plan(self.attributes):
            wrong.append("zarr.json")
        return wrong

    def _are_of_the_plan(self, stored: Any) -> bool:
        """Whether attributes are those of the plan; older recipes lack later optional keys."""
        expected = {k: v for k, v in corpus_attributes(self.plan).items() if k not in ("complete", "recipe")}
        try:
            recipe = Recipe.model_validate_json(json.dumps(stored["recipe"]))
            said = {k: v for k, v in stored.items() if k not in ("complete", "recipe", *FINISHED)}
            return recipe == self.plan.recipe and said == expected and isinstance(stored["complete"], bool)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return False

    def numbers(self) -> list[str]:
        """Paths of the arrays of numbers that differ from the ledger."""
        return [
            f"{bucket}/{name}"
            for bucket, columns in self.columns.items()
            for name, expected in number_documents(columns).items()
            if not self._has_number(f"{bucket}/{name}", expected, columns[name])
        ]

    @cached_property
    def columns(self) -> Columns:
        """What the ledger says of the arrays of numbers, by bucket and array."""
        return columns_of(self.plan, self.entries)

    def _has_number(self, path: str, expected: bytes, column: Column) -> bool:
        if not is_right(path, read_document(self.root / path / "zarr.json"), expected):
            return False
        return _is(self.root / number_file(path, column), column.sha256, column.file_bytes)

    @property
    def seal(self) -> dict[str, Any]:
        """The checksums in the root's attributes; empty in corpora of earlier versions."""
        seal = self.attributes.get("sealed", {})
        return seal if isinstance(seal, dict) else {}

    def unsealed(self) -> list[str]:
        """Names of documents that are not as the build left them; all else must have been checked."""
        sums = {f"{b}/{name}": c.crc32c for b, columns in self.columns.items() for name, c in columns.items()}
        groups = [key.removesuffix("/zarr.json") for key in self._expected if key != "zarr.json"]
        wrong = []
        match self.root_document:
            case {"attributes": _, "zarr_format": 3, "node_type": "group", "consolidated_metadata": stored, **rest} if (
                not rest and consolidated_is_right(stored, self.root, [*groups, *sums])
            ):
                pass
            case _:
                wrong.append("zarr.json")
        match self.attributes:
            case {"complete": True, "sealed": {"sha256": dict(files), "crc32c": dict(kept), **more}}:
                wrong += [name for name, sha256 in files.items() if not _is(self.root / name, sha256)]
                if more or kept != sums or not {*SEALED} <= files.keys():
                    wrong.append("zarr.json")
            case {"complete": True, **said} if "sealed" not in said:
                pass  # an earlier version, which had no seal
            case _:
                wrong.append("zarr.json")
        return list(dict.fromkeys(wrong))

    def not_covered(self) -> dict[str, str]:
        """Files that no check covers, by their paths from the root (a folder's ends with /), and why."""
        known = {*self._expected, "recipe.json", "sources.json", "ledger.jsonl", "summary.json"}
        for bucket, columns in self.columns.items():
            for name, column in columns.items():
                known |= {f"{bucket}/{name}/zarr.json", number_file(f"{bucket}/{name}", column)}
        found = {}
        files = self.seal.get("sha256")
        if isinstance(files, dict):
            known |= files.keys()
        else:
            found = dict(OLD)
            known |= OLD.keys()
            if len(self.plan) >= len(self.plan.files):
                del found["sources.json"]  # the ledger names all of them
        folders, shards = folders_of(known), ShardPaths(self.plan)
        others = strangers(
            self.root,
            lambda path: path in known or shards.number(path) is not None,
            lambda path: path in folders or shards.is_folder(path),
        )
        return {**found, **dict.fromkeys(others, "is not part of the corpus")}


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


def _is(file: Place, sha256: Any, most: int | None = None) -> bool:
    try:
        return sha256_of_file(file, most) == sha256
    except (OSError, ValueError) as error:
        refuse_shortage(error)
        return False
