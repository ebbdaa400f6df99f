"""Fewer, virtual coils that keep most of the signal, while noise stays white."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import SourceRejectedError

Images = NDArray[np.complex64]


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
