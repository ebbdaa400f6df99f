"""Neighbourhoods of one form among the sampled positions of k-space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError

WIDTH = 200  # coils times positions of a neighbourhood, at most
LONGEST = 7  # positions along an axis
SPACINGS = (1, 2, 3, 4, 5, 6, 8)  # samples between positions
ENOUGH = 0.35  # neighbourhoods outside k-space's centre, relative to the samples
MOST = 24000  # neighbourhoods that are used; they overlap, so more tell little more
CENTRE = 0.25  # of the sides: distance from the centre within which neighbourhoods do not decide on the form


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """All places where every position of a neighbourhood was sampled.

    Attributes
    ----------
    kernel
        Numbers of positions along y, x.
    spacing
        Samples between positions along y, x.
    y, x
        The first position [place] of each.
    shape
        y, x of k-space.
    """

    kernel: tuple[int, int]
    spacing: tuple[int, int]
    y: NDArray[np.intp]
    x: NDArray[np.intp]
    shape: tuple[int, int]

    @classmethod
    def of(cls, kspace: NDArray[np.complex64]) -> Neighbourhoods:
        """The form with most places, of a square first, then along y alone; raises CalibrationError for too few."""
        sampled, coils = np.asarray(kspace.any(axis=0)), len(kspace)
        most = max(WIDTH // coils, 2)
        side = min(int(most**0.5), LONGEST)
        for kernel in ((side, min(most // side, LONGEST)), (min(most, 2 * LONGEST), 1)):
            spacings = SPACINGS if min(kernel) > 1 else (1,)
            forms = [(a, b) for a in spacings for b in spacings]
            found = {form: _places(sampled, kernel, form) for form in forms}
            counts = {
                form: int((where & _outside(where, sampled.shape, kernel, form)).sum()) for form, where in found.items()
            }
            best = max(forms, key=lambda form: (counts[form], -form[0] * form[1]))
            if counts[best] > ENOUGH * sampled.sum():
                y, x = np.nonzero(found[best])
                step = -(-len(y) // MOST)
                return cls(kernel, best, y[::step], x[::step], (sampled.shape[0], sampled.shape[1]))
        raise CalibrationError("too few samples lie beside each other")

    @property
    def extent(self) -> tuple[int, int]:
        """Samples along y, x from the first position to the last, both included."""
        y, x = ((n - 1) * step + 1 for n, step in zip(self.kernel, self.spacing, strict=True))
        return y, x

    @property
    def middle(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """y, x [place] of their middles."""
        y, x = (np.asarray(a + (n - 1) / 2, np.float64) for a, n in zip((self.y, self.x), self.extent, strict=True))
        return y, x

    def vectors(self, kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """[position*coil place]: the samples of k-space [coil y x] at each place."""
        steps = np.ndindex(self.kernel)
        return np.concatenate([kspace[:, self.y + i * self.spacing[0], self.x + j * self.spacing[1]] for i, j in steps])


def _places(sampled: NDArray[np.bool_], kernel: tuple[int, int], spacing: tuple[int, int]) -> NDArray[np.bool_]:
    """Where a neighbourhood can begin [y x]; empty where k-space is too small."""
    rows, columns = (max(n - (k - 1) * s, 0) for n, k, s in zip(sampled.shape, kernel, spacing, strict=True))
    where = np.ones((rows, columns), bool)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            y, x = i * spacing[0], j * spacing[1]
            where &= sampled[y : y + rows, x : x + columns]
    return where


def _outside(
    where: NDArray[np.bool_], shape: tuple[int, ...], kernel: tuple[int, int], spacing: tuple[int, int]
) -> NDArray[np.bool_]:
    """Places [y x] whose middle is outside k-space's centre."""
    far = [
        np.abs(np.arange(n) + (k - 1) * s / 2 - whole // 2) > CENTRE * whole
        for n, whole, k, s in zip(where.shape, shape, kernel, spacing, strict=True)
    ]
    return np.asarray(far[0][:, None] | far[1][None])


def outermost(kspace: NDArray[np.complex64], share: float = 0.05) -> NDArray[np.complex64]:
    """The samples [coil sample] that are farthest from k-space's centre."""
    sampled = np.asarray(kspace.any(axis=0))
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in sampled.shape)
    far = np.where(sampled, np.hypot(y[:, None], x[None]), -1)
    least = max(int(share * sampled.sum()), 4 * len(kspace))
    return kspace[:, far >= np.sort(far[sampled])[-min(least, int(sampled.sum()))]]
