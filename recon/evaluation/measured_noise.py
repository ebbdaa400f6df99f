"""The noise of a pair, measured from its arrays and compared with its stored numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.stages.noise import sigma_of_residual

DEVIATIONS = 6.0  # a stored number may differ by so many standard deviations of the sampling error
SHOWN = 2000  # samples of a pair's noise that are kept
ROUNDING = 1e-3  # relative error due to single precision, where k-space is much larger than its noise


@dataclass(frozen=True, eq=False)
class Measured:
    """Sigma and image SNR of a pair, as stored and as measured, and how far these may differ by chance."""

    pair: int
    sigma: float
    sigma_found: float
    snr: float | None  # None for pairs with lesions, whose stored SNR is that of the image without lesions
    snr_found: float
    error: float  # one standard deviation of sigma_found, relative
    pixels: int  # of the reference
    normal: NDArray[np.float64]  # some of the noise's real and imaginary parts over the stored sigma: std 1
    dead: tuple[int, ...] = ()  # coils whose k-space holds zeros alone

    @property
    def problem(self) -> str | None:
        """The first stored number that does not agree with the arrays, as a sentence; None if all agree.

        The SNR of a pair with a noisy reference depends on the noise in that reference. The power of this noise and
        its product with the image are known only on average: over N pixels they add
        (1/2 + 1/SNR + 1/(2 SNR^2)) / sqrt(N) to the SNR's error.
        """
        if self.dead:
            return f"pair {self.pair}: the k-space of coil {', '.join(map(str, self.dead))} holds zeros alone"
        allowed = DEVIATIONS * self.error + ROUNDING
        claims = [("sigma", self.sigma, self.sigma_found, allowed)]
        if self.snr is not None:
            draw = DEVIATIONS * (0.5 + 1 / self.snr + 0.5 / self.snr**2) / self.pixels**0.5
            claims.append(("snr_image", self.snr, self.snr_found, allowed + draw))
        for what, claimed, found, within in claims:
            if not abs(found / claimed - 1) <= within:
                return f"pair {self.pair}: its stored {what} is {claimed:.5g}, but its arrays give {found:.5g}"
        return None


def measured(item: dict[str, NDArray[Any]], snr: float | None, *, noisy: bool) -> Measured:
    """Measure sigma and image SNR of a `PairDataset` item given as arrays; `noisy` says if its reference is noisy."""
    arrays = item["masked_kspace"], item["target"], item["sens_maps"], item["mask"]
    sigma, error, noise = sigma_of_residual(*arrays, noisy=noisy)
    power = float(np.mean(np.abs(item["target"].astype(np.complex128)) ** 2)) - 2 * sigma**2 * noisy
    found = (max(power, 0) / 2) ** 0.5 / sigma
    claimed = float(item["sigma"])
    some = noise[:: max(1, noise.size // SHOWN)] / claimed
    normal = np.concatenate([some.real, some.imag])
    dead = tuple(np.flatnonzero(~item["masked_kspace"].any(axis=(-2, -1))).tolist())
    return Measured(int(item["pair_id"]), claimed, sigma, snr, found, error, item["target"].size, normal, dead)
