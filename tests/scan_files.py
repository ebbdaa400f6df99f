"""Files of scans, written as others write them, and what reading them gives."""

import h5py
import numpy as np
import pytest

from synth.errors import ScanError
from synth.physics import fftc, ifftc
from synth.scans.open import open_scan


def read_all(path, **options):
    scan = open_scan(path, **options)
    return [scan[k] for k in range(len(scan))]


def refused(path, *expected, **options):
    with pytest.raises(ScanError) as error:
        read_all(path, **options)
    for part in (path.name, *expected):
        assert part in str(error.value), str(error.value)


def write_cfl(path, array):
    path.with_suffix(".hdr").write_text("# Dimensions\n" + " ".join(map(str, array.shape)) + "\n")
    array.astype(np.complex64).ravel(order="F").tofile(path)


def header(encoded=(48, 20), recon=(24, 20), fov=(400, 200), centre=10, last=19, trajectory="cartesian"):
    def space(name, size, f):
        sizes = "".join(f"<{a}>{n}</{a}>" for a, n in zip("xyz", (*size, 1), strict=True))
        fovs = "".join(f"<{a}>{n}</{a}>" for a, n in zip("xyz", (*f, 5), strict=True))
        return f"<{name}><matrixSize>{sizes}</matrixSize><fieldOfView_mm>{fovs}</fieldOfView_mm></{name}>"

    step = f"<minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center>"
    limits = f"<kspace_encoding_step_1>{step}</kspace_encoding_step_1>"
    return (
        '<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><encoding>'
        f"{space('encodedSpace', encoded, fov)}{space('reconSpace', recon, (fov[0] / 2, fov[1]))}"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>{trajectory}</trajectory></encoding></ismrmrdHeader>"
    )


def mrd_types():
    head = np.dtype(
        [
            ("flags", "<u8"),
            ("number_of_samples", "<u2"),
            ("active_channels", "<u2"),
            ("discard_pre", "<u2"),
            ("discard_post", "<u2"),
            ("center_sample", "<u2"),
            ("encoding_space_ref", "<u2"),
            ("sample_time_us", "<f4"),
            (
                "idx",
                [
                    (n, "<u2")
                    for n in (
                        "kspace_encode_step_1",
                        "kspace_encode_step_2",
                        "average",
                        "slice",
                        "contrast",
                        "phase",
                        "repetition",
                        "set",
                    )
                ],
            ),
        ]
    )
    return head, np.dtype([("head", head), ("data", h5py.vlen_dtype(np.float32))])


def write_mrd(path, lines, xml):
    """`lines` are (values [coil sample], column, slice, flags, counters)."""
    head, record = mrd_types()
    records = np.zeros(len(lines), record)
    for k, (values, column, number, flags, counters) in enumerate(lines):
        item = np.zeros((), head)
        item["flags"], item["number_of_samples"], item["active_channels"] = flags, values.shape[1], values.shape[0]
        item["center_sample"] = values.shape[1] // 2
        item["idx"]["kspace_encode_step_1"], item["idx"]["slice"] = column, number
        for name, value in counters.items():
            if name in head.names:
                item[name] = value
            else:
                item["idx"][name] = value
        records[k]["head"] = item
        records[k]["data"] = np.ascontiguousarray(values).view(np.float32).ravel()
    with h5py.File(path, "w") as file:
        file.create_dataset("dataset/data", data=records, dtype=record)
        file["dataset/xml"] = np.array([xml], dtype=h5py.string_dtype())


def middle_half(noise):
    """The middle half of the band of noise [coil sample], by the centred transform."""
    quarter = noise.shape[1] // 4
    return ifftc(fftc(noise)[:, noise.shape[1] // 2 - quarter : noise.shape[1] // 2 + quarter])


def flag(bit):
    return 1 << (bit - 1)
