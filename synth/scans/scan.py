"""A scan: the k-space of one file, slice by slice, and what is known of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from ..errors import ScanError
from ..given import refuse_other_type
from ..physics import fft2c, ifft2c, rss

Kspace = NDArray[np.complex64]
LEAST_SIDE = 8  # of an image


@dataclass(frozen=True)
class Choice:
    """What the user says about a file that does not describe itself."""

    variable: str | None = None  # name of the array in .npz, .mat and .h5 files
    axes: str | None = None  # names of its axes in order, from: slice coil y x sample
    shape: tuple[int, ...] | None = None  # of a .cfl without .hdr


@dataclass(frozen=True, eq=False)
class Scan:
    """K-space [slice coil y x] of one file, y the readout, and what is known of it; slices are read one by one.

    ``scan[k]`` is slice k as complex64 [coil y x], without the readout's oversampling and without padded columns. It
    raises ScanError where the slice has NaN or infinite samples, or is zero everywhere. ``len(scan)`` is the number of
    slices; it is 0 for a file that holds only a noise scan.

    Attributes
    ----------
    path, format
        The file, and the format it was read as.
    stored
        Sizes of slice, coil, y, x in the file; `shape` has them for the slices that ``scan[k]`` gives.
    load
        Reads slice k [coil y x] as stored.
    oversampling
        Factor by which the readout in the file is oversampled.
    padding
        Zero columns left and right in the file, which are stripped.
    noise
        Samples [coil sample] of a noise scan in the file, at the bandwidth of its imaging lines; None without one.
    noise_bandwidth_known
        Whether the file says at which bandwidths noise and image were measured; otherwise the noise's level is unknown.
    averages
        Number of acquisitions of which each line is the mean; None where lines differ.
    calibration
        K-space [slice coil y x] of a calibration scan in the file, as stored, zero where it was not measured; None
        without one. Lines that were measured only for calibration, but belong to the image, are in the image.
    maps
        Reads coil maps [coil y x] of slice k; None where the file holds no maps.
    field_of_view_mm
        y, x of the image, in mm.
    notes
        What was guessed or left out, one sentence each.
    """

    path: Path
    format: str
    stored: tuple[int, int, int, int]
    load: Callable[[int], NDArray[Any]]
    oversampling: float = 1
    padding: tuple[int, int] = (0, 0)
    noise: NDArray[np.complex64] | None = None
    noise_bandwidth_known: bool = True
    averages: int | None = 1
    calibration: NDArray[np.complex64] | None = None
    maps: Callable[[int], NDArray[Any]] | None = None
    field_of_view_mm: tuple[float, float] | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """Number of slices; 0 where there is only noise."""
        return self.stored[0]

    @property
    def coils(self) -> int:
        """Number of receive coils."""
        return self.stored[1]

    @property
    def matrix(self) -> tuple[int, int]:
        """y, x of a slice."""
        return round(self.stored[2] / self.oversampling), self.stored[3] - sum(self.padding)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """slice, coil, y, x."""
        return len(self), self.coils, *self.matrix

    def __getitem__(self, number: int) -> Kspace:
        """One slice [coil y x]; raises ScanError where it has NaN or infinite samples, or is zero everywhere."""
        return self._narrow(self.without_padding(number))

    def calibration_of(self, number: int) -> Kspace | None:
        """The calibration scan of slice `number` [coil y x], without oversampling and padding; None without one."""
        if self.calibration is None or not self.calibration[number].any():
            return None
        kspace = self.calibration[number]
        return self._narrow(kspace[..., self.padding[0] : kspace.shape[-1] - self.padding[1]])

    def _narrow(self, kspace: Kspace) -> Kspace:
        """K-space [coil y x] without the readout's oversampling."""
        if self.oversampling > 1:
            rows, first = self.matrix[0], self.stored[2] // 2 - self.matrix[0] // 2
            empty = ~kspace.any(axis=(0, 1))
            kspace = fft2c(ifft2c(kspace)[:, first : first + rows])
            kspace[..., empty] = 0  # columns that were not measured stay zero, not rounding errors
        return np.ascontiguousarray(kspace)

    def without_padding(self, number: int) -> Kspace:
        """One slice [coil y x] without its padded columns, the readout's oversampling kept."""
        kspace = self.as_stored(number)
        return kspace[..., self.padding[0] : kspace.shape[-1] - self.padding[1]]

    def as_stored(self, number: int) -> Kspace:
        """One slice [coil y x] with oversampling and padding, as the file has it."""
        refuse_other_type(number, SupportsIndex, f"{self.path}: slices are indexed by one whole number")
        if not 0 <= number < len(self):
            held = "it holds only noise, see its `noise`" if len(self) == 0 else f"its slices are 0 ... {len(self) - 1}"
            raise ScanError(f"{self.path}: there is no slice {number}; {held}")
        try:
            kspace = np.ascontiguousarray(self.load(number), np.complex64)
        except ScanError:
            raise
        except Exception as error:  # as in open_scan: a file may be damaged beyond its header
            raise ScanError(
                f"{self.path}: slice {number} cannot be read ({short(error)}); copy the file anew"
            ) from None
        if kspace.shape != self.stored[1:]:
            raise ScanError(f"{self.path}: slice {number} is {kspace.shape}, its header says {self.stored[1:]}")
        if not np.isfinite(kspace.view(np.float32)).all():
            raise ScanError(f"{self.path}: slice {number} has samples that are NaN or infinite; export it anew")
        if not kspace.any():
            raise ScanError(f"{self.path}: slice {number} is zero everywhere; leave it out")
        return kspace

    @property
    def oversampling_removed(self) -> bool:
        """Whether the header says that the readout is only as wide as the image; scanners always measure it wider."""
        return self.oversampling == 1 and self.field_of_view_mm is not None

    def __repr__(self) -> str:
        """Path, format and shapes in one line."""
        noise = "" if self.noise is None else f", noise {self.noise.shape}"
        return f"Scan({str(self.path)!r}, {self.format}, slice coil y x = {self.shape}{noise})"

    def __iter__(self) -> Iterator[Kspace]:
        """All slices."""
        return (self[k] for k in range(len(self)))

    def rss(self, number: int) -> NDArray[np.float32]:
        """Root-sum-of-squares image [y x] of a slice."""
        return np.asarray(rss(ifft2c(self[number])), np.float32)

    @cached_property
    def sha256(self) -> str:
        """sha256 of the file (of a .cfl: of its samples)."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def short(error: Exception) -> str:
    """An error's class and message in one line, for a message that quotes it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
