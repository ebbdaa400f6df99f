"""Arrays that a recipe names by their files: .npy and .npz, never a pickle."""

from __future__ import annotations

import hashlib
import os
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .copies import local_copy
from .objects import ObjectPlace
from .place import Place, place_of
from .whole import open_regular, refuse_shortage

Stamp = tuple[int | str, int]
"""What changes with a file."""


def stamp(path: str) -> Stamp:
    """Time of change and size of a file (for a corpus, of its zarr.json): a key for caches of what was read from it."""
    place = place_of(path)
    if isinstance(place, ObjectPlace):
        return (place / "zarr.json" if place.suffix == ".zarr" else place).version()
    status = (place / "zarr.json" if place.is_dir() else place).stat()
    return status.st_mtime_ns, status.st_size


def load_array(path: str, key: str, name: str | None = None) -> Any:
    """Array of an .npy file (memory-mapped), or array `name` of an .npz file.

    Raises FileNotFoundError or ValueError that names the recipe's `key`; nothing in the file is executed.
    """
    if not place_of(path).is_file():
        raise FileNotFoundError(f"{key} {path} does not exist; give the path of an .npy file")
    try:
        with local_copy(place_of(path)) as file:
            loaded = np.load(file, mmap_mode="r", allow_pickle=False)  # a copy lasts as long as it is mapped
            if not isinstance(loaded, np.ndarray):
                with loaded:
                    loaded = loaded[name]
    except KeyError:
        raise ValueError(f"{key} {path} has no array '{name}'; save it under that name") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, MemoryError, TypeError, SyntaxError) as error:
        refuse_shortage(error)
        raise ValueError(f"{key} {path}: {not_plain(error)}; save it with numpy.save") from None
    if loaded.dtype.kind not in "biufc":
        raise ValueError(f"{key} {path}: holds {loaded.dtype}, not numbers; save numbers with numpy.save")
    return loaded


def not_plain(error: Exception) -> str:
    """What is wrong with a file that numpy does not load; its own advice is to run what may be code."""
    if "Python objects" in (told := str(error)) or "Object arrays" in told:
        return "holds Python objects, which are never loaded, since they may run code"
    if "pickle" in told:  # numpy takes for a pickle whatever begins as no file of its own
        return "is not a numpy file, although its suffix says so"
    return f"is cut off or damaged ({told})"


def sha256_of(array: NDArray[Any]) -> str:
    """sha256 of an array's bytes."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def sha256_of_file(file: Place, most: int | None = None) -> str:
    """sha256 of a file's bytes; raises OSError, or ValueError for a pipe, a device, or more than `most` bytes."""
    if isinstance(file, ObjectPlace):
        found = hashlib.sha256()
        if most is not None and (size := file.size()) > most:
            raise ValueError(f"{file}: has {size:,} bytes, more than the {most:,} that it can need; restore it")
        for part in file.stream():
            found.update(part)
        return found.hexdigest()
    with os.fdopen(open_regular(file, most), "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
