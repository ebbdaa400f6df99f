"""Siemens raw data (twix): measurement data headers (MDH) of 192 bytes, and from VB 128 bytes, and their samples.

Fathom reads the format itself, because the existing packages run for ever on some damaged files. The offsets of the
headers' fields are facts of the format, as twixtools and pymapvbvd document them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import Choice, Scan
from .encoded_space import EncodedSpace
from .lines import Line, line_of, noise_in_image
from .twix_header import MAX_HEADER, TwixHeader

# In the order of the header.
COUNTERS = ("line", "average", "slice", "partition", "echo", "phase", "repetition", "set")
ACQUISITION_ENDS, SYNCHRONISATION, REFERENCE, REFERENCE_AND_IMAGE, REFLECTED, NOISE = 0, 5, 22, 23, 24, 25
NO_IMAGE = (1, 2, 14, 15, 21, 60)  # real-time and navigator feedback, phase stabilisation, phase correction
MAX_MEASUREMENTS = 64
MAX_KSPACE = 2**33


@dataclass(frozen=True)
class _Layout:
    """Where the header's fields are."""

    header: int  # bytes once per acquisition
    channel: int  # bytes before each channel's samples
    flags: int
    samples: int  # then channels, then the counters
    places: tuple[int, int, int, int]  # samples to discard at the start and end, centre of the readout, centre line


VD = _Layout(header=192, channel=32, flags=40, samples=48, places=(80, 82, 84, 96))
VB = _Layout(header=0, channel=128, flags=20, samples=28, places=(60, 62, 64, 76))


@dataclass(frozen=True, eq=False)
class _Measured:
    """An acquisition: what its header says, and its samples."""

    flags: int
    values: NDArray[np.complex64]  # [coil sample]
    counters: dict[str, int]
    discarded: tuple[int, int]  # samples at the line's start and end
    centre: int
    centre_line: int

    def has(self, *bits: int) -> bool:
        return any(self.flags >> bit & 1 for bit in bits)

    @property
    def is_reference(self) -> bool:
        """Whether it was measured for calibration alone."""
        return self.has(REFERENCE) and not self.has(REFERENCE_AND_IMAGE)

    def line(self, path: Path, column: int) -> Line:
        """Its samples as a line at a column."""
        samples = self.values.shape[1]
        return line_of(
            path,
            self.values,
            self.discarded,
            self.centre if 0 < self.centre < samples else samples // 2,
            self.has(REFLECTED),
            (self.counters["slice"], 0, column),
            self.counters["average"],
        )


@dataclass(frozen=True, eq=False)
class _Measurement:
    """One measurement of a file: its text header, and where its lines are."""

    layout: _Layout
    header: TwixHeader
    first: int  # byte of the lines
    end: int


def read(path: Path, choice: Choice) -> Scan:
    """The last measurement's imaging lines as [slice coil y x], y the readout; its noise lines as `noise`.

    Calibration lines are used as `EncodedSpace.calibrated` says.
    """
    data = np.memmap(path, np.uint8, "r")
    *earlier, last = _measurements(path, data)
    measured = list(_lines(path, data, last))
    lines = [line for line in measured if not line.has(NOISE, *NO_IMAGE)]
    kept = [line for line in lines if line.is_reference]
    images = [line for line in lines if not line.is_reference]
    if not images:  # all lines belong to a calibration scan, which is then the image
        images, kept = kept, []
    if not images:
        raise ScanError(f"{path}: has no imaging lines in its last measurement")
    images, notes = _one_value_each(images)
    if any(line.counters["partition"] for line in images):
        raise ScanError(f"{path}: is three-dimensional; Fathom reads two-dimensional twix, convert it to MRD")
    space, middle = _space_of(path, images)
    kspace, averages, more = space.filled([line.line(path, line.counters["line"]) for line in images])
    centred = [line.line(path, line.counters["line"] + middle - (line.centre_line or middle)) for line in kept]
    apart, said = space.calibrated(kspace, centred, last.header.calibration_mode)
    oversampling = 2 if space.readout % 2 == 0 else 1  # Siemens scanners always oversample the readout twofold
    noise, doubts = _noise(path, data, measured, last, earlier, oversampling)
    stored = space.ordered(kspace)
    return Scan(
        path,
        "twix",
        stored.shape,
        stored.__getitem__,
        oversampling=oversampling,
        noise=noise,
        averages=averages,
        calibration=None if apart is None else space.ordered(apart),
        notes=(*notes, *more, *said, *doubts),
    )


