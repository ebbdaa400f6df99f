"""MRD (ISMRMRD) acquisitions, all in one read of their compound dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ScanError
from ...physics import ifftc
from ..scan import Scan
from .isolated import read_apart
from .mrd_header import NAMESPACE, header_of, number_in, readout_of

# Bits of an acquisition's flags, counted from 1 as in ismrmrd.h.
NOISE, CALIBRATION, REVERSE, NAVIGATION, PHASE_CORRECTION = 19, 20, 22, 23, 24
OTHER = (NAVIGATION, PHASE_CORRECTION, 26, 27, 28, 29)  # no image: feedback, dummy scans, surface coil correction too
MAX_SAMPLES = 2**31


def read_acquisitions(path: Path, datasets: dict[str, Any], group: str) -> Scan:
    """Lines sorted to [slice coil y x], y the readout; averages are averaged, of other counters the first is taken."""
    if f"{group}/xml" not in datasets:
        raise ScanError(f"{path}: has acquisitions but no header '{group}/xml'; export it anew")
    found = read_apart(path, "hdf5", f"{group}/xml", f"{group}/data")
    root = header_of(path, found["text"].tobytes())
    kind = (root.findtext(f"{NAMESPACE}encoding/{NAMESPACE}trajectory") or "cartesian").strip()
    if kind != "cartesian":
        raise ScanError(f"{path}: its trajectory is {kind}; Fathom reads Cartesian scans, grid it first")
    heads: Any = found["head"]
    data = np.empty(len(heads), object)  # each acquisition's numbers
    data[:] = np.split(found["data"], np.cumsum(found["sizes"])[:-1]) if len(heads) else []
    flags = heads["flags"].astype(np.uint64)
    image = ~_has(flags, NOISE) & ~_has(flags, CALIBRATION)
    for bit in OTHER:
        image &= ~_has(flags, bit)
    if not image.any():
        raise ScanError(f"{path}: has no imaging lines among its {len(heads)} acquisitions")
    notes = []
    if (heads["encoding_space_ref"][image] != 0).any():
        notes.append("it has several encodings; the first is taken")
        image &= heads["encoding_space_ref"] == 0
    noise = _noise(path, heads, data, _has(flags, NOISE))
    dwell = [heads["sample_time_us"][chosen] for chosen in (_has(flags, NOISE), image)]
    if noise is not None and all(d.size and d.min() > 0 for d in dwell):
        noise = noise * np.float32(np.sqrt(dwell[0].mean() / dwell[1].mean()))  # variance goes with the bandwidth
    for counter in ("contrast", "phase", "repetition", "set"):
        values = heads["idx"][counter][image]
        if (values != values.min()).any():
            notes.append(f"it has {len(np.unique(values))} of {counter}; the first is taken")
            image &= heads["idx"][counter] == values.min()
    kspace, averages = _sorted(path, root, heads[image], data[image], _has(flags, REVERSE)[image])
    oversampling, field_of_view = readout_of(root, kspace.shape[2])
    slices, coils, y, x = kspace.shape
    return Scan(
        path,
        "mrd",
        (slices, coils, y, x),
        kspace.__getitem__,
        oversampling=oversampling,
        noise=noise,
        averages=averages,
        field_of_view_mm=field_of_view,
        notes=tuple(notes),
    )


def _has(flags: NDArray[np.uint64], bit: int) -> NDArray[np.bool_]:
    return np.asarray((flags >> np.uint64(bit - 1)) & np.uint64(1) == 1)


def _samples(path: Path, head: Any, data: NDArray[Any]) -> NDArray[np.complex64]:
    """One acquisition [coil sample]."""
    coils, samples = int(head["active_channels"]), int(head["number_of_samples"])
    if data.size != 2 * coils * samples:
        raise ScanError(f"{path}: an acquisition of {coils} x {samples} samples holds {data.size // 2}; it is damaged")
    return np.ascontiguousarray(data, np.float32).view(np.complex64).reshape(coils, samples)


def _noise(path: Path, heads: Any, data: Any, chosen: NDArray[np.bool_]) -> NDArray[np.complex64] | None:
    if not chosen.any():
        return None
    lines = [_samples(path, h, d) for h, d in zip(heads[chosen], data[chosen], strict=True)]
    if len({len(line) for line in lines}) > 1:
        raise ScanError(f"{path}: its noise scan changes its number of coils; remove it")
    return np.concatenate(lines, axis=1)


def _sorted(
    path: Path, root: Any, heads: Any, data: Any, reverse: NDArray[np.bool_]
) -> tuple[NDArray[np.complex64], int | None]:
    """Lines as [slice coil y x], and of how many each is the mean (None where that differs)."""
    first = heads[0]
    coils, samples = int(first["active_channels"]), int(first["number_of_samples"])
    if (heads["active_channels"] != coils).any():
        raise ScanError(f"{path}: its lines have different numbers of coils; export the imaging lines alone")
    sizes = [int(number_in(root, f"encoding/encodedSpace/matrixSize/{axis}", 1)) for axis in ("x", "y", "z")]
    readout, columns, depth = max(sizes[0], 1), max(sizes[1], 1), max(sizes[2], 1)
    limit = "encoding/encodingLimits/kspace_encoding_step_"
    centres = [int(number_in(root, f"{limit}{k}/center", n // 2)) for k, n in ((1, columns), (2, depth))]
    slices = int(heads["idx"]["slice"].max()) + 1
    if coils * readout * columns * depth * slices > min(MAX_SAMPLES, 64 * max(sum(d.size for d in data), 1)):
        raise ScanError(f"{path}: its header promises {readout} x {columns} x {depth}, far more than its lines fill")
    if samples > readout:
        raise ScanError(f"{path}: its lines have {samples} samples, its encoded space {readout}; its header is damaged")
    kspace = np.zeros((slices, depth, columns, coils, readout), np.complex64)
    count = np.zeros((slices, depth, columns), np.int32)
    for head, line, backwards in zip(heads, data, reverse, strict=True):
        values = _samples(path, head, line)
        centre = int(head["center_sample"])
        if backwards:
            values = values[:, ::-1]
            centre = (
                centre if values.shape[1] == readout else values.shape[1] - 1 - centre
            )  # whole lines just turn round
        start = readout // 2 - centre
        place = (
            int(head["idx"]["slice"]),
            int(head["idx"]["kspace_encode_step_2"]) - centres[1] + depth // 2,
            int(head["idx"]["kspace_encode_step_1"]) - centres[0] + columns // 2,
        )
        if not (0 <= place[1] < depth and 0 <= place[2] < columns and 0 <= start <= readout - values.shape[1]):
            raise ScanError(f"{path}: a line lies at {place[1:]}, outside its encoded space; its header is damaged")
        kspace[place][:, start : start + values.shape[1]] += values
        count[place] += 1
    kspace /= np.maximum(count, 1)[..., None, None]
    if depth > 1:
        kspace = ifftc(kspace, (1,))
    taken = np.unique(count[count > 0])
    lines = np.ascontiguousarray(kspace.reshape(-1, columns, coils, readout).transpose(0, 2, 3, 1))
    return lines, int(taken[0]) if len(taken) == 1 else None
