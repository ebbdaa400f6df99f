"""MRD (ISMRMRD): one file per pair, one acquisition per sampled line, in the types of ismrmrd.h."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..physics import centre_block
from ..scans.open import open_scan
from ..scans.readers.hdf5 import safe_array
from ..scans.readers.hdf5_tree import datasets_of
from .content import Content, header_xml

SUFFIX = ".h5"
EXACT = ""
FIRST_IN_SLICE, LAST_IN_SLICE, CALIBRATION_AND_IMAGING = 7, 8, 21

COUNTERS = np.dtype(
    [
        *[(name, "<u2") for name in ("kspace_encode_step_1", "kspace_encode_step_2", "average", "slice", "contrast")],
        *[(name, "<u2") for name in ("phase", "repetition", "set", "segment")],
        ("user", "<u2", (8,)),
    ]
)
HEAD = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        *[(name, "<u4") for name in ("measurement_uid", "scan_counter", "acquisition_time_stamp")],
        ("physiology_time_stamp", "<u4", (3,)),
        *[(name, "<u2") for name in ("number_of_samples", "available_channels", "active_channels")],
        ("channel_mask", "<u8", (16,)),
        *[(name, "<u2") for name in ("discard_pre", "discard_post", "center_sample", "encoding_space_ref")],
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        *[(name, "<f4", (3,)) for name in ("position", "read_dir", "phase_dir", "slice_dir", "patient_table_position")],
        ("idx", COUNTERS),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
RECORD = np.dtype([("head", HEAD), ("traj", h5py.vlen_dtype(np.float32)), ("data", h5py.vlen_dtype(np.float32))])


def write(content: Content, folder: Path) -> None:
    """Write the lines that a corpus keeps, readout oversampling included; raises ValueError for masks of points.

    Readers of MRD take sample S // 2 of the readout's S as the image's centre. A corpus with oversampling has its
    image `Readout.offset` rows further on, so the lines are shifted back by a linear phase. `fathom/kspace`
    [line coil y] then holds the lines as the corpus has them, from which the corpus is made again bit for bit.
    """
    if not content.mask.is_lines:
        raise ValueError(
            "the acquisitions of MRD are readout lines, but this corpus's masks are of points; export it to cfl"
        )
    coils, samples, columns = content.kspace.shape
    sampled = np.arange(columns) if content.full else np.flatnonzero(content.sampled)
    reference = np.zeros(columns, bool)
    reference[centre_block(columns, content.mask.reference(samples)[1])] = True
    centred = _centred(content)
    records = np.zeros(len(sampled), RECORD)
    nothing = np.zeros(0, np.float32)
    for k, column in enumerate(sampled):
        flags = 1 << (CALIBRATION_AND_IMAGING - 1) if reference[column] else 0
        flags |= (1 << (FIRST_IN_SLICE - 1)) * (k == 0) | (1 << (LAST_IN_SLICE - 1)) * (k == len(sampled) - 1)
        head = np.zeros((), HEAD)
        head["version"], head["flags"], head["scan_counter"] = 1, flags, k
        head["number_of_samples"], head["center_sample"] = samples, samples // 2
        head["available_channels"] = head["active_channels"] = coils
        head["read_dir"], head["phase_dir"], head["slice_dir"] = np.eye(3)
        head["idx"]["kspace_encode_step_1"] = column
        line = np.ascontiguousarray(centred[:, :, column])
        records[k] = head, nothing, line.view(np.float32).ravel()
    with h5py.File(folder / f"{content.name}{SUFFIX}", "x") as file:
        file.create_dataset("dataset/data", data=records, dtype=RECORD, maxshape=(None,), chunks=(1,))
        xml = header_xml(content, content.readout.rows, samples)
        file.create_dataset("dataset/xml", data=np.array([xml.encode()], dtype=h5py.string_dtype()), maxshape=(None,))
        file["fathom/target"], file["fathom/sens_maps"] = content.target, content.maps
        file["fathom/mask"] = content.sampled
        if content.readout.offset:
            file["fathom/kspace"] = content.kspace[:, :, sampled].transpose(2, 0, 1)
        file["fathom"].attrs.update(content.numbers)


def _centred(content: Content) -> NDArray[np.complex64]:
    """K-space [coil y x] with the image's centre at row S // 2 of S: image'(r) = image(r + offset)."""
    samples, offset = content.kspace.shape[1], content.readout.offset
    if offset == 0:
        return content.kspace
    frequency = np.arange(samples) - samples // 2
    return (content.kspace * np.exp(2j * np.pi * offset / samples * frequency)[:, None]).astype(np.complex64)


def read(folder: Path, name: str) -> tuple[NDArray[np.complex64], NDArray[np.bool_], NDArray[np.complex64]]:
    """K-space [coil y x], mask and target that `write` wrote."""
    path = folder / f"{name}{SUFFIX}"
    with h5py.File(path, "r") as file:
        arrays = datasets_of(path, file)
        sampled, target = (safe_array(path, arrays[f"/fathom/{key}"]) for key in ("mask", "target"))
        if "/fathom/kspace" in arrays:  # exports of earlier versions have none: their lines are not shifted
            lines = safe_array(path, arrays["/fathom/kspace"])
            kspace = np.zeros((*lines.shape[1:], len(sampled)), np.complex64)
            kspace[:, :, slice(None) if len(lines) == len(sampled) else sampled] = lines.transpose(1, 2, 0)
            return kspace, sampled, target
    return open_scan(path).as_stored(0), sampled, target
