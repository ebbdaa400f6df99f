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
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from numbers import Integral
from pathlib import Path
from typing import Any

from synth.storage.semaphores import name_semaphores

from .display.terminal import say
from .errors import ClusterError

CERTIFICATES = (
    "give --tls-ca-file, --tls-cert and --tls-key, or correct ca-file and client of distributed.comm.tls in Dask's "
    "settings"
)
PATIENCE = 60.0  # seconds without any worker, or without the scheduler, before a build gives up


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
    tls_ca_file, tls_cert, tls_key
        Files (PEM) for tls://: of the authority that has signed all certificates, this client's certificate and its
        key. By default those in Dask's settings.
    patience
        Seconds to wait for a worker where there is none, and for a scheduler that is gone.
    """

    scheduler: str = "local"
    scheduler_file: str | None = None
    workers: int | None = None
    insecure: bool = False
    tls_ca_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    patience: float = PATIENCE

    def __post_init__(self) -> None:
        """Refuse what cannot be an address, or no number of workers, before anything is begun; raises ClusterError."""
        if self.workers is not None and (not isinstance(self.workers, Integral) or self.workers < 1):
            raise ClusterError(f"workers = {self.workers!r}: give a whole number of 1 or more")
        if self.scheduler_file is not None or self.scheduler not in ("local", "sync"):
            _address_of(self)
        for name, file in (("ca-file", self.tls_ca_file), ("cert", self.tls_cert), ("key", self.tls_key)):
            if file is not None and not Path(file).exists():
                raise ClusterError(f"--tls-{name} {file} does not exist; {CERTIFICATES}")


LOCAL, IN_PROCESS = ClusterSpec(), ClusterSpec("sync")


class Cluster:
    """An open cluster. Its `client` is Dask's, or None for tasks in this process."""

    def __init__(self, spec: ClusterSpec, client: Any) -> None:
        self.spec, self.client = spec, client

    @property
    def is_external(self) -> bool:
        """Whether another program has started it, so that it may come back after it was lost, and may grow."""
        return self.client is not None and (self.spec.scheduler != "local" or self.spec.scheduler_file is not None)

    @property
    def threads(self) -> int:
        """Threads of all workers."""
        return sum(self.client.nthreads().values())

    def reconnect(self) -> None:
        """Connect again to a scheduler that was lost, as soon as it is back; raises ClusterError after `patience`."""
        gone = "the scheduler is gone; start it, and run the same command again to go on"
        if not self.is_external:
            raise ClusterError(gone)
        say(f"the scheduler is gone; waiting up to {self.spec.patience:g} s for it to come back", err=True)
        end = time.monotonic() + self.spec.patience
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            self.client.close(timeout=1)
        while True:
            try:
                self.client = _connected(self.spec, timeout=2)
                break
            except ClusterError:
                if time.monotonic() > end:
                    raise ClusterError(gone) from None
                time.sleep(0.5)
        say("the scheduler is back", err=True)


@contextlib.contextmanager
def open_cluster(spec: ClusterSpec) -> Iterator[Cluster]:
    """Yield a cluster, perhaps without any worker yet; raises ClusterError."""
    if spec.scheduler == "sync":
        yield Cluster(spec, None)
        return
    import distributed

    _hush()
    if spec.scheduler == "local" and spec.scheduler_file is None:
        with _started(spec.workers or cores()) as started, distributed.Client(started) as client:
            yield Cluster(spec, client)
        return
    cluster = Cluster(spec, _connected(spec, timeout=10))
    try:
        yield cluster
    finally:
        cluster.client.close()


def _connected(spec: ClusterSpec, timeout: float) -> Any:
    """A client of an external scheduler; raises ClusterError."""
    import distributed

    address = _address_of(spec)
    given = {"tls_ca_file": spec.tls_ca_file, "tls_client_cert": spec.tls_cert, "tls_client_key": spec.tls_key}
    given = {name: str(file) for name, file in given.items() if file is not None}
    if given and not address.startswith("tls://"):
        raise ClusterError(f"{address}: is not encrypted, so that it takes no certificates; write tls://")
    security = distributed.Security(require_encryption=True, **given) if given else distributed.Security()
    try:
        _refuse_other_servers(address)
        return distributed.Client(address, timeout=timeout, security=security)
    except TypeError:
        raise ClusterError(f"{address}: tls needs certificates; {CERTIFICATES}") from None
    except ssl.SSLError as error:
        raise ClusterError(f"{address}: {_files(security)}: tls does not work ({error}); {CERTIFICATES}") from None
    except FileNotFoundError:
        raise ClusterError(f"{address}: {_files(security, missing=True)}: does not exist; {CERTIFICATES}") from None
    except (OSError, ValueError) as error:
        hint = f", whose certificates {_files(security)} trusts" if address.startswith("tls://") else ""
        raise ClusterError(
            f"{address}: no scheduler answers ({error}); start it{hint}, or correct the address"
        ) from None


def _files(security: Any, *, missing: bool = False) -> str:
    """The files of certificates that a client uses, or those among them that do not exist."""
    files = (security.tls_ca_file, security.tls_client_cert, security.tls_client_key)
    return ", ".join(dict.fromkeys(str(f) for f in files if f and not (missing and Path(f).exists())))


def _started(workers: int) -> Any:
    """A local cluster whose processes never see Ctrl-C, not even while they start: they inherit the blocked signal."""
    name_semaphores()
    resource_tracker.ensure_running()  # its start unblocks the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return local_cluster(workers)
    except RuntimeError as error:
        raise ClusterError(f"the {workers} worker processes cannot be started ({error}); {_remedy()}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _remedy() -> str:
    """What helps where worker processes do not start: each begins by running the file of this program again."""
    if str(getattr(sys.modules["__main__"], "__file__", "")).endswith(".py"):
        return 'put what your script runs below `if __name__ == "__main__":`, or give ClusterSpec("sync")'
    return "raise the limits of open files and processes (`ulimit -n 4096`, `ulimit -u`), or use fewer --workers"


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


def _address_of(spec: ClusterSpec) -> str:
    address = _address_in(spec.scheduler_file) if spec.scheduler_file else spec.scheduler
    _refuse_open_tcp(address, insecure=spec.insecure)
    return address


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
