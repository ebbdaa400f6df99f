"""Noise amplification by parallel imaging: g-maps from the aliasing of regular masks, or from replicas for any mask.

g is the loss of SNR beyond that due to fewer samples: the std of the image's noise over sqrt(R) sigma. For regularised
SENSE (see `recon.models.sense`) g^2 = diag((A + mu)^-1 A (A + mu)^-1), which is at most lam^2; for mu = 0 it is
diag(A^-1) diag(A) (Pruessmann et al., Magn Reson Med 42:952, 1999).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

AT_ONCE = 20  # replicas that are reconstructed together
Maps = NDArray[np.complexfloating]


def alias_shifts(mask: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.complex128]]:
    """Shifts [n 2] (y, x) of the aliases of a regular mask [y x], the first (0, 0), and weights [n] of modulus 1.

    The shifts are the peaks of the mask's point spread function. Raises ValueError for a mask that is not regular:
    masks with reference lines and random masks alias everywhere; use `replica_g` for them.
    """
    spread = np.fft.ifft2(np.fft.ifftshift(mask)) * mask.size / mask.sum()
    peaks = np.argwhere(np.abs(spread) > 1e-6)
    weights = spread[tuple(peaks.T)]
    if len(peaks) * int(mask.sum()) != mask.size or not np.allclose(np.abs(weights), 1, atol=1e-6):
        raise ValueError("the mask is not regular, so its aliasing has no blocks; use replica_g")
    return peaks, weights


def block_g(
    maps: Maps, mask: NDArray[np.bool_], lam: float | None = None, covariance: NDArray[np.complexfloating] | None = None
) -> NDArray[np.float64]:
    """The g-map [y x] of coil maps [coil y x] and a regular mask [x] or [y x]: 1-D, 2-D or CAIPI.

    With lam None, SENSE is unregularised. Voxels that alias onto each other couple in blocks
    A_ij = sum_c conj(map_c(r_i)) map_c(r_j) w(r_i - r_j). With a noise `covariance` (E[n n^H]), the maps are whitened
    first. g is 0 where all maps are 0.
    """
    shape = maps.shape[1:]
    shifts, weights = alias_shifts(np.broadcast_to(mask, shape))
    number = {tuple(s): w for s, w in zip(shifts.tolist(), weights, strict=True)}
    white = maps.astype(np.complex128)
    if covariance is not None:
        white = np.tensordot(np.linalg.inv(np.linalg.cholesky(covariance / 2)), white, axes=1)
    aliases = np.stack([np.roll(white, tuple(-s for s in shift), axis=(1, 2)) for shift in shifts])  # [alias coil y x]
    blocks = np.einsum("icyx,jcyx->yxij", aliases.conj(), aliases)
    for i, a in enumerate(shifts):
        for j, b in enumerate(shifts):
            blocks[..., i, j] *= number[tuple(int((p - q) % n) for p, q, n in zip(a, b, shape, strict=True))]
    mu = 0.0 if lam is None else 0.25 / lam**2
    scale = np.real(np.trace(blocks, axis1=-2, axis2=-1))[..., None, None] / len(shifts)
    identity = np.eye(len(shifts))
    inverse = np.linalg.inv(blocks + (mu + 1e-10 * scale + 1e-30) * identity)
    product = inverse @ blocks @ inverse
    power = blocks[..., 0, 0].real
    g = np.sqrt(np.maximum(product[..., 0, 0].real, 0) * (power if lam is None else 1.0))
    return np.where(power > 1e-12, g, 0.0)


def replica_g(
    reconstruct: Callable[[Tensor], Tensor], maps: Tensor, mask: Tensor, replicas: int = 400, seed: int = 0
) -> Tensor:
    """G [y x] of any linear reconstruction of k-space [batch coil y x], from `replicas` of noise alone (Robson 2008).

    `maps` [1 coil y x] gives the shape, and `mask` [1 1 1|y x] gives R. Each value has a relative error of
    1 / (2 sqrt(replicas)).
    """
    draw = torch.Generator(device="cpu").manual_seed(seed)
    total = torch.zeros(maps.shape[-2:], dtype=torch.float64)
    for first in range(0, replicas, AT_ONCE):
        shape = (2, min(AT_ONCE, replicas - first), *maps.shape[1:])
        noise = torch.complex(*torch.randn(shape, generator=draw, dtype=maps.real.dtype)).to(maps.device)
        total += (reconstruct(noise * mask).abs().double().cpu() ** 2).sum(0)
    acceleration = 1 / mask.double().mean().item()
    return (total / replicas / 2 / acceleration).sqrt()
