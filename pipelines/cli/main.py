"""Where the command `fathom` starts: before anything is imported from a room, see that it is Fathom's."""

from __future__ import annotations

import os
import sys

from .doctor import shadowed_rooms
from .interrupt import stopped


def main() -> None:
    """Run the command line, or say which other package stands in its way."""
    problems = shadowed_rooms()
    if problems:
        sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
        sys.exit(1)
    # A stopped driver leaves semaphores to Python's resource tracker, which removes them and need not say so.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    try:
        from .app import app

        app()
    except KeyboardInterrupt:
        stopped()
