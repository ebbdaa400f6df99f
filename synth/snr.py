"""The signal-to-noise ratios by name, and how they depend on sigma.

f is the clean acquired k-space, n its number of complex samples over all coils, sigma the standard deviation of the
noise in the real part and the same in the imaginary part; x is the coil-combined image, c the coil maps, Psi the coil
covariance of noise of sigma 1:

- ``rms``        sqrt(mean |f|^2) / (sqrt(2) sigma): signal rms over noise rms, both complex.
- ``knoll``      (||f||_2 / n) / (2 sigma): Knoll 2019 as printed, mu = ||f||_2 / length(f) and
                 sigma_est = std(Re) + std(Im). It falls as 1 / sqrt(n), so that only ratios of it can be compared
                 between data of different size.
- ``knoll-rms``  (||f||_2 / sqrt(n)) / (2 sigma): the same with sqrt(n) in place of n; it equals rms / sqrt(2).
- ``image``      sqrt(mean |x|^2) / sqrt(mean c^H (sigma^2 Psi) c): coil-combined image signal over
                 coil-combined image noise, fully sampled, over the field of view.

Knoll takes f with its noise, which raises the value by the factor sqrt(1 + 1 / rms^2); here f is clean.
"""

from __future__ import annotations

from typing import Literal

SnrDefinition = Literal["rms", "knoll", "knoll-rms", "image"]


def snr_per_sigma(
    power: float, samples: int, image_power: float, combined_variance: float
) -> dict[SnrDefinition, float]:
    """Every SNR times sigma: divide a value by sigma to get the SNR, or by an SNR to get the sigma that gives it.

    `power` is mean |f|^2 over `samples` complex k-space samples, `image_power` mean |x|^2 over the field of view.
    """
    rms = power**0.5
    return {
        "rms": rms / 2**0.5,
        "knoll": rms / samples**0.5 / 2.0,
        "knoll-rms": rms / 2.0,
        "image": (image_power / combined_variance) ** 0.5,
    }
