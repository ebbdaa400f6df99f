"""A folder of results, which belongs to the command that first wrote into it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .whole import read_document, write_whole

COMMAND = "command.json"
DIGITS = 12  # of a sha256 that is told
SUBJECTS = {"scans": "a folder of scans", "scan": "a scan", "corpus": "a corpus"}


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
    if out.is_file():
        raise ValueError(f"{out} is a file; choose another --out")
    if COMMAND not in there:
        raise ValueError(f"{out} holds other files; choose another --out")
    try:
        earlier = json.loads(read_document(out / COMMAND))
    except ValueError as error:
        raise ValueError(f"{out / COMMAND} is damaged ({error}); choose another --out") from None
    was, now = earlier if isinstance(earlier, dict) else {}, json.loads(json.dumps(command))
    if was != now:
        raise ValueError(f"{out} holds the results of another command, {_difference(was, now)}; choose another --out")


def _difference(was: dict[str, Any], now: dict[str, Any]) -> str:
    """What distinguishes two commands: what they are of, or the first key whose values differ."""
    first, second = (_subject(command) for command in (was, now))
    if first and second and first[0] != second[0]:
        return f"which was of {first[0]} ({first[1]}), and not of {second[0]} ({second[1]})"
    name = next(key for key in [*now, *was] if now.get(key) != was.get(key))
    if name not in was:
        return f"which has no {name}, and not {name} = {_told(now[name])}"
    return f"in which {name} is {_told(was[name])}, and not {_told(now.get(name))}"


def _subject(command: dict[str, Any]) -> tuple[str, str] | None:
    """What a command is of, in words and by its name; None where it is of neither scans nor a corpus."""
    return next(((said, _told(command[name])) for name, said in SUBJECTS.items() if name in command), None)


def _told(value: Any) -> str:
    """A value as text: "not given" for None, and of a sha256 the first digits, which are enough."""
    if value is None:
        return "not given"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text[:DIGITS] if len(text) == 64 else text
