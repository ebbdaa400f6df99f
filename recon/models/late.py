"""Small tensors that a GPU sends to the host while it goes on computing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Late:
    """A tensor on its way to the host; on a CPU it is there already."""

    def __init__(self, tensor: Tensor) -> None:
        self._host: Tensor = tensor.detach()
        self._sent: Any = None
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._sent = torch.cuda.Event()
            self._sent.record()

    @property
    def is_there(self) -> bool:
        """Whether the tensor never was anywhere else."""
        return self._sent is None

    def read(self) -> Tensor:
        """The tensor on the host, which is waited for; what was asked of the GPU since then is not."""
        if self._sent is not None:
            self._sent.synchronize()
        return self._host
