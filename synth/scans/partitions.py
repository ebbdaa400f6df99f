"""Whether slices are images of places, or k-space of a third dimension that was not transformed."""

from __future__ import annotations

import numpy as np

from ..errors import ScanError
from .scan import Scan

LEAST = 8  # slices; fewer tell too little
FALL = 10.0  # energy of the middle of k-space over that at a quarter of it: 16 or more for an edge of an object
NEAR = 2.0


def partition_notes(scan: Scan) -> list[str]:
    """A sentence where the energy of slices falls from the middle as that of k-space does, on both sides.

    Along a dimension in which an object has edges, the energy of k-space falls at least as 1/k^2 (Bracewell, The
    Fourier Transform and Its Applications, 1986, on the decay of transforms): to 1/16 and below at four steps from the
    middle. Neighbouring slices of an object resemble each other.
    """
    n = len(scan)
    if n < LEAST:
        return []
    try:
        middle, *near, low, high = (_energy(scan, k) for k in (n // 2, n // 2 - 2, n // 2 + 2, n // 4, (3 * n) // 4))
    except ScanError:
        return []
    if middle > NEAR * max(near) and middle > FALL * max(low, high):
        return [
            f"the middle one of {n} slices has {middle / max(low, high, 1e-30):.2g} times the energy of those halfway "
            "to the ends, as k-space of a 3-D scan has: Fathom takes slices, so transform such a scan along them first"
        ]
    return []


def _energy(scan: Scan, number: int) -> float:
    return float(np.sum(np.abs(scan.without_padding(number)) ** 2, dtype=np.float64))
