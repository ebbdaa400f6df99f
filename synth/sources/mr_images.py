"""MR pictures: NIfTI volumes slice by slice, and DICOM images. They are sources like photographs, not like scans.

A picture is a magnitude image that a scanner made of a scan, with unknown filters and interpolation. So its phase and
its coils are synthetic, and every pair has the finding ``mr-picture``.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ImageFileError
from ..storage.arrays import Stamp, stamp
from ..storage.copies import kept_copy
from ..storage.place import Place, place_of
from ..storage.whole import refuse_shortage

SUFFIXES = (".nii", ".nii.gz", ".dcm")
MAX_VOXELS = 2**30
MAX_PIXELS = 100_000_000
MOST_PACKED = 1100  # bytes that one byte of gzip can hold: deflate reaches 1032, zlib.net/zlib_tech.html
CONTENT = 0.1  # of the volume's mean: slices with a lower mean are air


def is_picture(name: str) -> bool:
    """Whether a file's name (or an item's, ``file#slice``) is that of an MR picture."""
    return name.partition("#")[0].lower().endswith(SUFFIXES)


def items_of(path: Place) -> list[str]:
    """What to append to a file's name for each of its pictures: ``#slice`` of a volume's slices that are not air.

    A volume that cannot be read is one item, the file's own name: `read_picture` says why it is rejected.
    """
    if path.name.lower().endswith(".dcm"):
        return [""]
    try:
        volume = _volume(str(path), stamp(str(path)))
    except (ImageFileError, OSError) as error:
        refuse_shortage(error)
        return [""]
    means = volume.mean(axis=(0, 1))
    return [f"#{k}" for k in np.flatnonzero(means > CONTENT * means.mean())]


def read_picture(path: Place, number: int | None) -> NDArray[np.float32]:
    """Magnitude picture [y x] of a DICOM file or of slice `number` of a volume; raises ImageFileError.

    Slices are taken along the volume's third axis as stored, with the first axis along x and the second upwards. Of a
    volume whose axes are right, anterior, superior, these are axial slices as radiologists see them; the affine is not
    applied.
    """
    if path.name.lower().endswith(".dcm"):
        with kept_copy(path) as here:
            return _dicom(here)
    volume = _volume(str(path), stamp(str(path)))
    if number is None or not 0 <= number < volume.shape[2]:
        raise ImageFileError(f"has {volume.shape[2]} slices, there is no slice {number}")
    return np.ascontiguousarray(np.rot90(volume[:, :, number]))


@lru_cache(maxsize=2)
def _volume(path: str, version: Stamp) -> NDArray[np.float32]:
    with kept_copy(place_of(path)) as here:
        return _volume_in(str(here))


def _volume_in(path: str) -> NDArray[np.float32]:
    try:
        import nibabel
    except ImportError:
        raise ImageFileError("NIfTI needs nibabel; pip install nibabel") from None
    try:
        image: Any = nibabel.load(path)
        shape = _volume_shape(Path(path), image)
        values = np.asanyarray(image.dataobj).reshape(shape)
        if np.iscomplexobj(values):
            values = np.abs(values)
        if not np.isfinite(values).all():
            raise ImageFileError("has voxels that are NaN or infinite; save it anew")
        return np.asarray(values, np.float32)
    except ImageFileError:
        raise
    except Exception as error:  # nibabel raises many kinds of errors on a damaged file
        raise ImageFileError(
            f"is not a NIfTI volume that can be read ({type(error).__name__}: {error}); save it anew"
        ) from None


def _volume_shape(path: Path, image: Any) -> tuple[int, int, int]:
    """The three axes of a NIfTI volume, checked before its voxels are read; raises ImageFileError."""
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3 or int(np.prod(shape, dtype=object)) > MAX_VOXELS or min(shape) < 1:
        raise ImageFileError(
            f"has the shape {shape}; need three axes of {MAX_VOXELS:,} voxels at most; save one volume per file"
        )
    needed = int(np.prod(shape, dtype=object)) * image.get_data_dtype().itemsize
    packed = MOST_PACKED if path.name.lower().endswith(".gz") else 1
    if needed > packed * path.stat().st_size:
        raise ImageFileError(
            f"has {path.stat().st_size:,} bytes, but its header declares {needed:,} bytes of voxels; copy it again"
        )
    return shape


def dicom_header(path: Path) -> Any:
    """All but the pixels of a DICOM file; raises ImageFileError."""
    return _dataset(path, stop_before_pixels=True)


def _dataset(path: Path, *, stop_before_pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError:
        raise ImageFileError("DICOM needs pydicom; pip install pydicom") from None
    try:
        return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
    except Exception as error:  # as above, for pydicom
        raise ImageFileError(
            f"is not a DICOM file that can be read ({type(error).__name__}: {error}); save it anew"
        ) from None


def _dicom(path: Path) -> NDArray[np.float32]:
    data = _dataset(path, stop_before_pixels=False)
    try:
        rows, columns = int(data.Rows), int(data.Columns)
        if str(data.get("PhotometricInterpretation", "")) == "MONOCHROME1":
            raise ImageFileError("is inverted (MONOCHROME1: 0 is white); save it as MONOCHROME2")
        if str(data.get("PhotometricInterpretation", "")).startswith("PALETTE"):
            raise ImageFileError("has a colour palette, whose indices are not grey values; export it as MONOCHROME2")
        if int(data.get("NumberOfFrames", 1) or 1) > 1 or int(data.get("SamplesPerPixel", 1)) > 1:
            raise ImageFileError("has several frames or colours; export single grey frames")
        if not 0 < rows * columns <= MAX_PIXELS:
            raise ImageFileError(f"has {rows}x{columns} pixels; need 1 to {MAX_PIXELS:,}")
        values = np.asarray(data.pixel_array, np.float32)
        slope, intercept = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
        return values * np.float32(slope) + np.float32(intercept)
    except ImageFileError:
        raise
    except Exception as error:  # as above, for pydicom
        raise ImageFileError(
            f"is not a DICOM image that can be read ({type(error).__name__}: {error}); save it anew"
        ) from None
