"""Where bytes are: in local files and folders, or in an object store."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from ..errors import StorageError
from ..given import refuse_other_type
from .objects import SCHEMES, ObjectPlace

# `pathlib` joins the two slashes of an address to one; a drive of Windows has one letter.
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z0-9+.-]+)*):/+(.*)", re.DOTALL)

Place = Path | ObjectPlace
"""A file or a folder, or an object or all objects below a name; both have the same few methods."""


def place_of(address: str | Place) -> Place:
    """The place that a user names: a path, or an address ``file:///folder``, ``s3://bucket/name``, ``gs://``, ``az://``.

    Raises StorageError for any other address.
    """
    if isinstance(address, ObjectPlace):
        return address
    found = ADDRESS.match(str(address))
    if found is None or found[1].lower() == "file":
        return local_path(address)
    if found[1].lower() not in SCHEMES:
        raise StorageError(
            f"{found[1]}://{found[2]}: Fathom reads local files, and the object stores "
            f"{', '.join(f'{scheme}://' for scheme in SCHEMES)}, not {found[1]}://"
        )
    bucket, _, key = found[2].strip("/").partition("/")
    if not bucket or not key.strip("/") or {"", ".", ".."} & {*key.split("/")}:
        raise StorageError(f"{found[1]}://{found[2]}: give the bucket and a name in it, as in s3://bucket/name.zarr")
    return ObjectPlace(f"{found[1].lower()}://{bucket}", key)


def names_in_folder(place: Place) -> set[str]:
    """The names of what lies right below a folder, or right below an object's name."""
    return {path.name for path in place.iterdir()} if isinstance(place, Path) else place.names()


def below_one_folder(places: Sequence[Place]) -> tuple[Place, list[str]] | None:
    """The innermost folder that holds all these files, and the path of each from there.

    None where there is no such folder, as for objects of two buckets; a whole bucket does not count as one.
    """
    local = [place for place in places if isinstance(place, Path)]
    if len(local) == len(places):
        folder = Path(os.path.commonpath([place.parent for place in local]))
        return folder, [place.relative_to(folder).as_posix() for place in local]
    objects = [place for place in places if isinstance(place, ObjectPlace)]
    key = os.path.commonpath([place.parent.key for place in objects])
    if local or not key or len({place.store for place in objects}) > 1:
        return None
    return ObjectPlace(objects[0].store, key), [place.key.removeprefix(f"{key}/") for place in objects]


def size_of(place: Place) -> int:
    """Bytes of a file; raises FileNotFoundError."""
    return place.stat().st_size if isinstance(place, Path) else place.size()


def remove(place: Place) -> None:
    """Remove a file or an object, if it is there."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
    else:
        place.delete()


def local_path(place: str | Path) -> Path:
    """The local path of a place that a user names: a path, or an address ``file:///folder``.

    ``~`` at the beginning is the user's folder: a shell replaces it in ``~/scans``, but not in ``source.path=~/scans``.

    Raises StorageError for the address of an object store or of a web server: taken as a path, it would be a folder
    with the name ``s3:``.
    """
    refuse_other_type(place, (str, os.PathLike), "a place is a path, or an address such as 's3://bucket/name.zarr'")
    found = ADDRESS.match(str(place))
    if found is None:
        return Path(place).expanduser()
    if found[1].lower() != "file":
        raise StorageError(
            f"{found[1]}://{found[2]}: Fathom reads and writes local files, not {found[1]}://; give the path of a "
            "local file or folder"
        )
    return Path("/" + unquote(found[2]))
