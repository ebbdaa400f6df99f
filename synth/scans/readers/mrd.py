"""MRD (ISMRMRD) acquisitions, all in one read of their compound dataset."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ..scan import Scan
from .encoded_space import EncodedSpace
from .isolated import read_apart
from .lines import Line, joined, line_of, noise_in_image
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
        discarded = [int(head[name]) if name in head.dtype.names else 0 for name in ("discard_pre", "discard_post")]
        index = head["idx"]
        where = (int(index["slice"]), int(index["kspace_encode_step_2"]), int(index["kspace_encode_step_1"]))
        centre = int(head["center_sample"])
        return line_of(
            path=self.path,
            values=values,
            discarded=discarded,
            centre=centre,
            backwards=backwards,
            where=where,
            average=int(index["average"]),
        )


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
    found = read_apart(path, "hdf5", *(datasets[f"{group}/{name}"].name for name in ("xml", "data")))
    heads: Any = found["head"]
    data = np.empty(len(heads), object)
    data[:] = np.split(found["data"], np.cumsum(found["sizes"])[:-1]) if len(heads) else []
    return header_of(path, found["text"].tobytes()), _Acquisitions(path, heads, data)


def _noise_alone(path: Path, found: list[_Acquisitions]) -> Scan:
    """A scan without slices, from a file that holds only noise."""
    if not found:
        raise ScanError(f"{path}: has no imaging lines and no noise lines among its acquisitions; export it anew")
    noise = joined(path, found[0].where(found[0].having(NOISE)).lines())
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
    room = _space_of(path, header, image.lines())
    kspace, averages, more = room.filled(image.lines())
    apart, said = room.calibrated(kspace, kept.lines(), text_in(header, "parallelImaging/calibrationMode"))
    oversampling, field_of_view = readout_of(header, room.readout)
    samples, doubt = None, list[str]()
    if noise is not None:
        samples, doubt = noise_in_image(path, noise.lines(), noise.dwell_us, image.dwell_us, oversampling)
    stored = room.ordered(kspace)
    return Scan(
        path,
        "mrd",
        stored.shape,
        stored.__getitem__,
        oversampling=oversampling,
        noise=samples,
        noise_bandwidth_known=not doubt,
        averages=averages,
        calibration=None if apart is None else room.ordered(apart),
        field_of_view_mm=field_of_view,
        notes=(*notes, *more, *said, *oversampling_note(header), *doubt),
    )


def _one_value(image: _Acquisitions, counter: str) -> tuple[_Acquisitions, list[str]]:
    """The acquisitions with one value of a counter: that with most lines, or the first of several such values."""
    values, counts = np.unique(image.heads["idx"][counter], return_counts=True)
    if len(values) == 1:
        return image, []
    taken = values[int(np.argmax(counts))]
    note = f"its lines have {len(values)} values of the counter '{counter}'; the value {taken} is taken"
    return image.where(image.heads["idx"][counter] == taken), [note]


def _space_of(path: Path, header: ET.Element, lines: list[Line]) -> EncodedSpace:
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
    return EncodedSpace(path, coils, x, y, z, (centres[0], centres[1]), slices)
