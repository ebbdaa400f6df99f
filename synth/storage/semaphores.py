"""Semaphores of processes: those that a killed Fathom left in shared memory are removed at the next start.

Python gives each semaphore of processes that it starts anew ("spawn") a file in ``/dev/shm``, and removes it when its
owner ends, or, if the owner was killed, when a helper process notices. If all processes are killed at once, as a batch
system does, the file stays until the machine is started again.
"""

from __future__ import annotations

import contextlib
import os
import re
from multiprocessing import process
from pathlib import Path

MEMORY, PROCESSES = Path("/dev/shm"), Path("/proc")
OURS = re.compile(r"sem\.fathom-(\d+)-(\d+)-(\d+)-\w+")


def name_semaphores() -> None:
    """Name the semaphores that this process will make after it, and remove those of Fathoms that live no more.

    A name holds the namespace of process numbers (each container has its own), the number, and when the process
    started, because numbers are used again. On systems without ``/proc`` nothing is done.
    """
    mine = os.getpid()
    started = start_of(mine)
    if started is None or not MEMORY.is_dir():
        return
    space = namespace()
    process.current_process()._config["semprefix"] = f"/fathom-{space}-{mine}-{started}"  # type: ignore[attr-defined]
    for file in MEMORY.glob("sem.fathom-*"):
        found = OURS.fullmatch(file.name)
        if found and int(found[1]) == space and start_of(int(found[2])) != int(found[3]):
            with contextlib.suppress(OSError):  # another Fathom was faster, or the file is another user's
                if file.lstat().st_uid == os.geteuid():
                    file.unlink()


def namespace() -> int:
    """The number of the space of process numbers that this process sees: each container has its own."""
    try:
        return int(re.sub(r"\D", "", str((PROCESSES / "self" / "ns" / "pid").readlink())))
    except (OSError, ValueError):
        return 0


def start_of(pid: int) -> int | None:
    """When a process started, in ticks after the machine did; None where there is no such process."""
    try:
        return int((PROCESSES / str(pid) / "stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None
