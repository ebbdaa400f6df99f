"""Opening scans: fully sampled k-space in any of the field's formats becomes one type, `Scan`.

`open_scan` chooses a reader of `synth.scans.readers` by the file's name. Files are data: nothing in them is executed,
links out of them are not followed, and no memory is allocated for sizes that a header merely declares.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import ScanError
from ..storage.place import local_path
from .centring import centring_notes
from .partitions import partition_notes
from .readers import READERS, reader_of
from .scan import LEAST_SIDE, Choice, Scan, short

MAX_SLICE_BYTES = 4 * 2**30


def open_scan(
    path: str | Path,
    *,
    variable: str | None = None,
    axes: str | None = None,
    shape: tuple[int, ...] | None = None,
) -> Scan:
    """Open a scan: .h5 (fastMRI, MRD), .mrd, .cfl, .npy, .npz, .mat, .dat (Siemens twix).

    Parameters
    ----------
    path
        The file. Nothing in it is executed, and links out of it are not followed.
    variable
        Name of the array, for a .mat, .npz or .h5 file that holds several.
    axes
        Names of its axes in order, from slice, coil, y and x, such as "y x slice coil"; "sample coil" for a noise scan.
    shape
        Sizes of a .cfl that has no .hdr beside it.

    Returns
    -------
    The scan; what the file does not say is guessed, and each guess is in its `notes`.

    Raises
    ------
    ScanError
        The file does not exist, is damaged, or holds no k-space that Fathom can read.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(axes, str | None):
        got = f"a {type(path).__name__} and axes = {axes!r}"
        raise TypeError(f"open_scan takes the path of a file, and axes as a text such as 'slice coil y x'; got {got}")
    path = local_path(path)
    if not path.is_file():
        longer = [path.name + suffix for suffix in READERS if path.with_name(path.name + suffix).is_file()]
        raise ScanError(f"{path}: is not a file; " + (f"did you mean {longer[0]}?" if longer else "give a scan"))
    read = reader_of(path)
    if path.stat().st_size == 0:
        raise ScanError(f"{path}: is empty; copy it anew")
    try:
        scan = read(path, Choice(variable, axes, shape))
    except ScanError:
        raise
    except Exception as error:  # the libraries behind the readers raise many kinds of errors on a damaged file
        raise ScanError(
            f"{path}: cannot be read ({short(error)}); check that it is complete and that its suffix names its format"
        ) from None
    return _checked(scan)


def _checked(scan: Scan) -> Scan:
    slices, coils, y, x = scan.stored
    if slices == 0 and scan.noise is not None:
        return scan
    if min(slices, coils) < 1 or min(scan.matrix) < LEAST_SIDE:
        raise ScanError(
            f"{scan.path}: [slice coil y x] = {scan.stored} cannot be k-space; need at least 1 slice, 1 coil and an "
            f"image of {LEAST_SIDE}x{LEAST_SIDE}. If the axes were guessed wrongly, name them"
        )
    if 8 * coils * y * x > MAX_SLICE_BYTES:
        raise ScanError(f"{scan.path}: a slice of {coils} x {y} x {x} is over the limit of {MAX_SLICE_BYTES >> 30} GB")
    if scan.noise is not None and len(scan.noise) != coils:
        raise ScanError(
            f"{scan.path}: its noise scan has {len(scan.noise)} coils, its k-space {coils}; remove the noise scan"
        )
    first = scan.without_padding(0)
    notes = list(scan.notes)
    empty = float(np.mean(~first.any(axis=(0, 1))))
    zeros = float(np.mean(~first.any(axis=0)))
    if zeros > 0.02:
        kind = "columns" if abs(empty - zeros) < 0.01 else "positions"
        notes.append(f"{100 * zeros:.0f} % of its k-space {kind} are zero: zero-filled or not fully sampled")
    return replace(scan, notes=(*notes, *_centring(scan), *partition_notes(scan)))


def _centring(scan: Scan) -> list[str]:
    """Findings about the middle slice; none where it cannot be read, which is said when it is used."""
    try:
        return centring_notes(scan.without_padding(len(scan) // 2))
    except ScanError:
        return []
