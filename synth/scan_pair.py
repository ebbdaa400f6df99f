"""The second main path: from a slice of a scan to a training pair, with the phase and the coils of the scan."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from .calibration.noise_only import is_doubted
from .calibration.noise_profile import NoiseProfile, load_profile, whiten
from .calibration.scan_noise import calibrate
from .errors import CalibrationError, SourceRejectedError
from .pair import Pair
from .physics import fft2c, ifft2c, rss
from .recipe import Recipe
from .rng import rng
from .scans.scan import Kspace, Scan
from .snr import snr_per_sigma
from .sources.crimes import SourceFinding
from .stages.augmentation import Moved
from .stages.coil_estimate import EspiritSpec
from .stages.mask import Mask
from .stages.noise import complex_noise
from .stages.virtual_coils import virtual_coils
from .storage.arrays import Stamp, stamp
from .version import SCAN_STAGES

Images = NDArray[np.complex64]
DOUBTED = "sigma of its scan is in doubt: `fathom calibrate` says why, and noise.covariance takes a better profile"


def fitted(images: Images, matrix: tuple[int, int], fit: str) -> Images:
    """Coil images [coil y x], cropped around the centre to the matrix; raises SourceRejectedError if that fails."""
    have = images.shape[-2:]
    if fit == "native" or have == matrix:
        return images
    if fit == "crop" and min(h - m for h, m in zip(have, matrix, strict=True)) >= 0:
        y, x = (slice(h // 2 - m // 2, h // 2 - m // 2 + m) for h, m in zip(have, matrix, strict=True))
        return images[..., y, x]
    remedy = (
        "'native', or a smaller target.matrix" if fit == "crop" else "'native' or 'crop': scans are not interpolated"
    )
    raise SourceRejectedError(
        f"a scan of {have[0]}x{have[1]} cannot be brought to {matrix[0]}x{matrix[1]} with target.fit = '{fit}'; "
        f"use target.fit = {remedy}"
    )


def pair_from_scan(
    recipe: Recipe,
    kspace: Kspace,
    scan: Scan,
    number: int,
    index: int,
    findings: tuple[SourceFinding, ...] = (),
    stages: Mapping[str, int] = SCAN_STAGES,
) -> Pair:
    """Make pair `index` of a recipe from k-space [coil y x] of slice `number` of a scan, with versions of the `stages`.

    The steps, in order: whiten; crop; flip, shift and rotate; compress to virtual coils; draw the mask; add the noise
    that is missing to reach the wanted SNR; compute maps from the noisy reference lines. The reference image is
    sum conj(map) image, complex, as in Knoll 2019 (not the root of the sum of squares); with several map sets it is
    [set y x], one such image for each. Everything is divided by the largest magnitude of the reference image, which is
    the root of the sum of squares over its sets.
    """
    seed, coils = recipe.seed, recipe.coils
    assert isinstance(coils, EspiritSpec)
    profile, doubts = _profile(recipe, scan, number, stages.get("noise", 1))
    white = kspace if profile is None else _whitened(recipe, kspace, profile)  # sigma 1 from here on, where it is known
    matrix = white.shape[-2:] if recipe.target.fit == "native" else recipe.target.matrix[0]
    images = fitted(ifft2c(white), matrix, recipe.target.fit)
    moved = Moved.draw(rng(seed, "moved", index), recipe.target, images.shape[-2:])
    clean = fft2c(virtual_coils(moved.apply(images), coils.count or len(images), coils.compression))
    mask = recipe.sampling.draw(rng(seed, "sampling", index), clean.shape[-2:])
    own = 0.0 if profile is None else 1.0
    sigma, wanted, per_sigma = _sigma(recipe, clean, mask, own, index)
    added = np.sqrt(max(sigma**2 - own**2, 0.0))
    noisy = clean + complex_noise(clean.shape, added, rng(seed, "noise", index)) if added > 0 else clean
    total = max(sigma, own)
    chosen, notes = coils.estimate(noisy, mask, total, stages.get("maps", 1))
    target = np.sum(chosen.conj() * ifft2c(noisy if recipe.target.reference == "noisy" else clean), axis=-3)
    scale = _largest(target)
    known = total > 0  # where the noise of a scan cannot be learnt, sigma and SNR are unknown, not 0
    numbers = {
        **{"sigma": total / scale if known else np.nan, "sigma_added": added / scale, "scale": scale},
        **({"snr_wanted": wanted} if known else {}),
        **({f"snr_{name.replace('-', '_')}": v / total for name, v in per_sigma.items()} if known else {}),
        **{"acceleration": mask.acceleration, "acceleration_net": mask.net_acceleration, **mask.drawn},
        **{"maps_index": index, "max_value": 1.0, "fit_turned": 0.0, "fit_resized": 1.0},
        **moved.numbers(),
        **({"moved_degrees": moved.degrees} if recipe.target.degrees else {}),  # older recipes' pairs stay as they were
    }
    unit = np.float32(1 / scale)
    kept = mask if recipe.kspace == "packed" else Mask(np.ones_like(mask.sampled), 1.0)
    packed = np.asarray(kept.pack(noisy) * unit, np.complex64)
    target = np.asarray(target * unit, np.complex64)
    maps = np.ascontiguousarray(chosen)
    return Pair(index, scan.sha256, packed, mask, index, target, numbers, maps, findings, (*doubts, *notes))


def _largest(target: Images) -> float:
    scale = float((np.abs(target) if target.ndim == 2 else rss(target)).max())
    if not (np.isfinite(scale) and scale > 0):
        raise SourceRejectedError(
            f"the largest magnitude of its reference image is {scale:g}, and must be finite and above 0; lower "
            "coils.crop"
        )
    return scale


def _sigma(recipe: Recipe, kspace: Kspace, mask: Mask, own: float, index: int) -> tuple[float, float, dict[str, float]]:
    """Sigma to reach, the wanted SNR, and every SNR times sigma, for the signal power without the scan's own noise."""
    sampled = kspace[..., mask.sampled].astype(np.complex128)
    power = max(float(np.mean(np.abs(sampled) ** 2)) - 2 * own**2, 0.0)
    whole = max(float(np.mean(np.abs(kspace.astype(np.complex128)) ** 2)) - 2 * own**2, 0.0)
    per_sigma = {str(k): v for k, v in snr_per_sigma(power, sampled.size, whole * len(kspace), 2.0).items()}
    if recipe.noise.kind == "none":
        return own, (per_sigma[recipe.noise.definition] / own if own > 0 else 0.0), per_sigma
    wanted = recipe.noise.draw_snr(rng(recipe.seed, "snr", index))
    return per_sigma[recipe.noise.definition] / wanted, wanted, per_sigma


