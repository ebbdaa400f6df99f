"""A folder of results, which belongs to the command that first wrote into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .whole import read_document, write_whole

COMMAND = "command.json"


def claim(out: Path, command: dict[str, Any]) -> None:
    """Let a command write its results into a folder: a new one, an empty one, or one that the same command wrote.

    `command` is all that decides the results, in values that JSON can hold; it is kept in the folder as
    ``command.json``. A command that was stopped thus goes on, and no command replaces the results of another. Raises
    ValueError where the folder holds those of another command, or files that none has claimed.
    """
    kept = out / COMMAND
    there = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not there - {COMMAND}:  # a command that was refused may have left its own
        write_whole(kept, (json.dumps(command, indent=2) + "\n").encode())
        return
    if COMMAND not in there:
        raise ValueError(f"{out} holds other files; choose another --out")
    try:
        earlier = json.loads(read_document(kept))
    except ValueError as error:
        raise ValueError(f"{kept} is damaged ({error}); choose another --out") from None
    now = json.loads(json.dumps(command))
    if earlier == now:
        return
    theirs = earlier if isinstance(earlier, dict) else {}
    name = next(key for key in [*now, *theirs] if now.get(key) != theirs.get(key))
    raise ValueError(
        f"{out} holds the results of another command: its {name} was {theirs.get(name, 'not given')}, and is "
        f"{now.get(name, 'not given')} here; choose another --out"
    )
