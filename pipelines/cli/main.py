"""The start of the command `fathom`: it first checks that Python imports Fathom's own packages."""

from __future__ import annotations

import os
import resource
import sys

from .doctor import shadowed_rooms
from .interrupt import STOPPED, stopped

LEAST_FILES = 128  # that a process may have open; two workers with 64 cannot start, and a dozen is too few to begin
USUAL_FILES = 1024


def too_few_files() -> list[str]:
    """A problem where the shell's limit of open files is so low that libraries fail; raise it first, where that may be.

    asyncio and Dask print their own tracebacks where they get no descriptor, and no message can prevent that.
    """
    allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed >= LEAST_FILES or allowed == resource.RLIM_INFINITY:
        return []
    if most == resource.RLIM_INFINITY or most >= LEAST_FILES:
        wanted = USUAL_FILES if most == resource.RLIM_INFINITY else min(USUAL_FILES, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
        return []
    return [
        f"a process may have only {allowed} files open here (`ulimit -n`), and Fathom needs {LEAST_FILES}; raise the "
        "limit, such as `ulimit -n 4096`, and run the same command again"
    ]


def main() -> None:
    """Run the command line, or name the other package that Python would import in place of Fathom's."""
    problems = [*too_few_files(), *shadowed_rooms()]
    if problems:
        from ..display.terminal import say

        for problem in problems:
            say(f"error: {problem}", err=True)
        sys.exit(1)
    # Threads of torch that wait for others would keep cores busy that other programs need: beside two of them a network
    # took 12 s in place of 7 on two cores. It must be set before torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # A stopped driver leaves semaphores to Python's resource tracker, which removes them; its warning is not needed.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    try:
        from .app import app

        app()
    except KeyboardInterrupt:
        stopped()
    except SystemExit as end:
        if end.code == STOPPED:  # Typer's, for Ctrl-C before the command has begun; a command itself ends in `stopped`
            stopped()
        raise
