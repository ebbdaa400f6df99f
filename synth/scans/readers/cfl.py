"""BART's .cfl: complex64 in Fortran order, its sizes in the .hdr beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...physics import ifftc
from ..scan import Choice, Scan
from .axes import named_axes, scan_of

READ, PHASE1, PHASE2, COIL, SLICE = 0, 1, 2, 3, 13  # BART's dimensions


def read(path: Path, choice: Choice) -> Scan:
    """Read [read phase1 phase2 coil ... slice]: y and x are read and a phase encoding, or the two phase encodings.

    Where read, phase1 and phase2 are all longer than 1, the scan is three-dimensional: read becomes the slices.
    """
    header = path.with_suffix(".hdr")
    if choice.shape is None and not header.is_file():
        raise ScanError(f"{path}: has no {header.name} beside it; restore it, or give shape and axes")
    shape = choice.shape or _sizes(header)
    need, stored = int(np.prod(shape, dtype=object)), path.stat().st_size
    if 8 * need != stored:
        likely = "the shape that was given is another's" if choice.shape else f"{header.name} is another file's"
        raise ScanError(
            f"{path}: holds {stored // 8} samples, but its sizes {' x '.join(map(str, shape))} need {need}; "
            + (f"it is cut off, or {likely}" if stored < 8 * need else likely)
        )
    array = np.memmap(path, np.complex64, "r", shape=shape, order="F")
    if choice.axes is not None:
        squeezed = array.squeeze() if array.ndim != len(choice.axes.split()) else array
        names, notes = named_axes(path, choice.axes, squeezed.shape, {})
        return scan_of(path, "cfl", squeezed, names, notes)
    return _by_barts_dimensions(path, array)


def _sizes(header: Path) -> tuple[int, ...]:
    if header.stat().st_size > 2**20:
        raise ScanError(f"{header}: is larger than 1 MB, so it is not a BART header; restore it")
    lines = header.read_text(errors="replace").splitlines()
    try:
        sizes = tuple(int(word) for word in lines[lines.index("# Dimensions") + 1].split())
    except (ValueError, IndexError):
        raise ScanError(f"{header}: has no line of sizes after '# Dimensions'; restore it") from None
    if not 1 <= len(sizes) <= 32 or min(sizes) < 1 or max(sizes) > 2**40:
        raise ScanError(f"{header}: its sizes {sizes[:20]} are not valid, need 1 to 32 sizes above 0; restore it")
    return sizes


def _by_barts_dimensions(path: Path, array: NDArray[Any]) -> Scan:
    sizes = {k: n for k, n in enumerate(array.shape) if n > 1}
    strange = sizes.keys() - {READ, PHASE1, PHASE2, COIL, SLICE}
    if strange:
        raise ScanError(
            f"{path}: is longer than 1 along BART's dimensions {sorted(strange)}; keep one position of each with "
            "`bart slice`, or name the axes"
        )
    if not sizes.keys() & {PHASE1, PHASE2}:
        return scan_of(path, "cfl", array.reshape(array.shape[READ], -1), ["sample", "coil"], ())
    wide = array.reshape([array.shape[k] if k < array.ndim else 1 for k in (READ, PHASE1, PHASE2, COIL, SLICE)])
    image = [k for k in (READ, PHASE1, PHASE2) if wide.shape[k] > 1]
    if len(image) < 3:
        dropped = next(k for k in (PHASE2, READ, PHASE1) if wide.shape[k] == 1)
        return scan_of(path, "cfl", wide.take(0, dropped), ["y", "x", "coil", "slice"], ())
    if wide.shape[4] > 1:
        raise ScanError(f"{path}: is three-dimensional and has slices, too; keep one slice with `bart slice`")
    hybrid = ifftc(np.asarray(wide[..., 0], np.complex64), (READ,))
    note = "three-dimensional: transformed along the readout, whose positions are the slices"
    return scan_of(path, "cfl", hybrid, ["slice", "y", "x", "coil"], (note,))
