"""What an HDF5 file holds, found without opening any other file.

An HDF5 file may lead out of itself: by an external link, by a dataset whose samples are in another file ("external
storage"), and by a virtual dataset, which is put together from other files. The library opens such a file as soon as
the link is followed, and waits for ever if it is a pipe. So each link is judged before it is followed: hard links stay
in the file, soft links are followed here step by step, and all others are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from ...errors import ScanError

MAX_OBJECTS = 100_000  # groups and datasets; to list so many takes some seconds
MAX_STEPS = 1_000  # groups on the way of a soft link


def datasets_of(path: Path, file: h5py.File) -> dict[str, h5py.Dataset]:
    """All datasets by their paths, of soft links to datasets, too.

    Raises ScanError for links or storage that lead out of the file, and for more than `MAX_OBJECTS` objects.
    """
    found: dict[str, h5py.Dataset] = {}
    root = file["/"]
    waiting, seen = [("", root)], {root.id}
    soft: list[tuple[str, h5py.Group, str]] = []
    while waiting:
        where, group = waiting.pop()
        for key in group:
            name = f"{where}/{key}"
            if len(seen) + len(found) + len(soft) > MAX_OBJECTS:
                raise ScanError(
                    f"{path}: has more than {MAX_OBJECTS:,} groups and arrays; copy the k-space into a new file"
                )
            if isinstance(_link(path, group, key), h5py.SoftLink):
                soft.append((name, group, key))
                continue
            item = group[key]
            if isinstance(item, h5py.Group) and item.id not in seen:
                seen.add(item.id)
                waiting.append((name, item))
            elif isinstance(item, h5py.Dataset):
                found[name] = _inside(path, item)
    for name, group, key in soft:
        item = _followed(path, file, group, [key])
        if isinstance(item, h5py.Dataset):
            found[name] = _inside(path, item)
    return found


def dataset_at(path: Path, file: h5py.File, name: str) -> h5py.Dataset | None:
    """The dataset at a path, or None; raises ScanError where the path, or the dataset, leads out of the file."""
    item = _followed(path, file, file["/"], _steps(name))
    return _inside(path, item) if isinstance(item, h5py.Dataset) else None


def _followed(path: Path, file: h5py.File, start: h5py.Group, steps: list[str]) -> Any:
    """The object at the end of `steps`, or None where there is none; soft links on the way are followed."""
    item, waiting = start, steps[::-1]
    for _ in range(MAX_STEPS):
        if not waiting:
            return item
        key = waiting.pop()
        link = _link(path, item, key) if isinstance(item, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.SoftLink):
            item = file["/"] if link.path.startswith("/") else item
            waiting += _steps(link.path)[::-1]
        else:
            item = item[key]
    raise ScanError(f"{path}: its links lead in a circle, or through more than {MAX_STEPS:,} groups; copy the data in")


def _steps(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _link(path: Path, group: h5py.Group, key: str) -> h5py.HardLink | h5py.SoftLink | None:
    """The link of a name in a group, or None; raises ScanError for one that leads out of the file."""
    try:
        link = group.get(key, getlink=True)
    except TypeError:  # a kind of link that a program has added to the library
        link = "unknown"
    if link is None or isinstance(link, (h5py.HardLink, h5py.SoftLink)):
        return link
    name = f"{group.name}/{key}".replace("//", "/")
    raise ScanError(f"{path}: '{name}' is a link to another file, which is not followed; copy the data in")


def _inside(path: Path, dataset: h5py.Dataset) -> h5py.Dataset:
    if dataset.external or dataset.is_virtual:
        raise ScanError(f"{path}: '{dataset.name}' is stored in another file, which is not opened; copy the data in")
    return dataset
