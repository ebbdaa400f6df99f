"""The XML header of MRD (ISMRMRD) files, which fastMRI's files have, too."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from ...errors import ScanError

MAX_XML = 10 * 2**20
NAMESPACE = "{http://www.ismrm.org/ISMRMRD}"


def header_of(path: Path, xml: bytes) -> ET.Element:
    """The root of an MRD header; raises ScanError where it is none."""
    if len(xml) > MAX_XML:
        raise ScanError(f"{path}: its header has {len(xml):,} bytes; it is damaged")
    try:
        return ET.fromstring(xml)
    except ET.ParseError as error:
        raise ScanError(f"{path}: its MRD header is no XML ({error}); export it anew") from None


def number_in(root: ET.Element, place: str, default: float = 0.0) -> float:
    """The number at a place such as 'encoding/reconSpace/matrixSize/x'."""
    text = root.findtext("/".join(NAMESPACE + part for part in place.split("/")))
    return default if text is None else float(text)


def readout_of(root: ET.Element, samples: int) -> tuple[int, tuple[float, float] | None]:
    """Oversampling of a readout of `samples`, by its two fields of view; and the image's, y (readout) and x, in mm."""
    encoded, y, x = (
        number_in(root, f"encoding/{place}")
        for place in ("encodedSpace/fieldOfView_mm/x", "reconSpace/fieldOfView_mm/x", "reconSpace/fieldOfView_mm/y")
    )
    oversampling = 2 if y > 0 and abs(encoded / y - 2) < 0.05 and samples % 2 == 0 else 1
    return oversampling, (y, x) if min(y, x) > 0 else None
