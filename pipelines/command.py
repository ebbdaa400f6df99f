"""Where the command `fathom` starts: before anything is imported from a room, see that it is Fathom's."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from .doctor import shadowed_rooms


def main() -> None:
    """Run the command line, or say which other package stands in its way."""
    problems = shadowed_rooms()
    if problems:
        sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
        sys.exit(1)
    # A stopped driver leaves semaphores to Python's resource tracker, which removes them and need not say so.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    try:
        from . import cli  # noqa: F401 (it adds its commands)
        from .terminal import app

        app()
    except KeyboardInterrupt:
        stopped()


def stopped() -> NoReturn:
    """End at once after Ctrl-C: a cluster that is half started would complain from its own exit handlers."""
    sys.stdout.flush()
    sys.stderr.write("stopped; run the same command again to go on\n")
    sys.stderr.flush()
    os._exit(130)
