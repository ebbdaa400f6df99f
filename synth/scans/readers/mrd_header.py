"""The XML header of MRD (ISMRMRD) files, which fastMRI's files also have."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from ...errors import ScanError

MAX_XML = 10 * 2**20
NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"


def header_of(path: Path, xml: bytes) -> ET.Element:
    """The root element of an MRD header; raises ScanError where it is not XML."""
    if len(xml) > MAX_XML:
        raise ScanError(f"{path}: its header has {len(xml):,} bytes, over the limit of {MAX_XML:,}; it is damaged")
    try:
        return ET.fromstring(xml)
    except ET.ParseError as error:
        raise ScanError(f"{path}: its MRD header is not XML ({error}); export it anew") from None


def encoding_of(root: ET.Element, number: int = 0) -> ET.Element:
    """The encoding of this number, or the first one if there is no such number; the root where a header has none."""
    found = root.findall(f"{NAMESPACE}encoding")
    return found[number] if number < len(found) else found[0] if found else root


def text_in(element: ET.Element, path: str) -> str:
    """The text at a path such as 'parallelImaging/calibrationMode'; empty where there is none."""
    return (element.findtext("/".join(NAMESPACE + part for part in path.split("/"))) or "").strip().lower()


def number_in(element: ET.Element, path: str, default: float = 0.0) -> float:
    """The number at a path such as 'reconSpace/matrixSize/x' of an encoding."""
    text = text_in(element, path)
    return float(text) if text else default


def readout_of(encoding: ET.Element, samples: int) -> tuple[float, tuple[float, float] | None]:
    """Oversampling of a readout of `samples`, and the image's field of view: y (readout) and x, in mm.

    The oversampling is the ratio of the encoded to the image's field of view; it is taken as 1 where the image would
    not have a whole number of rows.
    """
    encoded, y, x = (
        number_in(encoding, path)
        for path in ("encodedSpace/fieldOfView_mm/x", "reconSpace/fieldOfView_mm/x", "reconSpace/fieldOfView_mm/y")
    )
    oversampling = 1.0
    if y > 0 and encoded > 1.05 * y:
        rows = round(samples * y / encoded)
        near_two = abs(encoded / y - 2) < 0.05 and samples % 2 == 0
        if near_two or abs(samples * y / encoded - rows) < 0.1:
            oversampling = 2.0 if near_two else samples / rows
    return oversampling, (y, x) if min(y, x) > 0 else None


def oversampling_note(encoding: ET.Element) -> list[str]:
    """A note where the encoded matrix is wider than the image's, but both have the same field of view."""
    (wide, narrow), (encoded, image) = (
        [number_in(encoding, f"{space}/{what}/x") for space in ("encodedSpace", "reconSpace")]
        for what in ("matrixSize", "fieldOfView_mm")
    )
    if narrow > 0 and wide >= 1.5 * narrow and image > 0 and abs(encoded / image - 1) < 0.05:
        return [
            f"its header has {wide:g} samples and {narrow:g} rows over the same field of view: if the readout is "
            "oversampled, its image is too wide"
        ]
    return []
