"""Siemens raw data (twix): measurement data headers (MDH) of 192 bytes, and from VB 128 bytes, and their samples.

Fathom reads the format itself, because the existing packages run for ever on some damaged files. The offsets of the
headers' fields are facts of the format, as twixtools and pymapvbvd document them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import Choice, Scan

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
    centre: int  # of the readout
    centre_line: int


VD = _Layout(header=192, channel=32, flags=40, samples=48, centre=84, centre_line=96)
VB = _Layout(header=0, channel=128, flags=20, samples=28, centre=64, centre_line=76)


@dataclass(frozen=True, eq=False)
class _Line:
    flags: int
    values: NDArray[np.complex64]  # [coil sample]
    counters: dict[str, int]
    centre: int
    centre_line: int

    def has(self, bit: int) -> bool:
        return bool(self.flags >> bit & 1)

    @property
    def is_image(self) -> bool:
        reference = self.has(REFERENCE) and not self.has(REFERENCE_AND_IMAGE)
        return not (reference or self.has(NOISE) or any(self.has(bit) for bit in NO_IMAGE))


def read(path: Path, choice: Choice) -> Scan:
    """The last measurement's imaging lines as [slice coil y x], y the readout; its noise lines as `noise`."""
    data = np.memmap(path, np.uint8, "r")
    measurements = _measurements(path, data)
    lines = list(_lines(path, data, *measurements[-1]))
    noise, notes = [line.values for line in lines if line.has(NOISE)], []
    for earlier in reversed(measurements[:-1]):  # scanners often make their adjustments in a separate measurement
        if not noise:
            noise = [line.values for line in _lines(path, data, *earlier) if line.has(NOISE)]
            notes = ["the noise scan is from an earlier measurement, whose bandwidth may differ"] if noise else []
    images = [line for line in lines if line.is_image]
    if not images:
        raise ScanError(f"{path}: has no imaging lines in its last measurement")
    for name in ("echo", "phase", "repetition", "set"):
        values = {line.counters[name] for line in images}
        if len(values) > 1:
            notes.append(f"its lines have {len(values)} values of '{name}'; the first is taken")
            images = [line for line in images if line.counters[name] == min(values)]
    if any(line.counters["partition"] for line in images):
        raise ScanError(f"{path}: is three-dimensional; Fathom reads two-dimensional twix, convert it to MRD")
    kspace, averages = _sorted(path, images)
    slices, coils, y, x = kspace.shape
    return Scan(
        path,
        "twix",
        (slices, coils, y, x),
        kspace.__getitem__,
        oversampling=2 if y % 2 == 0 else 1,  # Siemens scanners always oversample the readout twofold
        noise=np.concatenate(noise, axis=1) if noise and len({len(n) for n in noise}) == 1 else None,
        averages=averages,
        notes=tuple(notes),
    )


def _measurements(path: Path, data: NDArray[np.uint8]) -> list[tuple[_Layout, int, int]]:
    """Layout, first byte of the lines and end of every measurement; raises ScanError where the last is not whole."""
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
            whole.append((layout, start + header, end))
        elif (layout, start, end) == places[-1]:
            whole = []
    if not whole:
        raise ScanError(
            f"{path}: is not complete Siemens raw data (twix), although its suffix says so; copy the file anew"
        )
    return whole


def _lines(path: Path, data: NDArray[np.uint8], layout: _Layout, at: int, end: int) -> Iterator[_Line]:
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
        centre, centre_line = (int(head[k : k + 2].view("<u2")[0]) for k in (layout.centre, layout.centre_line))
        yield _Line(flags, values, dict(zip(COUNTERS, counters, strict=True)), centre, centre_line)
        at += step


def _sorted(path: Path, lines: list[_Line]) -> tuple[NDArray[np.complex64], int | None]:
    """Lines as [slice coil y x], the mean over averages, placed around the centre line and the centre of the echo."""
    coils, samples = lines[0].values.shape
    if any(line.values.shape != (coils, samples) for line in lines):
        raise ScanError(f"{path}: its imaging lines differ in coils or samples; convert the part you want to MRD")
    centre = lines[0].centre if 0 < lines[0].centre < samples else samples // 2
    readout = 2 * max(centre, samples - centre)
    last = max(line.counters["line"] for line in lines)
    middle = lines[0].centre_line if 0 < lines[0].centre_line <= last else (last + 1) // 2
    columns = 2 * max(middle, last + 1 - middle)
    slices = 1 + max(line.counters["slice"] for line in lines)
    if 8 * slices * coils * readout * columns > min(MAX_KSPACE, 64 * sum(line.values.nbytes for line in lines)):
        raise ScanError(f"{path}: its counters declare far more lines than it has; copy the file anew")
    kspace = np.zeros((slices, columns, coils, readout), np.complex64)
    count = np.zeros((slices, columns), np.int32)
    for line in lines:
        values = line.values[:, ::-1] if line.has(REFLECTED) else line.values
        turned = line.has(REFLECTED) and samples != readout  # a full line is reversed as a whole
        start = readout // 2 - (samples - 1 - centre if turned else centre)
        place: Any = line.counters["slice"], line.counters["line"] - middle + columns // 2
        kspace[place][:, max(start, 0) : max(start, 0) + samples] += values
        count[place] += 1
    kspace /= np.maximum(count, 1)[..., None, None]
    taken = np.unique(count[count > 0])
    return np.ascontiguousarray(kspace.transpose(0, 2, 3, 1)), int(taken[0]) if len(taken) == 1 else None
