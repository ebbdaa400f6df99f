"""A mask: which lines or points of k-space are sampled, and how k-space is packed to them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ..physics import centre_block, fft2c, ifft2c, lines_along_y

Sampled = NDArray[np.bool_]
Size = tuple[int, int]  # y, x of k-space


@dataclass(frozen=True, eq=False)
class Mask:
    """Sampled positions: lines [x], or points [y x]."""

    sampled: Sampled
    acceleration: float  # nominal
    drawn: dict[str, float] = field(default_factory=dict)  # drawn numbers that the mask itself does not show, by name

    @property
    def net_acceleration(self) -> float:
        """Number of positions divided by number of sampled positions."""
        return float(self.sampled.size / self.sampled.sum())

    def reference(self, rows: int) -> tuple[int, int]:
        """y, x of the fully sampled block around the centre of k-space; for a mask of lines, y is all `rows`."""
        if self.is_lines:
            return rows, _sampled_centre(self.sampled)
        widths = range(min(self.sampled.shape), 0, -1)
        full = (w for w in widths if self.sampled[tuple(centre_block(n, w) for n in self.sampled.shape)].all())
        return (width := next(full, 0)), width

    @property
    def is_lines(self) -> bool:
        """Whether whole readout lines are sampled."""
        return self.sampled.ndim == 1

    # A spectrum is an image that is transformed only as far as the mask needs: for points it is k-space; for lines, the
    # image is transformed along x, without shifts (`finish` does the rest, on the sampled lines alone). Both transforms
    # are unitary, so that a spectrum has the same power and the same white noise as k-space.

    def spectrum(self, image: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Spectrum [y x] of one coil's image [y x], which may be overwritten."""
        return scipy.fft.fft(image, norm="ortho", overwrite_x=True) if self.is_lines else fft2c(image)

    def image(self, spectrum: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Image [y x] of a spectrum [y x]: the inverse of `spectrum`; for masks of lines, also for some of the rows."""
        return scipy.fft.ifft(spectrum, norm="ortho") if self.is_lines else ifft2c(spectrum)

    def weight(
        self, spectrum: NDArray[np.complex64], x: NDArray[Any], y: NDArray[Any] | None = None
    ) -> NDArray[np.complex64]:
        """A spectrum [y x], whose k-space is multiplied by weights [x] and, where they are given, [y]; overwritten."""
        spectrum *= np.fft.ifftshift(x) if self.is_lines else x
        if y is None:
            return spectrum
        if not self.is_lines:
            spectrum *= y[:, None]
            return spectrum
        along_y = scipy.fft.fft(spectrum, axis=-2, overwrite_x=True)
        along_y *= np.fft.ifftshift(y)[:, None]
        return np.asarray(scipy.fft.ifft(along_y, axis=-2, overwrite_x=True))

    def sample(self, spectrum: NDArray[np.complex64], out: NDArray[np.complex64]) -> None:
        """Write the sampled part of a spectrum [y x] to `out`: [y line] or [point]."""
        if self.is_lines:
            n = self.sampled.size
            columns = (np.flatnonzero(self.sampled) - n // 2) % n
            np.take(spectrum, columns, axis=-1, out=out, mode="wrap")  # mode "raise" would buffer `out`
        else:
            np.compress(self.sampled.ravel(), spectrum, out=out)

    def sampled_shape(self, coils: int, rows: int) -> tuple[int, ...]:
        """Shape of what `sample` writes for `coils` spectra of `rows` rows: [coil y line] or [coil point]."""
        count = int(self.sampled.sum())
        return (coils, rows, count) if self.is_lines else (coils, count)

    def finish(self, sampled: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Packed k-space [coil y line] or [coil point] from the sampled parts of all coils, which are overwritten."""
        return lines_along_y(sampled, np.flatnonzero(self.sampled), self.sampled.size) if self.is_lines else sampled

    def pack(self, kspace: NDArray[Any]) -> NDArray[Any]:
        """Keep the sampled part of k-space [... y x]: [... y line] or [... point]."""
        return kspace[..., self.sampled]

    def unpack(self, packed: NDArray[Any], size: Size) -> NDArray[Any]:
        """Put packed samples back into zeros: the adjoint of `pack`, [... y line] or [... point] to [... y x]."""
        lead = packed.shape[:-2] if self.is_lines else packed.shape[:-1]
        kspace = np.zeros((*lead, *size), packed.dtype)
        kspace[..., self.sampled] = packed
        return kspace


def _sampled_centre(lines: Sampled) -> int:
    return next((w for w in range(lines.size, 0, -1) if lines[centre_block(lines.size, w)].all()), 0)


def check_reference(lines: int, n: int) -> None:
    """Raise ValueError where more reference lines are wanted than there are."""
    if lines > n:
        raise ValueError(f"sampling.reference_lines = {lines}, but k-space has only {n} lines; lower it")


def exactly(wanted: int, sampled: Sampled, free: Sampled, rng: np.random.Generator) -> Sampled:
    """Drop or add positions of `free` at random until `wanted` are sampled; the shape may be any."""
    sampled = sampled.copy()
    surplus = int(sampled.sum()) - wanted
    if surplus:
        candidates = np.flatnonzero(free & (sampled if surplus > 0 else ~sampled))
        sampled.flat[rng.choice(candidates, abs(surplus), replace=False)] = surplus < 0
    return sampled
