"""The main path: from a photo to a training pair. To understand the project, read this file first."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .physics import rss
from .process import one_blas_thread
from .recipe import Recipe
from .rng import rng
from .settings.spec import draw_uniform
from .snr import snr_per_sigma
from .sources.crimes import SourceFinding
from .sources.photos import Photo
from .stages.coil_cache import map_cache
from .stages.coil_estimate import EspiritSpec, share_missed
from .stages.mask import Mask
from .stages.noise import NoiseSpec
from .stages.readout import Readout
from .stages.signal import Acquisition
from .stages.wrapping import draw_image_size
from .stages.zero_filling import ZeroFilling
from .version import SCAN_STAGES

Image = NDArray[np.complex64]


@dataclass(frozen=True, eq=False)
class Pair:
    """Undersampled noisy k-space, and the image that a reconstruction should give back.

    Attributes
    ----------
    index
        Its number in its recipe.
    source_sha256
        sha256 of the source file.
    kspace
        Packed: [coil y line], or [coil point] for masks of points; all of it if the recipe has ``kspace = "full"``.
    mask
        Which lines [x] or points [y x] are sampled.
    maps_index
        The map set that it uses.
    target
        The reference [y x], complex; [set y x] where the pair has several map sets (`coils.espirit_sets`).
    numbers
        Every drawn and measured number, by name.
    maps
        The pair's own maps [coil y x] or [set coil y x], estimated from its reference lines, as those of scans and with
        `coils.estimated` are; None where pairs share map sets.
    findings
        Signs of earlier processing of the source, such as ``jpeg``.
    notes
        What limits its maps, in words.
    """

    index: int
    source_sha256: str
    kspace: NDArray[np.complex64]
    mask: Mask
    maps_index: int
    target: NDArray[np.complex64]
    numbers: dict[str, Any]
    maps: NDArray[np.complex64] | None = None
    findings: tuple[SourceFinding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """The arrays that a corpus stores: k-space, mask, target, and the pair's own maps where it has them."""
        own = () if self.maps is None else (self.maps,)
        return (self.kspace, self.mask.sampled, self.target, *own)

    def digest(self) -> str:
        """sha256 of everything in the pair."""
        return pair_digest(self.index, self.source_sha256, self.arrays, self.numbers)


def pair_digest(index: int, source_sha256: str, arrays: Sequence[NDArray[Any]], numbers: dict[str, Any]) -> str:
    """sha256 over a pair's identity, arrays (little-endian, C order) and numbers."""
    shapes = " ".join(str(array.shape) for array in arrays)
    digest = hashlib.sha256(f"{index} {source_sha256} {shapes}\n".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    for name in sorted(numbers):
        digest.update(name.encode() + np.asarray(numbers[name], "<f8").tobytes())
    return digest.hexdigest()


def matrix_of(recipe: Recipe, index: int) -> tuple[int, int]:
    """The matrix [y x] of pair `index`."""
    if len(recipe.target.matrix) == 1:
        return recipe.target.matrix[0]
    return recipe.target.draw_matrix(rng(recipe.seed, "matrix", index))


def pair_from_image(recipe: Recipe, photo: Photo, index: int, stages: Mapping[str, int] = SCAN_STAGES) -> Pair:
    """Make pair `index` of a recipe from a photo: the same arguments give the same pair on any worker.

    It is the same to the last bit on processors of one kind with the same libraries. Other processors round the last
    digits of single precision differently; `fathom verify` allows for that. BLAS is held to one thread: its sums would
    otherwise depend on the number of cores. Noise is drawn on all of k-space; a noisy reference contains the same
    noise, coil-combined. With `coils.estimated`, `stages` says by which version of the stage "maps" they are estimated.
    """
    with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):  # overflow is checked for at the end
        return _pair_from_image(recipe, photo, index, stages.get("maps", 1))