def _whitened(recipe: Recipe, kspace: Kspace, profile: NoiseProfile) -> Kspace:
    """Whitened k-space; raises SourceRejectedError where the profile cannot be that of this scan."""
    try:
        white = whiten(kspace, profile)
    except CalibrationError as error:
        raise SourceRejectedError(f"{error} (noise.covariance = {recipe.noise.covariance})") from None
    power = float(np.mean(np.abs(white.astype(np.complex128)) ** 2))
    if power <= 2.1:  # noise alone has power 2, and its level is known to a few percent
        if recipe.noise.covariance == "white":
            raise SourceRejectedError("its k-space holds noise alone; leave it out")
        raise SourceRejectedError(
            f"its k-space is weaker than noise.covariance says that its noise is (sigma {(power / 2) ** 0.5:.2g} after "
            f"whitening, instead of 1): noise.covariance = {recipe.noise.covariance} is not of this scan"
        )
    return white


def _profile(recipe: Recipe, scan: Scan, number: int, version: int) -> tuple[NoiseProfile | None, tuple[str, ...]]:
    """The scan's noise, from the recipe's profile or measured, and a note where it is in doubt.

    The profile is None where it is not needed and cannot be learnt.
    """
    try:
        if recipe.noise.covariance != "white":
            return _stored_profile(recipe.noise.covariance, stamp(recipe.noise.covariance)), ()
        found = _measured(scan, number, version)
    except CalibrationError as error:
        if recipe.noise.kind == "none" and recipe.noise.covariance == "white":
            return None, ()
        raise SourceRejectedError(f"{error}; give noise.covariance, or noise.kind = 'none'") from None
    return found, ((DOUBTED,) if version >= 2 and is_doubted(found) else ())


@lru_cache(maxsize=4)
def _stored_profile(path: str, version: Stamp) -> NoiseProfile:
    return load_profile(path)


@lru_cache(maxsize=8)
def _measured(scan: Scan, number: int, version: int) -> NoiseProfile:
    """Version 1 has no checks; none has "samples", which would take undersampled scans for whole ones."""
    return calibrate(scan, number, checked=version >= 2, samples=False)
