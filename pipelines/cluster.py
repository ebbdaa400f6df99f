"""Where tasks run: in this process, on a local cluster of processes, or on an existing Dask cluster."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any, TypeVar

from synth.storage.semaphores import name_semaphores

from .errors import ClusterError

Task = TypeVar("Task")

CERTIFICATES = "correct ca-file and client of distributed.comm.tls in Dask's settings"
PATIENCE = 60.0  # seconds without any worker before a build gives up


@dataclass(frozen=True)
class ClusterSpec:
    """Where tasks run.

    Parameters
    ----------
    scheduler
        "local" (a process per core, on the loopback), "sync" (this process), or the address of a Dask scheduler.
    scheduler_file
        The file that a Dask scheduler has written, in place of its address.
    workers
        Processes of a local cluster; by default one per core.
    insecure
        Allow plain tcp beyond this machine.
    """

    scheduler: str = "local"
    scheduler_file: str | None = None
    workers: int | None = None
    insecure: bool = False


LOCAL, IN_PROCESS = ClusterSpec(), ClusterSpec("sync")


@contextlib.contextmanager
def open_cluster(spec: ClusterSpec) -> Iterator[Any]:
    """Yield a Dask client, or None for tasks in this process; raises ClusterError."""
    if spec.scheduler == "sync":
        yield None
        return
    import distributed

    _hush()
    if spec.scheduler == "local" and spec.scheduler_file is None:
        with _started(spec.workers or cores()) as cluster, distributed.Client(cluster) as client:
            yield client
        return
    address = _address_in(spec.scheduler_file) if spec.scheduler_file else spec.scheduler
    _refuse_open_tcp(address, insecure=spec.insecure)
    try:
        _refuse_other_servers(address)
        client = distributed.Client(address, timeout=10)
    except TypeError:
        raise ClusterError(f"{address}: tls needs certificates; set distributed.comm.tls in Dask's settings") from None
    except ssl.SSLError as error:
        raise ClusterError(f"{address}: {_certificates()}: tls does not work ({error}); {CERTIFICATES}") from None
    except FileNotFoundError:
        raise ClusterError(f"{address}: {_certificates(missing=True)}: does not exist; {CERTIFICATES}") from None
    except (OSError, ValueError) as error:
        raise ClusterError(f"{address}: no scheduler answers ({error}); start it or correct the address") from None
    with client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise ClusterError("the scheduler has no workers; start `dask worker` for it first")
        yield client


def _certificates(*, missing: bool = False) -> str:
    """The files of certificates in Dask's settings, or those among them that do not exist."""
    import dask

    said = dask.config.get("distributed.comm.tls", {})
    files = [said.get("ca-file"), *(said.get("client", {}).get(key) for key in ("cert", "key"))]
    return ", ".join(dict.fromkeys(str(f) for f in files if f and not (missing and Path(f).exists())))


def _started(workers: int) -> Any:
    """A local cluster whose processes never see Ctrl-C, not even while they start: they inherit the blocked signal."""
    name_semaphores()
    resource_tracker.ensure_running()  # its start unblocks the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return local_cluster(workers)
    except RuntimeError as error:
        raise ClusterError(
            f"the {workers} worker processes cannot be started ({error}); raise the limits of open files and processes "
            "(`ulimit -n 4096`, `ulimit -u`), or use fewer --workers"
        ) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _hush() -> None:
    """Keep Dask's own log off the terminal; exceptions report what matters."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":
            logging.getLogger(name).setLevel(logging.CRITICAL)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_cluster(workers: int) -> Any:
    """A cluster of worker processes with one thread each, bound to the loopback, without a dashboard."""
    import dask
    import distributed

    # Dask profiles every process each 10 and 20 ms for a dashboard, which is off here; that costs 3 % of the cores.
    dask.config.set({"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"})

    return distributed.LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0",  # Dask's own status page, without the dashboard, on any free port
        scheduler_kwargs={"dashboard": False},
        memory_limit=0,  # the plan bounds a shard's memory; Dask's limit would pause a worker that fills its cache
        silence_logs=logging.CRITICAL,
        preload=["pipelines.corpus.build_worker"],
    )


def _address_in(scheduler_file: str) -> str:
    try:
        return str(json.loads(Path(scheduler_file).read_text())["address"])
    except FileNotFoundError:
        raise ClusterError(
            f"--scheduler-file {scheduler_file} does not exist; start the scheduler that writes it"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"--scheduler-file {scheduler_file} is not a scheduler's file ({error})") from None


def _refuse_open_tcp(address: str, *, insecure: bool) -> None:
    scheme, _, endpoint = address.rpartition("://")
    if scheme not in ("tcp", "tls"):
        raise ClusterError(f"--scheduler {address}: write local, sync, tcp://host:port or tls://host:port")
    if scheme == "tcp" and not _is_loopback(endpoint) and not insecure:
        raise ClusterError(
            f"--scheduler {address}: plain tcp to another machine is neither encrypted nor authenticated; "
            "use tls://, or give --insecure if you trust the network"
        )


def _refuse_other_servers(address: str) -> None:
    """Raise OSError if another kind of server listens: Dask would wait for as long as it keeps the line open.

    A Dask server speaks first: it sends the number of frames of its greeting, as uint64.
    """
    scheme, _, endpoint = address.rpartition("://")
    host, _, port = endpoint.rpartition(":")
    if scheme != "tcp" or not port.isdigit():
        return
    with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as line:
        greeting = line.recv(8, socket.MSG_WAITALL)
    if len(greeting) < 8 or int.from_bytes(greeting, sys.byteorder) > 1000:
        raise OSError("another kind of server than a Dask scheduler listens there")


def _is_loopback(endpoint: str) -> bool:
    host = endpoint.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may lead anywhere


def run_tasks(
    client: Any, function: Callable[..., Any], tasks: Sequence[Task], *constants: Any
) -> Generator[tuple[Task, Any]]:
    """Yield (task, function(task, *constants)) in the order of completion, with a small window of tasks in flight."""
    if client is None:
        yield from ((task, function(task, *constants)) for task in tasks)
        return
    import distributed
    from distributed.comm.core import CommClosedError

    waiting = iter(tasks)
    running: dict[Any, Task] = {}

    def submit(count: int) -> None:
        for task in islice(waiting, count):
            running[client.submit(function, task, *constants, pure=False, retries=1)] = task

    submit(2 * max(1, sum(client.nthreads().values())))
    while running:
        try:
            future = _first_done(client, list(running))
            outcome = future.result()
            task = running.pop(future)
        except (CancelledError, CommClosedError):
            raise ClusterError("the scheduler is gone; start it, and run the same command again to go on") from None
        except distributed.KilledWorker:
            raise ClusterError(
                f"{running[future]}: its worker died repeatedly, which happens when memory runs out; use fewer "
                "--workers or lower shard_pairs, and run the same command again to go on"
            ) from None
        submit(1)
        yield task, outcome


def _first_done(client: Any, futures: list[Any]) -> Any:
    """The first future that is done; raises ClusterError if all workers are lost and no worker comes back."""
    import distributed

    alone = 0.0
    while True:
        with contextlib.suppress(distributed.TimeoutError):
            return next(iter(distributed.wait(futures, PATIENCE / 6, return_when="FIRST_COMPLETED").done))
        alone = 0.0 if client.scheduler_info(n_workers=-1)["workers"] else alone + PATIENCE / 6
        if alone >= PATIENCE:
            raise ClusterError(
                f"the scheduler has had no worker for {PATIENCE:g} s; start workers, and run the same command again "
                "to go on"
            )
