"""Coil maps as ESPIRiT gives them: every set at every pixel, and eigenvalues that say where a set has signal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]
# Least eigenvalue of sets after the first. On heads, 0.8 (BART's crop) leaves more unknowns and thus 5 to 13 %
# more error at R = 2; 0.95 (sigpy's) leaves out signal that wraps, which is up to 25 % more residual at a high SNR.
FURTHER = 0.9


@dataclass(frozen=True, eq=False)
class EspiritMaps:
    """Coil maps, and how well the reference lines agree with them at each pixel.

    Attributes
    ----------
    maps
        [set coil y x] with sum |map|^2 = 1 over the coils of each set, and sets that are orthogonal to each other. All
        are 0 where the reference lines hold nothing above the noise.
    eigenvalues
        [set y x]: near 1 in the object, lower in the air. Those of the second set are near 1 where signal wraps around.
    notes
        What limits the maps: a vortex of the phase in the object that no reference avoids, or noise without a signal.
    """

    maps: Complex
    eigenvalues: NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def cropped(self, threshold: float) -> Complex:
        """First set [coil y x], zero where its eigenvalue is below the threshold."""
        return _cropped(self.maps[0], self.eigenvalues[0], threshold)

    def soft(self, threshold: float) -> Complex:
        """First set [coil y x] times a weight that falls from 1 at the threshold to 0 at half of it, as sin^2."""
        return _soft(self.maps[0], self.eigenvalues[0], threshold)

    def sets(self, threshold: float, *, soft: bool = False) -> Complex:
        """All sets [set coil y x], each `cropped` or `soft`; a threshold of 0 keeps the first set everywhere.

        Sets after the first describe signal that wraps around. Where there is none, they would only add unknowns, so
        their threshold is at least `FURTHER`.
        """
        weighted = _soft if soft else _cropped
        first = self.maps[0] if threshold == 0 else weighted(self.maps[0], self.eigenvalues[0], threshold)
        others = zip(self.maps[1:], self.eigenvalues[1:], strict=True)
        return np.stack([first, *(weighted(m, values, max(threshold, FURTHER)) for m, values in others)])


def _cropped(maps: Complex, eigenvalues: NDArray[np.float32], threshold: float) -> Complex:
    return np.where(eigenvalues >= threshold, maps, np.complex64(0))


def _soft(maps: Complex, eigenvalues: NDArray[np.float32], threshold: float) -> Complex:
    ramp = np.clip(2 * eigenvalues / threshold - 1, 0, 1)
    return np.asarray(maps * np.sin(ramp * np.float32(np.pi / 2)) ** 2, np.complex64)
