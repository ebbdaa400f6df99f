"""Coil maps from a scan's own reference lines: ESPIRiT, in its convolutional and coarse-grid form.

Uecker et al., Magn Reson Med 71:990, 2014: patches of the reference lie in a subspace of all patches. To project every
patch on this subspace is a convolution in k-space, and thus a matrix [coil coil] at each position of the image; its
eigenvector of eigenvalue 1 is the coil map. Lobos, Chan and Haldar (PISCO, arXiv 2302.13431) note that the matrix's
Fourier coefficients are sums of the projection's entries over equal lags, and that a coarse grid suffices, because maps
are smooth.

The steps here: eigenvectors on a very coarse grid by `eigh`; a smooth phase for them (`map_phase`); power iterations,
which start from them, on a grid that is fine enough; and quintic splines from this grid to the pixels.
"""

from __future__ import annotations

from functools import lru_cache
from numbers import Integral

import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from ..physics import rss
from ..version import SCAN_STAGES
from .espirit_maps import EspiritMaps
from .map_phase import TINY, phasor, principal, referenced, smooth_phase
from .noise_profile import NoiseProfile, whiten, whitening_matrix
from .patches import reference_block, signal_space

Complex = NDArray[np.complex64]
SPACING = (8, 4)  # approximate pixels between the positions of the coarse and of the fine grid
LEAST = (12, 24)  # fewest positions along an axis; the matrices are trigonometric polynomials of degree kernel - 1
ITERATIONS = 8
NOISE_ALONE = "the reference lines hold nothing above the noise: there are no coil maps"


