"""A program that reads data which can crash the library that reads them, and writes them to stdout as .npz.

Such data are HDF5's text and records of variable length, and MATLAB's version 5 files: a flipped bit can crash the HDF5
library or scipy's reader. The crash then ends this process, and not the user's. The program imports nothing from
Fathom, so that it starts fast.
Arguments: the file, then "hdf5", the text's path and the records' path (or ""); "attribute" and its name; or
"mat" and the arrays' names.
"""

from __future__ import annotations

import io
import os
import resource
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

LARGEST_GROWTH = 8  # bytes of memory per byte of the file, besides those that Python itself takes


def hdf5(path: str, text: str, records: str) -> dict[str, Any]:
    """Read ``text`` (uint8), and the records' ``head``, ``data`` (the samples of all records in turn) and ``sizes``."""
    import h5py

    found: dict[str, Any] = {}
    with h5py.File(path, "r") as file:
        if text:
            found["text"] = _bytes(file[text][()])
        if records:
            rows = file[records][()]
            lines = [np.asarray(line, np.float32) for line in rows["data"]]
            found["head"] = rows["head"]
            found["sizes"] = np.array([line.size for line in lines], np.int64)
            found["data"] = np.concatenate(lines) if lines else np.zeros(0, np.float32)
    return found


def attribute(path: str, name: str) -> dict[str, Any]:
    """Read an attribute of the whole file as ``text``; it is empty unless the attribute is a text or a whole number."""
    import h5py

    with h5py.File(path, "r") as file:
        value = file.attrs.get(name, "")
        value = value.ravel()[0] if isinstance(value, np.ndarray) and value.size == 1 else value
        return {"text": _bytes(value if isinstance(value, (str, bytes, int, np.integer)) else "")}


def _bytes(value: Any) -> Any:
    value = value.ravel()[0] if isinstance(value, np.ndarray) else value
    return np.frombuffer(value if isinstance(value, bytes) else str(value).encode(errors="surrogateescape"), np.uint8)


def mat(path: str, *names: str) -> dict[str, Any]:
    """Read numeric arrays of a version 5 file; without names, shape and kind of all arrays, as JSON in ``shapes``."""
    import json

    import scipy.io

    if names:
        loaded = scipy.io.loadmat(path, variable_names=list(names))
        return {name: loaded[name] for name in names if loaded[name].dtype.kind in "fc"}
    listed = [(name, [int(n) for n in shape], kind) for name, shape, kind in scipy.io.whosmat(path)]
    return {"shapes": np.frombuffer(json.dumps(listed).encode(), np.uint8)}


def main(path: str, kind: str, *arguments: str) -> None:
    """Read what the arguments name, and write it to stdout."""
    limit = 6 * 2**30 + LARGEST_GROWTH * os.path.getsize(path)  # noqa: PTH202 (pathlib would be one more import)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    readers: dict[str, Callable[..., dict[str, Any]]] = {"hdf5": hdf5, "attribute": attribute, "mat": mat}
    found = readers[kind](path, *arguments)
    memory = io.BytesIO()
    np.savez(memory, **found)
    sys.stdout.buffer.write(memory.getbuffer())


if __name__ == "__main__":
    main(*sys.argv[1:])
