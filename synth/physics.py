"""The physics of a multi-coil Cartesian acquisition, written once for numpy arrays and torch tensors.

All transforms are centred and orthonormal: the zero frequency of an axis of N samples is at index N // 2, and
||F x|| = ||x||. With coil maps C, Fourier transform F and mask P (0 or 1), the forward model is E = P F C.

Where the object is wider than the field of view, a pixel shows two positions, and each coil sees the sum of both:
C x = sum_s C_s x_s over the map sets (soft SENSE, Uecker et al., Magn Reson Med 71:990, 2014). With `sets`, images are
[... set y x] and maps [... set coil y x].
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import scipy.fft

from .given import refuse_other_type, shown

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)
else:
    Array = TypeVar("Array")


def _fft_of(x: Any, axes: tuple[int, ...]) -> tuple[Any, dict[str, Any]]:
    """scipy.fft and the axes for numpy arrays; torch.fft and the dimensions for tensors."""
    if isinstance(x, np.ndarray):
        namespace, words = scipy.fft, {"axes": axes}
    else:
        torch = importlib.import_module("torch")  # whoever holds a tensor has imported it already
        refuse_other_type(x, torch.Tensor, "Fourier transforms take numpy arrays and torch tensors")
        namespace, words = torch.fft, {"dim": axes}
    if x.ndim < -min(axes):
        raise ValueError(f"a transform along the last {-min(axes)} axes needs as many; the array is {list(x.shape)}")
    return namespace, words


def fftc(x: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """Centred orthonormal Fourier transform of [... y x] along `axes`: X[k] = N^-1/2 sum_n x[n] e^(-2 pi i k n / N).

    k and n run from -(N // 2); for odd and even N alike.
    """
    ns, ax = _fft_of(x, axes)
    return ns.fftshift(ns.fftn(ns.ifftshift(x, **ax), norm="ortho", **ax), **ax)


def ifftc(x: Array, axes: tuple[int, ...] = (-1,)) -> Array:
    """Centred orthonormal inverse Fourier transform of [... y x] along `axes`; inverse and adjoint of `fftc`."""
    ns, ax = _fft_of(x, axes)
    return ns.fftshift(ns.ifftn(ns.ifftshift(x, **ax), norm="ortho", **ax), **ax)


def fft2c(image: Array) -> Array:
    """Centred orthonormal 2-D Fourier transform of an image [... y x] to k-space [... y x].

    Parameters
    ----------
    image
        Complex array or tensor [... y x]; index N // 2 of both axes is the origin, for odd and even N alike.

    Returns
    -------
    K-space [... y x] of the same kind, in the unit of the image: ||F x|| = ||x||.
    """
    return fftc(image, (-2, -1))


def ifft2c(kspace: Array) -> Array:
    """Centred orthonormal inverse 2-D Fourier transform of k-space [... y x] to an image [... y x].

    Parameters
    ----------
    kspace
        Complex array or tensor [... y x]; the zero frequency is at index N // 2 of both axes.

    Returns
    -------
    Image [... y x] of the same kind; inverse and adjoint of `fft2c`.
    """
    return ifftc(kspace, (-2, -1))


def _phase(k: np.ndarray, n: int) -> np.ndarray:
    """e^(2 pi i k (N // 2) / N) for integers k: exactly (-1)^k for even N."""
    if n % 2 == 0:
        return (1 - 2 * (k % 2)).astype(np.float32)
    return np.exp(2j * np.pi * (k * (n // 2) % n) / n).astype(np.complex64)


def centring(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Factors b [n] and a [n] that centre a transform without shifts: ``fftc(x)`` = a fft(b x) / sqrt(n).

    They follow from (k - c)(m - c) = k m - (k - c) c - c m for c = n // 2: b[m] = e^(2 pi i m c / n), and
    a[k] = e^(2 pi i (k - c) c / n). For even n they are real, 1 or -1.
    """
    k = np.arange(n)
    return _phase(k, n), _phase(k - n // 2, n)


def lines_along_y(spectra: np.ndarray, lines: np.ndarray, n: int) -> np.ndarray:
    """k-space [... y line] = ``fft2c(images)[..., lines]`` from images that are transformed along x without shifts.

    The spectra [... y line] are columns (lines - n // 2) mod n of ``fft(images)`` along x, of size `n`. They are
    overwritten.
    """
    rows = np.arange(spectra.shape[-2])
    spectra *= _phase(rows, rows.size)[:, None] * _phase(lines - n // 2, n)
    kspace: np.ndarray = scipy.fft.fft(spectra, axis=-2, norm="ortho", overwrite_x=True)
    kspace *= _phase(rows - rows.size // 2, rows.size)[:, None]
    return kspace


def coil_expand(image: Array, maps: Array, *, sets: bool = False) -> Array:
    """Coil images [... coil y x] of an image [... y x] seen through coil maps [... coil y x].

    With `sets`, of images [... set y x] and maps [... set coil y x], summed over the sets.
    """
    seen = image[..., None, :, :] * maps
    return seen.sum(-4) if sets else seen


def coil_combine(coil_images: Array, maps: Array, *, sets: bool = False) -> Array:
    """Image [... y x] from coil images [... coil y x]: sum_c conj(map_c) image_c, the adjoint of `coil_expand`.

    With `sets`, images [... set y x] with maps [... set coil y x]. Where sum |map|^2 = 1, and sets are orthogonal, this
    is the least-squares combination (Roemer et al. 1990) for white noise.
    """
    if sets:
        coil_images = coil_images[..., None, :, :, :]
    if isinstance(maps, np.ndarray):
        return np.vecdot(maps, coil_images, axis=-3)  # type: ignore[call-overload]
    return importlib.import_module("torch").linalg.vecdot(maps, coil_images, dim=-3)


def sense_forward(image: Array, maps: Array, mask: Array, *, sets: bool = False) -> Array:
    """Sampled k-space of an image seen by several coils: E x = P F C x.

    Parameters
    ----------
    image
        Complex [... y x].
    maps
        Coil maps [... coil y x].
    mask
        0 or 1, any shape that broadcasts to [... coil y x]: [x] for lines, [y x] for points.
    sets
        Whether the image is [... set y x] and the maps [... set coil y x].

    Returns
    -------
    K-space [... coil y x], zero where it was not sampled.

    Raises
    ------
    ValueError
        The image and the maps differ in rows, columns or sets, or the mask does not broadcast to k-space.
    """
    fits = maps.ndim >= 3 + sets and tuple(image.shape[-2:]) == tuple(maps.shape[-2:])
    if not fits or (sets and image.shape[-3] != maps.shape[-4]):
        axes = ("[... set y x]", "[... set coil y x]") if sets else ("[... y x]", "[... coil y x]")
        raise ValueError(f"the image {axes[0]} is {list(image.shape)}, and the maps {axes[1]} are {list(maps.shape)}")
    _refuse_misfitting_mask(mask, maps)
    return fft2c(coil_expand(image, maps, sets=sets)) * mask


def _refuse_misfitting_mask(mask: Any, maps: Any) -> None:
    """Raise ValueError for a mask that does not broadcast to [coil y x], or that numpy cannot multiply with."""
    wanted = [*maps.shape[-3:]]
    try:
        fits = [*np.broadcast_shapes(tuple(mask.shape[-3:]), wanted)] == wanted
    except (AttributeError, ValueError):
        fits = False
    if not fits or (isinstance(maps, np.ndarray) and not isinstance(mask, np.ndarray)):
        told = f"{type(mask).__name__} {list(mask.shape)}" if hasattr(mask, "shape") else shown(mask)
        kind = " an ndarray, as the maps are," if isinstance(maps, np.ndarray) else ""
        raise ValueError(
            f"a mask is{kind} [x] for lines, [y x] for points, or broadcasts to [coil y x], here {wanted}; got {told}"
        )


def sense_adjoint(kspace: Array, maps: Array, mask: Array, *, sets: bool = False) -> Array:
    """Zero-filled, coil-combined image of sampled k-space: E^H y = C^H F^H P y.

    Parameters
    ----------
    kspace
        Complex [... coil y x].
    maps
        Coil maps [... coil y x].
    mask
        0 or 1, any shape that broadcasts to [... coil y x].
    sets
        Whether the maps are [... set coil y x], and the image [... set y x].

    Returns
    -------
    Image [... y x]. It is not divided by the share of samples: R-fold undersampled data give about 1 / R of the image.

    Raises
    ------
    ValueError
        K-space and the maps differ in coils, rows or columns, or the mask does not broadcast to k-space.
    """
    if tuple(kspace.shape[-3:]) != tuple(maps.shape[-3:]):
        raise ValueError(
            f"k-space [... coil y x] is {list(kspace.shape)}, and the maps [... coil y x] are {list(maps.shape)}; they "
            "need the same coils, rows and columns"
        )
    _refuse_misfitting_mask(mask, maps)
    return coil_combine(ifft2c(kspace * mask), maps, sets=sets)


def sense_normal(image: Array, maps: Array, mask: Array, *, sets: bool = False) -> Array:
    """Apply E^H E = C^H F^H P F C to an image.

    Parameters
    ----------
    image
        Complex [... y x].
    maps
        Coil maps [... coil y x].
    mask
        0 or 1, any shape that broadcasts to [... coil y x].
    sets
        Whether the maps are [... set coil y x], and the image [... set y x].

    Returns
    -------
    Image [... y x].
    """
    return sense_adjoint(sense_forward(image, maps, mask, sets=sets), maps, mask, sets=sets)


def rss(coil_images: Array) -> Array:
    """Root sum of squares over the coil axis: [... coil y x] to a real [... y x]."""
    return coil_combine(coil_images, coil_images).real ** 0.5


def centre_block(n: int, width: int) -> slice:
    """The `width` positions around index n // 2; for even widths N//2 - w/2 <= k < N//2 + w/2."""
    return slice(n // 2 - width // 2, n // 2 - width // 2 + width)
