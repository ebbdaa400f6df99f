"""MATLAB's .mat files, version 5 through scipy and 7.3 through h5py; complex arrays by name."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import Choice, Scan
from .axes import named_axes, refuse_empty_promises, refuse_matrices, scan_of
from .hdf5 import safe_array
from .hdf5_tree import datasets_of
from .isolated import read_apart

GUESSES = {2: "y x", 3: "y x coil", 4: "y x slice coil"}
KSPACE = re.compile(r"^(k($|[^a-z])|kdata|ksp|k_|raw|fid|measurements)", re.IGNORECASE)
MAPS = re.compile(r"sens|maps|^coil|csm|smap", re.IGNORECASE)
REAL = re.compile(r"[Rr]eal|REAL|(?<![A-Za-z])re(?![a-z])|Re(?![a-z])")
IMAGINARY = re.compile(r"[Ii]mag|IMAG|(?<![A-Za-z])im(?![a-z])|Im(?![a-z])")
SMOOTH = 0.02  # second differences over values: below this an array is a trajectory; k-space has a peak, and noise
MAT73 = b"MATLAB 7.3"


@dataclass
class Contents:
    """The arrays of a file by name, [y x ...] as MATLAB shows them, and the names of its structs, cells and texts."""

    arrays: dict[str, NDArray[Any]]
    others: list[str]

    @property
    def complex_arrays(self) -> dict[str, NDArray[Any]]:
        """Complex arrays, and pairs of real arrays whose names say that they are the two parts of one."""
        found = {name: a for name, a in self.arrays.items() if np.iscomplexobj(a)}
        parts = {name: REAL.sub("#", name) for name in self.arrays if REAL.search(name) and name not in found}
        for imaginary in set(self.arrays) - set(found) - set(parts):
            for real, without in parts.items():
                if IMAGINARY.search(imaginary) and IMAGINARY.sub("#", imaginary) == without:
                    found[f"{real},{imaginary}"] = self.joined(real, imaginary)
        return found

    def joined(self, real: str, imaginary: str) -> NDArray[Any]:
        """The complex array of two real ones; raises KeyError or ValueError."""
        a, b = self.arrays[real], self.arrays[imaginary]
        if np.iscomplexobj(a) or np.iscomplexobj(b) or a.shape != b.shape:
            raise ValueError(
                f"'{real}' {list(a.shape)} and '{imaginary}' {list(b.shape)} are not two real arrays alike"
            )
        return a + 1j * b


def read(path: Path, choice: Choice) -> Scan:
    """Read [y x], [y x coil] or [y x slice coil], unless `axes` says otherwise; and coil maps of the same shape.

    `variable` names one complex array, or two real arrays: ``real,imaginary``.
    """
    with path.open("rb") as file:
        start = file.read(128)
    contents = (
        _hdf5_contents(path, choice.variable) if start.startswith(MAT73) or h5py.is_hdf5(path) else _v5_contents(path)
    )
    found = contents.complex_arrays
    name = choice.variable or _kspace_among(path, contents, found)
    if name not in found and "," in name:
        real, _, imaginary = (part.strip() for part in name.partition(","))
        try:
            found[name] = contents.joined(real, imaginary)
        except (KeyError, ValueError) as error:
            raise ScanError(f"{path}: variable '{name}': {error}; its arrays are {sorted(contents.arrays)}") from None
    if name not in found:
        raise ScanError(f"{path}: has no complex array '{name}'; complex arrays in it: {sorted(found) or 'none'}")
    array = found[name]
    refuse_matrices(path, name, array)
    names, notes = named_axes(path, choice.axes, array.shape, GUESSES)
    maps = [a for other, a in found.items() if other != name and MAPS.search(other) and a.shape == array.shape]
    if choice.variable is None and "," in name:
        notes = (*notes, f"the arrays '{name}' were taken as the real and imaginary part of the k-space")
    elif choice.variable is None and len(found) > 1:
        notes = (*notes, f"'{name}' was taken as the k-space, from the complex arrays {sorted(found)}")
    return scan_of(path, "mat", array, names, notes, maps[0] if maps else None)


def _kspace_among(path: Path, contents: Contents, found: dict[str, Any]) -> str:
    candidates = [name for name, array in found.items() if not _is_trajectory(array)]
    likely = [name for name in candidates if KSPACE.search(name) and not MAPS.search(name)]
    if not found:
        numeric = sorted(contents.arrays) or "none"
        structs = f"; its structs, cells and texts {contents.others} are not looked into" if contents.others else ""
        raise ScanError(
            f"{path}: none of its arrays is complex, as k-space must be; save k-space as a complex array, or name two "
            f"real ones as variable 'real,imaginary'. Numeric arrays in it: {numeric}{structs}"
        )
    chosen = candidates if len(candidates) == 1 else likely
    if len(chosen) != 1:
        smooth = sorted(set(found) - set(candidates))
        told = f" ({smooth} are as smooth as a trajectory)" if smooth else ""
        raise ScanError(
            f"{path}: which array is the k-space? Its complex arrays are {sorted(found)}{told}; name one as variable"
        )
    return chosen[0]


def _is_trajectory(array: NDArray[Any]) -> bool:
    """Whether the values are as smooth along an axis as positions kx + i ky along a readout are."""
    longest = int(np.argmax(array.shape))
    if array.shape[longest] < 3:
        return False
    bends = np.diff(array, 2, axis=longest)
    return bool(np.linalg.norm(bends) < SMOOTH * np.linalg.norm(array))


def _v5_contents(path: Path) -> Contents:
    listed = json.loads(read_apart(path, "mat")["shapes"].tobytes())
    for name, shape, _ in listed:
        refuse_empty_promises(path, name, tuple(shape), 1, path.stat().st_size)
    numeric = [name for name, shape, kind in listed if kind in ("double", "single") and len(shape) >= 2]
    arrays = dict(read_apart(path, "mat", *numeric)) if numeric else {}
    return Contents(arrays, sorted(name for name, _, kind in listed if kind in ("struct", "cell", "char", "object")))


def _hdf5_contents(path: Path, variable: str | None) -> Contents:
    """Arrays of a version 7.3 file, axes in the opposite order: {real, imag} records, or real numbers.

    Real numbers are read only where `variable` names two arrays, or where no array is complex: a file may hold much
    else.
    """
    arrays: dict[str, NDArray[Any]] = {}
    others = []
    with h5py.File(path, "r") as file:
        datasets = datasets_of(path, file)
        records = any(dataset.dtype.names == ("real", "imag") for dataset in datasets.values())
        reals = "," in (variable or "") or not records
        for name, dataset in datasets.items():
            if dataset.dtype.names == ("real", "imag"):
                values = safe_array(path, dataset)
                arrays[name.strip("/")] = (values["real"] + 1j * values["imag"]).astype(np.complex64).T
            elif reals and dataset.dtype.kind == "f" and dataset.ndim >= 2:
                arrays[name.strip("/")] = safe_array(path, dataset).T
            else:
                others.append(name.strip("/"))
    return Contents({name: a for name, a in arrays.items() if a.ndim >= 2}, others)
