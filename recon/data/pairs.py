"""Training pairs by position, as dicts of tensors.

An item is a dict of tensors with fastMRI's names (batches have one more axis in front):

- ``masked_kspace`` [coil y x] complex64, zero where not sampled; the readout's oversampling is removed by default
- ``mask``          [1 1 x] or [1 y x] bool
- ``sens_maps``     [coil y x] complex64, sum |map|^2 = 1
- ``target``        [y x] complex64, what a reconstruction should give back
- ``max_value``     [] max |target|
- ``scale``         [] the source's grey values were divided by this
- ``sigma``         [] noise standard deviation of the real part, and of the imaginary part; NaN for a scan whose noise
                    cannot be learnt
- ``acceleration``  [] the nominal acceleration that the recipe asks for
- ``acceleration_net`` [] number of positions over number of sampled positions
- ``pair_id``       [] the pair's index in its recipe

Pairs with ``espirit_sets = 2`` (in ``[coils]`` of scans, ``[coils.estimated]`` of photographs) have ``sens_maps``
[set coil y x] and ``target`` [set y x]; max |target| is then that of the root of the sum of squares over the sets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from synth.given import refuse_other_type
from synth.recipe import Recipe

from .packed_batch import Geometry, PackedBatch, unpack
from .shared_memory import Empty

MAPS_BYTES = 2 * 2**30  # most bytes of map sets that are kept in memory


class Pairs(Dataset[dict[str, Tensor]], ABC):
    """Training pairs by position; `PairDataset` reads them, `VirtualPairs` and `DevicePairs` make them."""

    recipe: Recipe  # joined corpora have one recipe per part: see their `parts`

    def __init__(self, *, with_maps: bool, oversampled: bool) -> None:
        self.with_maps, self.oversampled = with_maps, oversampled
        self._maps: OrderedDict[tuple[int, int, torch.device], Tensor] = OrderedDict()
        self._read: dict[tuple[int, int], Tensor] = {}  # maps on their way to a GPU

    @property
    @abstractmethod
    def geometries(self) -> list[Geometry]:
        """One per bucket."""

    @property
    @abstractmethod
    def bucket_of(self) -> np.ndarray:
        """Bucket number of every position."""

    @property
    @abstractmethod
    def pair_bytes(self) -> int:
        """Bytes of the largest pair, packed."""

    @abstractmethod
    def packed(self, positions: Sequence[int], empty: Empty = np.empty) -> PackedBatch:
        """Packed batch of positions that share a bucket; `empty` allocates its large arrays."""

    @abstractmethod
    def map_set(self, bucket: int, index: int) -> np.ndarray:
        """Maps [coil y x] of a set; [set coil y x] of a pair that has several."""

    def of_epoch(self, epoch: int) -> Pairs:
        """The pairs of epoch 0, 1, ...; they differ between epochs only where something is drawn anew (`redraw`)."""
        return self

    @property
    def is_remote(self) -> bool:
        """Whether reading waits for a network: more batches are then read ahead, and workers are not forked."""
        return False

    @property
    def shard_of(self) -> np.ndarray:
        """The number of the shard of every position; raises ValueError where pairs lie in no shards."""
        raise ValueError(f"{type(self).__name__}: has no shards, so shuffle without window")

    def refuse_map_sets(self, what: str) -> None:
        """Raise ValueError, which begins with `what`, if some pair has several map sets."""
        if any(geometry.sets > 1 for geometry in self.geometries):
            raise ValueError(f"{what} takes pairs with one map set; build them with coils.espirit_sets = 1")

    @property
    def identity(self) -> str:
        """A hash of the pairs, which does not depend on the order in which they are read."""
        return self.recipe.hash()

    def name_of(self, position: int) -> str:
        """The name of the pair at a position, for messages."""
        return f"pair {position} of {self.recipe.name}"

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.bucket_of)

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        """One item; its ``sens_maps`` are shared with other items, so do not change them in place."""
        refuse_other_type(position, SupportsIndex, "pairs are indexed by one whole number; __getitems__ takes a list")
        if not -len(self) <= position < len(self):
            raise IndexError(f"there are {len(self)} pairs, and no pair {position}")
        return self.__getitems__([range(len(self))[position]])[0]

    def __getitems__(self, positions: list[int]) -> list[dict[str, Tensor]]:
        """Items of several positions; those of one bucket are read together."""
        found: dict[int, dict[str, Tensor]] = {}
        where = np.asarray(positions)
        for bucket in np.unique(self.bucket_of[where]):
            mine = np.flatnonzero(self.bucket_of[where] == bucket)
            items = self.unpacked(self.packed([positions[k] for k in mine]))
            found.update({int(k): {name: t[n] for name, t in items.items()} for n, k in enumerate(mine)})
        return [found[k] for k in range(len(positions))]

    def unpacked(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Items of a packed batch, on the device of that batch."""
        maps = self._batch_maps(batch) if self.with_maps else None
        return unpack(batch, maps, oversampled=self.oversampled)

    def _batch_maps(self, batch: PackedBatch) -> Tensor:
        sets = [self._maps_on(key, batch.kspace.device) for key in batch.map_keys]
        return sets[0][None] if len(sets) == 1 else torch.stack(sets)

    def _maps_on(self, key: tuple[int, int], device: torch.device) -> Tensor:
        if (*key, device) not in self._maps:
            read = self._read.pop(key, None)
            read = torch.tensor(self._sent_set(*key)) if read is None else read
            if device.type == "cuda":
                read = (read if read.is_pinned() else read.pin_memory()).to(device, non_blocking=True)
            self._maps[*key, device] = self._received_set(key, read)
            while len(self._maps) > 1 and sum(m.nbytes for m in self._maps.values()) > MAPS_BYTES:
                self._maps.popitem(last=False)
        self._maps.move_to_end((*key, device))
        return self._maps[*key, device]

    def read_maps(self, batch: PackedBatch, device: torch.device) -> None:
        """Read the map sets of a batch ahead of `unpacked`; threads may call this."""
        for key in batch.map_keys:
            if (*key, device) not in self._maps and key not in self._read:
                read = torch.tensor(self._sent_set(*key))
                self._read[key] = read.pin_memory() if device.type == "cuda" else read

    def _sent_set(self, bucket: int, index: int) -> np.ndarray:
        """What is sent to the device for a map set: the maps, or something smaller that `_received_set` completes."""
        return self.map_set(bucket, index)

    def _received_set(self, key: tuple[int, int], sent: Tensor) -> Tensor:
        """Maps [coil y x], or [set coil y x], from what was sent to the device."""
        return sent

    def __getstate__(self) -> dict[str, Any]:
        """The state that is sent to other processes, without the cached maps."""
        return {**self.__dict__, "_maps": OrderedDict(), "_read": {}}
