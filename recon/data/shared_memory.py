"""Shared memory in which worker processes leave batches, used again and again.

Sending a tensor to another process costs a new shared memory file, its page faults on both sides and a handshake for
its descriptor: more than reading the pair. Here a batch is read straight into a slot that both sides have mapped, and
only its layout travels.
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
SLACK = 4096  # bytes of a slot, for alignment
NUMBERS_BYTES = 64  # of a pair, for its numbers

Empty = Callable[[Sequence[int], Any], NDArray[Any]]
"""An allocator: (shape, dtype) to an array, as `numpy.empty`."""


@dataclass(frozen=True)
class Layout:
    """What lies where in a slot: all that is sent of a batch."""

    geometry: Geometry
    fields: dict[str, tuple[int, torch.dtype, tuple[int, ...]]]  # offset, dtype, shape


class Slot:
    """One slot: a batch is written in one process and seen in another."""

    def __init__(self, memory: Tensor) -> None:
        self._memory, self._used = memory, 0

    def empty(self, shape: Sequence[int], dtype: Any) -> NDArray[Any]:
        """An array in the slot, where `numpy.empty` would take memory of its own."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        start, self._used = self._used, self._used + -(-size // ALIGNMENT) * ALIGNMENT
        return self._memory.numpy()[start : start + size].view(dtype).reshape(shape)

    def put(self, batch: PackedBatch) -> Layout:
        """Keep a batch; only what does not lie in the slot already is copied."""
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
        """The batch that was put, in the slot's memory: gone when the slot is used again."""
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
