"""Finding the samples of an array of coil data that hold noise alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError, NoQuietPlaceError
from .noise_profile import NoiseProfile

BLOCK = 8  # samples along each side of the blocks whose power is compared
UNEVEN = "noise at the readout's ends"  # begins the note that only the middle of the readout was used


def unit_of(values: NDArray[np.complex64]) -> float:
    """A power of 2 by which values are divided before they are squared, so that single precision holds the squares.

    It is 1 unless the largest magnitude is outside 1e-9 to 1e9: noise is a few powers of ten weaker, and numbers below
    1e-38 lose digits. Division by a power of 2 is exact.
    """
    largest = float(np.abs(values).max(initial=0))
    outside = np.isfinite(largest) and largest > 0 and not 1e-9 <= largest <= 1e9
    return 2.0 ** min(round(float(np.log2(largest))), 127) if outside else 1.0  # single precision has no 2^128


def quiet(values: NDArray[np.complex64], candidates: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The candidates [y x] of values [coil y x] in blocks of noise alone, whose power is near the most frequent one.

    A block's power, averaged over m = 64 n samples, has the relative standard deviation 1 / sqrt(m); n is the number of
    independent coils, trace(Psi)^2 / trace(Psi^2). Blocks are kept if their power is within 2.5 standard deviations of
    the mode. The other blocks must have more power, as signal has; raises NoQuietPlaceError if too few blocks are kept,
    or too many have less power.
    """
    rows, columns = values.shape[1:]
    scale = np.mean(np.abs(values[:, candidates]) ** 2, axis=1)
    scaled = values[:, candidates] / np.sqrt(np.maximum(scale, 1e-300))[:, None]
    psi = scaled @ scaled.conj().T / scaled.shape[1]
    independent = float(np.trace(psi).real ** 2 / np.linalg.norm(psi) ** 2)
    power = np.mean(np.abs(values) ** 2 / np.maximum(scale, 1e-300)[:, None, None], axis=0)
    ny, nx = rows // BLOCK, columns // BLOCK

    def blocks(a: NDArray[Any]) -> NDArray[Any]:
        return a[: ny * BLOCK, : nx * BLOCK].reshape(ny, BLOCK, nx, BLOCK).mean(axis=(1, 3))

    whole = blocks(candidates.astype(float)) > 0.99
    found = np.sort(blocks(power)[whole])
    if len(found) < 8:
        return candidates  # too few blocks to choose among: the corners of a small image
    spread = 1 / np.sqrt(BLOCK**2 * max(independent, 1.0))
    width = max(len(found) // 5, 4)
    densest = int(np.argmin(np.log(found[width:]) - np.log(found[:-width])))
    mode = float(np.median(found[densest : densest + width]))
    for _ in range(50):
        near = np.abs(found / mode - 1) < 2.5 * spread
        if not near.any() or abs(float(found[near].mean()) / mode - 1) < 1e-6:
            break
        mode = float(found[near].mean())
    below = float(np.mean(found < mode * (1 - 2.5 * spread)))
    if near.sum() < 4 or near.mean() < 0.1 or below > 0.2:
        raise NoQuietPlaceError
    kept = whole & (np.abs(blocks(power) / mode - 1) < 2.5 * spread)
    chosen = np.zeros((rows, columns), bool)
    chosen[: ny * BLOCK, : nx * BLOCK] = np.kron(kept, np.ones((BLOCK, BLOCK), bool))
    return chosen


def flat_rows(images: NDArray[np.complex64]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Rows where the noise is as strong as in the middle half of the readout."""
    rows = images.shape[1]
    power = np.median(np.abs(images) ** 2, axis=(0, 2))
    place = np.abs(np.arange(rows) - rows // 2)
    middle = place < rows / 4
    floor = float(np.percentile(power[middle], 10))
    ends = float(np.median(power[place > 0.45 * rows]))
    if floor == 0 or ends > 0.7 * floor:
        return np.ones(rows, bool), ()
    part = (ends / floor) ** 0.5
    note = f"{UNEVEN} is {part:.2f} of that in its middle: only its middle half was used"
    return middle, (note,)


def scaled(kspace: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], float]:
    """K-space [coil y x] over `unit_of` it, and this unit; raises CalibrationError where a coil is dead."""
    dead = np.flatnonzero(~kspace.any(axis=(1, 2)))
    if 0 < len(dead) < len(kspace):
        named = f"coil {dead[0]} holds" if len(dead) == 1 else f"coils {', '.join(map(str, dead))} hold"
        raise CalibrationError(f"{named} zeros alone, and so no noise; leave such coils out")
    unit = unit_of(kspace)
    return kspace / np.float32(unit) if unit != 1 else kspace, unit


def in_unit(found: NoiseProfile, unit: float) -> NoiseProfile:
    """The profile of k-space over a unit, as one of k-space itself."""
    return found if unit == 1 else replace(found, covariance=found.covariance * unit**2)


def is_doubted(found: NoiseProfile) -> bool:
    """Whether a note of the profile says that sigma may be wrong, rather than which samples were used."""
    return any(not note.startswith(UNEVEN) for note in found.notes)
