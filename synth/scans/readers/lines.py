"""Readout lines as scanners store them: averages of lines at one position, but not of lines that are no repetitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ...errors import ScanError

DIFFERENT = 4.0  # two lines are not repetitions where their difference is this much stronger at k-space's centre


@dataclass(frozen=True, eq=False)
class Line:
    """One readout: its samples, and what its counters say."""

    values: NDArray[np.complex64]  # [coil sample]
    where: tuple[int, int, int]  # slice, partition, column
    average: int
    centres: tuple[int, ...]  # sample of k-space's centre; for a reversed line, one for each way to count it


def line_of(
    path: Path,
    values: NDArray[np.complex64],
    discarded: Sequence[int],
    centre: int,
    backwards: bool,
    where: tuple[int, int, int],
    average: int,
) -> Line:
    """A line [coil sample] without the samples to discard at its start and end; a reversed one is turned round.

    `centre` is counted before samples are discarded. Raises ScanError where nothing would be left.
    """
    samples, (first, end) = values.shape[1], discarded
    if first + end >= samples:
        raise ScanError(f"{path}: an acquisition discards {first + end} of {samples} samples; export it anew")
    values = values[:, first : samples - end]
    centres: tuple[int, ...] = (centre - first,)
    if backwards:  # files count the centre in the order of storage, or as in a forward line
        values, centres = values[:, ::-1], (values.shape[1] - 1 - centres[0], *centres)
    return Line(values, where, average, centres)


def average_lines(
    lines: list[Line], size: tuple[int, ...], readout: int
) -> tuple[NDArray[np.complex64], NDArray[np.int32], list[str]]:
    """K-space [slice partition column coil sample] from whole lines, the number of lines at each position, and notes.

    Lines at one position are averaged. Lines with the same average counter may not be repetitions, but for example a
    second echo: then only the first of them is taken at each position, and a note says so.
    """
    kspace = np.zeros((*size, len(lines[0].values), readout), np.complex64)
    count = np.zeros(size, np.int32)
    by_position: defaultdict[tuple[int, ...], list[Line]] = defaultdict(list)
    for line in lines:
        by_position[line.where].append(line)
    unlike = _are_unlike(by_position.values())
    dropped = 0
    for where, here in by_position.items():
        kept = here
        if unlike:
            kept = [line for k, line in enumerate(here) if all(line.average != other.average for other in here[:k])]
            dropped += len(here) - len(kept)
        kspace[where] = np.mean([line.values for line in kept], axis=0)
        count[where] = len(kept)
    told = "lines have the same counters as others but differ from them, as a second echo does; they are left out"
    return kspace, count, [f"{dropped} {told}"] if dropped else []


def _are_unlike(positions: Iterable[list[Line]]) -> bool:
    """Whether lines at one position with one average counter differ by more than noise.

    Repetitions differ by noise, which is as strong at k-space's centre as at the ends of the readout, and has twice the
    power of a line's noise. Lines of another echo or another phase differ by signal, which is strongest at the centre,
    and stronger than the weakest of all ends of lines, where only noise is left.
    """
    differences, ends = [], []
    for here in positions:
        ends += [float(np.mean(np.abs(line.values[:, _is_far(line.values.shape[1])]) ** 2)) for line in here]
        for k, line in enumerate(here):
            same = next((other for other in here[:k] if other.average == line.average), None)
            if same is not None:
                differences.append(np.mean(np.abs(line.values - same.values) ** 2, axis=0))
    if not differences:
        return False
    power = np.mean(differences, axis=0)  # [sample]
    near = power[np.abs(np.arange(len(power)) - len(power) // 2) <= max(len(power) // 16, 1)]
    noise = min(power[_is_far(len(power))].mean(), 2 * min((end for end in ends if end > 0), default=0.0))
    chance = 1 + 12 / (len(differences) * len(near)) ** 0.5  # few samples differ by chance
    return bool(near.mean() > 0 and near.mean() > DIFFERENT * chance * noise)


def _is_far(samples: int) -> NDArray[np.bool_]:
    """Which samples of a line are the outer quarter of it, away from k-space's centre."""
    return np.asarray(np.abs(np.arange(samples) - samples // 2) > 3 * samples // 8)


def middle_of_band(noise: NDArray[np.complex64], oversampling: float) -> NDArray[np.complex64]:
    """The part of a noise line [coil sample] in the middle of its band that an image keeps of an oversampled readout.

    The receiver's filter falls off towards the ends of its band, so that all samples together are weaker than the noise
    in the image: by 8 to 14 % for usual filters. The transform is orthonormal: sigma is that of the middle of the band.
    """
    samples = noise.shape[1]
    kept = round(samples / oversampling)
    if kept >= samples or kept < 1:
        return noise
    spectrum = np.roll(scipy.fft.fft(noise, axis=1, norm="ortho"), kept // 2, axis=1)[:, :kept]
    return np.asarray(scipy.fft.ifft(np.roll(spectrum, -(kept // 2), axis=1), axis=1, norm="ortho"), np.complex64)


def joined(path: Path, lines: list[Line]) -> NDArray[np.complex64]:
    """All samples [coil sample] of noise lines; raises ScanError where their numbers of coils differ."""
    if len({len(line.values) for line in lines}) > 1:
        raise ScanError(f"{path}: its noise scan changes its number of coils; remove it")
    return np.concatenate([line.values for line in lines], axis=1)


def noise_in_image(
    path: Path, lines: list[Line], dwell_us: float | None, image_dwell_us: float | None, oversampling: float
) -> tuple[NDArray[np.complex64], list[str]]:
    """Noise [coil sample] as in the image, and notes: at its bandwidth, from the part of the band that the image keeps.

    The variance of noise is proportional to its bandwidth, which is one over the time per sample (`dwell_us`).
    """
    kept = [replace(line, values=middle_of_band(line.values, oversampling)) for line in lines]
    samples = joined(path, kept)
    if dwell_us is None or image_dwell_us is None:
        return samples, ["the time per sample is not in the file: the noise scan may be of another bandwidth"]
    return samples * np.float32((dwell_us / image_dwell_us) ** 0.5), []