def _pair_from_image(recipe: Recipe, photo: Photo, index: int, maps_version: int) -> Pair:
    seed, coils, matrix = recipe.seed, recipe.coils, matrix_of(recipe, index)
    assert not isinstance(coils, EspiritSpec)  # 'espirit' is for scans alone
    readout = recipe.target.readout(matrix)
    size = draw_image_size(recipe.target.wrap, matrix, rng(seed, "wrap", index))  # the matrix, or wider

    magnitude, fitting = recipe.target.apply(photo.image, size, rng(seed, "target", index))
    phasor, phase_numbers = _phasor(recipe, index, magnitude)

    maps_index = int(rng(seed, "maps", index).integers(coils.sets))
    maps, gain = _received(recipe, maps_index, size)  # [coil y x], [y x] or 1
    image = magnitude * gain * phasor  # [y x]
    mask = recipe.sampling.draw(rng(seed, "sampling", index), (readout.samples, matrix[1]))
    acquisition, drawn = _acquisition(recipe, index, maps, mask, readout)
    clean = acquisition.signal(image)
    heard = recipe.target.reference == "noisy" and not acquisition.wraps  # the reference contains the noise, too
    kspace, combined_noise = acquisition.noise(_noise(recipe, acquisition, index), maps if heard else None)

    wanted_snr = recipe.noise.draw_snr(rng(seed, "snr", index))
    given = (clean, kspace, acquisition.reference(image), combined_noise if heard else None)
    levels = _levels(recipe.noise, wanted_snr, acquisition, mask, *given)
    sigma = levels["sigma"]

    lesions: dict[str, float] = {}
    if recipe.target.lesions is not None:  # after sigma, which is that of the image without lesions
        changed, lesions = recipe.target.lesions.insert(magnitude, rng(seed, "lesions", index))
        added = (changed - magnitude) * gain * phasor
        image, clean = image + added, clean + acquisition.signal(added)

    target = acquisition.reference(image) + sigma * combined_noise
    kspace *= sigma
    kspace += clean
    kspace = acquisition.finish(kspace)
    peak = float(np.abs(target).max())
    _refuse_beyond_single_precision(index, sigma, peak, kspace)
    numbers = {
        **levels,
        **{"acceleration": mask.acceleration, "acceleration_net": mask.net_acceleration, **mask.drawn},
        **{"maps_index": maps_index, "max_value": peak, **fitting.numbers()},
        **phase_numbers,
        **lesions,
        **drawn,
    }
    pair = Pair(index, photo.sha256, kspace, mask, maps_index, target, numbers, findings=photo.findings)
    return pair if coils.estimated is None else _estimated(pair, recipe, acquisition, image, maps_version)


def _estimated(pair: Pair, recipe: Recipe, acquisition: Acquisition, image: Image, maps_version: int) -> Pair:
    """The pair as a scan's would be: its maps are found in its noisy reference lines, and combine its reference.

    A scan has no other maps, so its reference is sum conj(d) (c x + n), with the found maps d in place of the true ones
    c (Roemer et al., Magn Reson Med 16:192, 1990): where they miss a part of c it is darker, and it has their phase. A
    clean one is without n. The SNRs stay those with the true maps. These are not stored: they are those of set
    ``true_maps_index`` of the recipe.
    """
    coils, sigma = recipe.coils, pair.numbers["sigma"]
    assert not isinstance(coils, EspiritSpec)
    assert coils.estimated is not None
    found, notes = coils.estimated.estimate(acquisition.unpacked(pair.kspace), pair.mask, sigma, maps_version)
    target = acquisition.reference(image, found)
    if recipe.target.reference == "noisy":
        target += sigma * acquisition.noise(_noise(recipe, acquisition, pair.index), found)[1]  # the same draw
    numbers = {
        **pair.numbers,
        "maps_index": pair.index,
        "true_maps_index": pair.maps_index,
        "missed_by_maps": share_missed(found, np.stack(list(acquisition.coil_images(image)))),
        "max_value": float((np.abs(target) if target.ndim == 2 else rss(target)).max()),
    }
    return replace(pair, maps_index=pair.index, target=target, numbers=numbers, maps=found, notes=notes)


def _phasor(recipe: Recipe, index: int, magnitude: NDArray[np.float32]) -> tuple[Image, dict[str, Any]]:
    """What makes the magnitude [y x] complex: the phase, and that of fat; and the numbers that were drawn."""
    phase = recipe.phase.draw(rng(recipe.seed, "phase", index))
    phasor = phase.on((magnitude.shape[0], magnitude.shape[1]))
    if recipe.fat is None:
        return phasor, phase.numbers()
    fat = recipe.fat.draw(rng(recipe.seed, "fat", index))
    return phasor * fat.factor(magnitude), {**phase.numbers(), **fat.numbers()}


def _noise(recipe: Recipe, acquisition: Acquisition, index: int) -> Iterable[NDArray[np.complex64]]:
    """The noise spectra [y x] of a pair, of sigma 1, coil by coil."""
    return recipe.noise.draw_unit(acquisition.shape, rng(recipe.seed, "noise", index))


