"""Reconstruct every scan of a folder; what is no scan is left out, and what fails does not end the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from recon.data.scan_batch import Undersampling, is_full
from recon.errors import ModelError
from synth.errors import CalibrationError, ScanError
from synth.scans.open import open_scan
from synth.scans.readers import READERS
from synth.scans.scan import Scan
from synth.sources.scan_slices import is_scan
from synth.storage.listing import files_below
from synth.storage.results import COMMAND, claim

from ..ready.kinds import kind_of
from .reconstruct import command_of, reconstruct, refuse_unknown_formats
from .reconstruction_files import write_folder_page

REASONS_SHOWN = 5
MATRIX = "is a covariance or decorrelation matrix"  # what the readers say of a file that holds one


class _NoImagesError(ScanError):
    """A file that can be read, but is no scan with images."""


def reconstruct_folder(
    model: str,
    folder: Path,
    out: Path,
    how: Undersampling,
    device: str | None = None,
    *,
    write: Sequence[str] = (),
    worded: Callable[[str], str] = str,
    **more: Any,
) -> dict[str, dict[str, Any]]:
    """Reconstruct every scan of a folder and its subfolders; the summary of each, or ``failed`` and why.

    Each scan has a folder in `out` with its path below `folder`; ``report.html`` leads to all of them. Scans that are
    undersampled already are reconstructed as they were measured, and a note says so. Noise scans and matrices of
    coils have ``left_out`` and why. `worded` puts these reasons into the words of who asked.

    Parameters are those of `reconstruct`. Folders of results are not searched. Raises ScanError where no file is a
    scan's, ValueError where `out` holds other results.
    """
    refuse_unknown_formats(write)
    if kind_of(folder) == "a corpus":
        raise ScanError(
            f"{folder} is a corpus, and holds no scan; `fathom test {model} {folder}` reconstructs its pairs"
        )
    files = [file for file in files_below(folder, is_scan) if not _is_result(folder, file)]
    if not files:
        suffixes = " ".join(sorted(READERS))
        raise ScanError(f"{folder} holds no file whose suffix is that of a scan; Fathom reads {suffixes}")
    claim(out, {**command_of(model, how, **more), "scans": folder.name})
    stems = [str(Path(file).with_suffix("")) for file in files]
    found: dict[str, dict[str, Any]] = {}
    for file, stem in zip(files, stems, strict=True):
        name, path = file if stems.count(stem) > 1 else stem, folder / file
        try:
            lines, told = _lines_of(_with_images(path, more.get("variable"), more.get("axes")), how)
            found[name] = reconstruct(model, path, out / name, lines, device, write=write, told=told, **more)
        except _NoImagesError as error:
            found[name] = {"scan": file, "left_out": worded(str(error))}
        except (ScanError, CalibrationError, ModelError) as error:
            found[name] = {"scan": file, "failed": worded(str(error))}
    if all("left_out" in summary for summary in found.values()):
        reasons = [summary["left_out"] for summary in found.values()][:REASONS_SHOWN]
        raise ScanError(f"{folder} holds no scan with images:\n  " + "\n  ".join(reasons))
    write_folder_page(found, model, folder.name, out)
    return found


def _is_result(folder: Path, file: str) -> bool:
    """Whether a file lies in a folder of results, which may be below the folder of scans."""
    return any((folder / above / COMMAND).exists() for above in Path(file).parents)


def _with_images(path: Path, variable: str | None, axes: str | None) -> Scan:
    """The scan of a file; raises _NoImagesError for a noise scan or a matrix [coil coil], ScanError as `open_scan`."""
    try:
        scan = open_scan(path, variable=variable, axes=axes)
    except ScanError as error:
        if MATRIX in str(error):
            raise _NoImagesError(str(error)) from None
        raise
    if len(scan) == 0:
        raise _NoImagesError(f"{path} holds only noise")
    return scan


def _lines_of(scan: Scan, how: Undersampling) -> tuple[Undersampling, tuple[str, ...]]:
    """How a scan of a folder is undersampled: as `how` says, or not, with a note, where a slice is already.

    Raises ScanError where the scan has too few lines for it.
    """
    measured = replace(how, acceleration=1)
    if how.acceleration == 1:
        return how, ()
    try:
        if all(is_full(measured.mask(scan[number])) for number in range(len(scan))):
            how.mask(scan[0])
            return how, ()
    except ScanError:
        raise
    except ValueError as error:
        raise ScanError(f"{scan.path}: {error}") from None
    return measured, (
        "the scan is undersampled already: it was reconstructed as it was measured, and not at an acceleration of "
        f"{how.acceleration}",
    )
