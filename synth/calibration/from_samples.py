"""The noise profile of a scan from its sampled positions alone, or the reason why they do not give it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError
from ..physics import fft2c, ifft2c
from .noise_profile import NoiseProfile
from .noise_tiles import FRACTIONS
from .sampled_noise import SampledNoise, noise_of_samples

STUDENT = 2.13  # 97.5 % point of Student's t of 15 degrees of freedom: 16 parts of k-space
LEFT = 0.015  # of sigma: what signal that is left adds where tiles agree, as benchmarks/sampled_noise.py finds it
SCATTER = 4.0  # standard errors: signal that is left adds as much as it scatters between 16 tiles, sqrt(16) errors
APART = 0.1  # relative difference of two estimates that is refused
SIDES = 0.05, 0.2  # relative difference between parts of k-space that is told, and that is refused
WEAK_END = 0.12  # how much weaker than sigma samples with signal may be at an end of k-space
FEW = 4  # of the fractions that fit; fewer are told
WIDE, WIDEST = 0.03, 0.25  # half width of the interval that is told, and that is refused
CLASSES = (2, 3, 4)  # accelerations whose lines are compared with those between them
FAR = 0.3  # of the sides: distance from k-space's centre of the lines that are compared
UNEQUAL = 0.1  # relative difference of sigma between them that is refused
LEAST_ROWS = 16  # of which the middle half may be tried alone
HEAVY = 0.3  # excess kurtosis that is told

SHAPED = (
    "neighbouring samples correlate in the background or at the edge, by signal or because the noise is correlated: if "
    "it is, sigma is up to 15 % too low"
)


def profile_of_samples(kspace: NDArray[np.complex64], source: str = "", *, shaped: bool = False) -> NoiseProfile:
    """The noise of one slice [coil y x] of at least two coils, zero where it was not sampled.

    Where one covariance does not explain the samples and each line was sampled along all of y, the noise may fall off
    at the readout's ends by the receiver's filter: then the middle half of the readout is tried. `shaped` says that
    another place of the scan looked as if a filter had shaped its noise: then no difference within k-space is allowed,
    and a note says what cannot be seen here.

    Raises CalibrationError where noise and signal cannot be told apart, or where estimates disagree.
    """
    if len(kspace) < 2:
        raise CalibrationError("one coil does not tell noise from signal")
    box = _box(kspace)
    notes: list[str] = []
    _refuse_filled(box)
    try:
        found = noise_of_samples(box)
        _refuse_shaped(found)
    except CalibrationError:
        sampled = np.asarray(box.any(axis=0))
        lines = np.asarray(sampled.any(axis=0))
        rows = box.shape[1]
        if not sampled[:, lines].all() or rows < LEAST_ROWS:
            raise
        middle = fft2c(ifft2c(box)[:, rows // 4 : rows // 4 + rows // 2])
        middle[..., ~lines] = 0
        found = noise_of_samples(np.ascontiguousarray(middle))
        _refuse_shaped(found, FEW)
        notes.append("the noise differs along the readout: only its middle half was used")
    if shaped:
        _refuse_shaped(found, FEW)
        notes.append(SHAPED)
    _refuse_apart(found, shaped)
    return _profile(found, notes, source)


def _profile(found: SampledNoise, notes: list[str], source: str) -> NoiseProfile:
    apart, chance = max(found.sides.values()) / min(found.sides.values()) - 1, 2 * STUDENT * found.error
    if apart > SIDES[0] + chance:
        told = ", ".join(f"{value:.2f} at its {side}" for side, value in found.sides.items())
        notes.append(f"sigma differs between parts of k-space ({told}), by signal or a filter")
    if found.kurtosis > HEAVY:
        notes.append(f"excess kurtosis {found.kurtosis:.2f}, so not Gaussian: is there interference in the noise?")
    if found.fraction == FRACTIONS[0] or found.fitting < FEW:
        notes.append("few samples are free of signal, or the noise is correlated: sigma may be some per cent off")
    coils = len(found.covariance)
    if found.aliases >= coils:
        notes.append(
            f"undersampling folds {found.aliases} places of the image into one, with {coils} coils: sigma is much too "
            "high if the object fills the image"
        )
    trace, norm = np.trace(found.covariance).real, np.linalg.norm(found.covariance)
    widths = (STUDENT * found.error, SCATTER * found.error, found.apart / 2, LEFT, max(apart - chance, 0) / 2)
    half = float(np.linalg.norm(widths))
    if half > WIDEST:
        raise CalibrationError(f"sigma would be uncertain by {100 * half:.0f} %; use a noise scan")
    if half > WIDE:
        notes.append(f"sigma is uncertain by {100 * half:.0f} %, because signal fills most directions between coils")
    samples = max(round(0.25 / found.error**2 / float(trace**2 / norm**2)), 1)
    return NoiseProfile(found.covariance, "samples", samples, 0.0, found.kurtosis, source, tuple(notes), half)


def _box(kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """The part of k-space around its centre that holds all samples."""
    sampled = np.asarray(kspace.any(axis=0))
    cuts = []
    for axis in (0, 1):
        n, used = sampled.shape[axis], np.flatnonzero(sampled.any(axis=1 - axis))
        reach = int(max(n // 2 - used[0], used[-1] - n // 2))
        cuts.append(slice(max(n // 2 - reach, 0), n // 2 + reach + 1))
    return np.ascontiguousarray(kspace[:, cuts[0], cuts[1]])


def _refuse_shaped(found: SampledNoise, least: int = 2) -> None:
    """Raise CalibrationError where no white noise explains the samples."""
    if not found.fits or found.fitting < least:
        worst = found.ratios[np.argmax(np.abs(found.ratios - 1))]
        raise CalibrationError(
            f"no noise that is white along y and x explains the samples (a part of them is {worst:.2f} times as "
            "strong): signal fills all coils, or a filter, mask or interpolation shaped the noise; use a noise scan"
        )


def _refuse_apart(found: SampledNoise, shaped: bool) -> None:
    """Raise CalibrationError where the estimates of parts of k-space, or of parts of the vectors, disagree."""
    end, least = min(found.ends.items(), key=lambda item: item[1])
    if least < 1 - WEAK_END:
        raise CalibrationError(
            f"the samples at the {end} of k-space are {least:.2f} times as strong as the noise elsewhere, by a filter; "
            "use a noise scan"
        )
    if found.apart > APART:
        raise CalibrationError(f"two estimates differ by {100 * found.apart:.0f} %, by signal; use a noise scan")
    limit = SIDES[0] + 2 * STUDENT * found.error if shaped else SIDES[1]
    if max(found.sides.values()) > (1 + limit) * min(found.sides.values()):
        told = ", ".join(f"{value:.2f} at its {side}" for side, value in found.sides.items())
        raise CalibrationError(
            f"sigma differs between parts of k-space ({told}), by signal or a filter; use a noise scan"
        )


def _refuse_filled(kspace: NDArray[np.complex64]) -> None:
    """Raise CalibrationError where every n-th line differs in strength: the lines between were computed (GRAPPA)."""
    for name, power in (("row", kspace.swapaxes(1, 2)), ("line", kspace)):
        level = np.abs(power).astype(np.float64).mean(axis=(0, 1))  # [line]
        far = np.abs(np.arange(len(level)) - len(level) // 2) > FAR * len(level)
        if not level.all():
            continue  # nothing was filled
        for n in CLASSES:
            if len(level) <= 2 * n:
                continue  # too few lines to compare
            window = np.convolve(np.ones(n), np.ones(1) if n % 2 else [0.5, 0.5]) / n  # a period; a slope has no effect
            local = np.log(level) - np.convolve(np.log(level), window, "same")
            inner = far & (np.arange(len(level)) >= n) & (np.arange(len(level)) < len(level) - n)
            strengths = [local[inner & (np.arange(len(level)) % n == first)] for first in range(n)]
            if min(len(one) for one in strengths) < 2:
                continue
            means = [float(np.mean(one)) for one in strengths]
            chance = 4 * max(float(np.std(one, ddof=1)) / len(one) ** 0.5 for one in strengths)
            if max(means) - min(means) > UNEQUAL + chance:
                raise CalibrationError(
                    f"every {n}. {name} of k-space is {np.exp(max(means) - min(means)):.2f} times as strong as others: "
                    "the others were computed (as by GRAPPA); use a noise scan"
                )
