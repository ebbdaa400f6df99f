"""Reading a finished corpus: its recipe, its list of sources, and its arrays."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import CorpusError
from ..plan import BucketPlan, Plan
from ..recipe import Recipe
from ..sources.scan_slices import ScansSpec
from ..storage.corpus_files import (
    DAMAGED,
    SCHEMA,
    Bucket,
    damaged_metadata,
    open_bucket,
    refuse_unfinished,
    sealed_sums,
    stored_attributes,
)
from ..storage.place import Place, place_of
from ..storage.whole import read_document, refuse_strange_document
from .ledger import Entries, Ledger
from .tasks import finished, tasks_of


@dataclass(frozen=True)
class Corpus:
    """A finished corpus, opened for reading; `open_corpus` makes it.

    Attributes
    ----------
    path
        Its folder.
    attributes
        The attributes of its root group: name, recipe, hashes, summary.
    buckets
        One per shape of pairs, with zarr arrays whose first axis is the pair (in ``maps``, the map set).
    """

    path: Place
    attributes: dict[str, Any]
    buckets: list[Bucket]

    @property
    def valid_pairs(self) -> list[tuple[Bucket, int]]:
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
        """Its ledger's entries; raises CorpusError where some are missing."""
        found = finished(self.path, self.plan)
        if len(found) != len(tasks_of(self.plan)):
            raise CorpusError(f"{self.path}: its ledger is damaged; run `fathom verify`, then the same `fathom build`")
        return found

    def source_hashes(self) -> dict[int, str]:
        """sha256 of the source of every pair, by the pair's index; raises CorpusError where the ledger lacks some."""
        self.entries()
        return Ledger(self.path).sources()


def stored_plan(root: Place) -> Plan:
    """The plan that a corpus, finished or not, was begun with; raises CorpusError where that cannot be read."""
    with _told(root):
        plan = _plan_without_files(root)
        return replace(plan, files=_files(root))


def _plan_to_open(root: Place) -> Plan:
    """As `stored_plan`, but the list of sources is read only where it decides the shapes of pairs, as that of scans."""
    with _told(root):
        plan = _plan_without_files(root)
        if isinstance(plan.recipe.source, ScansSpec) or plan.recipe.pairs is None:
            return replace(plan, files=_files(root))
        refuse_strange_document(root / "sources.json")
        return plan


def _plan_without_files(root: Place) -> Plan:
    attributes = json.loads(read_document(root / "recipe.json"))
    if attributes["schema"] != SCHEMA:
        raise CorpusError(
            f"{root} has corpus schema {attributes['schema']}, this Fathom reads {SCHEMA}; build it again"
        )
    recipe = Recipe.model_validate_json(json.dumps(attributes["recipe"]))
    stages = {str(name): int(version) for name, version in dict(attributes.get("stages", {})).items()}
    return Plan(recipe, (), stages)


def _files(root: Place) -> tuple[str, ...]:
    files = json.loads(read_document(root / "sources.json"))
    if not isinstance(files, list) or not files:
        raise ValueError("sources.json names no file")
    all_names = "\0".join(["", *files])
    if "\0/" in all_names or (".." in all_names and any(".." in Path(f).parts for f in files)):
        raise ValueError("sources.json names a file outside the folder of sources")
    return tuple(files)


@contextlib.contextmanager
def _told(root: Place) -> Iterator[None]:
    """Raise CorpusError for what goes wrong while the documents are read that a corpus was begun with."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        state = "is not a corpus of Fathom's" if root.exists() else "does not exist"
        raise CorpusError(f"{root} {state}; give the folder that `fathom build` made") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(
            f"{root}: recipe.json or sources.json is damaged ({type(error).__name__}), so it is not known what was "
            "built; restore them, or build under another name"
        ) from None


def open_corpus(path: str | Place) -> Corpus:
    """Open a finished corpus for reading.

    Parameters
    ----------
    path
        The folder that `fathom build` made, or its address in an object store: ``s3://bucket/name.zarr``.

    Returns
    -------
    The corpus, with its recipe, its list of sources, and its arrays by bucket.

    Raises
    ------
    CorpusError
        The folder holds no corpus, or one that is damaged or of another schema.
    UnfinishedCorpusError
        The build of the corpus has not ended.
    StoreError
        The object store cannot be reached, or refuses.
    """
    path = place_of(path)
    refuse_unfinished(path)
    attributes = stored_attributes(path)
    plan = _plan_to_open(path)
    try:
        return Corpus(path, attributes, _buckets(path, plan, attributes))
    except DAMAGED as error:
        raise damaged_metadata(path, error) from None


def _buckets(path: Place, plan: Plan, attributes: dict[str, Any]) -> list[Bucket]:
    """The buckets in the order of their first pairs, as `Plan.buckets` has them, but without drawing all shapes again.

    Raises CorpusError where pairs are missing.
    """
    possible = [plan.bucket(*shape) for shape in plan.shapes]
    there = [bucket for bucket in possible if len(possible) == 1 or (path / bucket.name).exists()]
    opened = [_opened(path, bucket, attributes) for bucket in there]
    if sum(bucket.arrays["index"].shape[0] for bucket in opened) != len(plan):
        raise CorpusError(f"{path}: pairs are missing; the same `fathom build` mends it")
    return opened if len(opened) == 1 else sorted(opened, key=lambda bucket: int(bucket.numbers("index").min()))


def _opened(path: Place, plan: BucketPlan, attributes: dict[str, Any]) -> Bucket:
    bucket = open_bucket(path, plan.name, own_maps=plan.own_maps, sums=sealed_sums(attributes, plan.name))
    shapes = {
        "kspace": plan.kspace_shape,
        "mask": plan.mask_shape,
        "target": plan.target_shape,
        "maps": plan.maps_shape,
    }
    for name, shape in shapes.items():
        if bucket.arrays[name].shape[1:] != shape:
            raise ValueError(f"{plan.name}/{name} has rows of shape {bucket.arrays[name].shape[1:]} instead of {shape}")
    return bucket
