"""Reconstructed images as NIfTI and DICOM, for viewers: magnitudes, marked as research and not for diagnosis."""

from __future__ import annotations

import hashlib
import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError
from ..storage.whole import write_whole

Volume = NDArray[np.float32]  # magnitudes [slice y x]
NOT_FOR_DIAGNOSIS = "Research only, not for diagnosis"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # DICOM PS3.6: Secondary Capture Image Storage
LARGEST = 2**16 - 1


def write_nifti(volume: Volume, path: Path, field_of_view_mm: tuple[float, float] | None = None) -> None:
    """Write one NIfTI file [x y slice] of float32, with the pixels' size where the field of view y, x is known.

    Its orientation is said to be unknown (both codes of the header are 0), as a scan's k-space does not tell it. Raises
    ImageFileError where nibabel is not installed.
    """
    try:
        nibabel: Any = importlib.import_module("nibabel")
    except ImportError:
        raise ImageFileError("NIfTI needs nibabel; pip install nibabel") from None
    dy, dx = _pixel_mm(volume, field_of_view_mm) or (1.0, 1.0)
    image = nibabel.Nifti1Image(np.ascontiguousarray(volume.transpose(2, 1, 0)), None)
    image.header.set_zooms((dx, dy, 1.0))
    image.header.set_xyzt_units("mm" if field_of_view_mm else "unknown")
    image.header["descrip"] = NOT_FOR_DIAGNOSIS.encode()
    write_whole(path, image.to_bytes())


def write_dicom(
    volume: Volume, folder: Path, made_by: str, field_of_view_mm: tuple[float, float] | None = None
) -> None:
    """Write a secondary capture per slice, ``slice-000.dcm`` and so on, of 16 bits with a common rescale slope.

    Identifiers are from the sha256 of the volume, so that the same images are the same instances. The images name no
    patient. Raises ImageFileError where pydicom is not installed.
    """
    try:
        pydicom: Any = importlib.import_module("pydicom")
    except ImportError:
        raise ImageFileError("DICOM needs pydicom; pip install pydicom") from None
    folder.mkdir(parents=True, exist_ok=True)
    of_volume = hashlib.sha256(volume.tobytes()).hexdigest()
    slope = float(volume.max()) / LARGEST or 1.0
    for number, image in enumerate(volume):
        uids = [pydicom.uid.generate_uid(entropy_srcs=[of_volume, part]) for part in ("study", "series", str(number))]
        one = _instance(pydicom, uids, number)
        one.SeriesDescription, one.DerivationDescription = NOT_FOR_DIAGNOSIS, f"Reconstructed by {made_by}"[:1024]
        one.Rows, one.Columns = image.shape
        one.RescaleSlope, one.RescaleIntercept, one.RescaleType = f"{slope:.9g}", "0", "US"
        pixel = _pixel_mm(volume, field_of_view_mm)
        if pixel:
            one.PixelSpacing = [f"{mm:.6g}" for mm in pixel]
        one.PixelData = np.rint(image / float(one.RescaleSlope)).clip(0, LARGEST).astype("<u2").tobytes()
        data = io.BytesIO()
        one.save_as(data, enforce_file_format=True)
        write_whole(folder / f"slice-{number:03d}.dcm", data.getvalue())


def _instance(pydicom: Any, uids: list[str], number: int) -> Any:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = SECONDARY_CAPTURE, uids[2]
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    one = pydicom.dataset.Dataset()
    one.file_meta = meta
    one.SOPClassUID, one.SOPInstanceUID = SECONDARY_CAPTURE, uids[2]
    one.StudyInstanceUID, one.SeriesInstanceUID = uids[:2]
    one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = "Research^None", "none", "", ""
    one.StudyDate, one.StudyTime, one.StudyID, one.AccessionNumber, one.ReferringPhysicianName = "", "", "", "", ""
    one.Modality, one.ConversionType, one.ImageType = "MR", "WSD", ["DERIVED", "SECONDARY"]
    one.SeriesNumber, one.InstanceNumber, one.PatientOrientation = "1", str(number + 1), ""
    one.SamplesPerPixel, one.PhotometricInterpretation, one.BurnedInAnnotation = 1, "MONOCHROME2", "NO"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 0
    return one


def _pixel_mm(volume: Volume, field_of_view_mm: tuple[float, float] | None) -> tuple[float, float] | None:
    if field_of_view_mm is None:
        return None
    return field_of_view_mm[0] / volume.shape[1], field_of_view_mm[1] / volume.shape[2]
