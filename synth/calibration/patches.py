"""Patches of the reference lines: their block of k-space, the subspace in which they lie, and the noise's own patches.

`synth.calibration.espirit` says what ESPIRiT does with the subspace.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..physics import centre_block

Complex = NDArray[np.complex64]
MARGIN = 1.2  # noise alone exceeds its edge by at most 12 % with several coils; with one, by 20 % in 3 of 1,000 draws


def reference_block(kspace: Complex, reference: tuple[int, int], kernel: int) -> Complex:
    """The centre [coil y x] of k-space; raises ValueError where it is too small or not fully sampled."""
    size = [min(r, n) for r, n in zip(reference, kspace.shape[1:], strict=True)]
    if min(size) <= kernel:
        raise ValueError(
            f"maps cannot be computed from {size[0]}x{size[1]} reference samples with kernels of {kernel}x{kernel}; "
            "sample more reference lines"
        )
    block = kspace[(slice(None), *(centre_block(n, r) for n, r in zip(kspace.shape[1:], size, strict=True)))]
    if not (block.any(axis=(0, 1)).all() and block.any(axis=(0, 2)).all()):
        raise ValueError(
            f"the centre {size[0]}x{size[1]} of k-space, from which maps are made, is not fully sampled; sample it, or "
            "lower `reference` to what is"
        )
    return block


def noise_edge(count: int, size: int) -> float:
    """The largest singular value of `count` patches of `size` values of noise, whose parts have standard deviation 1.

    It is the upper edge of Marchenko and Pastur's distribution (Math USSR Sb 1:457, 1967) for values of variance 2:
    sqrt(2) (sqrt(count) + sqrt(size)). Values of patches that overlap are not independent; the largest singular value
    of such noise lies within 12 % of the edge all the same (one coil: within 20 %, in 997 of 1,000 draws).
    """
    return float(np.sqrt(2) * (np.sqrt(count) + np.sqrt(size)))


def signal_space(block: Complex, kernel: int, threshold: float, sigma: float = 0.0) -> Complex:
    """Orthonormal basis [coil*kernel*kernel rank] of the patches of a reference block [coil y x].

    Singular vectors are kept if their value is above `threshold` times the largest one, and above what noise of the
    standard deviation `sigma` gives alone (0: not known). Where no vector is kept, the rank is 0.
    """
    windows = np.lib.stride_tricks.sliding_window_view(block, (kernel, kernel), axis=(1, 2))
    patches = np.moveaxis(windows, 0, 2).reshape(-1, len(block) * kernel**2).astype(np.complex64)  # [patch, value]
    scale = max(float(np.abs(patches).max()), 1e-30)
    patches /= scale
    wide = len(patches) < patches.shape[1]
    gram = patches.conj() @ patches.T if wide else patches.T @ patches.conj()
    squares, vectors = np.linalg.eigh(gram)
    kept = squares > threshold**2 * squares[-1]
    if sigma > 0:
        kept &= squares > (MARGIN * noise_edge(*patches.shape) * sigma / scale) ** 2
    basis = vectors[:, kept]
    if wide:  # singular vectors of the patches from those of their transpose
        basis = (patches.T @ basis) / np.sqrt(squares[kept])
    return np.asarray(basis, np.complex64)
