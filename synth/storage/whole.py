"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all, and durably."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def refuse_other_files(out: Path, files: Sequence[str], mark: str, begins: bytes) -> None:
    """Raise ValueError where a folder holds other files than `files`, or some of them and not the right `mark`.

    The file `mark` is the right one if its first bytes are `begins`: it shows that the same command wrote the folder.
    """
    ours = {name + ending for name in files for ending in ("", ".partial")}
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= ours):
        raise ValueError(f"{out} holds other files; choose another --out")
    there = [name for name in files if (out / name).exists()]
    if there and not (mark in there and (out / mark).read_bytes().startswith(begins)):
        raise ValueError(f"{out / there[0]} is from another command, or one that was stopped; choose another --out")
