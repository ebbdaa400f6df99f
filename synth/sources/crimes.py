"""Signs of a source's earlier processing, which make reconstruction look easier than it is.

Shimron, Tamir, Wang and Lustig, PNAS 119:e2117203119, 2022: networks that are trained and tested on data that were
JPEG-compressed, zero-filled, filtered or interpolated report errors down to half of the true ones. A finding is only a
warning, stored with every pair; a recipe may reject sources that have it (`source.refuse`).
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..calibration.noise_only import BLOCK, quiet, unit_of
from ..errors import NoQuietPlaceError
from ..physics import ifft2c
from .jpeg_steps import step_score

SourceFinding = Literal[
    "jpeg",
    "jpeg-blocks",
    "interpolated",
    "mr-picture",
    "zero-filled",
    "undersampled",
    "filtered",
    "real-valued",
    "oversampling-removed",
    "jpeg-steps",
]
FINDINGS: tuple[SourceFinding, ...] = get_args(SourceFinding)
MEANING: dict[SourceFinding, str] = {
    "jpeg": "the file is a JPEG: blocks and quantisation are part of the target",
    "jpeg-blocks": "an 8x8 grid shows: it was a JPEG once",
    "interpolated": "its highest spatial frequencies are empty: it was enlarged or smoothed",
    "mr-picture": "a reconstructed magnitude picture, not a scan: no phase, no coils, and filters unknown",
    "zero-filled": "the border of its k-space is zero: it was padded, and is interpolated in the image",
    "undersampled": "samples inside its k-space are missing: its reference is not fully sampled",
    "filtered": "noise is weaker at the border of its k-space than in the image: a filter was applied",
    "oversampling-removed": "by its header, the readout is as wide as the image: the oversampled parts were cut off",
    "jpeg-steps": "its cosine coefficients come in steps: it was a JPEG once",
    "real-valued": "its k-space has conjugate symmetry: the phase was thrown away",
}
GRID = 8  # side of JPEG's blocks, in pixels
BLOCKINESS = 1.12  # steps at the grid's lines over steps between them; photographs without JPEG stay below 1.05
STEPS = 0.08  # of `step_score`: JPEGs saved as PNG have 0.14 and more, pictures without JPEG 0.04 and less
EMPTY = 2e-3  # power of the outer band over that of the middle: photographs have 8e-3 and more, enlarged ones 7e-4
LEAST_NOISE = 0.1  # of the power of blocks: with less, what is left may be signal of maps that change in a block
BAND = 256  # side of the part that is analysed, in pixels


def crimes_of_photo(image: NDArray[np.float32], *, jpeg: bool) -> tuple[SourceFinding, ...]:
    """Findings in a grey photograph [y x]; `jpeg` says whether its file is a JPEG."""
    found: list[SourceFinding] = ["jpeg"] if jpeg else []
    if min(image.shape) >= 32 and _outer_band(image) < EMPTY:
        found.append("interpolated")
    elif not jpeg and blockiness(image) > BLOCKINESS:  # interpolation has a grid of its own
        found.append("jpeg-blocks")
    if not jpeg and step_score(image) > STEPS:
        found.append("jpeg-steps")
    return tuple(found)


def blockiness(image: NDArray[np.float32]) -> float:
    """Mean difference across the lines of an 8x8 grid over that between the lines; the smaller value of both axes.

    The grid may begin anywhere (the picture may have been cropped). The value is 1 for a picture without a grid.
    """
    ratios = []
    for axis in (0, 1):
        steps = np.abs(np.diff(image, n=1, axis=axis))
        lines = steps.mean(axis=1 - axis)
        whole = lines[: len(lines) // GRID * GRID].reshape(-1, GRID)
        if len(whole) < 4:
            return 1.0
        by_phase = np.median(whole / np.maximum(whole.mean(axis=1, keepdims=True), 1e-12), axis=0)
        strongest = int(np.argmax(by_phase))
        ratios.append(float(by_phase[strongest] / np.median(np.delete(by_phase, strongest))))
    return min(ratios)


def _outer_band(image: NDArray[np.float32]) -> float:
    """Power beyond 0.9 of the highest frequency over power around 0.4 of it; the smaller ratio of both axes."""
    y, x = (slice(max(n - BAND, 0) // 2, max(n - BAND, 0) // 2 + min(n, BAND)) for n in image.shape)
    part = image[y, x].astype(np.float32)
    part = (part - part.mean()) * np.hanning(part.shape[0])[:, None] * np.hanning(part.shape[1])
    ratios = []
    for axis in (0, 1):
        n = part.shape[axis]
        power = np.mean(np.abs(np.fft.rfft(part, axis=axis)) ** 2, axis=1 - axis)
        frequency = np.arange(len(power)) / (n / 2)
        middle = float(power[(frequency > 0.3) & (frequency < 0.5)].mean())
        ratios.append(float(power[frequency > 0.9].mean()) / max(middle, 1e-30))
    return min(ratios)


def crimes_of_kspace(kspace: NDArray[np.complex64]) -> tuple[SourceFinding, ...]:
    """Findings in a slice [coil y x] of a scan as it is stored."""
    found: list[SourceFinding] = []
    kspace = kspace / np.float32(unit_of(kspace))
    sampled: NDArray[np.bool_] = np.any(kspace, axis=0)
    rows, columns = (np.flatnonzero(np.any(sampled, axis=axis)) for axis in (1, 0))
    if rows.size == 0:
        return ()
    if any(_border(places, n) for places, n in zip((rows, columns), sampled.shape, strict=True)):
        found.append("zero-filled")
    if sampled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean() < 0.99:
        found.append("undersampled")
    if not found and _is_filtered(kspace):
        found.append("filtered")
    if _conjugate_symmetry(kspace) > 0.99:
        found.append("real-valued")
    return tuple(found)


def _border(places: NDArray[np.intp], n: int) -> bool:
    """Whether positions along an axis of n leave a wider gap at an end than between them, as padding does."""
    inside = int(np.diff(places).max(initial=1)) - 1
    return max(int(places[0]), n - 1 - int(places[-1])) > inside


def _is_filtered(kspace: NDArray[np.complex64]) -> bool:
    """Whether noise is weaker at the border of k-space than in the image: white noise is as strong in both (Parseval).

    False where the image has no background, in which its noise could be measured. What all coils share in a block of
    the image is taken as signal (see `_noise_of`), so that an even or dark part of the object is not taken as noise.
    """
    scale = np.sqrt(np.mean(np.abs(kspace) ** 2, axis=(1, 2), keepdims=True))
    kspace = kspace / np.maximum(scale, 1e-30)
    images = ifft2c(kspace)
    columns = images.shape[2]
    outer = np.abs(np.arange(columns) - columns // 2) > 0.3 * columns
    try:
        chosen = quiet(images, np.broadcast_to(outer, images.shape[1:]))
    except NoQuietPlaceError:
        return False
    noise = _noise_of(images, chosen)
    for axis in (1, 2):
        n = kspace.shape[axis]
        width = max(n // 40, 1)
        border = np.take(kspace, [*range(width), *range(n - width, n)], axis=axis)
        if float(np.mean(np.abs(border) ** 2)) < 0.6 * noise:
            return True
    return False


def _noise_of(images: NDArray[np.complex64], chosen: NDArray[np.bool_]) -> float:
    """Mean noise power in blocks of images [coil y x] that `chosen` [y x] holds whole; 0 where signal is all there is.

    In a block, maps hardly change, so that signal has rank 1 over coils and pixels. The strongest singular component is
    left out; with one coil, the block's mean. Of n components of white noise, n - 1 then remain, or a little less
    because noise takes part in the strongest one, so that noise may be measured too low, and a weak filter be missed.
    """
    coils, ny, nx = len(images), *(n // BLOCK for n in chosen.shape)
    cut = np.s_[..., : ny * BLOCK, : nx * BLOCK]
    whole = chosen[cut].reshape(ny, BLOCK, nx, BLOCK).all(axis=(1, 3))
    blocks = images[cut].reshape(coils, ny, BLOCK, nx, BLOCK).transpose(1, 3, 0, 2, 4)[whole]
    blocks = blocks.reshape(len(blocks), coils, -1)  # [block coil pixel]
    if not len(blocks):
        return float(np.mean(np.abs(images[:, chosen]) ** 2))
    total = float(np.mean(np.abs(blocks) ** 2))
    if coils == 1:
        strongest, parts = np.abs(blocks.sum(axis=-1)) ** 2 / blocks.shape[-1], blocks.shape[-1]
    else:
        strongest, parts = np.linalg.eigvalsh(blocks @ blocks.conj().swapaxes(-1, -2))[:, -1], coils
    noise = (total - float(strongest.sum()) / blocks.size) * parts / (parts - 1)
    return noise if noise > LEAST_NOISE * total else 0.0


def _conjugate_symmetry(kspace: NDArray[np.complex64]) -> float:
    """|<K(k), conj K(-k)>| over ||K||^2, the smallest of all coils: 1 for a real image times any constant phase."""
    mirrored = kspace
    for axis in (1, 2):
        mirrored = np.flip(mirrored, axis)
        mirrored = np.roll(mirrored, 1, axis) if kspace.shape[axis] % 2 == 0 else mirrored
    inner = np.abs(np.sum(kspace * mirrored, axis=(1, 2)))
    return float(np.min(inner / np.maximum(np.sum(np.abs(kspace) ** 2, axis=(1, 2)), 1e-30)))


def fingerprint(image: NDArray[np.floating]) -> int:
    """64 bits that are equal for copies of a picture, even if resized or saved again: from 8x8 lowest frequencies.

    The picture is reduced to 32x32 and cosine transformed; a bit is 1 where a coefficient is above the median (Zauner's
    pHash).
    """
    y, x = (np.linspace(0, n, 33).astype(int) for n in image.shape)
    small = np.add.reduceat(np.add.reduceat(image.astype(np.float64), y[:-1], axis=0), x[:-1], axis=1)
    small /= np.maximum(np.outer(np.diff(y), np.diff(x)), 1)
    even = np.concatenate([small, small[::-1]], axis=0)
    even = np.concatenate([even, even[:, ::-1]], axis=1)
    shift = np.exp(-1j * np.pi * np.arange(8) / 64)
    low = (np.fft.fft2(even)[:8, :8] * np.outer(shift, shift)).real.ravel()
    bits = low > np.median(low[1:])
    return int(sum(1 << k for k in np.flatnonzero(bits)))
