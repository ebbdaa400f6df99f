"""numpy's .npy and .npz, never a pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ScanError
from ...storage.arrays import not_plain
from ..scan import Choice, Scan
from .axes import named_axes, refuse_empty_promises, refuse_matrices, refuse_real, scan_of, which_array

GUESSES = {2: "y x", 3: "coil y x", 4: "slice coil y x"}


def read(path: Path, choice: Choice) -> Scan:
    """[slice coil y x], [coil y x] or [y x], unless `axes` says otherwise."""
    name, array = _array(path, choice.variable)
    refuse_real(path, name, array.dtype)
    refuse_matrices(path, name, array)
    names, notes = named_axes(path, choice.axes, array.shape, GUESSES)
    return scan_of(path, "npy", array, names, notes)


def _array(path: Path, variable: str | None) -> tuple[str, Any]:
    if not zipfile.is_zipfile(path):
        try:
            return path.name, np.load(path, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            raise ScanError(f"{path}: {not_plain(error)}; save k-space as a complex array by numpy.save") from None
    with zipfile.ZipFile(path) as archive:
        members = {Path(i.filename).stem: i for i in archive.infolist() if i.filename.endswith(".npy")}
        shapes = {name: _header(archive, info) for name, info in members.items()}
        complex_ones = [name for name, (_, dtype) in shapes.items() if dtype.kind == "c"]
        if variable is None and len(complex_ones) == 1:
            variable = complex_ones[0]
        if variable not in shapes:
            absent = f"has no array {variable!r}; " if variable is not None else ""
            raise ScanError(f"{path}: {absent}{which_array(complex_ones)}")
        shape, dtype = shapes[variable]
        refuse_empty_promises(path, variable, shape, dtype.itemsize, members[variable].compress_size)
    with np.load(path, allow_pickle=False) as arrays:
        return variable, arrays[variable]


def _header(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[tuple[int, ...], Any]:
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
    return shape, dtype