def espirit(
    kspace: Complex,
    shape: tuple[int, int] | None = None,
    *,
    reference: tuple[int, int] = (24, 24),
    kernel: int = 6,
    threshold: float = 0.02,
    sets: int = 1,
    extend: bool = False,
    sigma: float = 0.0,
    version: int = SCAN_STAGES["maps"],
) -> EspiritMaps:
    """Coil maps from the fully sampled centre of k-space: ESPIRiT (Uecker et al., Magn Reson Med 71:990, 2014).

    Parameters
    ----------
    kspace
        Complex [coil y x], preferably whitened; outside of the reference it may be zero.
    shape
        y, x of the maps; by default those of the k-space.
    reference
        y, x of the fully sampled block at k-space's centre.
    kernel
        Side of the patches, in samples.
    threshold
        Singular vectors of the patches are kept if their singular value is above this fraction of the largest one. The
        default is sigpy's; BART's .001 is for the square of the value and corresponds to .032.
    sets
        Number of map sets; a second one describes signal that wraps around.
    extend
        Continue the maps smoothly beyond the object, for images that fill the field of view.
    sigma
        Standard deviation of the real part of the noise in k-space, and of its imaginary part; 0 where it is not known.
        Singular vectors are then also left out where noise alone has their values (`noise_edge`): noise alone gives
        no maps, and the maps of weak signals are less noisy.
    version
        1 gives the maps of corpora that have no version of the stage "maps", whose phase may have vortices; 1 and 2
        ignore `sigma`; up to 3, vortices are left where maps change so much that every virtual coil is zero somewhere.

    Returns
    -------
    The maps. Their phase is as smooth as possible, and has no vortex in the object. It begins relative to the virtual
    coil that the object's centre sees, in which the coil that is strongest there has phase 0.

    Raises
    ------
    ValueError
        The reference is too small for the kernel, or not fully sampled; or there are fewer coils than sets.
    """
    _refuse(kspace, sets)
    refuse_numbers(kernel, threshold, sigma)
    if not isinstance(reference, tuple | list) or len(reference) != 2:
        raise ValueError(f"reference = {reference!r}: give y, x of the block, such as (24, 24)")
    shape = shape or (kspace.shape[1], kspace.shape[2])
    block = reference_block(kspace, reference, kernel)
    signal = signal_space(block, kernel, threshold, sigma if version >= 3 else 0.0)
    maps, eigenvalues = np.zeros((sets, len(kspace), *shape), np.complex64), np.zeros((sets, *shape), np.float32)
    if not signal.size:
        return EspiritMaps(maps, eigenvalues, (NOISE_ALONE,))
    lags = lag_coefficients(signal, len(kspace), kernel)
    grids = [tuple(max(n // spacing, least) for n in shape) for spacing, least in zip(SPACING, LEAST, strict=True)]
    coarse = matrices_at(lags, positions_of(shape, grids[0]))
    fine = matrices_at(lags, positions_of(shape, grids[1]))
    values, vectors = np.linalg.eigh(coarse)  # [y x coil], [y x coil coil], ascending
    to_fine = [spline(a, b, around=not extend) for a, b in zip(grids[0], grids[1], strict=True)]
    to_pixels = [spline(a, n, around=not extend) for a, n in zip(grids[1], shape, strict=True)]
    objects = [_object(block, positions_of(shape, grid)) for grid in grids[: 1 + extend]]
    notes: list[str] = []
    found: list[Complex] = []
    for k in range(sets):
        start, left = _start(values[..., -1 - k], vectors[..., -1 - k], objects[0], version)
        notes += [f"the phase of map set {k} has {left} vortices in the object: maps are wrong there"] if left else []
        refined, value = _refined(fine, _normalised(_interpolated(start, to_fine)), found)
        found.append(refined)
        if extend:
            known = _trust(values[..., -1 - k]) * objects[0]
            beyond = _normalised(_interpolated(_extended(start, known), to_fine))
            trust = (_trust(value) * objects[1])[..., None]
            refined = _normalised(trust * refined + (1 - trust) * beyond)
        maps[k] = np.moveaxis(_orthonormal(_interpolated(refined, to_pixels), maps[:k]), -1, 0)
        eigenvalues[k] = np.clip(_interpolated(value[..., None], to_pixels)[..., 0].real, 0, None)
    return EspiritMaps(maps, eigenvalues, tuple(notes))


def _refuse(kspace: Complex, sets: int) -> None:
    if not isinstance(kspace, np.ndarray) or kspace.ndim != 3:
        is_array = isinstance(kspace, np.ndarray)
        told = f"an array of {kspace.ndim} axes" if is_array else f"a {type(kspace).__name__}"
        raise ValueError(f"espirit takes the k-space [coil y x] of one slice, such as a scan's scan[0]; got {told}")
    if not np.iscomplexobj(kspace):
        raise ValueError(f"espirit takes complex k-space [coil y x]; got real samples ({kspace.dtype})")
    if not np.isfinite(kspace).all():
        raise ValueError("k-space has samples that are NaN or infinite")
    if sets > len(kspace):
        raise ValueError(f"{sets} map sets need {sets} coils or more, and k-space has {len(kspace)}; ask for 1 set")


def refuse_numbers(kernel: int, threshold: float, sigma: float) -> None:
    """Raise ValueError where a parameter of ESPIRiT is out of range."""
    if not isinstance(kernel, Integral) or kernel < 1:
        raise ValueError(f"kernel = {kernel!r}: give the side of the patches, such as 6")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold = {threshold}: give a fraction of the largest singular value, from 0 to 1")
    if not 0 <= sigma < np.inf:
        raise ValueError(f"sigma = {sigma}: give the standard deviation of the noise, or 0 where it is not known")


def _start(
    values: NDArray[np.float32], vectors: Complex, signal: NDArray[np.float32], version: int
) -> tuple[Complex, int]:
    """Vectors [y x coil] of the coarse grid with a smooth phase, and how many vortices that has in the object."""
    certainty = np.clip(values, 1e-3, 1) ** 8
    if version == 1:
        return smooth_phase(vectors, certainty, principal(vectors, certainty)), 0
    inside = (signal > 0) & (_trust(values) > 0)
    if inside.any():
        return referenced(vectors, certainty, inside, version >= 4)
    return referenced(vectors, certainty, np.ones_like(inside), version >= 4)[0], 0


def lag_coefficients(signal: Complex, coils: int, kernel: int) -> Complex:
    """Fourier coefficients [coil coil dy dx] of the matrices: the projection's sums over equal lags, by kernel^2.

    The projection of a patch a is signal signal^H a; patches overlap kernel^2 times, so their mean is the sum divided
    by kernel^2, and eigenvalues lie in 0 ... 1.
    """
    projection = (signal @ signal.conj().T).reshape(coils, kernel, kernel, coils, kernel, kernel)
    size = 2 * kernel - 1
    lags = np.zeros((coils, coils, size, size), np.complex64)
    for y in range(kernel):
        for x in range(kernel):
            dy, dx = slice(kernel - 1 - y, size - y), slice(kernel - 1 - x, size - x)
            lags[:, :, dy, dx] += projection[:, y, x]
    return lags / np.float32(kernel**2)


def matrices_at(lags: Complex, positions: tuple[NDArray[np.float64], NDArray[np.float64]]) -> Complex:
    """The matrices [y x coil coil] at positions in fields of view: sum over lags d of lag(d) exp(-2 pi i d x)."""
    coils, size = lags.shape[0], lags.shape[-1]
    d = np.arange(size) - size // 2
    along_y, along_x = (np.exp(-2j * np.pi * np.outer(p, d)).astype(np.complex64) for p in positions)
    half = lags.reshape(-1, size) @ along_x.T  # [coil coil dy, x]
    half = half.reshape(coils**2, size, -1).transpose(1, 2, 0).reshape(size, -1)
    return (along_y @ half).reshape(len(along_y), len(along_x), coils, coils)


def positions_of(shape: tuple[int, ...], grid: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The places y, x of a grid's positions in an image, in fields of view; 0 is the image's centre."""
    y, x = (np.arange(g) / g - (n // 2) / n for n, g in zip(shape, grid, strict=True))
    return y, x


def _refined(matrices: Complex, start: Complex, others: list[Complex]) -> tuple[Complex, NDArray[np.float32]]:
    """Eigenvectors [y x coil] by power iterations from `start`, with its phase, orthogonal to `others`; eigenvalues."""
    vector = start
    for _ in range(ITERATIONS):
        product = (matrices @ vector[..., None])[..., 0]
        for other in others:
            product -= other * np.sum(other.conj() * product, axis=-1, keepdims=True)
        vector = _normalised(product)
    value = np.sum(vector.conj() * (matrices @ vector[..., None])[..., 0], axis=-1).real
    aligned = vector * phasor(np.sum(vector.conj() * start, axis=-1))[..., None]
    return np.asarray(aligned, np.complex64), np.asarray(value, np.float32)


def _orthonormal(vectors: Complex, maps: Complex) -> Complex:
    """Vectors [y x coil] of norm 1, without their parts along maps [set coil y x], which interpolation adds to them."""
    vectors = _normalised(vectors)
    for one in np.moveaxis(maps, 1, -1):
        vectors = _normalised(vectors - one * np.sum(one.conj() * vectors, axis=-1, keepdims=True))
    return vectors


def _normalised(vectors: Complex) -> Complex:
    """Vectors [y x coil] of norm 1."""
    power = np.einsum("yxc,yxc->yx", vectors.real, vectors.real) + np.einsum("yxc,yxc->yx", vectors.imag, vectors.imag)
    flat = power <= TINY**2
    if flat.any():
        vectors, power = vectors + flat[..., None], power + flat * vectors.shape[-1]
    return np.asarray(vectors / np.sqrt(power)[..., None], np.complex64)


def _trust(eigenvalues: NDArray[np.floating]) -> NDArray[np.float32]:
    """Weights: 0 below an eigenvalue of 0.85, 1 above 0.95; between the default crops of BART and of sigpy."""
    return np.clip((eigenvalues - np.float32(0.85)) * 10, 0, 1).astype(np.float32)


def _object(block: Complex, positions: tuple[NDArray[np.float64], NDArray[np.float64]]) -> NDArray[np.float32]:
    """1 where the reference's image is above a tenth of its maximum, else 0: eigenvalues may be 1 outside it, too."""
    window = np.hanning(block.shape[1] + 2)[1:-1, None] * np.hanning(block.shape[2] + 2)[1:-1]
    along_y, along_x = (
        np.exp(2j * np.pi * np.outer(p, np.arange(n) - n // 2)).astype(np.complex64)
        for p, n in zip(positions, block.shape[1:], strict=True)
    )
    image = rss(along_y @ (block * window.astype(np.float32)) @ along_x.T)
    return np.asarray(image > 0.1 * image.max(), np.float32)


def _extended(vectors: Complex, trust: NDArray[np.float32]) -> Complex:
    """Vectors [y x coil] where they are trusted, and the smoothest continuation elsewhere.

    Minimises sum trust |u - v|^2 + a little |laplacian u|^2 on the coarse grid: one small linear system. The grid's
    edges are free: a periodic continuation would mix the coils of one side with those of the other.
    """
    ny, nx = trust.shape
    second = [scipy.sparse.diags_array([1.0, -2.0, 1.0], offsets=[0, 1, 2], shape=(n - 2, n)) for n in (ny, nx)]
    eye_y, eye_x = (scipy.sparse.eye_array(n) for n in (ny, nx))
    bending = scipy.sparse.vstack([scipy.sparse.kron(second[0], eye_x), scipy.sparse.kron(eye_y, second[1])])
    known = scipy.sparse.diags_array(trust.ravel().astype(np.float64) + 1e-9)
    solve = scipy.sparse.linalg.splu((known + 1e-2 * (bending.T @ bending)).tocsc()).solve
    right = trust.reshape(-1, 1) * vectors.reshape(ny * nx, -1).astype(np.complex128)
    smooth = solve(np.ascontiguousarray(right.real)) + 1j * solve(np.ascontiguousarray(right.imag))
    return _normalised(smooth.reshape(vectors.shape).astype(np.complex64))


@lru_cache(maxsize=16)
def spline(grid: int, n: int, *, around: bool) -> NDArray[np.float32]:
    """Matrix [n grid] of splines from `grid` positions to n: quintic and periodic with `around`, else cubic."""
    import scipy.interpolate  # 0.2 s of each process that builds; pairs of photographs need no splines

    if around:
        values = np.vstack([np.eye(grid), np.eye(grid)[:1]])
        curve = scipy.interpolate.make_interp_spline(np.arange(grid + 1), values, k=5, bc_type="periodic")
    else:
        curve = scipy.interpolate.make_interp_spline(np.arange(grid), np.eye(grid), k=3, bc_type="natural")
    return np.asarray(curve(np.arange(n) * grid / n), np.float32)


def _interpolated(values: NDArray[np.inexact], matrices: list[NDArray[np.float32]]) -> Complex:
    """[y x value] from one grid to another."""
    ny, nx, count = values.shape
    along_y = (matrices[0] @ values.reshape(ny, -1).view(np.float32)).view(values.dtype).reshape(-1, nx, count)
    result = np.matmul(matrices[1], np.ascontiguousarray(along_y).view(np.float32).reshape(len(along_y), nx, -1))
    return np.asarray(result.view(values.dtype))


def maps_of_coils(
    kspace: Complex, profile: NoiseProfile | None, version: int = SCAN_STAGES["maps"]
) -> tuple[Complex, tuple[str, ...]]:
    """Maps [coil y x] of the coils themselves, and notes: whiten k-space, compute maps by ESPIRiT, undo the whitening.

    Raises ValueError where the reference lines hold nothing above the noise.
    """
    reference = (min(24, kspace.shape[1]), min(24, kspace.shape[2]))
    if profile is None:
        plain = espirit(kspace, reference=reference, extend=True, version=version)
        return plain.maps[0], plain.notes
    white = espirit(whiten(kspace, profile), reference=reference, extend=True, sigma=1.0, version=version)
    if not white.maps.any():
        raise ValueError(NOISE_ALONE)
    maps = np.tensordot(np.linalg.inv(whitening_matrix(profile)), white.maps[0], axes=1)
    return np.asarray(maps / np.maximum(rss(maps), 1e-30), np.complex64), white.notes
