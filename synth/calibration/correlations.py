"""Correlations of neighbouring samples, and what those of k-space's lines say about noise in the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Complex = NDArray[np.complex64]


def correlation(a: Complex, b: Complex) -> float:
    """Real part of the correlation of two sets of samples [coil sample], relative to the power of the first."""
    first, second = a.astype(np.complex128), b.astype(np.complex128)
    return float(np.sum((first * second.conj()).real) / np.sum(np.abs(first) ** 2))


def lag_along_x(values: Complex, chosen: NDArray[np.bool_]) -> float:
    """Correlation of neighbouring chosen samples [y x] along the last axis; 0 where none are neighbours."""
    both = chosen[:, 1:] & chosen[:, :-1]
    return correlation(values[:, :, 1:][:, both], values[:, :, :-1][:, both]) if both.any() else 0.0


def is_weaker_at_sides(images: Complex, chosen: NDArray[np.bool_], lag: float) -> bool:
    """Whether noise at chosen pixels [y x] of images [coil y x] falls towards the sides as that of correlated lines.

    The noise of lines that correlate by `lag` with both neighbours, and with no others, has the power 1 + 2 lag c in
    the image, c = cos(2 pi x / n): the transform of the autocorrelation (Wiener and Khinchin). Its slope over c,
    relative to its mean, is 2 lag / (1 + 2 lag mean(c)). That of even noise, beside signal in the lines, is 0. The
    answer is the one that is nearer.
    """
    n = images.shape[-1]
    power = np.mean(np.abs(images[:, chosen]) ** 2, axis=0, dtype=np.float64)
    c = np.broadcast_to(np.cos(2 * np.pi * (np.arange(n) - n // 2) / n), chosen.shape)[chosen]
    spread = float(np.var(c))
    slope = float(np.mean((c - c.mean()) * power)) / max(spread, 1e-12) / float(power.mean())
    return slope > lag / max(1 + 2 * lag * float(c.mean()), 0.1)
