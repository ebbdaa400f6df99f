"""HDF5: fastMRI's files and MRD, told apart by what is in them; links and storage outside the file are refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import Choice, Scan
from .axes import named_axes, refuse_empty_promises, refuse_real, sizes, slice_of, which_array
from .hdf5_tree import dataset_at, datasets_of
from .isolated import read_apart
from .mrd import groups_of_acquisitions, read_acquisitions
from .mrd_header import encoding_of, header_of, number_in, readout_of


def read(path: Path, choice: Choice) -> Scan:
    """FastMRI's `kspace` [slice coil y x], MRD's acquisitions, or the array that `variable` names."""
    if not h5py.is_hdf5(path):
        raise ScanError(f"{path}: is not an HDF5 file, although its suffix says so; copy the file anew")
    with h5py.File(path, "r") as file:
        datasets = datasets_of(path, file)
        groups = groups_of_acquisitions(datasets)
        if groups and choice.variable in (None, *groups, *(group.strip("/") for group in groups)):
            return read_acquisitions(path, datasets, choice.variable)
        name = choice.variable or ("/kspace" if "/kspace" in datasets else _only_complex(path, datasets))
        dataset = dataset_at(path, file, name)
        if dataset is None:
            raise ScanError(f"{path}: has no array '{name}'; it has {sorted(datasets)[:20]}")
        refuse_real(path, name, dataset.dtype)
        names, notes = named_axes(path, choice.axes, dataset.shape, {3: "slice y x", 4: "slice coil y x"})
        refuse_promises_of(path, dataset)
        header = datasets["/ismrmrd_header"].name if "/ismrmrd_header" in datasets else None
        load = partial(_read_slice, path, dataset.name, names)
        shape = sizes(dataset.shape, names)
        scan = Scan(path, "fastmri", shape, load, notes=notes if name != "/kspace" else ())
    return _with_header(scan, read_apart(path, "hdf5", header, "")["text"].tobytes()) if header else scan


def _only_complex(path: Path, datasets: dict[str, Any]) -> str:
    found = [name for name, d in datasets.items() if d.dtype.kind == "c" and d.ndim in (3, 4)]
    if len(found) != 1:
        raise ScanError(f"{path}: {which_array(found)}")
    return found[0]


def safe_array(path: Path, dataset: h5py.Dataset) -> NDArray[Any]:
    """All of a dataset, after its declared size was compared with what is stored."""
    refuse_promises_of(path, dataset)
    return np.asarray(dataset[()])


def refuse_promises_of(path: Path, dataset: h5py.Dataset) -> None:
    """Raise ScanError where a dataset's declared size is more than its stored bytes can hold."""
    stored = dataset.id.get_storage_size()
    refuse_empty_promises(path, dataset.name, dataset.shape, dataset.dtype.itemsize, stored)


def _read_slice(path: Path, dataset: str, names: list[str], number: int) -> NDArray[Any]:
    with h5py.File(path, "r") as file:  # opened anew each time: safe under fork and threads, and no file stays open
        found = dataset_at(path, file, dataset)
        if found is None:
            raise ScanError(f"{path}: has no array '{dataset}' any more; open the scan anew")
        return slice_of(found.__getitem__, names, number)


def _with_header(scan: Scan, xml: bytes) -> Scan:
    """The scan with what fastMRI's own header says: padded columns, oversampling, field of view.

    fastMRI pads k-space with zero columns to the encoded width N: left = N // 2 - centre columns on the left, and all
    columns from left + maximum + 1 on (fastmri.data.mri_data.SliceDataset).
    """
    encoding = encoding_of(header_of(scan.path, xml))
    columns = scan.stored[3]
    limits = "encodingLimits/kspace_encoding_step_1/"
    wide = int(number_in(encoding, "encodedSpace/matrixSize/y", columns))
    left = wide // 2 - int(number_in(encoding, limits + "center", wide // 2))
    last = left + int(number_in(encoding, limits + "maximum", wide - 1)) + 1
    padding = (0, 0)
    if wide == columns and left > 0 and last <= columns:
        padding = strip_of(max(left, 0), columns - last, columns)
        inside: NDArray[np.bool_] = np.any(scan.as_stored(0), axis=(0, 1))
        if inside[: padding[0]].any() or inside[columns - padding[1] :].any():
            padding = (0, 0)
    oversampling, field_of_view = readout_of(encoding, scan.stored[2])
    return replace(scan, padding=padding, oversampling=oversampling, field_of_view_mm=field_of_view)


def strip_of(left: int, right: int, columns: int) -> tuple[int, int]:
    """How many of the `left` and `right` zero columns can be removed while the centre stays at index N // 2."""
    fitting = [
        (a, b)
        for a in range(min(left, right + 1) + 1)
        for b in (a - 1, a, a + 1)
        if 0 <= b <= right and columns // 2 - a == (columns - a - b) // 2
    ]
    return max(fitting, key=sum)
