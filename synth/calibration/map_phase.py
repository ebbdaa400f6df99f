"""The phase of coil maps, which is free at every pixel: smooth, and without vortices in the object.

A vortex is a point around which the phase turns by 2 pi. Maps that are interpolated across one are wrong there. The
phase relative to a fixed combination of the coils, a virtual coil v, has a vortex at each zero of v^H map. The coil
that the map at the object's centre describes (virtual reference coil: Parker et al., Magn Reson Med 72:563, 2014) is
seldom zero inside the object; the coils' principal component, which BART takes, often is.

Where maps change much, every virtual coil is zero somewhere. The sum of the phases between neighbours around a block of
pixels does not depend on the maps' own phase; where it adds up to more than 2 pi over the object, maps come near every
direction between the coils. Such maps have a smooth phase all the same: that which is carried from the object's centre
outwards, from neighbour to neighbour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.ndimage
from numpy.typing import NDArray

Complex = NDArray[np.complex64]
Mask = NDArray[np.bool_]
TINY = np.float32(1e-12)
AIR = np.float32(0.1)  # weight of positions outside the object, so that vortices stay there
ROUNDS = 200
CANDIDATES = 200  # positions, at most, that are compared where the object's centre gives no reference


@dataclass(frozen=True, eq=False)
class MapPhase:
    """How the phase of maps behaves in an object.

    Attributes
    ----------
    vortices
        [vortex 2]: y, x of the lower corner of each 2x2 block of pixels around which the phase turns by 2 pi.
    largest
        The largest phase difference between neighbours, in rad.
    """

    vortices: NDArray[np.intp]
    largest: float


def phase_of_maps(maps: Complex, inside: Mask) -> MapPhase:
    """Vortices and largest phase difference of maps [coil y x] inside an object [y x].

    The phase difference of two pixels a and b is that of sum conj(map(a)) map(b) over the coils: the coils' phase
    differences, weighted by their power, so that the zero of a single coil does not count. A block of 2x2 pixels has a
    vortex where the sum of its four differences is nearer to 2 pi or -2 pi than to 0.
    """
    along_y = np.angle(np.sum(maps[:, :-1].conj() * maps[:, 1:], axis=0))
    along_x = np.angle(np.sum(maps[:, :, :-1].conj() * maps[:, :, 1:], axis=0))
    around = along_x[:-1] + along_y[:, 1:] - along_x[1:] - along_y[:, :-1]
    whole_y, whole_x = inside[:-1] & inside[1:], inside[:, :-1] & inside[:, 1:]
    vortices = np.argwhere((np.abs(around) > np.pi) & whole_y[:, :-1] & whole_y[:, 1:])
    largest = max(np.abs(d[where]).max(initial=0) for d, where in ((along_y, whole_y), (along_x, whole_x)))
    return MapPhase(vortices, float(largest))


def object_where_defined(image: NDArray[np.floating], eigenvalues: NDArray[np.floating]) -> Mask:
    """Where [y x] an image of coils (root of the sum of squares) has signal and ESPIRiT defines its maps.

    Pixels above a tenth of the image's 99th percentile with an eigenvalue above 0.85, and the holes among them.
    """
    return np.asarray(scipy.ndimage.binary_fill_holes((image > 0.1 * np.percentile(image, 99)) & (eigenvalues > 0.85)))


def referenced(
    vectors: Complex, certainty: NDArray[np.floating], inside: Mask, carried: bool = True
) -> tuple[Complex, int]:
    """Vectors [y x coil] times phases without a vortex in the object, and how many vortices remain there.

    The reference is the vector at the object's centre. If that leaves a vortex, the vector is tried whose smallest
    product with the object's other vectors is the largest; then, if `carried`, the phase that is carried outwards from
    the centre. The best of them is taken.
    """
    weights = certainty * np.where(inside, np.float32(1), AIR)
    found: list[tuple[int, Complex]] = []
    for phases in _starts(vectors, weights, inside, carried):
        smooth = _relaxed(vectors, weights, phases)
        found.append((len(phase_of_maps(np.moveaxis(smooth, -1, 0), inside).vortices), smooth))
        if found[-1][0] == 0:
            break
    left, best = min(found, key=lambda one: one[0])
    return best, left


def _starts(vectors: Complex, weights: NDArray[np.floating], inside: Mask, carried: bool) -> Iterator[Complex]:
    for reference in _references(vectors, inside):
        yield _relative_to(reference, vectors)
    if carried:
        yield _carried(vectors, weights, _centre(inside))


def _centre(inside: Mask) -> tuple[int, int]:
    places = np.argwhere(inside)
    y, x = places[np.argmin(np.sum((places - places.mean(axis=0)) ** 2, axis=1))]
    return int(y), int(x)


def _carried(vectors: Complex, weights: NDArray[np.floating], centre: tuple[int, int]) -> Complex:
    """Phases [y x] that agree with those of the neighbours that are nearer to the centre, position by position."""
    ny, nx = vectors.shape[:2]
    phases = np.zeros((ny, nx), np.complex64)
    first = vectors[centre]
    places = np.argwhere(np.ones((ny, nx), bool))
    for y, x in places[np.argsort(np.sum((places - centre) ** 2, axis=1), kind="stable")]:
        near = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        known = np.sum(weights[near] * phases[near] * (vectors[near] @ vectors[y, x].conj()))
        phases[y, x] = phasor(np.asarray(known, np.complex64))
    return phases * phasor(first[np.abs(first).argmax()]).conj()


def _references(vectors: Complex, inside: Mask) -> Iterator[Complex]:
    yield _real_where_strongest(vectors[_centre(inside)])
    within = vectors[inside]
    some = within[:: -(-len(within) // CANDIDATES)]
    yield _real_where_strongest(some[np.abs(some.conj() @ within.T).min(axis=1).argmax()])


def _real_where_strongest(vector: Complex) -> Complex:
    """The vector [coil] times a phase: an eigenvector's own phase differs between libraries."""
    return np.asarray(vector * phasor(vector[np.abs(vector).argmax()]).conj(), np.complex64)


