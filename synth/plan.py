"""A recipe and its list of sources: which pair comes from which file, and which pairs share a shape."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex

import numpy as np

from .errors import RecipeError, SourceRejectedError, StageVersionError
from .given import refuse_other_type
from .pair import Pair, matrix_of, pair_from_image
from .process import one_blas_thread
from .recipe import Recipe
from .scan_pair import pair_from_scan
from .sources.crimes import MEANING, SourceFinding, crimes_of_kspace
from .sources.photos import Photo, read_photo
from .sources.scan_slices import ScanItem, ScansSpec
from .storage.copies import told_of
from .version import SCAN_STAGES, __version__

SHARD_BYTES = 128 * 2**20
SHARD_PAIRS = 4096  # the ledger has a line per shard, and a kilobyte per pair, of which one line is in memory
COMPLEX64 = 8


@dataclass(frozen=True)
class BucketPlan:
    """Pairs of one shape."""

    coils: int
    matrix: tuple[int, int]
    readout: int  # acquired samples along y
    capacity: int  # lines or points that the packed k-space has room for
    lines: bool  # masks of whole lines
    own_maps: bool  # each pair has its own maps, estimated from its reference lines, as pairs from scans have
    indices: Sequence[int]
    sets: int = 1  # map sets of a pair, as `coils.espirit_sets` has it

    @property
    def name(self) -> str:
        """Name of its group in the corpus."""
        return f"c{self.coils}-y{self.readout}-x{self.matrix[1]}"

    @property
    def kspace_shape(self) -> tuple[int, ...]:
        """Shape of one pair's packed k-space: [coil y line] or [coil point]."""
        return (self.coils, self.readout, self.capacity) if self.lines else (self.coils, self.capacity)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """Shape of one pair's mask: [x] or [y x]."""
        return (self.matrix[1],) if self.lines else (self.readout, self.matrix[1])

    @property
    def maps_shape(self) -> tuple[int, ...]:
        """Shape of a map set, [coil y x]; or of the sets of a pair that has several, [set coil y x]."""
        return (*self._sets, self.coils, *self.matrix)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of a target: [y x], or [set y x] where a pair has several map sets."""
        return (*self._sets, *self.matrix)

    @property
    def _sets(self) -> tuple[int, ...]:
        return (self.sets,) if self.sets > 1 else ()

    @property
    def pair_bytes(self) -> int:
        """Bytes of one pair's k-space and target."""
        return COMPLEX64 * int(np.prod(self.kspace_shape) + np.prod(self.target_shape))

    @property
    def maps_bytes(self) -> int:
        """Bytes of one map set."""
        return COMPLEX64 * int(np.prod(self.maps_shape))


