"""Source files: all of a kind below a folder, or a list of them: a text file, one path per line, relative to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def files_below(folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Sorted paths of the files below a folder whose names are wanted and do not begin with a dot; links are included.

    A link to a file that does not exist is included, too, so that it is reported later and not silently left out.
    Raises OSError for a folder that cannot be read.
    """
    found = (Path(where) / name for where, _, names in os.walk(folder, onerror=_raise) for name in names)
    files = (path for path in found if wanted(path.name) and not path.name.startswith("."))
    return sorted(path.relative_to(folder).as_posix() for path in files if path.is_file() or path.is_symlink())


def _raise(error: OSError) -> None:
    raise error  # without this folder, the result would silently be a different corpus


def is_list(path: Path) -> bool:
    """Whether a source's path is that of a list, a .txt file."""
    return path.is_file() and path.suffix.lower() == ".txt"


def names_in(path: Path) -> list[str]:
    """Names in a list, each once; lines that begin with # are left out.

    Raises ValueError where a name leads out of the list's folder, FileNotFoundError where a file does not exist or the
    list is empty.
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"source.path {path}: {name} leads out of the list's folder; name files below it")
        if not (path.parent / name).is_file():
            raise FileNotFoundError(f"source.path {path} names {name}, which does not exist; correct the list")
    if not names:
        raise FileNotFoundError(f"source.path {path} names no file; write one per line")
    return list(dict.fromkeys(names))