def _one_value_each(lines: list[_Measured]) -> tuple[list[_Measured], list[str]]:
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
    measured: list[_Measured],
    last: _Measurement,
    earlier: list[_Measurement],
    oversampling: float,
) -> tuple[NDArray[np.complex64] | None, list[str]]:
    """Noise [coil sample] as in the image, of the last measurement or an earlier one, and notes."""
    found, notes, header = [line for line in measured if line.has(NOISE)], [], last.header
    for other in reversed(earlier):  # scanners often make their adjustments in a separate measurement
        if not found:
            found, header = [line for line in _lines(path, data, other) if line.has(NOISE)], other.header
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


def _measurements(path: Path, data: NDArray[np.uint8]) -> list[_Measurement]:
    """Every measurement that is whole; raises ScanError where the last is not whole."""
    words = data[:8].view("<u4") if data.size >= 8 else np.zeros(2, "<u4")
    places = [(VB, 0, data.size)]
    if words[0] < 10_000 and 1 <= words[1] <= MAX_MEASUREMENTS:
        entries = [
            data[at : at + 16].view("<u8") for at in range(16, 16 + 152 * int(words[1]), 152) if at + 16 <= data.size
        ]
        spans = [(int(start), int(length)) for start, length in entries]
        places = [(VD, start, start + length if length else data.size) for start, length in spans]
    whole = []
    for layout, start, end in places:
        header = int(data[start : start + 4].view("<u4")[0]) if start + 4 <= data.size else 0
        if header >= 32 and start + header < end <= data.size:
            text = TwixHeader(data[start : min(start + header, start + MAX_HEADER)].tobytes())
            whole.append(_Measurement(layout, text, start + header, end))
        elif (layout, start, end) == places[-1]:
            whole = []
    if not whole:
        raise ScanError(
            f"{path}: is not complete Siemens raw data (twix), although its suffix says so; copy the file anew"
        )
    return whole


def _lines(path: Path, data: NDArray[np.uint8], measurement: _Measurement) -> Iterator[_Measured]:
    layout, at, end = measurement.layout, measurement.first, measurement.end
    while at + 128 <= end:
        head = data[at : at + 128]
        flags = int(head[layout.flags : layout.flags + 8].view("<u8")[0])
        if flags >> ACQUISITION_ENDS & 1:
            return
        if flags >> SYNCHRONISATION & 1:
            step = int(head[:4].view("<u4")[0]) % 2**25
            if step < 128:
                raise ScanError(f"{path}: its lines break off at byte {at}; copy the file anew")
            at += step
            continue
        samples, channels = (int(v) for v in head[layout.samples : layout.samples + 4].view("<u2"))
        block = layout.channel + 8 * samples
        step = layout.header + channels * block
        if channels == 0 or samples == 0 or at + step > end:
            raise ScanError(f"{path}: its lines break off at byte {at}; copy the file anew")
        blocks = data[at + layout.header : at + step].reshape(channels, block)
        values = np.ascontiguousarray(blocks[:, layout.channel :]).view(np.complex64)
        first = layout.samples + 4
        counters = head[first : first + 2 * len(COUNTERS)].view("<u2").tolist()
        pre, post, centre, centre_line = (int(head[k : k + 2].view("<u2")[0]) for k in layout.places)
        yield _Measured(flags, values, dict(zip(COUNTERS, counters, strict=True)), (pre, post), centre, centre_line)
        at += step


def _space_of(path: Path, lines: list[_Measured]) -> tuple[EncodedSpace, int]:
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
