"""Batches in an order that a seed decides, read ahead, and resumable in the middle of an epoch."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from synth.given import refuse_other_type
from synth.storage.semaphores import name_semaphores

from .batch_order import BatchOrder
from .device import named_device
from .packed_batch import PackedBatch
from .pairs import Pairs
from .shared_memory import NUMBERS_BYTES, SLACK, Layout, Slots

REMOTE_READERS = 8  # they wait for a network nearly all of the time


class PairLoader:
    """An iterable over batches of items on a device; `make_loader` makes it.

    Packed batches are read ahead by threads (or by worker processes) and unpacked on the device. Each call of ``iter``
    begins a new epoch, unless `load_state_dict` has set a place in the middle of one. Use one iterator at a time.

    Parameters
    ----------
    order
        The order of the pairs in batches.
    device
        The device of the batches.
    threads, workers
        The number of threads in this process, or of worker processes, that read ahead.
    ahead
        The number of batches that are read ahead.
    context
        How worker processes start: "fork", "forkserver" or "spawn".
    """

    def __init__(
        self, order: BatchOrder, device: torch.device, threads: int, workers: int, ahead: int, context: str | None
    ) -> None:
        self.order, self.device = order, device
        self._threads, self._workers, self._ahead, self._context = threads, workers, ahead, context
        self._epoch = self._given = 0
        self._resumed = False

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.order.epoch(self._epoch))

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Iterate over the next epoch, or, after `load_state_dict`, over the rest of the epoch of that state."""
        self._begin()
        pairs, batches = self._of_epoch(self._epoch)
        left = batches[self._given :]
        read = self._by_processes(pairs, left) if self._workers else self._by_threads((pairs, b) for b in left)
        for packed in read:
            self._given += 1
            yield self.order.pairs.unpacked(packed.to(self.device))
        self._epoch, self._given = self._epoch + 1, 0

    def endless(self) -> Iterator[dict[str, Tensor]]:
        """Iterate over epoch after epoch, as repeated ``iter`` does; threads also read ahead across ends of epochs."""
        size = len(self)
        while self._workers and size:
            yield from self
        self._begin()
        first, given = self._epoch, self._given

        def batches() -> Iterator[tuple[Pairs, list[int]]]:
            for epoch in count(first):
                pairs, order = self._of_epoch(epoch)
                yield from ((pairs, batch) for batch in order[given if epoch == first else 0 :])

        for packed in self._by_threads(batches() if size else ()):
            if self._given == size:
                self._epoch, self._given = self._epoch + 1, 0
            self._given += 1
            yield self.order.pairs.unpacked(packed.to(self.device))

    def _of_epoch(self, epoch: int) -> tuple[Pairs, list[list[int]]]:
        return self.order.pairs.of_epoch(epoch), self.order.epoch(epoch)

    def _begin(self) -> None:
        if self._given and not self._resumed:  # the last iterator was left before its end
            self._epoch, self._given = self._epoch + 1, 0
        self._resumed = False

    def state_dict(self) -> dict[str, int | str]:
        """The loader's place (the epoch, and how many of its batches have been given), and the order's state."""
        return {"epoch": self._epoch, "given": self._given, **self.order.state()}

    def load_state_dict(self, state: dict[str, int | str]) -> None:
        """Continue from the result of `state_dict`; raises ValueError for the state of another order."""
        refuse_other_type(state, dict, "load_state_dict takes what state_dict gave")
        for name, mine in {"window": 0, **self.order.state()}.items():
            if (stored := state.get(name, 0)) != mine:
                raise ValueError(
                    f"the state has {name} {stored}, but this loader has {mine}; make the loader with the "
                    f"state's {name}"
                )
        self._epoch, self._given = int(state["epoch"]), int(state["given"])
        self._resumed = True
        if not (self._epoch >= 0 and 0 <= self._given <= len(self)):
            raise ValueError(f"the state says epoch {self._epoch}, batch {self._given} of {len(self)}; it is damaged")

    def _by_threads(self, batches: Iterable[tuple[Pairs, list[int]]]) -> Iterator[PackedBatch]:
        on_gpu = self.device.type == "cuda"
        with ThreadPoolExecutor(self._threads, thread_name_prefix="fathom-read") as pool:

            def read(pairs: Pairs, batch: list[int]) -> PackedBatch:
                packed = pairs.packed(batch, pinned).pin_memory() if on_gpu else pairs.packed(batch)
                if self.order.pairs.with_maps and (on_gpu or self.order.pairs.is_remote):
                    self.order.pairs.read_maps(packed, self.device)
                return packed

            waiting = iter(batches)
            queue: deque[Future[PackedBatch]] = deque(pool.submit(read, *b) for b in islice(waiting, self._ahead))
            try:
                while queue:
                    packed = queue.popleft().result()
                    queue.extend(pool.submit(read, *b) for b in islice(waiting, 1))
                    yield packed
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _by_processes(self, pairs: Pairs, batches: list[list[int]]) -> Iterator[PackedBatch]:
        name_semaphores()
        each = max(1, self._ahead // self._workers)
        # DataLoader requests a batch when it gives one out, so only one slot is in use besides those in flight.
        slots = Slots(
            each * self._workers + 1, self.order.batch_size * (self.order.pairs.pair_bytes + NUMBERS_BYTES) + SLACK
        )
        loader: DataLoader[Layout] = DataLoader(
            BatchesInSlots(pairs, batches, slots),
            batch_size=None,
            shuffle=False,
            num_workers=self._workers,
            prefetch_factor=each,
            multiprocessing_context=self._context or ("spawn" if self.order.pairs.is_remote else None),
        )
        for number, layout in enumerate(loader):
            batch = slots[number].get(layout)
            if self.device.type == "cuda":
                yield batch.pin_memory()
            else:
                yield batch.map(lambda t: t if t is batch.kspace else t.clone())  # noqa: B023 (unpacking copies k-space)


def pinned(shape: Sequence[int], dtype: Any) -> NDArray[Any]:
    """An empty array in page-locked memory, from which a GPU copies by itself; torch keeps and reuses this memory."""
    like = torch.from_numpy(np.empty(0, dtype))
    array: NDArray[Any] = torch.empty(tuple(shape), dtype=like.dtype, pin_memory=True).numpy()
    return array


class BatchesInSlots(Dataset[Layout]):
    """Packed batches by number, for a DataLoader with workers; each batch is written into its slot."""

    def __init__(self, pairs: Pairs, batches: list[list[int]], slots: Slots) -> None:
        self._pairs, self._batches, self._slots = pairs, batches, slots

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __getitem__(self, number: int) -> Layout:
        """Read one batch into its slot."""
        slot = self._slots[number]
        return slot.put(self._pairs.packed(self._batches[number], slot.empty))


def make_loader(
    pairs: Pairs,
    batch_size: int = 1,
    *,
    shuffle: bool = True,
    seed: int = 0,
    device: str | torch.device | None = None,
    threads: int | None = None,
    workers: int = 0,
    ahead: int | None = None,
    context: str | None = None,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    window: int = 0,
) -> PairLoader:
    """Make a loader of batches in an order that a seed decides; it can be resumed in the middle of an epoch.

    Parameters
    ----------
    pairs
        `PairDataset`, `VirtualPairs` or `DevicePairs`.
    batch_size
        Pairs of one shape per batch; the last batch of a shape may be smaller.
    shuffle
        Whether each epoch has a random order of its own.
    seed
        The seed of the random orders.
    device
        The device of the batches; by default the GPU if there is one.
    threads
        Threads that read ahead in this process; by default one per two cores, up to 4, and 8 from an object store.
    workers
        Worker processes that read in place of threads, which is faster only for `VirtualPairs`; they send packed
        batches to this process.
    ahead
        The number of batches that are read ahead; by default twice the number of threads or workers.
    context
        How worker processes start: "fork", "forkserver" or "spawn"; from an object store by default "spawn".
    drop_last
        Leave out batches that are smaller than `batch_size`.
    window
        0 shuffles all pairs. A number of pairs shuffles the order of the shards, and then the pairs within stretches of
        that many, so that a stretch needs few shards at a time: for an object store whose shards a cache keeps.
    rank, world_size
        The number of this process, and of all processes that share each epoch in data-parallel training.

    Returns
    -------
    The loader. Iterating over it gives one epoch, and over ``endless()`` one after the other; ``state_dict`` and
    ``load_state_dict`` save and restore its place.

    Raises
    ------
    ValueError
        A number is out of its range.
    TypeError
        `pairs` is the name of a corpus.
    """
    if not hasattr(pairs, "is_remote"):
        named = isinstance(pairs, str | os.PathLike)
        got, path = (repr(pairs), str(pairs)) if named else (f"a {type(pairs).__name__}", "corpus.zarr")
        raise TypeError(f"make_loader takes pairs, got {got}; give PairDataset({path!r})")
    for name, value, least in (
        ("threads", threads, 1),
        ("workers", workers, 0),
        ("ahead", ahead, 1),
        ("window", window, 0),
        ("seed", seed, 0),
    ):
        if value is not None and (not isinstance(value, int | np.integer) or value < least):
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if context not in (None, "fork", "forkserver", "spawn"):
        raise ValueError(f"context must be fork, forkserver or spawn, got {context!r}")
    readers = threads or (REMOTE_READERS if pairs.is_remote else max(1, min(4, (os.cpu_count() or 1) // 2)))
    order = BatchOrder(pairs, batch_size, shuffle, seed, drop_last, rank, world_size, window)
    chosen = named_device(device)
    return PairLoader(order, chosen, readers, workers, ahead or 2 * (workers or readers), context)
