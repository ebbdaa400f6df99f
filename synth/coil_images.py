"""What is done to a scan's coil images before anything else: moves that keep noise white, and virtual coils."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from .images import SourceRejectedError
from .target import TargetSpec

Images = NDArray[np.complex64]


@dataclass(frozen=True)
class Moved:
    """Quarter turns, flips, a shift and a rotation, drawn: each is unitary, so noise stays white, and none blurs.

    They act on the coil images together, before maps are made of them: coils and anatomy move as one, and k-space stays
    what a scanner would measure (Fabian et al., MRAugment, ICML 2021: augment where the physics is the same).
    """

    quarter_turns: int = 0
    flip_y: bool = False
    flip_x: bool = False
    shift_y: int = 0
    shift_x: int = 0
    degrees: float = 0.0

    @classmethod
    def draw(cls, draw: np.random.Generator, target: TargetSpec, matrix: tuple[int, int]) -> Moved:
        """Draw what a recipe's target section asks for; only square images are turned by 90 degrees."""
        turns = int(draw.integers(4)) if target.rotate and matrix[0] == matrix[1] else 0
        flips = (bool(draw.integers(2)), bool(draw.integers(2))) if target.flip else (False, False)
        shift_y, shift_x = (int(draw.integers(-int(target.shift * n), int(target.shift * n) + 1)) for n in matrix)
        degrees = float(draw.uniform(-target.degrees, target.degrees)) if target.degrees else 0.0
        return cls(turns, *flips, shift_y, shift_x, degrees)

    def apply(self, images: Images) -> Images:
        """Move images [... y x]; what leaves on one side comes back on the other, as in a scan."""
        for _ in range(self.quarter_turns):
            images = mirrored(np.swapaxes(images, -1, -2), -2)
        for axis, flip, shift in ((-2, self.flip_y, self.shift_y), (-1, self.flip_x, self.shift_x)):
            if flip:
                images = mirrored(images, axis)
            if shift:
                images = np.roll(images, shift, axis)
        return rotated(images, self.degrees) if self.degrees else images


def rotated(images: Images, degrees: float) -> Images:
    """Complex images [... y x] turned about index N // 2, from the axis x towards y; pixels are taken as square.

    Three shears (Unser, Thevenaz, Yaroslavsky, IEEE Trans Image Process 4:1371, 1995), each a shift of every row or
    column by a phase in Fourier space: unitary, undone by the opposite angle, and what leaves on one side comes back on
    the other. For at most 45 degrees.
    """
    angle = np.deg2rad(degrees)
    for axis, slope in ((-1, -np.tan(angle / 2)), (-2, np.sin(angle)), (-1, -np.tan(angle / 2))):
        images = _sheared(images, axis, slope)
    return images


def _sheared(images: Images, axis: int, slope: float) -> Images:
    """Every line along `axis` moved by `slope` times its distance from the centre of the other axis."""
    n, m = images.shape[axis], images.shape[-3 - axis]
    ramp = np.exp(-2j * np.pi * slope * np.outer(np.arange(m) - m // 2, scipy.fft.fftfreq(n)))  # [line frequency]
    spectrum = scipy.fft.fft(images, axis=axis)
    return np.asarray(scipy.fft.ifft(spectrum * (ramp if axis == -1 else ramp.T), axis=axis), np.complex64)


def mirrored(images: Images, axis: int) -> Images:
    """Images flipped about index N // 2, where the centre is."""
    return np.roll(np.flip(images, axis), 1 - images.shape[axis] % 2, axis)


def virtual_coils(images: Images, count: int, how: Literal["svd", "geometric"] = "svd") -> Images:
    """Virtual coils [count y x] of coil images [coil y x]; rows of a transform are orthonormal: noise stays white.

    ``svd``: the strongest singular directions between coils (Buehrer et al., Magn Reson Med 57:1131, 2007).
    ``geometric``: those of each position along the fully sampled readout y, turned so that neighbours agree (Zhang et
    al., Magn Reson Med 69:571, 2013): more signal in as few coils. Raises SourceRejectedError where there are fewer.
    """
    if count > len(images):
        raise SourceRejectedError(f"has {len(images)} coils, coils.count asks for {count}; lower it")
    if count == len(images):
        return images
    if how == "svd":
        flat = images.reshape(len(images), -1)
        return np.tensordot(_strongest(flat @ flat.conj().T, count), images, axes=1)
    rows = np.moveaxis(images, 1, 0)  # [y coil x]
    near = np.stack([_around(rows, y) for y in range(len(rows))])
    # Where a position is empty, its strongest directions would be its strongest noise: there the average decides.
    transforms = _strongest(near + near.mean(axis=0), count)  # [y virtual coil]
    for y in range(1, len(rows)):  # Procrustes: the unitary matrix that brings each to the one before
        u, _, vh = np.linalg.svd(transforms[y - 1] @ transforms[y].conj().T)
        transforms[y] = (u @ vh) @ transforms[y]
    return np.ascontiguousarray(np.moveaxis(transforms.astype(np.complex64) @ rows, 0, 1))


def _around(rows: Images, y: int) -> NDArray[np.complex64]:
    """Sum over five readout positions around y of image image^H [coil coil]: one alone may be empty."""
    window = rows[max(y - 2, 0) : y + 3]
    return np.einsum("ycx,ydx->cd", window, window.conj())


def _strongest(gram: NDArray[np.complexfloating], count: int) -> NDArray[np.complex64]:
    """The `count` strongest eigenvectors as rows [... virtual coil] of matrices [... coil coil]."""
    _, vectors = np.linalg.eigh(gram.astype(np.complex128))
    return np.swapaxes(vectors[..., ::-1][..., :count].conj(), -1, -2).astype(np.complex64)
