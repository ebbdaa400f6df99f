"""The main path: from a photo to a training pair. Who reads this page knows the project."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .coils import map_cache
from .images import Photo
from .mask import Mask
from .noise import snr_per_sigma
from .recipe import Recipe
from .rng import rng
from .threads import one_blas_thread


@dataclass(frozen=True, eq=False)
class Pair:
    """Undersampled noisy k-space, and the image that a reconstruction should give back.

    `kspace` is packed: [coil y line], or [coil point] for masks of points; [coil y x] in full where the recipe
    keeps it. `target` is [y x]. `numbers` holds every drawn and measured number by name.
    """

    index: int
    source_sha256: str
    kspace: NDArray[np.complex64]
    mask: Mask
    maps_index: int
    target: NDArray[np.complex64]
    numbers: dict[str, Any]

    def digest(self) -> str:
        """sha256 of everything that the pair is."""
        return pair_digest(self.index, self.source_sha256, self.kspace, self.mask.sampled, self.target, self.numbers)


def pair_digest(index: int, source_sha256: str, kspace: Any, sampled: Any, target: Any, numbers: dict[str, Any]) -> str:
    """sha256 over a pair's identity, arrays (little-endian, C order) and numbers."""
    digest = hashlib.sha256(f"{index} {source_sha256} {kspace.shape} {sampled.shape} {target.shape}\n".encode())
    for array in (kspace, sampled, target):
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    for name in sorted(numbers):
        digest.update(name.encode() + np.asarray(numbers[name], "<f8").tobytes())
    return digest.hexdigest()


def matrix_of(recipe: Recipe, index: int) -> tuple[int, int]:
    """The matrix [y x] of pair `index`."""
    if len(recipe.target.matrix) == 1:
        return recipe.target.matrix[0]
    return recipe.target.draw_matrix(rng(recipe.seed, "matrix", index))


def pair_from_image(recipe: Recipe, photo: Photo, index: int) -> Pair:
    """Make pair `index` of a recipe from a photo: the same arguments give the same bits on any worker.

    Noise is drawn on all of k-space; a noisy reference sees the same draw, coil-combined. BLAS is held to one
    thread: its sums would otherwise depend on the number of cores.
    """
    with one_blas_thread():
        return _pair_from_image(recipe, photo, index)


def _pair_from_image(recipe: Recipe, photo: Photo, index: int) -> Pair:
    seed = recipe.seed
    matrix = matrix_of(recipe, index)
    readout = recipe.target.readout(matrix)

    magnitude, fitting = recipe.target.apply(photo.image, matrix, rng(seed, "target", index))
    phase = recipe.phase.draw(rng(seed, "phase", index))
    image = magnitude * phase.on(matrix)  # [y x]

    maps_index = int(rng(seed, "maps", index).integers(recipe.coils.sets))
    maps = map_cache.get(recipe.coils, seed, maps_index, matrix)  # [coil y x]
    mask = recipe.sampling.draw(rng(seed, "sampling", index), (readout.samples, matrix[1]))
    packed = recipe.kspace == "packed"
    kept = mask if packed else Mask(np.ones_like(mask.sampled), 1.0)
    acquired = slice(None) if packed else mask.sampled.ravel()  # the part of what is kept that the SNR speaks of

    clean = np.empty(kept.sampled_shape(len(maps), matrix[0]), np.complex64)
    for coil_map, sampled in zip(maps, clean, strict=True):  # coil by coil: one fits in the cache, fifteen do not
        kept.sample(kept.spectrum(image * coil_map), out=sampled)
    clean = readout.pad(clean)

    kspace = np.empty(clean.shape, np.complex64)  # the noise, first
    combined_noise = np.zeros(matrix, np.complex64)
    noise = recipe.noise.draw_unit((len(maps), readout.samples, matrix[1]), rng(seed, "noise", index))
    for coil_noise, coil_map, sampled in zip(noise, maps, kspace, strict=True):
        kept.sample(coil_noise, out=sampled)
        if recipe.target.reference == "noisy":
            combined_noise += coil_map.conj() * kept.image(readout.crop(coil_noise))

    per_sigma = snr_per_sigma(
        power=_mean_power(clean[..., acquired]),
        samples=clean[..., acquired].size,
        image_power=_mean_power(image),
        combined_variance=recipe.noise.combined_variance(maps),
    )
    wanted_snr = recipe.noise.draw_snr(rng(seed, "snr", index))
    sigma = per_sigma[recipe.noise.definition] / wanted_snr
    measured_sigma = sigma * float(np.sqrt(_mean_power(kspace[..., acquired]) / 2))

    target = image + sigma * combined_noise
    kspace *= sigma
    kspace += clean
    kspace = kept.finish(kspace)

    snrs = {f"snr_{name.replace('-', '_')}": value / measured_sigma for name, value in per_sigma.items() if sigma > 0}
    numbers = {
        **{"sigma": sigma, "sigma_measured": measured_sigma, "snr_wanted": wanted_snr, **snrs},
        **{"acceleration": mask.acceleration, "acceleration_net": mask.net_acceleration, "maps_index": maps_index},
        **{"max_value": float(np.abs(target).max()), **fitting.numbers()},
        **phase.numbers(),
    }
    return Pair(index, photo.sha256, kspace, mask, maps_index, target, numbers)


def _mean_power(x: NDArray[np.complex64]) -> float:
    """Mean of |x|^2."""
    parts = np.ascontiguousarray(x).view(np.float32).ravel()
    return float(np.dot(parts, parts)) * 2 / parts.size
