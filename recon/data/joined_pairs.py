"""Several corpora as one, for joint training on contrasts, SNRs, samplings or coils (Knoll 2019, experiments 4-6)."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import accumulate

import numpy as np

from .packed_batch import Geometry, PackedBatch
from .pairs import Pairs
from .shared_memory import Empty


class JoinedPairs(Pairs):
    """The pairs of all `parts`, one part after the other; a batch never mixes parts, and never mixes buckets."""

    def __init__(self, parts: Sequence[Pairs]) -> None:
        super().__init__(with_maps=parts[0].with_maps, oversampled=parts[0].oversampled)
        self.parts = tuple(parts)
        self._pairs = [0, *accumulate(len(p) for p in parts)]
        self._buckets = [0, *accumulate(len(p.geometries) for p in parts)]

    @property
    def identity(self) -> str:
        """sha256 of the parts' identities, in order."""
        return hashlib.sha256(" ".join(p.identity for p in self.parts).encode()).hexdigest()

    @property
    def is_remote(self) -> bool:
        """Whether reading some part waits for a network."""
        return any(part.is_remote for part in self.parts)

    @cached_property
    def geometries(self) -> list[Geometry]:
        """One geometry per bucket, for all parts."""
        found = [geometry for part in self.parts for geometry in part.geometries]
        return [replace(geometry, bucket=number) for number, geometry in enumerate(found)]

    @cached_property
    def bucket_of(self) -> np.ndarray:
        """Bucket number of every position."""
        return np.concatenate([p.bucket_of + first for p, first in zip(self.parts, self._buckets, strict=False)])

    @property
    def shard_of(self) -> np.ndarray:
        """The number of the shard of every position, in its bucket."""
        return np.concatenate([part.shard_of for part in self.parts])

    @property
    def pair_bytes(self) -> int:
        """Bytes of the largest pair, packed."""
        return max(p.pair_bytes for p in self.parts)

    def packed(self, positions: Sequence[int], empty: Empty = np.empty) -> PackedBatch:
        """Packed batch of positions that share a bucket."""
        part = bisect.bisect_right(self._pairs, positions[0]) - 1
        batch = self.parts[part].packed([p - self._pairs[part] for p in positions], empty)
        geometry = batch.geometry
        return replace(batch, geometry=replace(geometry, bucket=geometry.bucket + self._buckets[part]))

    def of_epoch(self, epoch: int) -> Pairs:
        """The parts, as that epoch sees each."""
        parts = [part.of_epoch(epoch) for part in self.parts]
        return self if all(a is b for a, b in zip(parts, self.parts, strict=True)) else JoinedPairs(parts)

    def map_set(self, bucket: int, index: int) -> np.ndarray:
        """Maps [coil y x] of a set."""
        part = bisect.bisect_right(self._buckets, bucket) - 1
        return self.parts[part].map_set(bucket - self._buckets[part], index)

    def name_of(self, position: int) -> str:
        """The name of the pair at a position, for messages."""
        part = bisect.bisect_right(self._pairs, position) - 1
        return self.parts[part].name_of(position - self._pairs[part])


def joined(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of all parts; a single part is returned as it is."""
    return parts[0] if len(parts) == 1 else JoinedPairs(parts)