@dataclass(frozen=True)
class Plan:
    """A recipe and its list of sources: which pair comes from which file, and which pairs share a shape.

    ``Plan.of(recipe)`` makes it; ``plan.pair(index)`` synthesises a pair, the same on any worker.

    Attributes
    ----------
    recipe
        The resolved recipe, with its number of pairs.
    files
        Names of the files, relative to the source's folder. Pair `index` comes from file `index` modulo their number.
    stages
        Versions of the stages by name, as in `synth.version.SCAN_STAGES`; a stage that is not listed has version 1.
    """

    recipe: Recipe
    files: tuple[str, ...]
    stages: dict[str, int]

    @classmethod
    def of(cls, recipe: Recipe, files: tuple[str, ...] | None = None) -> Plan:
        """List the sources (unless given) and settle the number of pairs; raises RecipeError.

        The stages have the newest versions.
        """
        refuse_other_type(recipe, Recipe, "a plan takes a Recipe, which load_recipe reads")
        try:
            files = tuple(recipe.source.list_files()) if files is None else files
        except (OSError, ValueError) as error:
            raise RecipeError(str(error)) from None
        plan = cls(recipe.model_copy(update={"pairs": recipe.pairs or len(files)}), files, _stages_of(recipe))
        if recipe.shard_pairs is None:  # settled once and stored: another version may have another default
            settled = plan.recipe.model_copy(update={"shard_pairs": plan._default_shard_pairs()})
            plan = replace(plan, recipe=settled)
        return plan

    def __len__(self) -> int:
        """Number of pairs, before any is rejected."""
        return self.recipe.pairs or len(self.files)

    def file_of(self, index: int) -> str:
        """The source file of pair `index`, relative to the source folder."""
        return self.files[index % len(self.files)]

    @property
    def older_stages(self) -> list[str]:
        """The stages of which this Fathom has a later version, one sentence each."""
        return [
            f"the stage '{name}' has version {self.stages.get(name, 1)}, as when the corpus was begun; for version "
            f"{version}, build under another name"
            for name, version in _stages_of(self.recipe).items()
            if self.stages.get(name, 1) < version
        ]

    def refuse_unknown_stages(self, what: str) -> None:
        """Raise StageVersionError, which begins with `what`, where a later version of Fathom must make the pairs."""
        known = _stages_of(self.recipe)
        for name, version in self.stages.items():
            if not 1 <= version <= known.get(name, 1):
                raise StageVersionError(
                    f"{what}: its pairs need version {version} of the stage '{name}', and this Fathom ({__version__}) "
                    f"makes versions up to {known.get(name, 1)}; install the Fathom that ledger.jsonl names"
                )

    def pair(self, index: int) -> Pair:
        """Synthesise pair `index`.

        Raises SourceRejectedError where its source cannot be used, StageVersionError, and IndexError below 0. Beyond
        the recipe's number of pairs come those of a larger corpus of the same recipe.
        """
        refuse_other_type(index, SupportsIndex, "a pair is asked for by its number, such as 0")
        if index < 0:
            raise IndexError(f"there is no pair {index}; pairs are numbered from 0")
        self.refuse_unknown_stages(self.recipe.name)
        source = self.recipe.source
        try:
            if isinstance(source, ScansSpec):
                kspace, scan, number = source.read(self.file_of(index))
                findings = crimes_of_kspace(scan.without_padding(number))
                findings += ("oversampling-removed",) if scan.oversampling_removed else ()
                _refuse(findings, source.refuse)
                if self.stages.get("sources", 1) >= 2:
                    _refuse_undersampled(findings, source)
                with one_blas_thread():
                    return pair_from_scan(self.recipe, kspace, scan, number, index, findings, self.stages)
            return pair_from_image(self.recipe, self.photo(index), index, self.stages)
        except SourceRejectedError as error:
            raise self.naming_the_source(index, error) from None

    def photo(self, index: int) -> Photo:
        """The photograph of pair `index`; raises SourceRejectedError where it cannot be used."""
        photo = read_photo(self.recipe.source.folder / self.file_of(index))
        _refuse(photo.findings, self.recipe.source.refuse)
        return photo

    def naming_the_source(self, index: int, error: SourceRejectedError) -> SourceRejectedError:
        """The same error with the path of the source in front, unless it is in the message already."""
        place = self.recipe.source.folder / self.file_of(index)
        reason = told_of(place, str(error))
        return SourceRejectedError(reason if str(place) in reason else f"{place}: {reason}")

    @cached_property
    def buckets(self) -> tuple[BucketPlan, ...]:
        """Pairs by shape, in the order of their first pairs."""
        if len(self.shapes) == 1:
            return (self.bucket(*self.shapes[0], range(len(self))),)
        by_shape: dict[tuple[int, tuple[int, int]], array[int]] = {}
        for index in range(len(self)):
            by_shape.setdefault(self._shape_of(index), array("q")).append(index)
        return tuple(self.bucket(coils, matrix, indices) for (coils, matrix), indices in by_shape.items())

    @cached_property
    def shapes(self) -> tuple[tuple[int, tuple[int, int]], ...]:
        """Coils and matrix that pairs may have; where matrices are drawn, not every one need occur."""
        if isinstance(self.recipe.source, ScansSpec):
            return tuple(dict.fromkeys(map(self._shape_of, range(min(len(self), len(self.files))))))
        return tuple(dict.fromkeys((self.recipe.coils.count or 1, matrix) for matrix in self.recipe.target.matrix))

    def _shape_of(self, index: int) -> tuple[int, tuple[int, int]]:
        """Coils and matrix of pair `index`."""
        recipe = self.recipe
        if not isinstance(recipe.source, ScansSpec):
            return recipe.coils.count or 1, matrix_of(recipe, index)
        item = ScanItem.parse(self.file_of(index))
        matrix = item.matrix if recipe.target.fit == "native" else recipe.target.matrix[0]
        return recipe.coils.count or item.coils, matrix

    def bucket(self, coils: int, matrix: tuple[int, int], indices: Sequence[int] = ()) -> BucketPlan:
        """The bucket of a shape, with the indices of its pairs."""
        size = (self.recipe.target.readout(matrix).samples, matrix[1])
        lines = not self.recipe.sampling.packs_points
        whole = size[1] if lines else size[0] * size[1]
        capacity = self.recipe.sampling.capacity(size) if self.recipe.kspace == "packed" else whole
        own, sets = self.recipe.own_maps, self.recipe.espirit_sets
        return BucketPlan(coils, matrix, size[0], capacity, lines, own, indices, sets)

    @property
    def shard_pairs(self) -> int:
        """Pairs per shard."""
        return self.recipe.shard_pairs or self._default_shard_pairs()

    def _default_shard_pairs(self) -> int:
        """As many pairs as take 128 MB, or fewer, so that there are sixteen shards where there are enough pairs."""
        return max(1, min(SHARD_BYTES // max(b.pair_bytes for b in self.buckets), -(-len(self) // 16), SHARD_PAIRS))


def _stages_of(recipe: Recipe) -> dict[str, int]:
    """The newest versions of the stages that pairs of a recipe need; of photographs', only estimated maps have one."""
    if recipe.of_scans:
        return dict(SCAN_STAGES)
    return {"maps": SCAN_STAGES["maps"]} if recipe.own_maps else {}


def _refuse(findings: tuple[SourceFinding, ...], refused: tuple[SourceFinding, ...]) -> None:
    for finding in findings:
        if finding in refused:
            raise SourceRejectedError(f"{MEANING[finding]} (source.refuse has '{finding}')")


def _refuse_undersampled(findings: tuple[SourceFinding, ...], source: ScansSpec) -> None:
    if "undersampled" in findings and "undersampled" not in (source.accept or ()):
        raise SourceRejectedError(
            f"{MEANING['undersampled']}; leave the scan out, or take it as it is with source.accept = ['undersampled']"
        )
