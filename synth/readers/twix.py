"""Siemens raw data (twix, VB to XA), through the optional package twixtools."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np

from ..scans import Choice, Scan, ScanError


def read(path: Path, choice: Choice) -> Scan:
    """The last measurement's imaging lines as [slice coil y x], its noise lines as `noise`; the readout is y."""
    try:
        import twixtools
    except ImportError:
        raise ScanError(f"{path}: Siemens raw data need twixtools; pip install twixtools") from None
    _refuse_other_files(path)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        measurement = twixtools.read_twix(str(path), verbose=False, parse_pmu=False, parse_geometry=False)[-1]
    lines = [b for b in measurement["mdb"] if b.is_image_scan()]
    if not lines:
        raise ScanError(f"{path}: has no imaging lines in its last measurement")
    noise = [np.asarray(b.data) for b in measurement["mdb"] if b.is_flag_set("NOISEADJSCAN")]
    first = np.asarray(lines[0].data)
    taken = [b for b in lines if all(getattr(b, c) == getattr(lines[0], c) for c in ("cEco", "cRep", "cSet", "cPhs"))]
    notes = [] if len(taken) == len(lines) else ["of several echoes, repetitions, sets or phases the first is taken"]
    if any(b.cPar for b in taken):
        raise ScanError(f"{path}: is three-dimensional; Fathom reads two-dimensional twix, convert it to MRD")
    columns, slices = 1 + max(b.cLin for b in taken), 1 + max(b.cSlc for b in taken)
    kspace = np.zeros((slices, *first.shape, columns), np.complex64)
    count = np.zeros((slices, columns))
    for b in taken:
        values = np.asarray(b.data)
        kspace[b.cSlc, :, :, b.cLin] += values[:, ::-1] if b.is_flag_set("REFLECT") else values
        count[b.cSlc, b.cLin] += 1
    kspace /= np.maximum(count, 1)[:, None, None, :]
    n = kspace.shape
    return Scan(
        path,
        "twix",
        (n[0], n[1], n[2], n[3]),
        kspace.__getitem__,
        oversampling=2,
        notes=tuple(notes),
        noise=np.concatenate(noise, axis=1).astype(np.complex64) if noise else None,
    )


def _refuse_other_files(path: Path) -> None:
    """The first two numbers of a file: 0 and the count of measurements (VD and later), or the header's length (VB)."""
    with path.open("rb") as file:
        words = np.frombuffer(file.read(8), "<u4")
    several = words.size == 2 and words[0] < 10_000 and 1 <= words[1] <= 64
    single = words.size == 2 and 32 <= words[0] < min(path.stat().st_size, 2**24)
    if not (several or single):
        raise ScanError(f"{path}: is no Siemens raw data, whatever its name says")
