"""The processes that train together: one, or those that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from ..data.device import named_device


@dataclass(frozen=True)
class ProcessGroup:
    """`rank` of `size` processes; each takes its own batches, and gradients are averaged."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device) -> ProcessGroup:
        """The group that ``torchrun`` describes in RANK and WORLD_SIZE, or this process alone."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls()
        if not dist.is_initialized():
            if device.type == "cuda":
                dist.init_process_group("nccl", device_id=device)  # it need not guess the device at the first exchange
            else:
                dist.init_process_group("gloo")
        return cls(dist.get_rank(), size)

    def leave(self) -> None:
        """End the group."""
        if self.size > 1:
            dist.destroy_process_group()

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over all processes, in place, in one exchange."""
        if self.size == 1:
            return
        mine = list(tensors)
        flat = torch.cat([t.reshape(-1) for t in mine])
        dist.all_reduce(flat)
        flat /= self.size
        for t, part in zip(mine, flat.split([t.numel() for t in mine]), strict=True):
            t.copy_(part.view_as(t))

    def gather(self, value: Any) -> list[Any]:
        """The value of every process, in the order of ranks; for small values only."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            dist.barrier()


def local_device(device: str | None) -> torch.device:
    """The device asked for, or the GPU where there is one; raises ValueError for a GPU that is not there."""
    try:
        chosen = named_device(device)
    except ValueError as error:
        raise ValueError(f"--{error}") from None
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"--device {chosen}: torch finds no GPU here; leave it out, or see `fathom doctor`")
        rank = int(os.environ.get("LOCAL_RANK", "0"))
        if chosen.index is not None and int(os.environ.get("LOCAL_WORLD_SIZE", "1")) > 1:
            raise ValueError(f"--device {chosen}: all processes of torchrun would share it; write cuda, one GPU each")
        chosen = chosen if chosen.index is not None else torch.device("cuda", rank)
        if chosen.index >= torch.cuda.device_count():
            raise ValueError(f"--device {chosen}: there are {torch.cuda.device_count()} GPUs here, numbered from 0")
        torch.cuda.set_device(chosen)
    elif chosen.type != "cpu":
        raise ValueError(f"--device {chosen}: this kind of device cannot be used; write cpu or cuda")
    return chosen
