"""Learning the noise of several coils from the samples of k-space themselves, undersampled or full.

Samples of one neighbourhood, in all coils, depend on each other linearly: Zhang et al., Magn Reson Med 66:1241, 2011;
Uecker et al. (ESPIRiT), Magn Reson Med 71:990, 2014. The vectors p [coil * position] of all neighbourhoods of one form
lie in a signal space, and noise alone is outside of it. A calibration matrix's small singular values are the noise's
power there; BART's `estvar` and Veraart et al., Magn Reson Med 76:1582, 2016, compare them with the Marchenko-Pastur
distribution. Here k-space is divided into tiles instead. The vectors v outside the signal space are learnt from all
samples that are no part of a tile, so they do not depend on the tile's noise, and there

    E[(v^H p)(v'^H p)^*] = v^H (Psi x I) v'

exactly for white noise of covariance Psi between coils; x is the Kronecker product with the positions. Psi is the
solution by least squares of this equation over the tiles at k-space's border, where the signal is weakest.

The equation does not depend on how the v are chosen if they hold no signal. How many hold none is not known: fractions
of all vectors are tried, and the largest for which one Psi explains all its vectors is used. Noise that a filter has
shaped, or samples that were computed from others (GRAPPA, masked images), are explained by no Psi, and are refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from .neighbourhoods import Neighbourhoods, outermost
from .noise_profile import whitening_of
from .noise_tiles import FRACTIONS, GROUPS, Tile, equations_of, tiles_of

MISFIT = 0.05  # relative difference of a group's standard deviation that is no longer explained
ROUNDS = 4  # of whitening with the Psi that was found
OUTERMOST = 0.04  # of the sampled rows, or columns, at each end of k-space

Complex = NDArray[np.complex128]


@dataclass(frozen=True, eq=False)
class SampledNoise:
    """Noise that was learnt from samples.

    Attributes
    ----------
    covariance
        Psi [coil coil].
    errors
        What each tile adds to the error of Psi [tile coil coil].
    whitened
        Psi [coil coil] of the samples after the last whitening; 2 I where that was exact.
    ratios, allowed
        Standard deviations [group] of vectors over those that Psi explains, and how far they may be from 1.
    vectors, fraction
        Number of vectors that were used, and their fraction of all.
    apart
        Relative difference between sigma from the used vectors and from about half as many.
    sides
        Sigma at k-space's corners and ends, relative to all.
    ends
        Strength of all samples, signal and noise, at the first and last rows and columns, relative to sigma.
    kurtosis
        Excess kurtosis of the samples outside the signal space.
    fitting
        Number of fractions that fit.
    aliases
        Number of places of the image that the samples of a neighbourhood fold into one.
    """

    covariance: Complex
    errors: Complex
    whitened: Complex
    ratios: NDArray[np.float64]
    allowed: float
    vectors: int
    fraction: float
    apart: float = 0.0
    sides: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    kurtosis: float = 0.0
    fitting: int = 0
    aliases: int = 1

    @property
    def fits(self) -> bool:
        """Whether one Psi explains all vectors."""
        return bool(np.abs(self.ratios - 1).max() < self.allowed)

    @property
    def sigma(self) -> float:
        """Square root of the mean of sigma^2 over coils."""
        return float(np.sqrt(max(np.trace(self.covariance).real, 0) / 2 / len(self.covariance)))

    @property
    def error(self) -> float:
        """Relative standard error of sigma."""
        traces = np.trace(self.errors, axis1=1, axis2=2).real
        power = np.trace(self.covariance).real
        return float(np.sqrt(np.sum(traces**2)) / 2 / power) if power > 0 else np.inf


def noise_of_samples(kspace: NDArray[np.complex64]) -> SampledNoise:
    """Learn the noise from one slice [coil y x], zero where it was not sampled.

    Raises CalibrationError where there are too few samples.
    """
    places, coils = Neighbourhoods.of(kspace), len(kspace)
    covariance = np.diag(np.mean(np.abs(outermost(kspace).astype(np.complex128)) ** 2, axis=1)).astype(np.complex128)
    for _ in range(ROUNDS):
        whitening = whitening_of(covariance)
        tiles = tiles_of(np.tensordot(whitening, kspace, axes=1).astype(np.complex64), places)
        trials = [_trial(tiles, coils, fraction, np.asarray(np.linalg.inv(whitening))) for fraction in FRACTIONS]
        best = min((trial for trial in trials if trial.fits), key=lambda trial: trial.error, default=trials[0])
        if not (best.sigma > 0 and np.trace(best.whitened).real > 0):
            raise CalibrationError("signal fills all coils and neighbourhoods; use a noise scan")
        covariance = _positive(best.covariance)
    half = trials[trials.index(best) // 2]
    return replace(
        best,
        covariance=_shrunk(covariance, best.errors),
        apart=abs(half.sigma / best.sigma - 1),
        sides=_sides(tiles, best),
        ends=_ends(np.tensordot(whitening, kspace, axes=1), best.whitened),
        kurtosis=float(np.mean([tile.kurtosis for tile in tiles])),
        fitting=sum(trial.fits for trial in trials),
        aliases=places.spacing[0] * places.spacing[1],
    )


def _trial(tiles: list[Tile], coils: int, fraction: float, back: Complex) -> SampledNoise:
    """The noise that a fraction of all vectors gives; `back` [coil coil] undoes the whitening."""
    own = equations_of(tiles, coils, fraction)
    psi, errors = own.solved()
    ratios, allowed = _ratios(tiles, psi, own.vectors), _allowed(tiles, own.vectors, coils)
    return SampledNoise(
        back @ psi @ back.conj().T, back @ errors @ back.conj().T, psi, ratios, allowed, own.vectors, fraction
    )


def _explained(tile: Tile, psi: Complex, count: int) -> NDArray[np.float64]:
    """Power [vector] v^H (Psi x I) v."""
    v = tile.vectors[:, :count].reshape(-1, len(psi), count)
    return np.asarray(np.einsum("icv,cd,idv->v", v.conj(), psi, v, optimize=True).real)


def _ratios(tiles: list[Tile], psi: Complex, count: int) -> NDArray[np.float64]:
    """Standard deviation [group] of groups of vectors, relative to that which Psi explains; inf where it is none."""
    have = np.sum([tile.places * np.diag(tile.power)[:count].real for tile in tiles], axis=0)
    need = np.sum([tile.places * _explained(tile, psi, count) for tile in tiles], axis=0)
    groups = np.array_split(np.arange(count), GROUPS)
    return np.array([np.sqrt(have[g].sum() / need[g].sum()) if need[g].sum() > 0 else np.inf for g in groups])


def _allowed(tiles: list[Tile], count: int, coils: int) -> float:
    """How far a group's ratio may be from 1: the misfit, and 3 standard errors.

    The sum of |v^H p|^2 over places has the relative variance n / (places vectors) at most, where n is the number of
    positions of a neighbourhood, because each sample is in n neighbourhoods.
    """
    positions = len(tiles[0].vectors) / coils
    numbers = sum(tile.places for tile in tiles) * count / GROUPS
    return MISFIT + 1.5 * (positions / numbers) ** 0.5


def _sides(tiles: list[Tile], found: SampledNoise) -> dict[str, float]:
    """Sigma at k-space's corners and ends, relative to all."""
    sides, count = {}, found.vectors
    for side in sorted({tile.side for tile in tiles}):
        own = [tile for tile in tiles if tile.side == side]
        have = sum(tile.places * float(np.trace(tile.power[:count, :count]).real) for tile in own)
        need = sum(tile.places * float(_explained(tile, found.whitened, count).sum()) for tile in own)
        sides[side] = (have / need) ** 0.5
    return sides


