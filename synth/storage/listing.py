"""Source files: all of a kind below a folder, or a list of them: a text file, one path per line, relative to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath

from .objects import ObjectPlace, together
from .place import Place
from .whole import read_document


def files_below(folder: Place, wanted: Callable[[str], bool]) -> list[str]:
    """Sorted paths of the files below a folder whose names are wanted and do not begin with a dot; links are followed.

    A linked folder is read once, and not at all if it is below `folder` anyway, so that links in circles end. A link to
    a file that does not exist is included, too, so that it is reported later and not silently left out. Raises OSError
    for a folder that cannot be read.
    """
    if isinstance(folder, ObjectPlace):
        objects = ((path, path.rpartition("/")[2]) for path, _ in folder.below())
        return sorted(path for path, name in objects if name and wanted(name) and not name.startswith("."))
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    pending = [folder]
    while pending:
        links: list[Path] = []
        for where, folders, names in (step for start in pending for step in _unseen(start, seen)):
            links += [Path(where) / name for name in folders if (Path(where) / name).is_symlink()]
            found += [Path(where) / name for name in names if wanted(name) and not name.startswith(".")]
        pending = sorted(links)
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file() or path.is_symlink())


def _unseen(start: Path, seen: set[tuple[int, int]]) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` without the folders that were walked before."""
    for where, folders, names in os.walk(start, onerror=_raise):
        status = Path(where).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        yield where, folders, names


def _raise(error: OSError) -> None:
    raise error  # without this folder, the result would silently be a different corpus


def is_list(path: Place) -> bool:
    """Whether a source's path is that of a list, a .txt file; in a store, its name alone says so."""
    return path.suffix.lower() == ".txt" and (isinstance(path, ObjectPlace) or path.is_file())


def names_in(path: Place) -> list[str]:
    """Names in a list, each once; lines that begin with # are left out.

    Raises ValueError where a name leads out of the list's folder, FileNotFoundError where a file does not exist or the
    list is empty.
    """
    lines = [line.strip() for line in read_document(path).decode(errors="replace").splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError(f"source.path {path}: {name} leads out of the list's folder; name files below it")
    asked = [(path.parent / name).is_file for name in names]
    there = together(asked) if isinstance(path, ObjectPlace) else [ask() for ask in asked]
    for name in (name for name, is_there in zip(names, there, strict=True) if not is_there):
        raise FileNotFoundError(f"source.path {path} names {name}, which does not exist; correct the list")
    if not names:
        raise FileNotFoundError(f"source.path {path} names no file; write one per line")
    return list(dict.fromkeys(names))


def folders_of(paths: Collection[str]) -> set[str]:
    """The folders, with those above them, in which paths lie."""
    return {parent.as_posix() for path in paths for parent in PurePosixPath(path).parents}


def strangers(root: Place, is_known: Callable[[str], bool], is_folder: Callable[[str], bool]) -> list[str]:
    """Paths below `root` of files that are not known; of a folder that holds no known file, the folder with /.

    `is_known` says whether a file is known by its path, `is_folder` whether known files lie below a path.
    """
    found: list[str] = []
    if isinstance(root, ObjectPlace):
        for path in (path for path, _ in root.below() if not is_known(path)):
            above = [parent.as_posix() for parent in list(PurePosixPath(path).parents)[-2::-1]]
            found.append(next((f"{folder}/" for folder in above if not is_folder(folder)), path))
        return sorted({*found})
    for where, inside, names in os.walk(root):
        here = Path(where).relative_to(root)
        found += [path for name in names if not is_known(path := (here / name).as_posix())]
        found += [f"{path}/" for name in inside if not is_folder(path := (here / name).as_posix())]
        inside[:] = [name for name in inside if is_folder((here / name).as_posix())]
    return sorted(found)
