"""One small reader per format of scans; `synth.scans.open.open_scan` chooses among them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...errors import ScanError
from ..scan import Choice, Scan
from . import cfl, hdf5, matlab, npy, twix

Reader = Callable[[Path, Choice], Scan]
READERS: dict[str, Reader] = {
    ".h5": hdf5.read,
    ".hdf5": hdf5.read,
    ".mrd": hdf5.read,
    ".cfl": cfl.read,
    ".npy": npy.read,
    ".npz": npy.read,
    ".mat": matlab.read,
    ".dat": twix.read,
}


def reader_of(path: Path) -> Reader:
    """The reader for a file's name; raises ScanError that lists the known suffixes."""
    try:
        return READERS[path.suffix.lower()]
    except KeyError:
        beside = [path.with_suffix(suffix).name for suffix in READERS if path.with_suffix(suffix).is_file()]
        raise ScanError(
            f"{path}: does not have the suffix of a scan; "
            + (f"did you mean {beside[0]}? " if beside else "")
            + f"Fathom reads {' '.join(sorted(READERS))} (NIfTI and DICOM "
            "are pictures, not scans: give them as source.kind = 'images')"
        ) from None