def _ends(white: NDArray[np.complexfloating], psi: Complex) -> dict[str, float]:
    """Strength of the samples in the outermost rows and columns of whitened k-space, relative to sigma."""
    sampled, found = np.asarray(white.any(axis=0)), {}
    for name, axis in (("y", 0), ("x", 1)):
        used = np.flatnonzero(sampled.any(axis=1 - axis))
        count = max(round(OUTERMOST * len(used)), 1)
        for end, places in (("start", used[:count]), ("end", used[-count:])):
            where = np.zeros_like(sampled)
            where[(places, slice(None)) if axis == 0 else (slice(None), places)] = True
            power = np.mean(np.abs(white[:, where & sampled].astype(np.complex128)) ** 2)
            found[f"{end} of {name}"] = float((power * len(psi) / np.trace(psi).real) ** 0.5)
    return found


def _positive(psi: Complex) -> Complex:
    """Psi with eigenvalues of at least a hundredth of their mean, relative to its diagonal."""
    scale = np.sqrt(np.maximum(np.diag(psi).real, 1e-3 * np.trace(psi).real / len(psi)))
    values, vectors = np.linalg.eigh(psi / scale / scale[:, None])
    return np.asarray((vectors * np.maximum(values, 0.01)) @ vectors.conj().T * scale * scale[:, None])


def _shrunk(psi: Complex, errors: Complex) -> Complex:
    """Psi with correlations drawn towards 0 as far as they are uncertain.

    Schaefer and Strimmer, Stat Appl Genet Mol Biol 4:32, 2005, their target D: the sum of variances of the entries off
    the diagonal, here from `errors` [tile coil coil], over the sum of their squares.
    """
    off = ~np.eye(len(psi), dtype=bool)
    scale = np.sqrt(np.diag(psi).real)
    uncertain, have = (float(np.sum(np.abs((a / scale / scale[:, None])[..., off]) ** 2)) for a in (errors, psi))
    return _positive(np.where(off, (1 - min(uncertain / max(have, 1e-30), 1.0)) * psi, psi))
