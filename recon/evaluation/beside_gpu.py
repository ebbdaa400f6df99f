"""Work of the host that can run beside a GPU: metrics of images, draws of noise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item], device: torch.device) -> list[Result]:
    """The function of every item, in order: in threads if `device` is a GPU, since the cores are idle then."""
    if device.type == "cpu":
        return [function(item) for item in items]
    return list(_threads().map(function, items))


@lru_cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 1) // 2)), thread_name_prefix="fathom-metrics")
