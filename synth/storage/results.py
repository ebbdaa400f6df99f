"""A folder of results, which belongs to the command that first wrote into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .whole import read_document, write_whole

COMMAND = "command.json"
DIGITS = 12  # of a sha256 that is told


def claim(out: Path, command: dict[str, Any]) -> None:
    """Make a folder that of a command's results, before the first of them is written.

    `command` is all that decides the results, in values that JSON can hold; it is kept in the folder as
    ``command.json``. A command that was stopped thus goes on, and no command replaces the results of another. Raises
    ValueError as `refuse_other_results` does.
    """
    refuse_other_results(out, command)
    write_whole(out / COMMAND, (json.dumps(command, indent=2) + "\n").encode())


def refuse_other_results(out: Path, command: dict[str, Any]) -> None:
    """Raise ValueError where a folder holds the results of another command, or files that no command claimed."""
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not there - {COMMAND} and not out.is_file():
        return
    if COMMAND not in there:
        raise ValueError(f"{out} holds other files; choose another --out")
    try:
        earlier = json.loads(read_document(out / COMMAND))
    except ValueError as error:
        raise ValueError(f"{out / COMMAND} is damaged ({error}); choose another --out") from None
    was, now = earlier if isinstance(earlier, dict) else {}, json.loads(json.dumps(command))
    if was != now:
        name = next(key for key in [*now, *was] if now.get(key) != was.get(key))
        raise ValueError(
            f"{out} holds the results of another command, in which {name} is {_told(was.get(name))}, and not "
            f"{_told(now.get(name))}; choose another --out"
        )


def _told(value: Any) -> str:
    """A value as text; the first digits of a sha256 are enough."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:DIGITS] if len(text) == 64 else text
