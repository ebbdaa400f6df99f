"""An error for memory that ran out, on a CPU or a GPU, which says what to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import TrainingError
from ..models.cuda_graphs import FLAG


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's, on a CPU or a GPU, means that memory ran out."""
    words = ("allocate memory", "out of memory", "CUFFT_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    )


@contextmanager
def memory_explained() -> Iterator[None]:
    """Turn running out of memory into a TrainingError that says what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, TrainingError) or not is_out_of_memory(error):
            raise
        raise TrainingError(
            f"out of memory ({str(error).splitlines()[0][:200]}); lower training.batch_size, set "
            "training.checkpointing = true for unrolled networks, or make the network smaller; on a GPU, "
            f"{FLAG}=0 in the environment does without the memory of CUDA graphs"
        ) from None
