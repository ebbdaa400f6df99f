"""Tiles of k-space: vectors outside the signal space, and the equations for the covariance of the noise.

`sampled_noise` says what they are for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from .neighbourhoods import Neighbourhoods

TILES = 5  # along each axis; the 16 at the border are used
FRACTIONS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)  # of all vectors, those of the weakest signal
GROUPS = 6  # of vectors, whose power is compared with that which Psi explains
LEAST_TILES, LEAST_PLACES = 6, 20  # tiles, and neighbourhoods in each
RIDGE = 0.001  # weight of equal, uncorrelated noise, relative to the equations' mean diagonal

Complex = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class Tile:
    """A tile of k-space, and the vectors outside the signal space, learnt from all other tiles.

    Attributes
    ----------
    vectors
        [position*coil vector], orthonormal, the one of the weakest signal first.
    power
        Matrix [vector vector]: the mean of c c^H of the tile's neighbourhoods p, c = vectors^H p.
    places
        Number of neighbourhoods.
    side
        "corners", "ends of y" or "ends of x": where in k-space the tile lies.
    kurtosis
        Excess kurtosis of c for the weakest vectors.
    """

    vectors: Complex
    power: Complex
    places: int
    side: str
    kurtosis: float


@dataclass(frozen=True, eq=False)
class Equations:
    """The least squares of one fraction of all vectors: sums over positions and vectors, for each tile.

    Attributes
    ----------
    left
        [tile coil*coil coil*coil]
    right
        [tile coil*coil]
    vectors
        Number of vectors.
    """

    left: Complex
    right: Complex
    vectors: int

    def solved(self) -> tuple[Complex, Complex]:
        """Psi [coil coil], and what each tile adds to its error [tile coil coil].

        The second is the infinitesimal jackknife (Jaeckel, Bell Labs Memorandum 72-1215, 1972): the inverse of the sum
        of the left sides, times the residual of a tile. The variance of Psi is the sum of its squares.
        """
        left, right = self.left.sum(axis=0), self.right.sum(axis=0)
        coils = round(len(right) ** 0.5)
        same = np.eye(coils).ravel()
        level = (same @ right).real / (same @ left @ same).real
        ridge = RIDGE * np.trace(left).real / len(right)
        inverse = np.linalg.inv(left + ridge * np.eye(len(right)))
        psi = inverse @ (right + ridge * level * same)
        errors = (self.right - self.left @ psi) @ inverse.T * np.sqrt(len(self.left) / (len(self.left) - 1))
        psi = psi.reshape(coils, coils)
        return (psi + psi.conj().T) / 2, errors.reshape(-1, coils, coils)


def tiles_of(white: NDArray[np.complex64], places: Neighbourhoods) -> list[Tile]:
    """The tiles at the border of whitened k-space [coil y x]; raises CalibrationError where they are too few."""
    vectors = places.vectors(white)
    power = np.sum(np.abs(vectors) ** 2, axis=0) / (2 * len(vectors))
    equal = vectors / np.sqrt(np.maximum(power, 1)).astype(np.float32)  # the strong centre does not outweigh the rest
    total = equal @ equal.conj().T
    found = []
    (y, x), (height, width) = places.middle, places.shape
    for i, j in np.ndindex(TILES, TILES):
        ends = i in (0, TILES - 1), j in (0, TILES - 1)
        from_y, from_x = y - i * height / TILES, x - j * width / TILES
        own = (from_y >= 0) & (from_y < height / TILES) & (from_x >= 0) & (from_x < width / TILES)
        if not any(ends) or own.sum() < LEAST_PLACES:
            continue
        beside_y, beside_x = np.abs(from_y - height / TILES / 2), np.abs(from_x - width / TILES / 2)
        near = (beside_y < height / TILES / 2 + places.extent[0]) & (beside_x < width / TILES / 2 + places.extent[1])
        rest = total - equal[:, near] @ equal[:, near].conj().T
        kept = np.linalg.eigh(rest.astype(np.complex128))[1][:, : max(round(FRACTIONS[-1] * len(rest)), GROUPS)]
        side = "corners" if all(ends) else "ends of y" if ends[0] else "ends of x"
        found.append(_tile(kept, vectors[:, own], side))
    if len(found) < LEAST_TILES:
        raise CalibrationError(f"only {len(found)} parts of k-space hold enough samples beside each other")
    return found


def _tile(vectors: Complex, samples: NDArray[np.complex64], side: str) -> Tile:
    outside = vectors.conj().T @ samples
    weakest = outside[: max(len(vectors) // 10, 2)]
    parts = np.stack([weakest.real, weakest.imag]) / np.sqrt(np.mean(np.abs(weakest) ** 2, axis=1) / 2)[:, None]
    count = samples.shape[1]
    return Tile(vectors, outside @ outside.conj().T / count, count, side, float(np.mean(parts**4) - 3))


def equations_of(tiles: list[Tile], coils: int, fraction: float) -> Equations:
    """With P = sum v v^H in blocks of positions i, j: the sum of P_ij (x) P_ji on the left."""
    left, right, count = [], [], max(round(fraction * len(tiles[0].vectors)), GROUPS)
    for tile in tiles:
        v = tile.vectors[:, :count]
        blocks = (v @ v.conj().T).reshape(-1, coils, len(v) // coils, coils)  # [position coil position coil]
        ca = blocks.transpose(1, 3, 0, 2).reshape(coils**2, -1)
        db = blocks.transpose(3, 1, 2, 0).reshape(coils**2, -1)
        pairs = (ca @ db.T).reshape(coils, coils, coils, coils)  # [c a d b]
        left.append(tile.places * pairs.transpose(0, 2, 1, 3).reshape(coils**2, coils**2))
        half = (v @ tile.power[:count, :count]).reshape(-1, coils, count)
        right.append(tile.places * np.einsum("icv,idv->cd", half, v.conj().reshape(-1, coils, count)).ravel())
    return Equations(np.array(left), np.array(right), count)
