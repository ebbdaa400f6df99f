"""The lines of Siemens raw data: measurement data headers (MDH) of 192 bytes, and from VB 128 bytes, and samples.

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
from .lines import Line, line_of
from .twix_header import MAX_HEADER, TwixHeader

# In the order of the header.
COUNTERS = ("line", "average", "slice", "partition", "echo", "phase", "repetition", "set")
ACQUISITION_ENDS, SYNCHRONISATION, REFERENCE, REFERENCE_AND_IMAGE, REFLECTED, NOISE = 0, 5, 22, 23, 24, 25
PHASE_CORRECTION, NOT_REGRIDDED = 21, 55
NO_IMAGE = (
    1,
    2,
    14,
    15,
    PHASE_CORRECTION,
    60,
)  # real-time and navigator feedback, phase stabilisation, phase correction
MAX_MEASUREMENTS = 64


@dataclass(frozen=True)
class Layout:
    """Where the header's fields are."""

    header: int  # bytes once per acquisition
    channel: int  # bytes before each channel's samples
    flags: int
    samples: int  # then channels, then the counters
    places: tuple[int, int, int, int]  # samples to discard at the start and end, centre of the readout, centre line


VD = Layout(header=192, channel=32, flags=40, samples=48, places=(80, 82, 84, 96))
VB = Layout(header=0, channel=128, flags=20, samples=28, places=(60, 62, 64, 76))


@dataclass(frozen=True, eq=False)
class Measured:
    """An acquisition: what its header says, and its samples."""

    flags: int
    values: NDArray[np.complex64]  # [coil sample]
    counters: dict[str, int]
    discarded: tuple[int, int]  # samples at the line's start and end
    centre: int
    centre_line: int
    off_centre_mm: float  # distance of the field of view from the magnet's centre, along the readout

    def has(self, *bits: int) -> bool:
        """Whether it has one of these flags."""
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
class Measurement:
    """One measurement of a file: its text header, and where its lines are."""

    layout: Layout
    header: TwixHeader
    first: int  # byte of the lines
    end: int


def measurements_in(path: Path, data: NDArray[np.uint8]) -> list[Measurement]:
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
            whole.append(Measurement(layout, text, start + header, end))
        elif (layout, start, end) == places[-1]:
            whole = []
    if not whole:
        raise ScanError(
            f"{path}: is not complete Siemens raw data (twix), although its suffix says so; copy the file anew"
        )
    return whole


def lines_in(path: Path, data: NDArray[np.uint8], measurement: Measurement) -> Iterator[Measured]:
    """The acquisitions of a measurement, in order; raises ScanError where they break off."""
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
        off_centre = float(head[layout.places[2] + 4 : layout.places[2] + 8].view("<f4")[0])
        named = dict(zip(COUNTERS, counters, strict=True))
        yield Measured(flags, values, named, (pre, post), centre, centre_line, off_centre)
        at += step
