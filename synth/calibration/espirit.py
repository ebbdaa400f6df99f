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

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.interpolate
import scipy.sparse
import scipy.sparse.linalg
from numpy.typing import NDArray

from ..physics import centre_block, rss
from ..version import SCAN_STAGES
from .map_phase import TINY, phasor, principal, referenced, smooth_phase
from .noise_profile import NoiseProfile, whiten, whitening_matrix

Complex = NDArray[np.complex64]
SPACING = (8, 4)  # approximate pixels between the positions of the coarse and of the fine grid
LEAST = (12, 24)  # fewest positions along an axis; the matrices are trigonometric polynomials of degree kernel - 1
ITERATIONS = 8


@dataclass(frozen=True, eq=False)
class EspiritMaps:
    """Coil maps, and how well the reference lines agree with them at each pixel.

    Attributes
    ----------
    maps
        [set coil y x] with sum |map|^2 = 1 over the coils of each set.
    eigenvalues
        [set y x]: near 1 in the object, lower in the air.
    notes
        What limits the maps: a vortex of the phase in the object that no reference avoids.
    """

    maps: Complex
    eigenvalues: NDArray[np.float32]
    notes: tuple[str, ...] = ()

    def cropped(self, threshold: float) -> Complex:
        """First set [coil y x], zero where its eigenvalue is below the threshold."""
        return np.where(self.eigenvalues[0] >= threshold, self.maps[0], np.complex64(0))

    def soft(self, threshold: float) -> Complex:
        """First set [coil y x] times a weight that falls from 1 at the threshold to 0 at half of it, as sin^2."""
        ramp = np.clip(2 * self.eigenvalues[0] / threshold - 1, 0, 1)
        return np.asarray(self.maps[0] * np.sin(ramp * np.float32(np.pi / 2)) ** 2, np.complex64)


def espirit(
    kspace: Complex,
    shape: tuple[int, int] | None = None,
    *,
    reference: tuple[int, int] = (24, 24),
    kernel: int = 6,
    threshold: float = 0.02,
    sets: int = 1,
    extend: bool = False,
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
    version
        1 gives the maps of corpora that have no version of the stage "maps", whose phase may have vortices.

    Returns
    -------
    The maps. Their phase is as smooth as possible, and has no vortex in the object. It begins relative to the virtual
    coil that the object's centre sees, in which the coil that is strongest there has phase 0.

    Raises
    ------
    ValueError
        The reference is too small for the kernel, or not fully sampled.
    """
    shape = shape or (kspace.shape[1], kspace.shape[2])
    block = _reference_block(kspace, reference, kernel)
    signal = signal_space(block, kernel, threshold)
    lags = lag_coefficients(signal, len(kspace), kernel)
    grids = [tuple(max(n // spacing, least) for n in shape) for spacing, least in zip(SPACING, LEAST, strict=True)]
    coarse = matrices_at(lags, _positions(shape, grids[0]))
    fine = matrices_at(lags, _positions(shape, grids[1]))
    values, vectors = np.linalg.eigh(coarse)  # [y x coil], [y x coil coil], ascending
    to_fine = [_spline(a, b, around=not extend) for a, b in zip(grids[0], grids[1], strict=True)]
    to_pixels = [_spline(a, n, around=not extend) for a, n in zip(grids[1], shape, strict=True)]
    objects = [_object(block, _positions(shape, grid)) for grid in grids[: 1 + extend]]
    notes: list[str] = []
    maps = np.empty((sets, len(kspace), *shape), np.complex64)
    eigenvalues = np.empty((sets, *shape), np.float32)
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
        maps[k] = np.moveaxis(_normalised(_interpolated(refined, to_pixels)), -1, 0)
        eigenvalues[k] = np.clip(_interpolated(value[..., None], to_pixels)[..., 0].real, 0, None)
    return EspiritMaps(maps, eigenvalues, tuple(notes))


def _start(
    values: NDArray[np.float32], vectors: Complex, signal: NDArray[np.float32], version: int
) -> tuple[Complex, int]:
    """Vectors [y x coil] of the coarse grid with a smooth phase, and how many vortices that has in the object."""
    certainty = np.clip(values, 1e-3, 1) ** 8
    if version == 1:
        return smooth_phase(vectors, certainty, principal(vectors, certainty)), 0
    inside = (signal > 0) & (_trust(values) > 0)
    return referenced(vectors, certainty, inside if inside.any() else np.ones_like(inside))


def _reference_block(kspace: Complex, reference: tuple[int, int], kernel: int) -> Complex:
    size = [min(r, n) for r, n in zip(reference, kspace.shape[1:], strict=True)]
    if min(size) <= kernel:
        raise ValueError(
            f"maps cannot be computed from {size[0]}x{size[1]} reference samples with kernels of {kernel}x{kernel}; "
            "sample more reference lines"
        )
    block = kspace[(slice(None), *(centre_block(n, r) for n, r in zip(kspace.shape[1:], size, strict=True)))]
    if not block.any(axis=(0, 1)).all():
        raise ValueError(f"the centre {size[0]}x{size[1]} of k-space is not fully sampled; lower the reference")
    return block


def signal_space(block: Complex, kernel: int, threshold: float) -> Complex:
    """Orthonormal basis [coil*kernel*kernel rank] of the patches of a reference block [coil y x]."""
    windows = np.lib.stride_tricks.sliding_window_view(block, (kernel, kernel), axis=(1, 2))
    patches = np.moveaxis(windows, 0, 2).reshape(-1, len(block) * kernel**2).astype(np.complex64)  # [patch, value]
    patches /= max(float(np.abs(patches).max()), 1e-30)
    wide = len(patches) < patches.shape[1]
    gram = patches.conj() @ patches.T if wide else patches.T @ patches.conj()
    squares, vectors = np.linalg.eigh(gram)
    kept = squares > threshold**2 * squares[-1]
    basis = vectors[:, kept]
    if wide:  # singular vectors of the patches from those of their transpose
        basis = (patches.T @ basis) / np.sqrt(squares[kept])
    return np.asarray(basis, np.complex64)


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


def _positions(shape: tuple[int, ...], grid: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
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
def _spline(grid: int, n: int, *, around: bool) -> NDArray[np.float32]:
    """Matrix [n grid] of splines from `grid` positions to n: quintic and periodic with `around`, else cubic."""
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
    kspace: NDArray[np.complex64], profile: NoiseProfile | None, version: int = SCAN_STAGES["maps"]
) -> NDArray[np.complex64]:
    """Maps [coil y x] of the coils themselves: whiten k-space, compute maps by ESPIRiT, and undo the whitening."""
    reference = (min(24, kspace.shape[1]), min(24, kspace.shape[2]))
    if profile is None:
        return espirit(kspace, reference=reference, extend=True, version=version).maps[0]
    white = espirit(whiten(kspace, profile), reference=reference, extend=True, version=version).maps[0]
    maps = np.tensordot(np.linalg.inv(whitening_matrix(profile)), white, axes=1)
    return np.asarray(maps / np.maximum(rss(maps), 1e-30), np.complex64)
