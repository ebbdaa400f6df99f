"""MRD (ISMRMRD) acquisitions, all in one read of their compound dataset."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...physics import ifftc
from ..scan import Scan
from .isolated import read_apart
from .lines import Line, average_lines, middle_of_band
from .mrd_header import encoding_of, header_of, number_in, oversampling_note, readout_of, text_in

# Bits of an acquisition's flags, counted from 1 as in ismrmrd.h.
NOISE, CALIBRATION, REVERSE = 19, 20, 22
# Navigator, phase correction, feedback (HP, RT), dummy, surface coil correction, phase stabilisation (reference, data)
NO_IMAGE = (23, 24, 26, 27, 28, 29, 30, 31)
COUNTERS = ("contrast", "phase", "repetition", "set")
MAX_SAMPLES = 2**31


@dataclass(frozen=True, eq=False)
class _Acquisitions:
    """Some acquisitions of a file: the header and the samples of each."""

    path: Path
    heads: Any
    data: NDArray[Any]

    def __len__(self) -> int:
        return len(self.heads)

    def having(self, *bits: int) -> NDArray[np.bool_]:
        """Which of the acquisitions have one of these flags."""
        flags = self.heads["flags"].astype(np.uint64)
        return np.any([(flags >> np.uint64(bit - 1)) & np.uint64(1) == 1 for bit in bits], axis=0)

    def where(self, chosen: NDArray[np.bool_]) -> _Acquisitions:
        """The chosen acquisitions."""
        return replace(self, heads=self.heads[chosen], data=self.data[chosen])

    @property
    def dwell_us(self) -> float | None:
        """Mean time per sample; None where the file does not contain it."""
        times = self.heads["sample_time_us"]
        return float(times.mean()) if len(times) and times.min() > 0 else None

    def lines(self) -> list[Line]:
        """All acquisitions, without the samples that their headers discard; reversed ones are turned round."""
        return [self._line(*one) for one in zip(self.heads, self.data, self.having(REVERSE), strict=True)]

    def _line(self, head: Any, data: NDArray[Any], backwards: bool) -> Line:
        coils, samples = int(head["active_channels"]), int(head["number_of_samples"])
        if data.size != 2 * coils * samples or data.size == 0:
            raise ScanError(
                f"{self.path}: an acquisition of {coils} x {samples} samples holds {data.size // 2}; it is damaged"
            )
        values = np.ascontiguousarray(data, np.float32).view(np.complex64).reshape(coils, samples)
        first, end = (int(head[name]) if name in head.dtype.names else 0 for name in ("discard_pre", "discard_post"))
        if first + end >= samples:
            raise ScanError(f"{self.path}: an acquisition discards {first + end} of {samples} samples; export it anew")
        centres: tuple[int, ...] = (int(head["center_sample"]) - first,)
        values = values[:, first : samples - end]
        if backwards:  # files count the centre in the order of storage, or as in a forward line
            values, centres = values[:, ::-1], (values.shape[1] - 1 - centres[0], *centres)
        index = head["idx"]
        where = (int(index["slice"]), int(index["kspace_encode_step_2"]), int(index["kspace_encode_step_1"]))
        return Line(values, where, int(index["average"]), centres)


def read_acquisitions(path: Path, datasets: dict[str, Any], wanted: str | None = None) -> Scan:
    """Sort lines to [slice coil y x], y the readout; average the averages, take one value of each other counter.

    `wanted` names the group of acquisitions to read. By default it is the first group that holds imaging lines.
    """
    groups = groups_of_acquisitions(datasets)
    chosen = [g for g in groups if wanted is None or g.strip("/") == wanted.strip("/")]
    opened = {group: _opened(path, datasets, group) for group in chosen}
    imaging = [group for group, (_, all_lines) in opened.items() if (~all_lines.having(NOISE, *NO_IMAGE)).any()]
    noises = [lines for _, lines in opened.values() if len(lines) and lines.having(NOISE).any()]
    if not imaging:
        return _noise_alone(path, noises)
    root, acquisitions = opened[imaging[0]]
    notes: list[str] = []
    if len(imaging) > 1:
        others = ", ".join(imaging[1:])
        notes.append(f"the group of acquisitions {imaging[0]} is read; to read one of {others}, name it as variable")
    own = acquisitions if acquisitions.having(NOISE).any() else next(iter(noises), None)
    noise = None if own is None else own.where(own.having(NOISE))
    return _scan_of(path, root, acquisitions.where(~acquisitions.having(NOISE, *NO_IMAGE)), noise, notes)


def groups_of_acquisitions(datasets: dict[str, Any]) -> list[str]:
    """The groups of a file that hold acquisitions, sorted."""
    return sorted(n.rpartition("/")[0] for n, d in datasets.items() if d.dtype.names and "head" in d.dtype.names)


def _opened(path: Path, datasets: dict[str, Any], group: str) -> tuple[ET.Element, _Acquisitions]:
    if f"{group}/xml" not in datasets:
        raise ScanError(f"{path}: has acquisitions but no header '{group}/xml'; export it anew")
    found = read_apart(path, "hdf5", f"{group}/xml", f"{group}/data")
    heads: Any = found["head"]
    data = np.empty(len(heads), object)
    data[:] = np.split(found["data"], np.cumsum(found["sizes"])[:-1]) if len(heads) else []
    return header_of(path, found["text"].tobytes()), _Acquisitions(path, heads, data)


def _noise_alone(path: Path, found: list[_Acquisitions]) -> Scan:
    """A scan without slices, from a file that holds only noise."""
    if not found:
        raise ScanError(f"{path}: has no imaging lines and no noise lines among its acquisitions; export it anew")
    noise = _joined(path, [line.values for line in found[0].where(found[0].having(NOISE)).lines()])
    return Scan(path, "mrd", (0, len(noise), 0, 0), _nothing, noise=noise)


def _nothing(number: int) -> NDArray[Any]:
    raise IndexError(number)


def _scan_of(path: Path, root: ET.Element, image: _Acquisitions, noise: _Acquisitions | None, notes: list[str]) -> Scan:
    spaces = image.heads["encoding_space_ref"]
    space = int(spaces[~image.having(CALIBRATION)].min() if (~image.having(CALIBRATION)).any() else spaces.min())
    if (spaces != space).any():
        notes.append(f"it has several encodings; number {space} is taken")
    image = image.where(spaces == space)
    header = encoding_of(root, space)
    kind = text_in(header, "trajectory") or "cartesian"
    if kind != "cartesian":
        raise ScanError(f"{path}: its trajectory is {kind}; Fathom reads Cartesian scans, grid it first")
    image, kept = image.where(~image.having(CALIBRATION)), image.where(image.having(CALIBRATION))
    if not len(image):  # all lines belong to a calibration scan, which is then the image
        image, kept = kept, image
    for counter in COUNTERS:
        image, note = _one_value(image, counter)
        notes += note
    space_of = _Space.of(path, header, image.lines())
    kspace, averages, more = space_of.filled(path, image.lines())
    apart, said = _calibration(path, header, space_of, kspace, kept.lines())
    oversampling, field_of_view = readout_of(header, space_of.readout)
    samples, doubt = _noise_samples(path, noise, image.dwell_us, oversampling)
    stored = space_of.ordered(kspace)
    return Scan(
        path,
        "mrd",
        stored.shape,
        stored.__getitem__,
        oversampling=oversampling,
        noise=samples,
        averages=averages,
        calibration=None if apart is None else space_of.ordered(apart),
        field_of_view_mm=field_of_view,
        notes=(*notes, *more, *said, *oversampling_note(header), *doubt),
    )


def _calibration(
    path: Path, header: ET.Element, space: _Space, kspace: NDArray[np.complex64], lines: list[Line]
) -> tuple[NDArray[np.complex64] | None, list[str]]:
    """Put calibration lines into k-space where they belong to the image; otherwise return them as separate k-space.

    They belong to the image where the header says "embedded", or where it says nothing and no calibration line has the
    position of an imaging line.
    """
    if not lines:
        return None, []
    fitting = [line for line in lines if line.where[0] in space.slices and line.values.shape[1] <= space.readout]
    if len(fitting) < len(lines) or any(len(line.values) != space.coils for line in lines):
        return None, [f"{len(lines)} calibration lines do not fit the image's coils, slices or readout; not used"]
    measured = kspace.any(axis=(-2, -1))
    placed = [space.placed(path, line) for line in lines]
    mode = text_in(header, "parallelImaging/calibrationMode")
    more, count, _ = average_lines(placed, measured.shape, space.readout)
    alone = (count > 0) & ~measured
    if mode == "embedded" or (mode not in ("separate", "external") and not ((count > 0) & measured).any()):
        kspace[alone] = more[alone]
        return None, [f"{int(alone.sum())} calibration lines are used where no other line was measured"]
    return more, [f"{len(lines)} calibration lines are a separate scan: they are in `calibration`, not in the image"]


def _one_value(image: _Acquisitions, counter: str) -> tuple[_Acquisitions, list[str]]:
    """The acquisitions with one value of a counter: that with most lines, or the first of several such values."""
    values, counts = np.unique(image.heads["idx"][counter], return_counts=True)
    if len(values) == 1:
        return image, []
    taken = values[int(np.argmax(counts))]
    note = f"its lines have {len(values)} values of the counter '{counter}'; the value {taken} is taken"
    return image.where(image.heads["idx"][counter] == taken), [note]


def _joined(path: Path, lines: list[NDArray[np.complex64]]) -> NDArray[np.complex64]:
    if len({len(line) for line in lines}) > 1:
        raise ScanError(f"{path}: its noise scan changes its number of coils; remove it")
    return np.concatenate(lines, axis=1)


def _noise_samples(
    path: Path, noise: _Acquisitions | None, dwell_us: float | None, oversampling: float
) -> tuple[NDArray[np.complex64] | None, list[str]]:
    """Noise [coil sample] as in the image: at its bandwidth, from the part of the band that the image keeps."""
    if noise is None:
        return None, []
    samples = _joined(path, [middle_of_band(line.values, oversampling) for line in noise.lines()])
    if noise.dwell_us is None or dwell_us is None:
        return samples, ["the time per sample is not in the file: the noise scan may be of another bandwidth"]
    return samples * np.float32((noise.dwell_us / dwell_us) ** 0.5), []  # variance is proportional to bandwidth


@dataclass(frozen=True)
class _Space:
    """The encoded space of an MRD file: how many samples, columns and partitions, and where their centres are."""

    coils: int
    readout: int
    columns: int
    depth: int
    centres: tuple[int, int]  # counters of the central column and of the central partition
    slices: tuple[int, ...]  # numbers of the slices that have lines

    @classmethod
    def of(cls, path: Path, header: ET.Element, lines: list[Line]) -> _Space:
        """The encoded space of a header; raises ScanError where lines do not fit it."""
        coils = len(lines[0].values)
        if any(len(line.values) != coils for line in lines):
            raise ScanError(f"{path}: its lines have different numbers of coils; export the imaging lines alone")
        x, y, z = (max(int(number_in(header, f"encodedSpace/matrixSize/{axis}", 1)), 1) for axis in ("x", "y", "z"))
        limit = "encodingLimits/kspace_encoding_step_"
        centres = [int(number_in(header, f"{limit}{k}/center", n // 2)) for k, n in ((1, y), (2, z))]
        slices = tuple(sorted({line.where[0] for line in lines}))
        longest = max(line.values.shape[1] for line in lines)
        promised = coils * x * y * z * len(slices)
        if promised > min(MAX_SAMPLES, 64 * max(sum(2 * line.values.size for line in lines), 1)):
            raise ScanError(f"{path}: its header declares {x} x {y} x {z}, far more than its lines fill; it is damaged")
        if longest > x:
            raise ScanError(f"{path}: its lines have {longest} samples, its encoded space {x}; its header is damaged")
        return cls(coils, x, y, z, (centres[0], centres[1]), slices)

    def filled(self, path: Path, lines: list[Line]) -> tuple[NDArray[np.complex64], int | None, list[str]]:
        """K-space [slice partition column coil sample], the number of lines of which each is the mean, and notes.

        The number is None where it differs between lines.
        """
        size = (len(self.slices), self.depth, self.columns)
        kspace, count, notes = average_lines([self.placed(path, line) for line in lines], size, self.readout)
        if self.slices != tuple(range(len(self.slices))):
            notes.append(f"its slices are numbered {', '.join(map(str, self.slices))}; here they are counted from 0")
        taken = np.unique(count[count > 0])
        return kspace, int(taken[0]) if len(taken) == 1 else None, notes

    def ordered(self, kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Bring [slice partition column coil sample] to [slice coil y x]; partitions become slices."""
        hybrid = ifftc(kspace, (1,)) if self.depth > 1 else kspace
        lines = hybrid.reshape(-1, self.columns, self.coils, self.readout)
        return np.ascontiguousarray(lines.transpose(0, 2, 3, 1), np.complex64)

    def placed(self, path: Path, line: Line) -> Line:
        """A line at its position in k-space, filled up with zeros to the whole readout."""
        samples = line.values.shape[1]
        starts = [0] if samples == self.readout and len(line.centres) > 1 else []
        starts += [self.readout // 2 - centre for centre in line.centres]
        start = next((s for s in starts if 0 <= s <= self.readout - samples), None)
        slices, step_2, step_1 = line.where
        z, x = step_2 - self.centres[1] + self.depth // 2, step_1 - self.centres[0] + self.columns // 2
        if start is None or not (0 <= z < self.depth and 0 <= x < self.columns):
            raise ScanError(f"{path}: a line lies at {(z, x)}, outside its encoded space; its header is damaged")
        values = np.zeros((self.coils, self.readout), np.complex64)
        values[:, start : start + samples] = line.values
        return replace(line, values=values, where=(self.slices.index(slices), z, x))
