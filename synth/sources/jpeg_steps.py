"""Whether a picture's cosine coefficients come in steps, as a JPEG leaves them, whatever it was saved as since.

JPEG cuts a picture into blocks of 8x8 and rounds each coefficient of their cosine transform to a multiple of a step q,
which depends on the coefficient's frequency. Decoded and rounded to whole grey values, a coefficient is c = q m + e,
with whole m and a small e: pixels rounded by themselves give e a standard deviation s = 1 / sqrt(12) (the transform is
orthonormal), and grey values from three rounded colours give less. Then, for normal e,

    mean of cos(2 pi c / q) = exp(-2 (pi s / q)^2),

which is 0.66 for q = 2, 0.94 for q = 5, and only 0.19 for q = 1. Without steps it is what the smooth distribution of
coefficients gives, and that is the same on every grid of blocks: so the mean is compared with those on other grids.
That the coefficients of a former JPEG have such a comb is the finding of Fan and de Queiroz (IEEE Trans Image Process
2003;12:230); they estimate q by maximum likelihood, which is not needed here.

The grid must begin at the picture's corner: of a picture that was cropped since, or resized, nothing is found.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 8  # side of JPEG's blocks, in pixels
SIDE = 384  # of the part that is looked at, in pixels from the corner
FINE = 4  # bins of a histogram per grey value
REACH = 64  # grey values on each side of 0 that it covers
ORDERS = 5  # coefficients (u, v) with 0 < u + v < ORDERS: higher ones are mostly 0
SLOWEST = 3  # in periods per 2 REACH grey values: steps of 43; the fastest is a step of 2
FEWEST = 400  # blocks, as of 160x160 pixels
OTHERS = ((1, 3), (2, 6), (3, 1), (4, 5), (5, 2), (6, 7), (7, 4), (3, 6))  # corners (y, x) of other grids


def step_score(image: NDArray[np.floating]) -> float:
    """How much more than on any of the `OTHERS` the coefficients of blocks from the corner keep to steps.

    Of each frequency the mean cosine of `combs` is taken, less the largest on another grid, at the step at which that
    is most; the score is the mean over frequencies. It is near 0 without steps; of fewer blocks than
    `FEWEST`, chance alone would make it large, and it is 0.

    Parameters
    ----------
    image
        Grey values [y x] in 0 ... 1, of which 1 is 255.
    """
    if (image.shape[0] // BLOCK) * (image.shape[1] // BLOCK) < FEWEST:
        return 0.0
    grey = np.asarray(image[: SIDE + BLOCK, : SIDE + BLOCK], np.float32) * np.float32(255)
    others = np.max([combs(grey[y:, x:]) for y, x in OTHERS], axis=0)
    return float(np.mean(np.max(combs(grey) - others, axis=1)))


def combs(grey: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean of cos(2 pi c / q) [frequency step] over blocks that begin at the corner of grey values [y x] in 0 ... 255.

    Steps are q = 2 `REACH` / j, j from `SLOWEST` to `REACH`. Coefficients beyond `REACH` count as 0.
    """
    ny, nx = (min(n, SIDE) // BLOCK for n in grey.shape)
    blocks = grey[: ny * BLOCK, : nx * BLOCK].reshape(ny, BLOCK, nx, BLOCK)
    half = np.tensordot(blocks, _cosines(), axes=(3, 1))  # [block y block v]
    coefficients = np.tensordot(half, _cosines(), axes=(1, 1))  # [block block v u]
    chosen = [(u, v) for u in range(ORDERS) for v in range(ORDERS - u) if u + v > 0]
    size = 2 * REACH * FINE
    histograms = np.zeros((len(chosen), size))
    for row, (u, v) in zip(histograms, chosen, strict=True):
        bins = np.rint(coefficients[..., v, u].ravel() * FINE).astype(np.intp)
        bins = bins[np.abs(bins) < size // 2]
        row += np.bincount(bins % size, minlength=size)  # 0 comes first, as the transform wants it
    return np.fft.rfft(histograms, axis=1).real[:, SLOWEST : REACH + 1] / (ny * nx)


def _cosines() -> NDArray[np.float32]:
    """Rows of the orthonormal cosine transform [frequency sample], the lowest `ORDERS` of `BLOCK`."""
    k, n = np.arange(ORDERS)[:, None], np.arange(BLOCK)
    rows = np.sqrt(np.where(k == 0, 1, 2) / BLOCK) * np.cos(np.pi * k * (2 * n + 1) / (2 * BLOCK))
    return rows.astype(np.float32)
