"""Lists of source files: a text file with one name per line, relative to where it lies."""

from __future__ import annotations

from pathlib import Path


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
