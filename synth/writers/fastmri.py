"""FastMRI's HDF5: one file of one slice per pair, as `fastmri.data.SliceDataset` and `VarNetDataTransform` read it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..physics import fft2c, ifft2c
from ..scans.readers.hdf5 import safe_array
from ..scans.readers.hdf5_tree import datasets_of
from .content import Content, header_xml

SUFFIX = ".h5"
EXACT = "without oversampling of the readout"  # fastMRI crops around the centre, one row away from Fathom's image


def write(content: Content, folder: Path) -> None:
    """Write `kspace` [1 coil y x], `mask` [x], `reconstruction_rss` [1 y x] (the target's magnitude) and the header.

    The readout's oversampling is removed, because fastMRI would crop the middle rows, one row away from the image's
    rows in `Readout`. Fathom's own arrays (`target`, `sens_maps`, all numbers) are written, too; fastMRI ignores them.
    """
    kspace = content.kspace
    if content.readout.samples != content.readout.rows:
        kspace = fft2c(content.readout.crop(ifft2c(kspace)))
        kspace = kspace * content.sampled if content.mask.is_lines and not content.full else kspace
    rows = kspace.shape[1]
    with h5py.File(folder / f"{content.name}{SUFFIX}", "x") as file:
        file["kspace"] = kspace[None].astype(np.complex64)
        file["mask"] = content.sampled.astype(np.float32)
        file["reconstruction_rss"] = content.magnitude[None]
        file["ismrmrd_header"] = header_xml(content, rows, rows)
        file["target"], file["sens_maps"] = content.target, content.maps
        magnitude = content.magnitude
        file.attrs.update(
            {
                "max": float(magnitude.max()),
                "norm": float(np.linalg.norm(magnitude)),
                "acquisition": "FATHOM",
                **{f"fathom_{name}": value for name, value in content.numbers.items()},
            }
        )


def read(folder: Path, name: str) -> tuple[NDArray[np.complex64], NDArray[np.bool_], NDArray[np.complex64]]:
    """K-space [coil y x], mask and target that `write` wrote."""
    path = folder / f"{name}{SUFFIX}"
    with h5py.File(path, "r") as file:
        arrays = datasets_of(path, file)  # `datasets_of` follows no link out of the file
        kspace, mask, target = (safe_array(path, arrays[f"/{key}"]) for key in ("kspace", "mask", "target"))
    return kspace[0], mask != 0, target
