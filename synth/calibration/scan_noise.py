"""Learning the noise of a scan from a noise scan, the image's background, or the edge of k-space.

Each of these is refused where its result would be wrong: with zero padding, filters, or signal in the corner. Where the
receiver filter falls off at the ends of the readout, only the flat middle half is used. Where two places can be used,
their sigmas are compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import CalibrationError, NoQuietPlaceError, ScanError, ShapedNoiseError
from ..given import refuse_other_type
from ..physics import ifft2c
from ..process import one_blas_thread
from ..scans.scan import Scan
from .correlations import correlation, is_weaker_at_sides, lag_along_x
from .from_samples import profile_of_samples
from .noise_only import UNEVEN, flat_rows, in_unit, quiet, scaled
from .noise_profile import LAG, NoiseProfile, Place, profile_of_noise

CORNER = 0.85  # of the way from the centre to the edge, along both axes
NEARER = (0.55, 0.70)  # of the way: noise alone is as strong there as in the corner, signal about 3 times stronger
AGREEMENT = 0.05  # relative difference between two sigmas of the same noise that is told
ZEROS = 0.005  # of k-space: share that is told as padding or undersampling
LEAST_SLICES = 5  # of a volume whose ends may be looked at in place of its middle
STRONG_LAG = 0.15  # correlation of neighbouring samples that is refused


def calibrate(
    scan: Scan, number: int | None = None, place: Place | None = None, *, checked: bool = True, samples: bool = True
) -> NoiseProfile:
    """Learn the noise of a scan: sigma, and the covariance between coils.

    Parameters
    ----------
    scan
        The scan; `open_scan` gives it.
    number
        The slice that is used; by default the middle one, and for an undersampled volume whose middle does not tell
        its noise, the first and the last one.
    place
        Where noise is looked for: "noise scan", "background", "k-space edge" or "samples"; by default, each is tried in
        turn. A noise scan whose bandwidth is not known comes last of the first three.
    checked
        Whether filters along the readout, and differences between places and between slices, are looked for. Version 1
        of the stage "noise" of pairs from scans is made without these checks.
    samples
        Whether "samples" may be used, which needs `checked`. Libraries of coil maps and pairs are made without it.

    Returns
    -------
    The profile; its `place` says where the noise was learnt, its `notes` what limits the result.

    Raises
    ------
    CalibrationError
        The noise cannot be learnt, because of padding, filters or signal; the message gives the reason for each place.
    """
    refuse_other_type(scan, Scan, "calibrate takes the Scan that open_scan reads")
    asked, number = number, len(scan) // 2 if number is None else number
    ways: dict[Place, Callable[[], NoiseProfile]] = {
        "noise scan": partial(_from_noise_scan, scan),
        "background": partial(from_background, scan, number, checked=checked),
        "k-space edge": partial(from_edge, scan, number, checked=checked),
        **({"samples": partial(_from_samples, scan, number, False)} if checked and samples else {}),
    }
    names = [name for name in ways if place in (None, name)]
    if not scan.noise_bandwidth_known:
        names.sort(key=("background", "k-space edge", "noise scan", "samples").index)  # its level is unknown
    reasons, shaped = [], False
    for k, name in enumerate(names):
        try:
            found = _from_samples(scan, number, shaped) if name == "samples" else ways[name]()
            others = [ways[other] for other in names[k + 1 :] if other in ("background", "k-space edge")]
            shaded = partial(_is_shaded, scan, number)
            return _compared(found, others, shaded) if checked and len(scan) and name != "samples" else found
        except CalibrationError as error:
            shaped |= isinstance(error, ShapedNoiseError)
            reasons.append(f"{name}: {error}")
    if asked is None and "samples" in names and (ends := _from_ends(scan, number, shaped)) is not None:
        return ends
    told = "; ".join(reasons) or f"{place!r} is no place; places are {', '.join(ways)}"
    raise CalibrationError(f"{scan.path}: its noise cannot be learnt. {told}")


def _compared(
    found: NoiseProfile, others: list[Callable[[], NoiseProfile]], shaded: Callable[[ShapedNoiseError], bool]
) -> NoiseProfile:
    """The profile, with a note for each other place of the scan whose sigma differs; raises ShapedNoiseError.

    K-space's edge has the mean over all rows: it is not compared where only the middle of the readout was used. Lines
    that correlate at the edge hold signal, unless columns of the background correlate, too, or it is `shaded`.
    """
    notes, apart = list(found.notes), 0.0
    for other in others:
        try:
            second = other()
        except ShapedNoiseError as error:
            correlated = found.lag_correlation > found.told_lag
            if error.axis == "x" and found.place == "background" and (correlated or shaded(error)):
                raise
            continue
        except (CalibrationError, ScanError):  # the slice may be empty or damaged: a noise scan is enough
            continue
        difference = second.rms_sigma / found.rms_sigma - 1
        chance = 4 * float(np.hypot(found.standard_error, second.standard_error))
        places = {found.place, second.place}
        uneven = any(note.startswith(UNEVEN) for note in (*found.notes, *second.notes))
        if not (uneven and "k-space edge" in places) and abs(difference) > AGREEMENT + chance:
            apart = max(apart, abs(difference))
            notes.append(f"the {second.place} gives a sigma of {second.rms_sigma:.4g}, {100 * difference:+.0f} %")
    return replace(found, notes=tuple(notes), uncertainty=float(np.hypot(1.96 * found.standard_error, apart / 2)))


def _from_noise_scan(scan: Scan) -> NoiseProfile:
    if scan.noise is None:
        raise CalibrationError("it holds none; a noise scan has two axes, coil and sample (--noise FILE)")
    if scan.averages is None:
        raise CalibrationError("the lines were averaged unequally, so noise differs between them")
    profile = profile_of_noise(scan.noise, "noise scan", str(scan.path))
    if scan.averages == 1:
        return profile
    note = f"the covariance is that of the noise scan divided by {scan.averages}, the number of averages"
    return replace(profile, covariance=profile.covariance / scan.averages, notes=(*profile.notes, note))


def from_background(scan: Scan, number: int, *, checked: bool = True) -> NoiseProfile:
    """Noise of the image's background beside the object: blocks near the image's left and right edge with noise alone.

    Where the noise falls off at the readout's ends (a receiver filter), only the flat middle half of the rows counts.
    """
    images, chosen, note, unit = _background(scan, number)
    found = in_unit(_profile_where(images, chosen, "background", scan, note, checked=checked), unit)
    if not checked:
        return found
    return replace(found, notes=found.notes + _slices_apart(scan, number, images[:, chosen], chosen, unit))


def _background(scan: Scan, number: int) -> tuple[NDArray[np.complex64], NDArray[np.bool_], tuple[str, ...], float]:
    """Images [coil y x] over a unit, the pixels [y x] with noise alone, notes, and the unit."""
    kspace, unit = _usable(scan, number)
    images = ifft2c(kspace)
    rows, columns = images.shape[1:]
    outer = np.abs(np.arange(columns) - columns // 2) > 0.3 * columns  # a fifth on each side
    side = np.abs(np.arange(columns) - columns // 2) > 0.45 * columns  # farthest from the object
    flat, note = flat_rows(images[..., side])
    candidates = np.zeros((rows, columns), bool)
    candidates[np.ix_(flat, outer)] = True
    chosen = _quiet(images, candidates, "the object, its ghosts or its wrapped part reach the edge of the image")
    return images, chosen, note, unit


def _is_shaded(scan: Scan, number: int, error: ShapedNoiseError) -> bool:
    """Whether the background falls towards the sides of the image as the correlation of lines says."""
    images, chosen, *_ = _background(scan, number)
    return is_weaker_at_sides(images, chosen, error.correlation)


def _slices_apart(
    scan: Scan, number: int, noise: NDArray[np.complex64], chosen: NDArray[np.bool_], unit: float
) -> tuple[str, ...]:
    """A note where the noise of neighbouring slices correlates: a volume was filtered or zero-filled along slices."""
    if len(scan) < 2:
        return ()
    try:
        other = ifft2c(scan.without_padding(number - 1 if number else 1) / np.float32(unit))[:, chosen]
    except ScanError:
        return ()
    lag = correlation(noise, other)
    if abs(lag) <= 2 * LAG + 4 / np.sqrt(2 * other.size):
        return ()
    return (
        f"the noise of neighbouring slices correlates by {lag:.2f}, by a filter or zeros along the slices: sigma is "
        "that of these slices, and lower than the receiver's",
    )


def from_edge(scan: Scan, number: int, *, checked: bool = True) -> NoiseProfile:
    """Noise of k-space's corners; refused where they are padded, filtered, or hold signal."""
    kspace, unit = _usable(scan, number)
    y, x = np.ix_(*(np.abs(np.arange(n) - n // 2) / (n / 2) for n in kspace.shape[1:]))
    corner = (y > CORNER) & (x > CORNER)
    near = (y > CORNER - 0.15) & (x > CORNER - 0.15) & ~corner
    fall = _power_ratio(kspace, near, corner)
    if fall > 1.5:
        raise CalibrationError(
            f"power still falls by a factor of {fall:.1f} towards the corners of k-space, so there is signal or a "
            "filter; use a noise scan"
        )
    chosen = _quiet(kspace, corner, "the corners of k-space hold signal")
    if checked:
        found = profile_of_noise(kspace[:, chosen], "k-space edge", str(scan.path))
        nearer = {"y": _between(y) & (x > CORNER), "x": (y > CORNER) & _between(x), "both": _between(y) & _between(x)}
        for axes, where in nearer.items():
            _refuse_slopes(axes, _power_ratio(kspace, where, corner) ** 0.5, int(where.sum()), found)
    return in_unit(_profile_where(kspace, chosen, "k-space edge", scan, (), checked=checked), unit)


def _from_samples(scan: Scan, number: int, shaped: bool) -> NoiseProfile:
    """Noise from all samples, with signal; without the readout's oversampling, whose ends the receiver filters."""
    kspace, unit = scaled(scan[number])
    with one_blas_thread():  # many small matrices: threads that wait for each other took ten times as long
        return in_unit(profile_of_samples(kspace, str(scan.path), shaped=shaped), unit)


def _from_ends(scan: Scan, middle: int, shaped: bool) -> NoiseProfile | None:
    """Noise from the samples of a volume's first and last slice, where the object is small; None where they disagree.

    A full scan has other places: it is not looked at.
    """
    if len(scan) < LEAST_SLICES or np.mean(~scan[middle].any(axis=0)) < ZEROS:
        return None
    try:
        first, last = (_from_samples(scan, number, shaped) for number in (0, len(scan) - 1))
    except (CalibrationError, ScanError):
        return None
    if abs(first.rms_sigma / last.rms_sigma - 1) > np.hypot(first.uncertainty, last.uncertainty):
        return None
    number, found = min((0, first), (len(scan) - 1, last), key=lambda end: end[1].uncertainty)
    note = f"the noise is that of slice {number}: signal fills slice {middle}, and both ends of the volume agree"
    return replace(found, notes=(*found.notes, note))


def _between(distance: NDArray[np.float64]) -> NDArray[np.bool_]:
    return (distance > NEARER[0]) & (distance < NEARER[1])


def _power_ratio(kspace: NDArray[np.complex64], where: NDArray[np.bool_], below: NDArray[np.bool_]) -> float:
    """Power of some samples over that of others, as the mean over coils."""
    above, under = (np.mean(np.abs(kspace[:, chosen]) ** 2, axis=1) for chosen in (where, below))
    return float(np.mean(above / np.maximum(under, 1e-300)))


def _refuse_slopes(axes: str, ratio: float, samples: int, found: NoiseProfile) -> None:
    """Raise where noise nearer to the centre is stronger or weaker than in the corner by more than chance."""
    chance = 4 * float(np.hypot(found.standard_error, 0.5 / np.sqrt(max(samples, 1) * found.independent_coils)))
    if abs(ratio - 1) > AGREEMENT - 0.01 + chance:
        raise CalibrationError(
            f"samples at {NEARER[0]:g} to {NEARER[1]:g} of the way to k-space's edge along {axes} are {ratio:.2f} "
            "times as strong as those in its corners, so there is signal or a filter; use a noise scan"
        )


def _usable(scan: Scan, number: int) -> tuple[NDArray[np.complex64], float]:
    """A slice [coil y x] without padding over a unit, and this unit; raises CalibrationError for zeros."""
    kspace, unit = scaled(scan.without_padding(number))
    _refuse_zeros(kspace)
    return kspace, unit


def _refuse_zeros(kspace: NDArray[np.complex64]) -> None:
    zeros = float(np.mean(~kspace.any(axis=0)))
    if zeros > ZEROS:
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
    values: NDArray[np.complex64],
    chosen: NDArray[np.bool_],
    place: Place,
    scan: Scan,
    notes: tuple[str, ...],
    *,
    checked: bool,
) -> NoiseProfile:
    found = profile_of_noise(values[:, chosen], place, str(scan.path))
    lags = {"x": lag_along_x(values, chosen), "y": lag_along_x(values.swapaxes(1, 2), chosen.T) if checked else 0.0}
    axis = max(lags, key=lambda name: abs(lags[name]))
    if abs(lags[axis]) > STRONG_LAG or found.excess_kurtosis > 1:
        raise ShapedNoiseError(
            f"neighbouring samples along {axis} correlate by {lags[axis]:.2f}, and the excess kurtosis is "
            f"{found.excess_kurtosis:.1f}: this is signal or filtered noise, not white noise; use a noise scan",
            axis,
            lags[axis],
        )
    told = tuple(
        f"neighbouring samples along {name} correlate by {lag:.2f}, by a filter (sigma is too low) or signal (too high)"
        for name, lag in lags.items()
        if checked and lag > found.told_lag
    )
    own = tuple(note for note in found.notes if not (checked and note.startswith("neighbouring")))  # `told` is exact
    return replace(found, place=place, lag_correlation=lags["x"], notes=notes + own + told)
