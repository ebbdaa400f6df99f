"""Shared memory through which worker processes give batches to this process; its slots are reused.

Sending a tensor to another process costs a new shared memory file, its page faults on both sides and a handshake for
its descriptor, which takes longer than reading the pair. Here a batch is read straight into a slot that both sides have
mapped, and only its layout is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .packed_batch import Geometry, PackedBatch

ALIGNMENT = 128
SLACK = 4096  # extra bytes of a slot, for alignment
NUMBERS_BYTES = 64  # bytes for the numbers of a pair

Empty = Callable[[Sequence[int], Any], NDArray[Any]]
"""An allocator, which takes (shape, dtype) and returns an array, as `numpy.empty` does."""


@dataclass(frozen=True)
class Layout:
    """The place of each tensor in a slot; only this is sent to the other process."""

    geometry: Geometry
    fields: dict[str, tuple[int, torch.dtype, tuple[int, ...]]]  # offset, dtype, shape


class Slot:
    """One slot of shared memory: one process writes a batch, and another process sees it."""

    def __init__(self, memory: Tensor) -> None:
        self._memory, self._used = memory, 0

    def empty(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """An array in the slot; this takes the place of `numpy.empty`."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        start, self._used = self._used, self._used + -(-size // ALIGNMENT) * ALIGNMENT
        return self._memory.numpy()[start : start + size].view(dtype).reshape(shape)

    def put(self, batch: PackedBatch) -> Layout:
        """Store a batch in the slot; only tensors that do not lie in the slot already are copied."""
        found = {}
        for field in fields(batch)[1:]:
            tensor = getattr(batch, field.name)
            offset = tensor.data_ptr() - self._memory.data_ptr()
            if not 0 <= offset < self._memory.nbytes:
                kept = torch.from_numpy(self.empty(tensor.shape, tensor.numpy().dtype)).copy_(tensor)
                offset = kept.data_ptr() - self._memory.data_ptr()
            found[field.name] = offset, tensor.dtype, tuple(tensor.shape)
        return Layout(batch.geometry, found)

    def get(self, layout: Layout) -> PackedBatch:
        """The batch that `put` stored. It lies in the slot's memory, and is lost when the slot is used again."""
        tensors = {
            name: self._memory[offset : offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64))]
            .view(dtype)
            .view(shape)
            for name, (offset, dtype, shape) in layout.fields.items()
        }
        return PackedBatch(layout.geometry, **tensors)


class Slots:
    """`count` slots of `size` bytes; batch `number` lies in slot `number` modulo `count`."""

    def __init__(self, count: int, size: int) -> None:
        self._memory = torch.empty((count, -(-size // ALIGNMENT) * ALIGNMENT), dtype=torch.uint8).share_memory_()

    def __getitem__(self, number: int) -> Slot:
        """The slot of a batch."""
        return Slot(self._memory[number % len(self._memory)])
