"""The encoded space of a scan that is stored in lines: where each line lies in k-space."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...physics import ifftc
from .lines import Line, average_lines


@dataclass(frozen=True)
class EncodedSpace:
    """How many samples, columns and partitions k-space has, and where their centres are."""

    path: Path
    coils: int
    readout: int
    columns: int
    depth: int
    centres: tuple[int, int]  # counters of the central column and of the central partition
    slices: tuple[int, ...]  # numbers of the slices that have lines

    def filled(self, lines: list[Line]) -> tuple[NDArray[np.complex64], int | None, list[str]]:
        """K-space [slice partition column coil sample], the number of lines of which each is the mean, and notes.

        The number is None where it differs between lines. Raises ScanError for a line outside this space.
        """
        size = (len(self.slices), self.depth, self.columns)
        kspace, count, notes = average_lines([self.placed(line) for line in lines], size, self.readout)
        if self.slices != tuple(range(len(self.slices))):
            notes.append(f"its slices are numbered {', '.join(map(str, self.slices))}; here they are counted from 0")
        taken = np.unique(count[count > 0])
        return kspace, int(taken[0]) if len(taken) == 1 else None, notes

    def calibrated(
        self, kspace: NDArray[np.complex64], lines: list[Line], mode: str
    ) -> tuple[NDArray[np.complex64] | None, list[str]]:
        """Put calibration lines into k-space where they belong to the image; otherwise return them, and notes.

        They belong to the image where the header's `mode` is "embedded", or where it says nothing and no calibration
        line has the position of an imaging line. What is returned is separate k-space of the same shape.
        """
        if not lines:
            return None, []
        if not all(self.fits(line) for line in lines):
            return None, [f"{len(lines)} calibration lines do not fit the image's coils, slices or matrix; not used"]
        measured = kspace.any(axis=(-2, -1))
        more, count, _ = average_lines([self.placed(line) for line in lines], measured.shape, self.readout)
        alone = (count > 0) & ~measured
        if mode == "embedded" or (mode not in ("separate", "external") and not ((count > 0) & measured).any()):
            kspace[alone] = more[alone]
            return None, [f"{int(alone.sum())} calibration lines are used where no other line was measured"]
        return more, [
            f"{len(lines)} calibration lines are a separate scan: they are in `calibration`, not in the image"
        ]

    def ordered(self, kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Bring [slice partition column coil sample] to [slice coil y x]; partitions become slices."""
        hybrid = ifftc(kspace, (1,)) if self.depth > 1 else kspace
        lines = hybrid.reshape(-1, self.columns, self.coils, self.readout)
        return np.ascontiguousarray(lines.transpose(0, 2, 3, 1), np.complex64)

    def fits(self, line: Line) -> bool:
        """Whether a line has this space's coils and one of its slices, and lies in it."""
        _, z, x = self._position(line)
        inside = 0 <= z < self.depth and 0 <= x < self.columns and self._start(line) is not None
        return inside and len(line.values) == self.coils and line.where[0] in self.slices

    def placed(self, line: Line) -> Line:
        """A line at its position in k-space, filled up with zeros to the whole readout."""
        number, z, x = self._position(line)
        start = self._start(line)
        if start is None or not self.fits(line):
            raise ScanError(f"{self.path}: a line lies at {(z, x)}, outside its encoded space; its header is damaged")
        values = np.zeros((self.coils, self.readout), np.complex64)
        values[:, start : start + line.values.shape[1]] = line.values
        return replace(line, values=values, where=(self.slices.index(number), z, x))

    def _position(self, line: Line) -> tuple[int, int, int]:
        number, step_2, step_1 = line.where
        return number, step_2 - self.centres[1] + self.depth // 2, step_1 - self.centres[0] + self.columns // 2

    def _start(self, line: Line) -> int | None:
        samples = line.values.shape[1]
        starts = [0] if samples == self.readout and len(line.centres) > 1 else []
        starts += [self.readout // 2 - centre for centre in line.centres]
        return next((s for s in starts if 0 <= s <= self.readout - samples), None)
