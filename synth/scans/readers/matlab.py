"""MATLAB's .mat files, version 5 through scipy and 7.3 through h5py; complex arrays by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import Choice, Scan
from .axes import named_axes, refuse_empty_promises, refuse_matrices, scan_of
from .hdf5 import datasets_of, safe_array
from .isolated import read_apart

GUESSES = {2: "y x", 3: "y x coil", 4: "y x slice coil"}
KSPACE = re.compile(r"^(k($|[^a-z])|kdata|ksp|k_|raw|fid|measurements)", re.IGNORECASE)
MAPS = re.compile(r"sens|maps|^coil|csm|smap", re.IGNORECASE)
MAT73 = b"MATLAB 7.3"


def read(path: Path, choice: Choice) -> Scan:
    """Read [y x], [y x coil] or [y x slice coil], unless `axes` says otherwise; and coil maps of the same shape."""
    with path.open("rb") as file:
        start = file.read(128)
    arrays = _hdf5_arrays(path) if start.startswith(MAT73) or h5py.is_hdf5(path) else _v5_arrays(path)
    found = {name: a for name, a in arrays.items() if np.iscomplexobj(a) and a.ndim >= 2}
    name = choice.variable or _kspace_among(path, found, list(arrays))
    if name not in found:
        raise ScanError(f"{path}: has no complex array '{name}'; complex arrays in it: {sorted(found) or 'none'}")
    array = found[name]
    refuse_matrices(path, name, array)
    names, notes = named_axes(path, choice.axes, array.ndim, GUESSES)
    maps = [a for other, a in found.items() if other != name and MAPS.search(other) and a.shape == array.shape]
    if len(found) > 1 and choice.variable is None:
        notes = (*notes, f"'{name}' was taken as the k-space, from the complex arrays {sorted(found)}")
    return scan_of(path, "mat", array, names, notes, maps[0] if maps else None)


def _kspace_among(path: Path, found: dict[str, Any], everything: list[str]) -> str:
    if len(found) == 1:
        return next(iter(found))
    likely = [name for name in found if KSPACE.search(name) and not MAPS.search(name)]
    if not found:
        raise ScanError(
            f"{path}: none of its arrays is complex, as k-space must be; save k-space as a complex array. "
            f"Numeric arrays in it: {sorted(everything) or 'none'}"
        )
    if len(likely) != 1:
        raise ScanError(
            f"{path}: which array is the k-space? Its complex arrays are {sorted(found)}; name one as variable"
        )
    return likely[0]


def _v5_arrays(path: Path) -> dict[str, NDArray[Any]]:
    listed = json.loads(read_apart(path, "mat")["shapes"].tobytes())
    for name, shape, _ in listed:
        refuse_empty_promises(path, name, tuple(shape), 1, path.stat().st_size)
    numeric = [name for name, shape, kind in listed if kind in ("double", "single") and len(shape) >= 2]
    return dict(read_apart(path, "mat", *numeric)) if numeric else {}


def _hdf5_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a version 7.3 file: {real, imag} records, axes in the opposite order."""
    arrays = {}
    with h5py.File(path, "r") as file:
        for name, dataset in datasets_of(path, file).items():
            if dataset.dtype.names == ("real", "imag"):
                values = safe_array(path, dataset)
                arrays[name.strip("/")] = (values["real"] + 1j * values["imag"]).astype(np.complex64).T
    return arrays