def _acquisition(
    recipe: Recipe, index: int, maps: NDArray[np.complex64], mask: Mask, readout: Readout
) -> tuple[Acquisition, dict[str, float]]:
    """What is acquired of a pair, and the numbers that were drawn for it."""
    kept, weights, filling = mask if recipe.kspace == "packed" else Mask(np.ones_like(mask.sampled), 1.0), None, None
    numbers: dict[str, float] = {} if recipe.target.wrap is None else {"wrap": maps.shape[2] / mask.sampled.shape[-1]}
    if recipe.echo_train is not None:
        train = recipe.echo_train.draw(rng(recipe.seed, "echo train", index))
        numbers |= train.numbers()
        weights = train.weights(mask.sampled.shape[-1]) if train.decay > 0 else None
    if recipe.target.zero_filled is not None:
        drawn = ZeroFilling(draw_uniform(rng(recipe.seed, "zero filling", index), recipe.target.zero_filled))
        numbers |= drawn.numbers()
        filling = drawn if drawn.fraction < 1 else None
    return Acquisition(maps, kept, readout, weights, filling), numbers


def _received(
    recipe: Recipe, maps_index: int, matrix: tuple[int, int]
) -> tuple[NDArray[np.complex64], NDArray[np.float32] | float]:
    """The maps of the coils that a pair has, and how much brighter they make its image."""
    coils = recipe.coils
    assert not isinstance(coils, EspiritSpec)  # 'espirit' is for scans alone
    maps, gain = recipe.noise.received(map_cache.get(coils, recipe.seed, maps_index, matrix))
    return maps, gain * map_cache.shading(coils, recipe.seed, maps_index, matrix)


def _levels(
    spec: NoiseSpec,
    wanted_snr: float,
    acquisition: Acquisition,
    mask: Mask,
    signal: NDArray[np.complex64],
    noise: NDArray[np.complex64],
    image: Image,
    combined_noise: Image | None,
) -> dict[str, float]:
    """Sigma that gives the wanted SNR, and every SNR as measured with the drawn noise, in k-space and in the image.

    `signal` and `noise` (of sigma 1) are the k-space that is kept, and the SNR refers to what the mask samples of it;
    `image` [y x] is the reference without noise, `combined_noise` [y x] the noise of a noisy one. Samples that are
    filled with zeros do not count.
    """
    acquired = slice(None) if acquisition.mask is mask else mask.sampled.ravel()
    signal, noise = signal[..., acquired], noise[..., acquired]
    share, whole = (acquisition.measured_share(m) for m in (mask, Mask(np.ones_like(mask.sampled), 1.0)))
    per_sigma = snr_per_sigma(
        power=_mean_power(signal) / share,
        samples=round(signal.size * share),
        image_power=_mean_power(image),
        combined_variance=spec.combined_variance(acquisition.maps) * whole,
    )
    sigma = per_sigma[spec.definition] / wanted_snr
    measured = sigma * (_mean_power(noise) / share / 2) ** 0.5
    snrs = {f"snr_{name.replace('-', '_')}": value / measured for name, value in per_sigma.items() if sigma > 0}
    if combined_noise is not None and sigma > 0:
        snrs["snr_image"] = (_mean_power(image) / _mean_power(combined_noise)) ** 0.5 / sigma
    return {"sigma": sigma, "sigma_measured": measured, "snr_wanted": wanted_snr, **snrs}


def _refuse_beyond_single_precision(index: int, sigma: float, peak: float, kspace: NDArray[np.complex64]) -> None:
    if not np.isfinite([peak, sigma, _mean_power(kspace)]).all():
        raise ValueError(
            f"pair {index}: its values exceed the range of single precision (sigma {sigma:g}, largest magnitude of the "
            f"target {peak:g}); set noise.snr and phase.amplitude to values that occur in scans"
        )


def unit_noise(
    recipe: Recipe, draw: np.random.Generator, shape: tuple[int, int, int], mask: Mask
) -> NDArray[np.complex64]:
    """Noise of sigma 1 as it lies in a pair's k-space, for acquired k-space of a shape [coil y x].

    With the generator ``rng(seed, "noise", index)`` and a pair's own mask (all positions, where k-space is kept in
    full), it is that pair's noise over its sigma.
    """
    sampled = np.empty(mask.sampled_shape(*shape[:2]), np.complex64)
    with one_blas_thread():
        for spectrum, out in zip(recipe.noise.draw_unit(shape, draw), sampled, strict=True):
            mask.sample(spectrum, out)
        return mask.finish(sampled)


def _mean_power(x: NDArray[np.complex64]) -> float:
    """Mean of |x|^2."""
    parts = np.ascontiguousarray(x).view(np.float32).ravel()
    return float(np.dot(parts, parts)) * 2 / parts.size
