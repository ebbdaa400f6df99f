"""The order in which pairs form batches: decided by a seed, and the same wherever it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from synth.rng import rng

from .pairs import Pairs


@dataclass(frozen=True)
class BatchOrder:
    """The positions that form each batch of an epoch, which depend only on these fields and the epoch.

    Batches never mix buckets. With several ranks, each rank takes every `world_size`-th batch, and all ranks take the
    same number of batches. With a `window`, whole shards are shuffled, and then the pairs of every `window` that follow
    each other in that order; batches of several buckets alternate at random and keep each bucket's order.
    """

    pairs: Pairs
    batch_size: int
    shuffle: bool
    seed: int
    drop_last: bool = False
    rank: int = 0
    world_size: int = 1
    window: int = 0

    def __post_init__(self) -> None:
        """Refuse values from which no order can be made."""
        if not isinstance(self.batch_size, int | np.integer) or self.batch_size < 1:
            raise ValueError(f"batch_size must be a whole number of at least 1, got {self.batch_size!r}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be 0 ... world_size - 1, got rank {self.rank} of {self.world_size}")
        if self.window and not self.shuffle:
            raise ValueError("window is a way to shuffle, and shuffle is off; give one of both")

    def state(self) -> dict[str, int | str]:
        """The settings that decide the order, and the number and identity of the pairs."""
        names = (
            "batch_size",
            "shuffle",
            "seed",
            "drop_last",
            "rank",
            "world_size",
            *(["window"] if self.window else []),
        )
        return {**{name: int(getattr(self, name)) for name in names}, "pairs": len(self.pairs), "data": self._identity}

    @cached_property
    def _identity(self) -> str:
        return self.pairs.identity

    @cached_property
    def _shard_of(self) -> NDArray[np.int64]:
        return self.pairs.shard_of

    def epoch(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch, for this rank."""
        draw = rng(self.seed, "shuffle", epoch)
        batches: list[list[int]] = []
        buckets: list[int] = []
        for bucket in range(len(self.pairs.geometries)):
            positions = np.flatnonzero(self.pairs.bucket_of == bucket)
            if self.shuffle:
                positions = self._by_shards(positions, draw) if self.window else draw.permutation(positions)
            cut = [positions[i : i + self.batch_size].tolist() for i in range(0, len(positions), self.batch_size)]
            kept = [b for b in cut if len(b) == self.batch_size or not self.drop_last]
            batches, buckets = batches + kept, buckets + [bucket] * len(kept)
        if self.window:  # k-th batch of a bucket stays its k-th
            places = np.argsort(draw.permutation(buckets), kind="stable")
            batches = [batches[k] for k in np.argsort(places)]
        elif self.shuffle:
            batches = [batches[k] for k in draw.permutation(len(batches))]
        usable = len(batches) - len(batches) % self.world_size
        return batches[self.rank : usable : self.world_size]

    def _by_shards(self, positions: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
        """Positions of one bucket: shards in a random order, then pairs in a random order in every window of them."""
        shards = self._shard_of[positions]
        turn = draw.permutation(int(shards.max()) + 1) if len(shards) else shards
        positions = positions[np.argsort(turn[shards], kind="stable")]
        cut = [positions[i : i + self.window] for i in range(0, len(positions), self.window)]
        return np.concatenate([draw.permutation(part) for part in cut]) if cut else positions
