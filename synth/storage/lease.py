"""A claim on a place in an object store, where no lock ends with its process: one owner at a time, known by its signs.

An owner writes ``claim/00000001.json`` on the condition that it is not there, which the store decides, and writes it
again every few seconds. Whoever comes second watches: if the claim changes, its owner lives. If it does not change for
three of these periods, or its owner was a process of this machine that is gone, the second one writes the claim with
the next number, again on condition, and the first owner, should it wake up, finds that number and stops. Nobody's clock
is compared with another's.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import ClaimedError, StoreError
from .objects import ObjectPlace
from .semaphores import namespace, start_of
from .whole import UncheckedWarning

PERIOD = 5.0  # seconds between signs of life
FOLDER = "claim"


class Lease:
    """The claim of this process on `root`; `claimed` makes it."""

    def __init__(self, root: ObjectPlace, number: int, work: str = "fathom build") -> None:
        self.root, self.number, self._work = root, number, work
        self.place = root / FOLDER / f"{number:08d}.json"
        self._said = {**_owner(), "token": uuid.uuid4().hex, "sign": 0}
        self._stop, self._lost = threading.Event(), False
        self._thread = threading.Thread(target=self._live, name="fathom-claim", daemon=True)

    def take(self) -> bool:
        """Write the claim if nobody else has; then keep giving signs of life."""
        if not self.place.put_new(json.dumps(self._said).encode()):
            return False
        if self.place.put_new(b"another"):  # it should be refused
            self.place.put(json.dumps(self._said).encode())
            warnings.warn(
                f"{self.root}: this store does not write on condition, so that two that begin at the same moment would "
                f"not notice each other; begin one `{self._work}` at a time",
                UncheckedWarning,
                stacklevel=2,
            )
        self._thread.start()
        return True

    def _live(self) -> None:
        while not self._stop.wait(PERIOD):
            self._said["sign"] += 1
            with contextlib.suppress(StoreError):  # the next sign may come through
                if max(_numbers(self.root), default=0) != self.number:
                    self._lost = True
                    return
                self.place.put(json.dumps(self._said).encode())

    def check(self) -> None:
        """Raise ClaimedError where another process has taken over, or has removed the claim."""
        if self._lost or max(_numbers(self.root), default=0) != self.number:
            self._lost = True
            raise ClaimedError(
                f"{self.root}: another `{self._work}` has taken over, because this one gave no sign of life for "
                "long; wait for it to end"
            )

    def release(self) -> None:
        """End the claim; one that another process has taken over stays."""
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(StoreError):  # whoever comes next finds that it is not renewed
            numbers = _numbers(self.root)
            if max(numbers, default=0) == self.number:
                for number in numbers:
                    (self.root / FOLDER / f"{number:08d}.json").delete()


@contextlib.contextmanager
def claimed(root: ObjectPlace, work: str = "fathom build") -> Iterator[Lease]:
    """Claim a place for this process, which does `work`; raises ClaimedError where another one is at work on it."""
    last = max(_numbers(root), default=0)
    if last:
        _wait_for_signs(root, last, work)
    lease = Lease(root, last + 1, work)
    if not lease.take():
        raise _taken(root, _read(root, last + 1), work)
    try:
        yield lease
    finally:
        lease.release()


def _wait_for_signs(root: ObjectPlace, number: int, work: str) -> None:
    """Return when a claim's owner is dead; raise ClaimedError when it gives a sign of life."""
    first = _read(root, number)
    mine = _owner()
    here = all(first.get(name) == mine[name] for name in ("machine", "space"))
    if here and mine["started"] is not None:  # as on all systems with /proc
        if start_of(int(first.get("process", 0))) == first.get("started"):
            raise _taken(root, first, work)
        return
    end = time.monotonic() + 3 * PERIOD
    while time.monotonic() < end:
        time.sleep(min(1.0, PERIOD / 4))
        if (now := _read(root, number)) and now != first:
            raise _taken(root, now, work)


def _taken(root: ObjectPlace, said: dict[str, Any], work: str) -> ClaimedError:
    who = f"process {said.get('process')} on {said.get('host')}" if said else "it has just begun"
    return ClaimedError(f"{root}: another `{work}` is at work on it ({who}); wait for it to end")


def _numbers(root: ObjectPlace) -> list[int]:
    names = [name.removesuffix(".json") for name, _ in (root / FOLDER).below()]
    return sorted(int(name) for name in names if name.isdigit())


def _read(root: ObjectPlace, number: int) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, ValueError):
        said = json.loads((root / FOLDER / f"{number:08d}.json").read())
        if isinstance(said, dict):
            return said
    return {}


def _owner() -> dict[str, Any]:
    """The present process: its number and start, and its machine since that was started."""
    machine = ""
    with contextlib.suppress(OSError):
        machine = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    process, host = os.getpid(), socket.gethostname()
    return {
        "host": host,
        "machine": machine or host,
        "space": namespace(),
        "process": process,
        "started": start_of(process),
    }
