"""Complex Gaussian noise of known level; its signal-to-noise ratios are defined in `synth.snr`.

`sigma` is the standard deviation of the real part, and the same of the imaginary part. With a coil covariance Psi
(E[n n^H], scaled to trace 2 N_c) the noise is sigma times coloured noise, so E|n|^2 = 2 sigma^2 on average over
the coils for every covariance. The orthonormal FFT keeps white noise white and keeps its sigma (Parseval), so noise
may be drawn in image space and used in k-space, or the other way round.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..physics import ifftc, rss, sense_forward
from ..settings.spec import PositiveRange, Spec, draw_uniform
from ..snr import SnrDefinition
from ..storage.arrays import Stamp, load_array, stamp
from ..storage.place import place_of
from ..storage.whole import read_document, refuse_shortage
from .readout import Readout

BLOCK = 16384  # samples: the Box-Muller work arrays stay in the first-level caches


def complex_noise(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.complex64]:
    """White complex noise with standard deviation `sigma` in the real part, and the same in the imaginary part.

    Box and Muller 1958 on raw bits, r = sigma sqrt(-2 ln u), in blocks: three times faster than numpy's float32
    normals. u has 31 bits and is never 0, so |n| is at most 6.6 sigma; the angle has 32 bits.
    """
    noise = np.empty(int(np.prod(shape)), np.complex64)
    for start in range(0, noise.size, BLOCK):
        block = noise[start : start + BLOCK]
        bits: Any = rng.bit_generator.random_raw(block.size)
        words = bits.view(np.uint32)
        radius = (words[: block.size] >> np.uint32(1)).view(np.int32).astype(np.float32)
        radius *= np.float32(2.0**-31)
        radius += np.float32(2.0**-32)
        np.log(radius, out=radius)
        radius *= np.float32(-2.0 * sigma**2)
        np.sqrt(radius, out=radius)
        angle = words[block.size :].view(np.int32).astype(np.float32)
        angle *= np.float32(np.pi * 2.0**-31)
        np.multiply(np.cos(angle), radius, out=block.real)
        np.multiply(np.sin(angle), radius, out=block.imag)
    return noise.reshape(shape)


def covariance_factor(path: str, coils: int) -> NDArray[np.complex64]:
    """Lower Cholesky factor [coil coil] of the covariance in `path`, scaled to trace N_c per real part.

    The file is .npy (complex [coil coil]) or a JSON noise profile with ``covariance`` = {real, imag}.
    Complex noise with unit variance in each part, times this factor, has covariance Psi / mean sigma^2.
    """
    if not place_of(path).is_file():
        raise FileNotFoundError(f"noise.covariance {path} does not exist; write 'white' or the path of a profile")
    return _covariance_factor(path, stamp(path), coils)


@lru_cache(maxsize=8)
def _covariance_factor(path: str, version: Stamp, coils: int) -> NDArray[np.complex64]:
    psi = _read_covariance(path)
    if psi.dtype.kind not in "biufc":
        raise ValueError(f"noise.covariance {path} holds {psi.dtype}, not numbers")
    if psi.shape != (coils, coils):
        raise ValueError(f"noise.covariance {path} is {psi.shape}, coils.count is {coils}: need {coils}x{coils}")
    if not np.isfinite(psi).all():
        raise ValueError(f"noise.covariance {path} has entries that are NaN or infinite; measure it again")
    if not np.allclose(psi, psi.conj().T, rtol=1e-5, atol=1e-8 * np.abs(psi).max()):
        raise ValueError(f"noise.covariance {path} is not Hermitian; give E[n n^H]")
    try:
        if not np.trace(psi).real > 0:
            raise np.linalg.LinAlgError
        factor = np.linalg.cholesky(psi * (coils / np.trace(psi).real))
    except np.linalg.LinAlgError:
        raise ValueError(f"noise.covariance {path} is not positive definite; is a coil missing?") from None
    return factor.astype(np.complex64)


def _read_covariance(path: str) -> NDArray[np.complex128]:
    if path.endswith(".npy"):
        return np.asarray(load_array(path, "noise.covariance"), np.complex128)
    try:
        stored = json.loads(read_document(place_of(path)))["covariance"]
        return np.asarray(stored["real"]) + 1j * np.asarray(stored["imag"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        refuse_shortage(error)
        raise ValueError(
            f"noise.covariance {path} is not a noise profile; make one with `fathom calibrate`, or give a covariance "
            "[coil coil] as .npy"
        ) from None


class NoiseSpec(Spec):
    """``[noise]``: the SNR to reach, its definition, and the correlation between coils."""

    kind: Literal["gaussian", "none"] = Field(
        default="gaussian", description="none: no noise is added, and a pair from a scan has that of the scan"
    )
    snr: PositiveRange = Field(
        default=(20.0, 80.0), description="the SNR to reach, one number or a range that each pair draws from"
    )
    # Knoll 2019: "randomly selected level" between the two
    law: Literal["uniform", "log-uniform"] = Field(
        default="uniform", description="how an SNR is drawn from its range: uniformly, or uniformly in its logarithm"
    )
    definition: SnrDefinition = Field(default="rms", description="which SNR `snr` is: see the conventions")
    covariance: str = Field(default="white", description="'white', or the path of a covariance: .npy or profile .json")
    whiten: bool | None = Field(  # not given: not in the hash of the recipe
        default=None,
        description="photographs only: combine the coils so that the noise of `covariance` becomes white, as in pairs "
        "from scans, which are always whitened; the reference is then brighter where coils have less noise",
    )

    @property
    def is_white(self) -> bool:
        """Whether the noise of pairs is as strong in all coils, and does not correlate between them."""
        return self.covariance == "white" or bool(self.whiten)

    def received(self, maps: NDArray[np.complex64]) -> tuple[NDArray[np.complex64], NDArray[np.float32] | float]:
        """Maps [coil y x] of the coils that a pair has, and the factor [y x] by which they brighten its image.

        With `whiten` the coils are combined by W = L^-1, where L L^H is the covariance for a mean sigma of 1. Then
        W n is white of sigma 1, and W maps = (maps with unit norm) |W maps|: the norm is that factor.
        """
        if not self.whiten:
            return maps, 1.0
        factor = covariance_factor(self.covariance, len(maps)).astype(np.complex128)
        white = np.tensordot(np.linalg.inv(factor), maps, axes=1)
        gain = rss(white)
        return (white / gain).astype(np.complex64), gain.astype(np.float32)

    def draw_snr(self, rng: np.random.Generator) -> float:
        """Draw the SNR that the pair is to have; infinity without noise."""
        if self.kind == "none":
            return float("inf")
        if self.law == "uniform":
            return draw_uniform(rng, self.snr)
        return float(np.exp(draw_uniform(rng, (np.log(self.snr[0]), np.log(self.snr[1])))))

    def draw_unit(self, shape: tuple[int, int, int], rng: np.random.Generator) -> Iterable[NDArray[np.complex64]]:
        """Draw noise of sigma 1 with the covariance of this section, coil by coil: one array [y x] for each coil."""
        white = (complex_noise(shape[1:], 1.0, rng) for _ in range(shape[0]))
        if self.is_white:
            return white
        factor = covariance_factor(self.covariance, shape[0])
        return np.tensordot(factor, np.stack(list(white)), axes=1)

    def combined_variance(self, maps: NDArray[np.complex64]) -> float:
        """Mean over pixels of c^H Psi c, with Psi for unit sigma: the noise power left by coil combination."""
        if self.is_white:
            return 2.0  # sum |map|^2 = 1 and E|n|^2 = 2
        factor = covariance_factor(self.covariance, maps.shape[0])
        projected = factor.conj().T @ maps.reshape(maps.shape[0], -1)
        return 2.0 * float(np.mean(np.sum(np.abs(projected) ** 2, axis=0)))


def sigma_of_empty_rows(kspace: NDArray[np.complex64], readout: Readout) -> float:
    """Sigma of packed lines [coil y line], from the image rows that an oversampled readout fills with noise alone."""
    images = ifftc(kspace, (-2,))
    inside = readout.image_rows
    empty = np.concatenate([images[:, : inside.start], images[:, inside.stop :]], axis=1)
    return float(np.sqrt(np.mean(np.abs(empty.astype(np.complex128)) ** 2) / 2))


def sigma_of_residual(
    kspace: NDArray[np.complex64],
    target: NDArray[np.complex64],
    maps: NDArray[np.complex64],
    mask: NDArray[np.bool_],
    *,
    noisy: bool,
) -> tuple[float, float, NDArray[np.complex128]]:
    """Sigma of white noise n in k-space [coil y x], its relative standard error, and all noise, from y - P F C x.

    With a clean reference x the residual is P n. A noisy reference contains C^H F^H n, so that the residual is
    P (1 - F C C^H F^H) n. Because C C^H is a projection at every pixel (sum |map|^2 = 1), the variance of this residual
    in coil c is 2 sigma^2 (1 - mean |map_c|^2) at every sample. The noise is returned scaled to its full variance, as
    one row of samples.
    """
    residual = (kspace - sense_forward(target, maps, mask)).astype(np.complex128)
    sampled = np.broadcast_to(mask, kspace.shape)
    left = 1 - noisy * np.mean(np.abs(maps.astype(np.complex128)) ** 2, axis=(-2, -1))
    degrees = float(sampled[0].sum()) * float(left.sum())
    sigma = float(np.sqrt(np.sum(np.abs(residual) ** 2) / (2 * degrees)))
    return sigma, 0.5 / degrees**0.5, (residual / np.sqrt(left)[:, None, None])[sampled]
