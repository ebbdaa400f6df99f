"""Siemens raw data (twix): its lines become k-space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...physics import ifftc
from ..scan import Choice, Scan
from .encoded_space import EncodedSpace
from .lines import noise_in_image
from .twix_epi import regridded, without_ghosts
from .twix_header import TwixHeader
from .twix_lines import NO_IMAGE, NOISE, PHASE_CORRECTION, REFLECTED, Measured, Measurement, lines_in, measurements_in

MAX_KSPACE = 2**33
CUT = 0.25  # power of the brightest row that is cut off, over that of the image, above which it is told


def read(path: Path, choice: Choice) -> Scan:
    """The last measurement's imaging lines as [slice coil y x], y the readout; its noise lines as `noise`.

    Calibration lines are used as `EncodedSpace.calibrated` says.
    """
    data = np.memmap(path, np.uint8, "r")
    *earlier, last = measurements_in(path, data)
    measured, gain, notes = regridded(path, list(lines_in(path, data, last)), last.header)
    lines = [line for line in measured if not line.has(NOISE, *NO_IMAGE)]
    kept = [line for line in lines if line.is_reference]
    images = [line for line in lines if not line.is_reference]
    if not images:  # all lines belong to a calibration scan, which is then the image
        images, kept = kept, []
    if not images:
        raise ScanError(f"{path}: has no imaging lines in its last measurement")
    images, taken = _one_value_each(images)
    if any(line.counters["partition"] for line in images):
        raise ScanError(f"{path}: is three-dimensional; Fathom reads two-dimensional twix, convert it to MRD")
    corrections = [line for line in measured if line.has(PHASE_CORRECTION)]
    images, ghosts = without_ghosts(images, [line for line in corrections if not line.is_reference] or corrections)
    kept, _ = without_ghosts(kept, [line for line in corrections if line.is_reference])
    space, middle = _space_of(path, images)
    kspace, averages, more = space.filled([line.line(path, line.counters["line"]) for line in images])
    centred = [line.line(path, line.counters["line"] + middle - (line.centre_line or middle)) for line in kept]
    apart, said = space.calibrated(kspace, centred, last.header.calibration_mode)
    oversampling, unsure = _oversampling(last.header, kspace)
    noise, doubts = _noise(path, data, measured, last, earlier, oversampling)
    stored = space.ordered(kspace)
    return Scan(
        path,
        "twix",
        stored.shape,
        stored.__getitem__,
        oversampling=oversampling,
        noise=None if noise is None else noise * np.float32(gain),
        noise_bandwidth_known=last.header.dwell_us is not None,
        averages=averages,
        calibration=None if apart is None else space.ordered(apart),
        notes=(*notes, *taken, *ghosts, *more, *said, *unsure, *doubts),
    )


def _oversampling(header: TwixHeader, kspace: NDArray[np.complex64]) -> tuple[int, list[str]]:
    """By how much the readout of k-space [slice partition column coil sample] is oversampled, and a note of doubt.

    Siemens scanners oversample it twofold; `flReadoutOSFactor` says so. Where a header lacks it, and the half of the
    field of view that is cut off is as bright as an object, that is told.
    """
    samples, told = kspace.shape[-1], header.number("flReadoutOSFactor")
    if samples % 2 or told == 1:
        return 1, []
    rows = np.mean(np.abs(ifftc(kspace[len(kspace) // 2, 0])) ** 2, axis=(0, 1))
    noise = float(np.sort(rows)[: max(samples // 8, 1)].mean())
    inside = np.abs(np.arange(samples) - samples // 2) < samples // 4
    brightest, lost = (float(rows[part].max()) - noise for part in (inside, ~inside))
    if told is not None or lost < max(CUT * brightest, noise):
        return 2, []
    doubt = "its header does not say that the readout is oversampled (flReadoutOSFactor): twofold is taken, as usual"
    return 2, [f"{doubt}, and the signal outside of the middle half of its image is cut off"]


def _one_value_each(lines: list[Measured]) -> tuple[list[Measured], list[str]]:
    """The lines with the first value of each counter that tells images apart, and notes."""
    notes = []
    for name in ("echo", "phase", "repetition", "set"):
        values = {line.counters[name] for line in lines}
        if len(values) > 1:
            notes.append(f"its lines have {len(values)} values of '{name}'; the first is taken")
            lines = [line for line in lines if line.counters[name] == min(values)]
    return lines, notes


def _noise(
    path: Path,
    data: NDArray[np.uint8],
    measured: list[Measured],
    last: Measurement,
    earlier: list[Measurement],
    oversampling: float,
) -> tuple[NDArray[np.complex64] | None, list[str]]:
    """Noise [coil sample] as in the image, of the last measurement or an earlier one, and notes."""
    found, notes, header = [line for line in measured if line.has(NOISE)], [], last.header
    for other in reversed(earlier):  # scanners often make their adjustments in a separate measurement
        if not found:
            found, header = [line for line in lines_in(path, data, other) if line.has(NOISE)], other.header
            notes = ["the noise scan is from an earlier measurement, whose receiver may differ"] if found else []
    if not found or len({len(line.values) for line in found}) > 1:
        return None, []
    dwell = float(np.mean([header.noise_dwell_us(line.values.shape[1]) for line in found]))
    noise, doubts = noise_in_image(
        path, [line.line(path, 0) for line in found], dwell, last.header.dwell_us, oversampling
    )
    if not doubts:
        doubts = [f"a noise line's time per sample is not in the file: {dwell:g} us is taken, as scanners measure it"]
    return noise, [*notes, *doubts]


def _space_of(path: Path, lines: list[Measured]) -> tuple[EncodedSpace, int]:
    """Where lines lie around the centre line and the centre of the echo, and the counter of the centre line."""
    coils, samples = lines[0].values.shape
    if any(line.values.shape != (coils, samples) for line in lines):
        raise ScanError(f"{path}: its imaging lines differ in coils or samples; convert the part you want to MRD")
    first = next((line for line in lines if not line.has(REFLECTED)), lines[0]).line(path, 0)
    centre, samples = first.centres[-1], first.values.shape[1]
    readout = 2 * max(centre, samples - centre)
    last = max(line.counters["line"] for line in lines)
    middle = lines[0].centre_line if 0 < lines[0].centre_line <= last else (last + 1) // 2
    columns = 2 * max(middle, last + 1 - middle)
    slices = tuple(sorted({line.counters["slice"] for line in lines}))
    if 8 * len(slices) * coils * readout * columns > min(MAX_KSPACE, 64 * sum(line.values.nbytes for line in lines)):
        raise ScanError(f"{path}: its counters declare far more lines than it has; copy the file anew")
    return EncodedSpace(path, coils, readout, columns, 1, (middle, 0), slices), middle
