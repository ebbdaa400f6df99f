"""The losses of steps, read from a GPU a step late, so that it never waits for Python."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..data.packed_batch import Batch
from ..models.late import Late


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
        self._waiting: deque[tuple[int, Late, Batch, tuple[int, int]]] = deque()

    def add(self, number: int, loss: Tensor, check: Tensor, batch: Batch, place: tuple[int, int]) -> None:
        """Send the loss [] and the check [] of a step to the host."""
        self._waiting.append((number, Late(torch.stack([loss, check])), batch, place))

    def ready(self, *, every: bool) -> Iterator[Step]:
        """The steps before the newest, in order; on a CPU, or with `every`, the newest, too."""
        while self._waiting and (every or len(self._waiting) > 1 or self._waiting[0][1].is_there):
            number, values, batch, place = self._waiting.popleft()
            loss, check = values.read().tolist()
            yield Step(number, loss, check, batch, place)
