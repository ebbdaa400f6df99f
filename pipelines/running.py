"""Tasks on a cluster whose workers, or scheduler, may come and go."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, TypeVar

from .cluster import Cluster
from .display.terminal import say
from .errors import ClusterError

Task = TypeVar("Task")

AHEAD = 32  # tasks that an external cluster knows of at least: one that grows asks for as many workers as tasks need
POLL = 2.0  # seconds between two looks at a cluster where nothing is finished


def run_tasks(
    cluster: Cluster, function: Callable[..., Any], tasks: Sequence[Task], *constants: Any
) -> Generator[tuple[Task, Any]]:
    """Yield (task, function(task, *constants)) in the order of completion, with a small window of tasks in flight.

    Tasks that a lost worker had go to others. If the scheduler of an external cluster is lost and comes back, the tasks
    that were in flight are submitted again. Raises ClusterError.
    """
    if cluster.client is None:
        yield from ((task, function(task, *constants)) for task in tasks)
        return
    import distributed
    from distributed.comm.core import CommClosedError

    waiting, running = iter(tasks), _InFlight(cluster, function, constants)
    running.fill(waiting)
    while running.tasks:
        try:
            future = first_done(cluster, list(running.tasks))
            outcome = future.result()
        except (CancelledError, CommClosedError):
            running.again()
            continue
        except distributed.KilledWorker:
            raise ClusterError(
                f"{running.tasks[future]}: its worker died repeatedly, which happens when memory runs out; use fewer "
                "--workers or lower shard_pairs, and run the same command again to go on"
            ) from None
        task = running.tasks.pop(future)
        running.fill(waiting)
        yield task, outcome


class _InFlight:
    """The tasks that a cluster knows of, by their futures."""

    def __init__(self, cluster: Cluster, function: Callable[..., Any], constants: Sequence[Any]) -> None:
        self._cluster, self._function, self._constants = cluster, function, constants
        self.tasks: dict[Any, Any] = {}
        self._size, self._asked = 0, -POLL

    def fill(self, waiting: Any) -> None:
        """Submit further tasks up to the size of the window, which follows the number of workers."""
        for task in islice(waiting, max(0, self._window() - len(self.tasks))):
            self._submit(task)

    def again(self) -> None:
        """Submit all tasks again, after the scheduler came back."""
        self._cluster.reconnect()
        lost, self.tasks = list(self.tasks.values()), {}
        for task in lost:
            self._submit(task)

    def _submit(self, task: Any) -> None:
        future = self._cluster.client.submit(self._function, task, *self._constants, pure=False, retries=1)
        self.tasks[future] = task

    def _window(self) -> int:
        if time.monotonic() - self._asked >= POLL and (self._size == 0 or self._cluster.is_external):
            with contextlib.suppress(OSError, RuntimeError):  # a scheduler that is lost is noticed elsewhere
                self._size = 2 * max(1, self._cluster.threads)
            self._asked = time.monotonic()
        return max(self._size, AHEAD) if self._cluster.is_external else self._size


def first_done(cluster: Cluster, futures: list[Any]) -> Any:
    """The first future that is done.

    Raises ClusterError if there is no worker for the cluster's patience, CancelledError or CommClosedError if the
    scheduler is lost.
    """
    import distributed
    from distributed.comm.core import CommClosedError

    patience, idle_since = cluster.spec.patience, 0.0
    while True:
        with contextlib.suppress(distributed.TimeoutError):
            return next(iter(distributed.wait(futures, min(POLL, patience), return_when="FIRST_COMPLETED").done))
        try:
            there = cluster.client.scheduler_info(n_workers=-1)["workers"]
        except (OSError, RuntimeError) as error:
            raise CommClosedError(str(error)) from None
        if there:
            idle_since = 0.0
        elif not idle_since:
            idle_since = time.monotonic()
            say(f"the scheduler has no worker; waiting up to {patience:g} s for one", err=True)
        elif time.monotonic() - idle_since >= patience:
            raise ClusterError(
                f"the scheduler has had no worker for {patience:g} s; start workers, or wait longer with --wait, and "
                "run the same command again to go on"
            )