def principal(vectors: Complex, certainty: NDArray[np.floating]) -> Complex:
    """First principal component [coil] of vectors [y x coil]: the reference of version 1, as BART chooses it."""
    weighted = (vectors * certainty[..., None]).reshape(-1, vectors.shape[-1])
    return np.asarray(np.linalg.eigh(weighted.T @ weighted.conj())[1][:, -1])


def smooth_phase(vectors: Complex, certainty: NDArray[np.floating], reference: Complex) -> Complex:
    """Vectors [y x coil] with a smooth phase that starts from the one relative to a virtual coil `reference` [coil]."""
    return _relaxed(vectors, certainty, _relative_to(reference, vectors))


def _relative_to(reference: Complex, vectors: Complex) -> Complex:
    return phasor((vectors.conj() @ reference).astype(np.complex64))


def _relaxed(vectors: Complex, certainty: NDArray[np.floating], z: Complex) -> Complex:
    """Vectors [y x coil] times the phases that make neighbours, also around the edges, as equal as possible.

    Power iterations for the phases z [y x] that maximise sum w_ij Re(conj(z_i) <v_i, v_j> z_j) over neighbours.
    """
    links = []
    for axis, step in ((0, 1), (0, -1), (1, 1), (1, -1)):
        neighbour = np.roll(vectors, step, axis)
        weight = certainty * np.roll(certainty, step, axis)
        links.append((axis, step, weight * np.sum(vectors.conj() * neighbour, axis=-1)))
    for _ in range(ROUNDS):
        total = sum(link * np.roll(z, step, axis) for axis, step, link in links)
        z = phasor(np.asarray(total, np.complex64) + np.float32(1e-3) * z)
    return np.asarray(vectors * z[..., None], np.complex64)


def phasor(z: Complex) -> Complex:
    """Numbers divided by their magnitude; 1 where that is 0."""
    size = np.abs(z)
    return np.asarray(np.where(size > TINY, z / np.maximum(size, TINY), np.complex64(1)))
