"""Source files: all of a kind below a folder, or a list: a text file, one name per line, relative to where it lies."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def files_below(folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Paths of the files below a folder whose names are wanted and begin with no dot, sorted; links to files count.

    A link that leads nowhere is among them: it is to be said, not left out. Raises OSError for a folder that cannot be
    read.
    """
    found = (Path(where) / name for where, _, names in os.walk(folder, onerror=_raise) for name in names)
    files = (path for path in found if wanted(path.name) and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in files if path.is_file() or path.is_symlink())


def _raise(error: OSError) -> None:
    raise error  # leaving a folder out that cannot be read would make another corpus in silence


def is_list(path: Path) -> bool:
    """Whether a source's path is a list."""
    return path.is_file() and path.suffix.lower() == ".txt"


def names_in(path: Path) -> list[str]:
    """Names in a list, each once; lines that begin with # are left out.

    Raises ValueError where one leads out of the list's folder, FileNotFoundError where one is not there, or for none.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"source.path {path}: {name} leads out of the list's folder; name files below it")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"source.path {path} names {name}, which is not there; mend the list")
    if not names:
        raise FileNotFoundError(f"source.path {path} names no file; write one per line")
    return list(dict.fromkeys(names))
