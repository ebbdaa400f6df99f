"""Where the command `fathom` starts: before anything is imported from a room, see that it is Fathom's."""

from __future__ import annotations

import sys

from .doctor import shadowed_rooms


def main() -> None:
    """Run the command line, or say which other package stands in its way."""
    problems = shadowed_rooms()
    if problems:
        sys.stderr.writelines(f"error: {problem}\n" for problem in problems)
        sys.exit(1)
    from .cli import app

    app()
