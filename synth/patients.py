"""Whose scan a file is, by what its header says: fastMRI's and MRD's HDF5, and DICOM."""

from __future__ import annotations

from pathlib import Path

import h5py

from .pictures import PictureError, dicom_header
from .readers.apart import read_apart
from .readers.hdf5 import NAMESPACE, datasets_of, header_of
from .sources import is_scan


def patient_of(path: Path) -> str | None:
    """The patient's identifier, or None where the file's kind has no place for one or it is empty.

    fastMRI writes it as the attribute ``patient_id``, an MRD header as subjectInformation/patientID, DICOM as
    PatientID. Nothing but the header is read. Raises ScanError or PictureError for files that are damaged.
    """
    if path.suffix.lower() == ".dcm":
        try:
            text = str(dicom_header(path).get("PatientID", ""))
        except PictureError as error:
            raise PictureError(f"{path}: {error}") from None
    elif is_scan(path.name) and h5py.is_hdf5(path):
        text = _in_hdf5(path)
    else:
        return None
    return text.strip() or None


def _in_hdf5(path: Path) -> str:
    with h5py.File(path, "r") as file:
        headers = [name for name in datasets_of(path, file) if name == "/ismrmrd_header" or name.endswith("/xml")]
        stated = "patient_id" in file.attrs
    if stated:
        return read_apart(path, "attribute", "patient_id")["text"].tobytes().decode(errors="replace")
    if not headers:
        return ""
    root = header_of(path, read_apart(path, "hdf5", headers[0], "")["text"].tobytes())
    return root.findtext(f"{NAMESPACE}subjectInformation/{NAMESPACE}patientID") or ""
