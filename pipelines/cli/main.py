"""The start of the command `fathom`: it first checks that Python imports Fathom's own packages."""

from __future__ import annotations

import os
import sys

from .doctor import shadowed_rooms
from .interrupt import STOPPED, stopped


def main() -> None:
    """Run the command line, or name the other package that Python would import in place of Fathom's."""
    problems = shadowed_rooms()
    if problems:
        from ..display.terminal import say

        for problem in problems:
            say(f"error: {problem}", err=True)
        sys.exit(1)
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
