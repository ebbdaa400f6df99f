"""Truncation of k-space: what a scanner measures of an object that is finer than its matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..physics import centre_block, fft2c, ifft2c


def truncated(image: NDArray[np.float32], matrix: tuple[int, int]) -> NDArray[np.float32]:
    """The real image [y x] of a matrix whose k-space is the centre of a finer image's.

    Photographs that are made smaller as pictures are have little left at the highest frequencies of the matrix, since
    filters against aliasing fall off before them. A scanner cuts k-space off instead: frequencies up to the last line
    are whole, and edges ring (Gibbs; in MR: Czervionke et al., AJR 151:349, 1988). Values are those of the fine image:
    the mean stays, and a pixel i of the result lies at the pixel f i of an image that is f times finer. Of an even
    number of lines the first, at -N/2, has no partner, and its imaginary part is left out.
    """
    kspace = fft2c(image)
    cut = kspace[tuple(centre_block(n, m) for n, m in zip(image.shape, matrix, strict=True))]
    scale = np.sqrt(np.prod(matrix) / image.size)  # orthonormal transforms: sqrt(N) of each
    return np.asarray(ifft2c(cut).real * scale, np.float32)
