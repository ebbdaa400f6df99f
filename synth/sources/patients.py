"""The patient of a file, as its header names it: fastMRI's and MRD's HDF5, and DICOM."""

from __future__ import annotations

from pathlib import Path

import h5py

from ..errors import ImageFileError, ScanError, StorageError, StoreError
from ..scans.readers.hdf5_tree import datasets_of
from ..scans.readers.isolated import read_apart
from ..scans.readers.mrd_header import NAMESPACE, header_of
from ..storage.copies import kept_copy
from ..storage.place import Place
from .mr_images import dicom_header
from .scan_slices import is_scan


def patient_of(path: Place) -> str | None:
    """The patient's identifier, or None where the file has no field for it or the field is empty.

    fastMRI writes it as the attribute ``patient_id``, an MRD header as subjectInformation/patientID, DICOM as
    PatientID. Only the header is read; of scans in an object store, which would have to be copied whole, not even that.
    Raises ScanError or ImageFileError for files that are damaged.
    """
    try:
        if path.suffix.lower() == ".dcm":
            with kept_copy(path) as here:
                text = dicom_header(here).get("PatientID", "")
            return (text.strip() if isinstance(text, str) else "") or None
        if isinstance(path, Path) and is_scan(path.name) and h5py.is_hdf5(path):
            return _in_hdf5(path)
    except (ScanError, StoreError, StorageError):
        raise
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from None
    except Exception as error:  # h5py and pydicom raise many kinds of errors on a damaged file
        raise ScanError(f"{path}: its header cannot be read ({type(error).__name__}: {error})") from None
    return None


def _in_hdf5(path: Path) -> str | None:
    stated = _text(path, "attribute", "patient_id")
    if stated:
        return stated
    with h5py.File(path, "r") as file:
        datasets = {name: (d.name, d.dtype.names or ()) for name, d in datasets_of(path, file).items()}
    groups = [name.rpartition("/")[0] for name, (_, kind) in datasets.items() if "head" in kind]
    roots = [
        header_of(path, _text(path, "hdf5", datasets[name][0], "").encode())
        for name in ("/ismrmrd_header", *(f"{group}/xml" for group in groups))
        if name in datasets
    ]
    named = {(root.findtext(f"{NAMESPACE}subjectInformation/{NAMESPACE}patientID") or "").strip() for root in roots}
    named -= {""}
    if len(named) > 1:
        raise ScanError(f"{path}: its headers name {len(named)} patients; split by folder or an expression instead")
    return named.pop() if named else None


def _text(path: Path, kind: str, *place: str) -> str:
    data = read_apart(path, kind, *place)["text"]
    return data.tobytes().decode(errors="replace").strip()
