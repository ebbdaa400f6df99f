"""Siemens echo-planar scans: lines are regridded by the header's trapezoid and corrected by phase-correction lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from .epi import Trapezoid, are_alike, noise_gain, polarity_phase, regridding, without_phase
from .twix_header import TwixHeader
from .twix_lines import NOISE, NOT_REGRIDDED, REFLECTED, Measured

EVEN, TRAPEZOID = 1, 2  # values of `alRegridMode`
TIMES = ("alRegridRampupTime", "alRegridFlattopTime", "alRegridRampdownTime", "alRegridDelaySamplesTime")
REMEDY = "let the scanner's or another program grid it, and give even k-space"
MOST = 4096  # samples of a line
OFF_CENTRE = 0.25  # turns of phase at a line's ends that are told


def regridded(path: Path, measured: list[Measured], header: TwixHeader) -> tuple[list[Measured], float, list[str]]:
    """Lines with even samples, the factor by which that raises sigma, and notes.

    Raises ScanError where the header says that lines are uneven, but not how.
    """
    mode = int(header.number("alRegridMode") or 0)
    if mode == 0 and any(line.has(REFLECTED) for line in measured):
        doubt = "its lines ran in both directions, and its header does not say whether samples lie on gradient ramps"
        return measured, 1.0, [f"{doubt} (alRegridMode): they are taken as even"]
    if mode in (0, EVEN):
        return measured, 1.0, []
    if mode != TRAPEZOID:
        raise ScanError(f"{path}: its readout is sampled unevenly, with alRegridMode {mode}; {REMEDY}")
    trapezoid = _trapezoid(path, header)
    uneven = [line for line in measured if not line.has(NOISE, NOT_REGRIDDED)]
    sizes = {line.values.shape[1] for line in uneven}
    wanted = int(header.number("alRegridDestSamples") or 0)
    matrix = None
    if len(sizes) == 1 and wanted % 2 == 0 and max(sizes) // 4 <= wanted <= max(sizes) <= MOST:
        positions = trapezoid.positions(max(sizes), wanted)
        matrix = regridding(positions, wanted)
    if matrix is None or any(max(line.discarded) > 0 for line in uneven):
        raise ScanError(
            f"{path}: its readout is sampled on gradient ramps (alRegridMode {mode}), and {sorted(sizes)} samples per "
            f"line cannot be brought to alRegridDestSamples = {wanted} even ones; {REMEDY}"
        )
    even = [line if line.has(NOISE, NOT_REGRIDDED) else _even(line, matrix) for line in measured]
    told = ["its readout is sampled on gradient ramps: it is regridded, and its noise is not quite white along it"]
    return even, noise_gain(matrix), [*told, *_off_centre(uneven, header, positions)]


def _even(line: Measured, matrix: NDArray[np.complex128]) -> Measured:
    return replace(line, values=np.asarray(line.values @ matrix.T, np.complex64), centre=len(matrix) // 2)


def _trapezoid(path: Path, header: TwixHeader) -> Trapezoid:
    found = [header.number(name) for name in (*TIMES, "aflRegridADCDuration")]
    absent = [name for name, value in zip((*TIMES, "aflRegridADCDuration"), found, strict=True) if value is None]
    up, flat, down, delay, duration = (value or 0.0 for value in found)
    if absent or min(up, flat, down, duration) < 0 or duration == 0 or up + flat + down == 0:
        told = f"lacks {', '.join(absent)}" if absent else f"has times that are no trapezoid's: {found}"
        raise ScanError(f"{path}: its readout is sampled on gradient ramps, and its header {told}; {REMEDY}")
    trapezoid = Trapezoid(up, flat, down, delay, duration)
    if not trapezoid.is_centred:
        raise ScanError(
            f"{path}: its readout is sampled on gradient ramps, and its samples are not around the gradient's middle "
            f"(alRegridDelaySamplesTime = {delay:g} us, aflRegridADCDuration = {duration:g} us); {REMEDY}"
        )
    return trapezoid


def _off_centre(lines: list[Measured], header: TwixHeader, positions: NDArray[np.float64]) -> list[str]:
    """A note where the field of view is off-centre along the readout: the receiver's frequency ignores the ramps.

    It is that of the gradient's flat top for the whole line. The phase that is left is the distance from the centre,
    over the field of view of all samples, times the difference of positions in k-space.
    """
    field_of_view = 2 * (header.number("sSliceArray.asSlice[0].dReadoutFOV") or 0.0)
    distance = max(abs(line.off_centre_mm) for line in lines)
    n = len(positions)
    even = (np.arange(n) + 0.5 - n / 2) * np.diff(positions).max()
    turns = distance / field_of_view * float(np.abs(even - positions).max()) if field_of_view > 0 else distance
    if turns <= OFF_CENTRE:
        return []
    return [
        f"its field of view is {distance:.1f} mm off-centre along the readout: the phase that this leaves on samples "
        "of the ramps is not corrected"
    ]


def without_ghosts(lines: list[Measured], corrections: list[Measured]) -> tuple[list[Measured], list[str]]:
    """Lines of both directions with the same phase, by the phase-correction lines of their slice, and notes."""
    if len({line.has(REFLECTED) for line in lines}) < 2:
        return lines, []
    shape = lines[0].values.shape
    found = {key: _phase([line for line in corrections if _key(line) == key], shape) for key in set(map(_key, lines))}
    phases = {key: phase for key, phase in found.items() if phase is not None}
    notes = []
    if phases:
        notes.append("its lines ran in both directions: their phase is corrected by its phase-correction lines")
    if len(phases) < len(found):
        notes.append(
            "its lines ran in both directions, and the file has no phase-correction lines that can be used: expect a "
            "ghost at half the field of view"
        )
    return [_corrected(line, phases[_key(line)]) if _key(line) in phases else line for line in lines], notes


def _key(line: Measured) -> tuple[int, int]:
    return line.counters["slice"], line.counters["repetition"]


def _phase(corrections: list[Measured], shape: tuple[int, ...]) -> NDArray[np.float64] | None:
    """Phase of forward lines over backward ones from phase-correction lines; None where these cannot be used."""
    fitting = [line for line in corrections if line.values.shape == shape]
    forward = [line.values for line in fitting if not line.has(REFLECTED)]
    backward = [line.values[:, ::-1] for line in fitting if line.has(REFLECTED)]
    if not forward or not backward:
        return None
    ahead, back = np.mean(forward, axis=0), np.mean(backward, axis=0)
    return polarity_phase(ahead, back) if are_alike(ahead, back) else None


def _corrected(line: Measured, phase: NDArray[np.float64]) -> Measured:
    """Half of the phase is taken from lines of each direction."""
    if not line.has(REFLECTED):
        return replace(line, values=without_phase(line.values, phase / 2))
    return replace(line, values=without_phase(line.values[:, ::-1], -phase / 2)[:, ::-1])
