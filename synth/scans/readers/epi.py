"""Echo-planar readouts: samples on the ramps of a trapezoidal gradient, and the ghost of lines in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...physics import fftc, ifftc

SUPPORT = 0.95  # rows that are solved for, over the number that the widest gap between samples allows


@dataclass(frozen=True)
class Trapezoid:
    """A readout gradient, and when it is sampled; all times in microseconds."""

    ramp_up: float
    flat: float
    ramp_down: float
    delay: float  # from the gradient's start to that of the first sample
    duration: float  # of all samples

    def area(self, time: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Integral of the gradient, 1 on the flat top, up to a time after its start."""
        t = np.asarray(time, np.float64)
        up, down = np.clip(t, 0, self.ramp_up), np.clip(t - self.ramp_up - self.flat, 0, self.ramp_down)
        rising = up**2 / (2 * self.ramp_up) if self.ramp_up > 0 else 0.0
        falling = down - down**2 / (2 * self.ramp_down) if self.ramp_down > 0 else 0.0
        return np.asarray(rising + np.clip(t - self.ramp_up, 0, self.flat) + falling)

    @property
    def is_centred(self) -> bool:
        """Whether half of the sampled area lies before the middle of the samples, and all samples on the gradient."""
        start, middle, end = self.area(self.delay + self.duration * np.array([0, 0.5, 1]))
        inside = self.delay >= 0 and self.delay + self.duration <= self.ramp_up + self.flat + self.ramp_down + 1e-6
        return bool(inside and abs(2 * middle - start - end) < 0.005 * (end - start))

    def positions(self, samples: int, wanted: int) -> NDArray[np.float64]:
        """Where samples lie in k-space, in steps of `wanted` even samples of the same area, from its centre.

        A sample lies at the middle of its time. On a flat top these are the even positions j + 1/2 - wanted / 2.
        """
        times = self.delay + self.duration * (np.arange(samples) + 0.5) / samples
        start, end = self.area(self.delay), self.area(self.delay + self.duration)
        return np.asarray((self.area(times) - start) / (end - start) * wanted - wanted / 2)


def regridding(positions: NDArray[np.float64], wanted: int) -> NDArray[np.complex128] | None:
    """The matrix [wanted sample] that takes samples at positions to even ones; None where they lie too far apart.

    Samples are the Fourier transform of rows of an image. Rows are solved for by least squares, as many as the widest
    gap between samples allows, and transformed to even positions: exact for an object within these rows, which are at
    least the middle half.
    """
    rows = int(SUPPORT * wanted / np.diff(positions).max())
    if rows < wanted // 2:
        return None
    row = np.arange(min(rows, wanted)) - min(rows, wanted) // 2
    uneven, even = (
        np.exp(-2j * np.pi / wanted * np.outer(k, row)) for k in (positions, np.arange(wanted) + 0.5 - wanted / 2)
    )
    return np.asarray(even @ np.linalg.pinv(uneven))


def noise_gain(matrix: NDArray[np.complex128]) -> float:
    """By how much regridding raises sigma in the middle half of the rows, which an oversampled readout keeps."""
    wanted = len(matrix)
    rows = ifftc(matrix, (0,))[wanted // 4 : wanted // 4 + wanted // 2]
    return float(np.sqrt(np.mean(np.sum(np.abs(rows) ** 2, axis=1))))


def polarity_phase(forward: NDArray[np.complex64], backward: NDArray[np.complex64]) -> NDArray[np.float64]:
    """Phase [row] of lines [coil sample] that ran forward over that of lines that ran backward: straight along rows.

    Both are lines without phase encoding, the second turned round. A delay between them shifts k-space, and this is a
    slope of the phase, which is estimated from neighbouring rows (Ahn and Cho 1987, IEEE TMI 6:32).
    """
    product = np.sum(ifftc(forward, (1,)) * ifftc(backward, (1,)).conj(), axis=0)
    slope = np.angle(np.sum(product[1:] * product[:-1].conj()))
    row = np.arange(len(product)) - len(product) // 2
    constant = np.angle(np.sum(product * np.exp(-1j * slope * row)))
    return np.asarray(slope * row + constant)


def are_alike(forward: NDArray[np.complex64], backward: NDArray[np.complex64]) -> bool:
    """Whether lines [coil sample] of both directions show the same object, not each other's mirror image.

    They do not where a line is flagged as reversed, but was not stored so.
    """
    first, second = (np.sqrt(np.sum(np.abs(ifftc(line, (1,))) ** 2, axis=0)) for line in (forward, backward))
    mirrored = np.roll(second[::-1], (len(second) + 1) % 2)  # row n // 2 stays where it is
    return bool(np.sum(first * second) > 0.995 * np.sum(first * mirrored))


def without_phase(line: NDArray[np.complex64], phase: NDArray[np.float64]) -> NDArray[np.complex64]:
    """A line [coil sample] whose rows lose a phase [row]."""
    return np.asarray(fftc(ifftc(line, (1,)) * np.exp(-1j * phase), (1,)), np.complex64)
