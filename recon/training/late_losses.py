"""The losses of steps, read from a GPU a step late, so that it never waits for Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..data.packed_batch import Batch


@dataclass(frozen=True, eq=False)
class Step:
    """A step that was made: its number, its loss, and a number that is not finite if anything in the step was not."""

    number: int
    loss: float
    check: float
    batch: Batch
    place: tuple[int, int]  # epoch, and number of batches given in it


class LateLosses:
    """Steps whose losses are on their way from the device."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Tensor, Any, Batch, tuple[int, int]]] = deque()

    def add(self, number: int, loss: Tensor, check: Tensor, batch: Batch, place: tuple[int, int]) -> None:
        """Send the loss [] and the check [] of a step to the host."""
        values, sent = torch.stack([loss, check]), None
        if values.device.type == "cuda":
            host = torch.empty(2, dtype=values.dtype, pin_memory=True)
            host.copy_(values, non_blocking=True)
            values, sent = host, torch.cuda.Event()
            sent.record()
        self._waiting.append((number, values, sent, batch, place))

    def ready(self, *, every: bool) -> Iterator[Step]:
        """The steps before the newest, in order; on a CPU, or with `every`, the newest, too."""
        while self._waiting and (every or len(self._waiting) > 1 or self._waiting[0][2] is None):
            number, values, sent, batch, place = self._waiting.popleft()
            if sent is not None:
                sent.synchronize()
            loss, check = values.tolist()
            yield Step(number, loss, check, batch, place)
