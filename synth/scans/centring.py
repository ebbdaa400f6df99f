"""Whether k-space is k-space, its centre in the middle, and its image not shifted by half of the field of view.

Fathom takes k-space's centre to be sample n // 2 along y and x, and the image's centre likewise. A file says neither.
Both are seen in the data: k-space's energy is concentrated around its centre, and an object's is not; an image is dark
where the object ends. The limits below lie between the values of scans that are stored right and those of the same
scans stored wrongly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter, uniform_filter1d

from ..physics import ifft2c, ifftc

AXES = ("y", "x")
MOST_COILS = 8  # that are looked at
PEAK = 10.0  # power of the strongest 3x3 samples over the median; noise alone stays below 6
FEWEST, PART = 3, 32  # samples that the peak may lie beside the middle: echoes are never quite centred
# Share of the energy in a sixteenth of an axis after the transform; over that before it; and where the peak is centred.
CONCENTRATED, RATIO, RATIO_CENTRED = 0.35, 2.0, 3.0
BRIGHT, DARK = 0.25, 0.3  # magnitude at the image's ends, over its maximum; in its middle, over that at its ends
LIKE = 0.5  # magnitude at the image's ends over that in its middle, above which it is not seen which is which
CLEAR = 0.3  # power over that of noise, above which it is not chance


def centring_notes(kspace: NDArray[np.complex64]) -> list[str]:
    """Findings about a slice [coil y x], one sentence each with the remedy; none where all is as Fathom takes it."""
    kspace = kspace[kspace.any(axis=(1, 2))]
    if not len(kspace):
        return []
    if len(kspace) > MOST_COILS:
        kspace = kspace[np.linspace(0, len(kspace) - 1, MOST_COILS).round().astype(int)]
    kspace = kspace / np.abs(kspace).max()  # files have any unit; squares of very small ones would be 0
    power = _power(kspace)
    near = uniform_filter(power, 3, mode="wrap")
    offsets = _offsets(near)
    ratio = RATIO if _is_off(offsets, power) else RATIO_CENTRED
    images = [axis for axis in (0, 1) if _is_image(kspace, power, axis, ratio)]
    if images:
        names = " and ".join(AXES[axis] for axis in images)
        call = (
            f"np.fft.fftshift(np.fft.fftn(np.fft.ifftshift(a, axes), axes=axes, norm='ortho'), axes), axes of {names}"
        )
        return [
            f"along {names} it looks like an image, not k-space: its transform is concentrated, it is not. Name its "
            f"axes if they were guessed wrongly (--axes), or store k-space, {call}"
        ]
    if near.max() < PEAK * float(np.median(power[power > 0])):
        return ["its k-space has no peak above the noise: whether its centre is in the middle cannot be seen"]
    notes = [_off_centre(offsets, near.shape)] if _is_off(offsets, power) else []
    return [*notes, *_shifted(ifft2c(kspace))]


def _power(values: NDArray[np.complex64]) -> NDArray[np.float64]:
    return np.sum(np.abs(values) ** 2, axis=0, dtype=np.float64)


def _is_image(kspace: NDArray[np.complex64], power: NDArray[np.float64], axis: int, ratio: float) -> bool:
    """Whether the energy along an axis (0: y, 1: x) is `ratio` times more concentrated after the transform."""
    after = _power(ifftc(kspace, (1 + axis,)))
    before, then = (_concentration(values.sum(axis=1 - axis)) for values in (power, after))
    return then > CONCENTRATED and then > ratio * before


def _concentration(profile: NDArray[np.float64]) -> float:
    """Largest share of a profile's energy in a sixteenth of it, circularly."""
    width = max(len(profile) // 16, 3)
    return float(uniform_filter1d(profile, width, mode="wrap").max() * width / profile.sum())


def _offsets(near: NDArray[np.float64]) -> list[int]:
    """How far k-space's strongest samples lie beside its middle: y, x."""
    peak = np.unravel_index(int(np.argmax(near)), near.shape)
    return [int(p) - n // 2 for p, n in zip(peak, near.shape, strict=True)]


def _is_off(offsets: list[int], power: NDArray[np.float64]) -> bool:
    """Whether the peak is not in the middle; where the middle was not measured, twice the distance is allowed."""
    y, x = (n // 2 for n in power.shape)
    allowed = 1 if power[y - 1 : y + 2, x - 1 : x + 2].all() else 2
    return any(abs(d) > allowed * _near(n) for d, n in zip(offsets, power.shape, strict=True))


def _near(n: int) -> float:
    return max(FEWEST, n / PART)


def _off_centre(offsets: list[int], sizes: tuple[int, ...]) -> str:
    middle = [n // 2 for n in sizes]
    peak = [m + d for m, d in zip(middle, offsets, strict=True)]
    place = f"k-space's peak lies at y, x = {peak[0]}, {peak[1]}, not in its middle {middle[0]}, {middle[1]}"
    shifts = [_shift(d, n) for d, n in zip(offsets, sizes, strict=True)]
    call = f"np.roll(kspace, ({shifts[0]}, {shifts[1]}), axes of y and x)"
    return (
        f"{place}, where maps and masks need it. Store {call}, or fill up with zeros the side that was not measured; "
        "or name the axes if they were guessed wrongly (--axes)"
    )


def _shift(offset: int, n: int) -> int:
    """By how much to roll: 0 where the peak is in the middle; by half where it is at the ends, in the FFT's order."""
    if abs(offset) <= _near(n):
        return 0
    return n // 2 if abs(offset) >= n // 2 - _near(n) else -offset


def _shifted(images: NDArray[np.complex64]) -> list[str]:
    """Notes where an image [coil y x] looks shifted by half of an axis, and where that cannot be seen."""
    power = _power(images)
    noise = float(np.percentile(uniform_filter(power, 5, mode="wrap"), 5))
    bright = [_brightness(power.mean(axis=1 - axis), noise) for axis in (0, 1)]
    shifted = " and ".join(name for name, where in zip(AXES, bright, strict=True) if where == "ends")
    unknown = " and ".join(name for name, where in zip(AXES, bright, strict=True) if where == "everywhere")
    notes = []
    if shifted:
        notes.append(
            f"its image is bright at both ends along {shifted} and dark in the middle, as if shifted by half of the "
            f"field of view: if it is, multiply k-space by (-1)^index along {shifted}"
        )
    if unknown:
        notes.append(
            f"its image along {unknown} is as bright at both ends as in the middle: whether it is shifted by half of "
            "the field of view cannot be seen"
        )
    return notes


def _brightness(profile: NDArray[np.float64], noise: float) -> str:
    """Where the power along an axis, without that of noise, is high: in the middle, at both ends, or everywhere."""
    n, width = len(profile), max(len(profile) // 16, 1)
    signal = np.maximum(profile - noise, 0)
    ends = float(min(signal[:width].mean(), signal[-width:].mean()))
    middle = signal[n // 2 - width : n // 2 + width]
    clear = CLEAR * noise
    if ends > BRIGHT**2 * signal.max() and ends > clear and middle.min() < DARK**2 * ends:
        return "ends"
    return "middle" if middle.mean() > clear and ends < LIKE**2 * middle.mean() else "everywhere"
