"""Training pairs from a corpus or from a recipe; both give the items that `recon.data.pairs` describes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from copy import copy
from functools import cached_property

import numpy as np
import torch

from synth.corpus.reader import open_corpus
from synth.corpus.sources import Source, named_sources, sources_of
from synth.corpus.tasks import padded
from synth.errors import CorpusError
from synth.plan import Plan
from synth.recipe import Recipe
from synth.stages.coil_cache import map_cache
from synth.stages.coil_estimate import EspiritSpec
from synth.storage.objects import ObjectPlace
from synth.storage.place import Place
from synth.storage.remote_shard import opened_array, read_rows

from .packed_batch import Geometry, PackedBatch
from .pairs import Pairs
from .redrawn import Redraw
from .shared_memory import Empty

NUMBERS = ("max_value", "scale", "sigma", "acceleration", "acceleration_net")  # the corpus uses the same names
PACKED = ("kspace", "mask", "target")


class PairDataset(Pairs):
    """The pairs of a finished corpus, by position; an item is a dict of tensors, see `recon.data.pairs`.

    It is safe in forked and spawned workers, even if the parent process has already read from it; a corpus in an object
    store in threads and spawned workers.

    Parameters
    ----------
    path
        The corpus: a folder, or an address ``s3://bucket/name.zarr`` (also ``gs://``, ``az://``).
    with_maps
        False leaves ``sens_maps`` out.
    oversampled
        True keeps the readout's oversampling, and pads the maps with zeros to its rows.
    redraw
        "mask" and "noise" are drawn anew in every epoch of a loader, from k-space that is kept in full (`Redraw`);
        items that are read without a loader are those of epoch 0.

    Raises
    ------
    CorpusError
        The path is not a finished corpus, or the corpus is damaged.
    ValueError
        What `redraw` names cannot be drawn anew.
    StoreError, StorageError
        The object store cannot be reached, or refuses; what to install or to set.
    """

    def __init__(
        self, path: str | Place, *, with_maps: bool = True, oversampled: bool = False, redraw: Sequence[str] = ()
    ) -> None:
        super().__init__(with_maps=with_maps, oversampled=oversampled)
        corpus = open_corpus(path)
        self.path, self.recipe, self.content_hash = corpus.path, corpus.recipe, corpus.content_hash
        parts = (redraw,) if isinstance(redraw, str) else tuple(redraw)
        self._redraw, self._epoch = Redraw(self.recipe, parts) if parts else None, 0
        buckets = [(b, b.valid_rows) for b in corpus.buckets if len(b.valid_rows)]  # a shape may have no pair left
        names = ("kspace", "mask", "target", "maps")
        self._arrays = [{n: opened_array(corpus.path / b.name / n, b.sums_of(n)) for n in names} for b, _ in buckets]
        columns = {**{name: name for name in NUMBERS}, "pair_id": "index"}
        self._numbers = [
            {**{name: b.numbers(column) for name, column in columns.items()}, "maps_index": b.map_rows}
            for b, _ in buckets
        ]
        index = []
        for (bucket, rows), numbers in zip(buckets, self._numbers, strict=True):
            valid = {name: v if len(rows) == len(v) else v[rows] for name, v in numbers.items()}
            known = [v for name, v in valid.items() if not (name == "sigma" and self.recipe.of_scans)]
            if not all(v.min() >= 0 and v.max() < np.inf for v in known):  # a NaN is neither
                raise CorpusError(
                    f"{corpus.path}/{bucket.name}: its numbers are damaged; run the same `fathom build` to mend it"
                )
            index.append(valid["pair_id"])
        indices = _joined(index)
        self._row_of = _joined([rows for _, rows in buckets])
        self._bucket_of = _joined([np.full(len(rows), k) for k, (_, rows) in enumerate(buckets)])
        if not (indices[:-1] < indices[1:]).all():  # positions follow the pairs' indices; one bucket is in that order
            order = np.argsort(indices, kind="stable")
            self._row_of, self._bucket_of = self._row_of[order], self._bucket_of[order]
        self._geometries = [self._geometry(k) for k in range(len(buckets))]

    @property
    def is_remote(self) -> bool:
        """Whether the corpus lies in an object store."""
        return isinstance(self.path, ObjectPlace)

    @property
    def coils(self) -> list[int]:
        """The numbers of coils that occur in the corpus, in ascending order."""
        return sorted({arrays["kspace"].shape[1] for arrays in self._arrays})

    @property
    def coils_of_pairs(self) -> np.ndarray:
        """The number of coils of every pair [pair]."""
        return np.array([arrays["kspace"].shape[1] for arrays in self._arrays])[self._bucket_of]

    def _geometry(self, bucket: int) -> Geometry:
        shapes = {name: array.shape for name, array in self._arrays[bucket].items()}
        lines = len(shapes["mask"]) == 2
        readout = shapes["kspace"][2] if lines else shapes["mask"][1]
        target = shapes["target"]
        sets = target[1] if len(target) == 4 else 1
        return Geometry(bucket, target[-2:], readout, lines, self.recipe.kspace == "full", sets)  # type: ignore[arg-type]

    @property
    def pair_ids(self) -> list[int]:
        """The index of the pair at each position."""
        return self.of_all("pair_id").astype(int).tolist()

    def of_all(self, number: str) -> np.ndarray:
        """A number of every pair, by position."""
        found = np.empty(len(self._row_of), self._numbers[0][number].dtype if self._numbers else float)
        for bucket, numbers in enumerate(self._numbers):
            mine = self._bucket_of == bucket
            found[mine] = numbers[number][self._row_of[mine]]
        return found

    @cached_property
    def sources(self) -> dict[int, Source]:
        """The source of each pair by its index: file, sha256, and subject where one is known."""
        return sources_of(self.path)

    @property
    def without_sigma(self) -> list[int]:
        """The positions of pairs whose sigma is 0 or not known."""
        return np.flatnonzero(~(self.of_all("sigma") > 0)).tolist()

    @property
    def identity(self) -> str:
        """The corpus's content hash, and what is drawn anew."""
        return " ".join((self.content_hash, *(self._redraw.parts if self._redraw else ())))

    def of_epoch(self, epoch: int) -> PairDataset:
        """The pairs with what is drawn anew in that epoch; the same corpus and the same cached maps."""
        if self._redraw is None or epoch == self._epoch:
            return self
        other = copy(self)
        other._epoch = epoch
        return other

    def name_of(self, position: int) -> str:
        """The name of the pair at a position, for messages."""
        bucket, row = self._bucket_of[position], self._row_of[position]
        return f"{self.path}, pair {int(self._numbers[bucket]['pair_id'][row])}"

    @property
    def geometries(self) -> list[Geometry]:
        """One per bucket."""
        return self._geometries

    @property
    def bucket_of(self) -> np.ndarray:
        """Bucket number of every position."""
        return self._bucket_of

    @property
    def shard_of(self) -> np.ndarray:
        """The number of the shard of every position, in its bucket."""
        steps = np.array([arrays["kspace"].rows_per_shard for arrays in self._arrays], np.int64)
        return self._row_of // steps[self._bucket_of]

    @property
    def pair_bytes(self) -> int:
        """Bytes of the largest pair, packed."""
        stored = [[arrays[name] for name in PACKED] for arrays in self._arrays]
        return max(sum(a.dtype.itemsize * int(np.prod(a.shape[1:])) for a in arrays) for arrays in stored)

    def packed(self, positions: Sequence[int], empty: Empty = np.empty) -> PackedBatch:
        """Packed batch of positions that share a bucket, each row read straight into its place."""
        bucket = int(self._bucket_of[positions[0]])
        rows = self._row_of[np.asarray(positions)].tolist()
        arrays, numbers = self._arrays[bucket], self._numbers[bucket]
        room = {name: empty((len(rows), *arrays[name].shape[1:]), arrays[name].dtype) for name in PACKED}
        read_rows([(arrays[name], rows, out) for name, out in room.items()])
        floats = {name: torch.tensor(numbers[name][rows], dtype=torch.float32) for name in NUMBERS}
        batch = PackedBatch(
            geometry=self._geometries[bucket],
            **{name: torch.from_numpy(out) for name, out in room.items()},
            **floats,
            maps_index=torch.tensor(numbers["maps_index"][rows], dtype=torch.int64),
            pair_id=torch.tensor(numbers["pair_id"][rows], dtype=torch.int64),
        )
        return batch if self._redraw is None else self._redraw.of(batch, self._epoch)

    def map_set(self, bucket: int, index: int) -> np.ndarray:
        """Maps [coil y x] of a set; [set coil y x] of a pair that has several."""
        return self._arrays[bucket]["maps"][index]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Arrays of whole numbers as one; there may be none."""
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.int64), *parts])


class VirtualPairs(Pairs):
    """The pairs of a recipe, synthesised when they are read: the same items as from `PairDataset`, without a corpus.

    Parameters
    ----------
    recipe
        The recipe; `load_recipe` gives it.
    with_maps
        False leaves ``sens_maps`` out.
    oversampled
        True keeps the readout's oversampling, and pads the maps with zeros to its rows.

    Raises
    ------
    RecipeError
        The recipe cannot be used. Reading an item whose source cannot be used raises SourceRejectedError.
    """

    def __init__(self, recipe: Recipe, *, with_maps: bool = True, oversampled: bool = False) -> None:
        super().__init__(with_maps=with_maps, oversampled=oversampled)
        self.plan = Plan.of(recipe)
        self.recipe = self.plan.recipe

    @property
    def identity(self) -> str:
        """A hash of the pairs: of the recipe and, for scans, of the versions of the stages (`synth.version`)."""
        if not self.plan.stages:
            return self.recipe.hash()
        return hashlib.sha256(json.dumps([self.recipe.hash(), self.plan.stages], sort_keys=True).encode()).hexdigest()

    @cached_property
    def geometries(self) -> list[Geometry]:
        """One per bucket."""
        full = self.recipe.kspace == "full"
        return [Geometry(k, b.matrix, b.readout, b.lines, full, b.sets) for k, b in enumerate(self.plan.buckets)]

    @cached_property
    def bucket_of(self) -> np.ndarray:
        """Bucket number of every position."""
        found = np.empty(len(self.plan), np.int64)
        for k, bucket in enumerate(self.plan.buckets):
            found[np.asarray(bucket.indices)] = k
        return found

    @cached_property
    def sources(self) -> dict[int, Source]:
        """The source of each pair by its index; sha256 is empty, because no file is read for this."""
        return named_sources(self.plan, dict.fromkeys(range(len(self.plan)), ""))

    @property
    def pair_bytes(self) -> int:
        """Bytes of the largest pair, packed."""
        return max(bucket.pair_bytes + int(np.prod(bucket.mask_shape)) for bucket in self.plan.buckets)

    def packed(self, positions: Sequence[int], empty: Empty = np.empty) -> PackedBatch:
        """Packed batch of positions that share a bucket."""
        number = int(self.bucket_of[positions[0]])
        capacity = self.plan.buckets[number].capacity
        pairs = [self.plan.pair(p) for p in positions]
        floats = {name: torch.tensor([p.numbers[name] for p in pairs], dtype=torch.float32) for name in NUMBERS}
        return PackedBatch(
            geometry=self.geometries[number],
            kspace=torch.from_numpy(np.stack([padded(p.kspace, capacity) for p in pairs])),
            mask=torch.from_numpy(np.stack([p.mask.sampled for p in pairs])),
            target=torch.from_numpy(np.stack([p.target for p in pairs])),
            maps_index=torch.tensor([p.maps_index for p in pairs]),
            pair_id=torch.tensor([p.index for p in pairs]),
            **floats,
        )

    def map_set(self, bucket: int, index: int) -> np.ndarray:
        """Maps [coil y x] of a set; [set coil y x] of a pair that has several."""
        if self.recipe.own_maps:
            maps = self.plan.pair(index).maps
            assert maps is not None
            return maps
        coils = self.recipe.coils
        assert not isinstance(coils, EspiritSpec)  # it has no sets to share
        maps = map_cache.get(coils, self.recipe.seed, index, self.geometries[bucket].matrix)
        return self.recipe.noise.received(maps)[0]
