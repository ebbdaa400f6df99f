"""Learning the noise of a scan from a noise scan, the image's background, or the edge of k-space.

Each of these is refused where its result would be wrong: with zero padding, filters, or signal in the corner. Where the
receiver filter falls off at the ends of the readout, only the flat middle half is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError, NoQuietPlaceError
from ..physics import ifft2c
from ..scans.scan import Scan
from .noise_only import quiet
from .noise_profile import NoiseProfile, Place, profile_of_noise

CORNER = 0.85  # of the way from the centre to the edge, along both axes


def calibrate(scan: Scan, number: int | None = None, place: Place | None = None) -> NoiseProfile:
    """Learn the noise of a scan: sigma, and the covariance between coils.

    Parameters
    ----------
    scan
        The scan; `open_scan` gives it.
    number
        The slice that is used; by default the middle one.
    place
        Where noise is looked for: "noise scan", "background" or "k-space edge"; by default, each is tried in turn.

    Returns
    -------
    The profile; its `place` says where the noise was learnt, its `notes` what limits the result.

    Raises
    ------
    CalibrationError
        The noise cannot be learnt, because of padding, filters or signal; the message gives the reason for each place.
    """
    number = len(scan) // 2 if number is None else number
    ways: dict[Place, Callable[[], NoiseProfile]] = {
        "noise scan": lambda: _from_noise_scan(scan),
        "background": lambda: from_background(scan, number),
        "k-space edge": lambda: from_edge(scan, number),
    }
    reasons = []
    for name, way in ways.items():
        if place in (None, name):
            try:
                return way()
            except CalibrationError as error:
                reasons.append(f"{name}: {error}")
    raise CalibrationError(f"{scan.path}: its noise cannot be learnt. " + "; ".join(reasons))


def _from_noise_scan(scan: Scan) -> NoiseProfile:
    if scan.noise is None:
        raise CalibrationError("there is none")
    if scan.averages is None:
        raise CalibrationError("the lines were averaged unequally, so noise differs between them")
    profile = profile_of_noise(scan.noise, "noise scan", str(scan.path))
    if scan.averages == 1:
        return profile
    note = f"the covariance is that of the noise scan divided by {scan.averages}, the number of averages"
    return replace(profile, covariance=profile.covariance / scan.averages, notes=(*profile.notes, note))


def from_background(scan: Scan, number: int) -> NoiseProfile:
    """Noise of the image's background beside the object: blocks near the image's left and right edge with noise alone.

    Where the noise falls off at the readout's ends (a receiver filter), only the flat middle half of the rows counts.
    """
    kspace = scan.without_padding(number)
    _refuse_zeros(kspace)
    images = ifft2c(kspace)
    rows, columns = images.shape[1:]
    outer = np.abs(np.arange(columns) - columns // 2) > 0.3 * columns  # a fifth on each side
    side = np.abs(np.arange(columns) - columns // 2) > 0.45 * columns  # farthest from the object
    flat, note = _flat_rows(images[..., side])
    candidates = np.zeros((rows, columns), bool)
    candidates[np.ix_(flat, outer)] = True
    chosen = _quiet(images, candidates, "the object, its ghosts or its wrapped part reach the edge of the image")
    return _profile_where(images, chosen, "background", scan, note)


def _flat_rows(images: NDArray[np.complex64]) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """Rows where the noise is as strong as in the middle half of the readout."""
    rows = images.shape[1]
    power = np.median(np.abs(images) ** 2, axis=(0, 2))
    place = np.abs(np.arange(rows) - rows // 2)
    middle = place < rows / 4
    floor = float(np.percentile(power[middle], 10))
    ends = float(np.median(power[place > 0.45 * rows]))
    if floor == 0 or ends > 0.7 * floor:
        return np.ones(rows, bool), ()
    part = (ends / floor) ** 0.5
    note = f"noise at the readout's ends is {part:.2f} of that in its middle: only its middle half was used"
    return middle, (note,)


def from_edge(scan: Scan, number: int) -> NoiseProfile:
    """Noise of k-space's corners; refused where they are padded, filtered, or hold signal."""
    kspace = scan.without_padding(number)
    _refuse_zeros(kspace)
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in kspace.shape[1:])
    corner = (y[:, None] > CORNER) & (x[None, :] > CORNER)
    near = (y[:, None] > CORNER - 0.15) & (x[None, :] > CORNER - 0.15) & ~corner
    far_power, near_power = (np.mean(np.abs(kspace[:, where]) ** 2, axis=1) for where in (corner, near))
    fall = float(np.mean(near_power / np.maximum(far_power, 1e-300)))
    if fall > 1.5:
        raise CalibrationError(
            f"power still falls by a factor of {fall:.1f} towards the corners of k-space, so there is signal or a "
            "filter; use a noise scan"
        )
    chosen = _quiet(kspace, corner, "the corners of k-space hold signal")
    return _profile_where(kspace, chosen, "k-space edge", scan, ())


def _refuse_zeros(kspace: NDArray[np.complex64]) -> None:
    zeros = float(np.mean(~kspace.any(axis=0)))
    if zeros > 0.005:
        raise CalibrationError(
            f"{100 * zeros:.0f} % of k-space is zero (padding, or undersampling), so the noise there and in the image "
            "is weaker than the received noise; strip the padding, or use a noise scan"
        )


def _quiet(values: NDArray[np.complex64], candidates: NDArray[np.bool_], otherwise: str) -> NDArray[np.bool_]:
    try:
        return quiet(values, candidates)
    except NoQuietPlaceError:
        raise CalibrationError(f"{otherwise}; use a noise scan") from None


def _profile_where(
    values: NDArray[np.complex64], chosen: NDArray[np.bool_], place: Place, scan: Scan, notes: tuple[str, ...]
) -> NoiseProfile:
    profile = profile_of_noise(values[:, chosen], place, str(scan.path))
    neighbours = chosen[:, 1:] & chosen[:, :-1]
    pairs = values[:, :, 1:][:, neighbours].astype(np.complex128), values[:, :, :-1][:, neighbours]
    lag = float(np.sum((pairs[0] * pairs[1].conj()).real) / np.sum(np.abs(pairs[0]) ** 2)) if neighbours.any() else 0.0
    if abs(lag) > 0.15 or profile.excess_kurtosis > 1:
        raise CalibrationError(
            f"neighbouring samples correlate by {lag:.2f}, and the excess kurtosis is {profile.excess_kurtosis:.1f}: "
            "this is signal or filtered noise, not white noise; use a noise scan"
        )
    return replace(profile, place=place, lag_correlation=lag, notes=notes + profile.notes)
