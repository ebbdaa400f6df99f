import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from conftest import shared
from properties import complex_normal

from synth.errors import ScanError
from synth.physics import fft2c, ifft2c
from synth.scans.open import open_scan
from synth.scans.readers.hdf5 import strip_of


@pytest.fixture
def kspace(rng):
    return complex_normal(rng, 3, 4, 24, 20)  # slice coil y x


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


def test_npy_and_npz(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace)
    np.savez(tmp_path / "b.npz", kspace=kspace, mask=np.ones(20))
    np.save(tmp_path / "c.npy", kspace.transpose(2, 3, 0, 1).astype(np.complex128))
    for name, axes in (("a.npy", None), ("b.npz", None), ("c.npy", "y x slice coil")):
        scan = open_scan(tmp_path / name, axes=axes)
        assert scan.shape == (3, 4, 24, 20)
        np.testing.assert_allclose(np.stack(list(scan)), kspace, rtol=1e-6)
        assert bool(scan.notes) == (axes is None)
    with pytest.raises(ScanError, match="there is no slice 3"):
        scan[3]


def test_matlab_5_and_73(tmp_path, kspace):
    scipy.io.savemat(
        tmp_path / "five.mat",
        {"kData": kspace[0].transpose(1, 2, 0), "coil_sens": kspace[1].transpose(1, 2, 0), "note": "x"},
    )
    scan = open_scan(tmp_path / "five.mat")
    np.testing.assert_allclose(scan[0], kspace[0], rtol=1e-6)
    np.testing.assert_allclose(scan.maps(0), kspace[1], rtol=1e-6)
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        values = np.empty(kspace.shape, [("real", "f8"), ("imag", "f8")])
        values["real"], values["imag"] = kspace.real, kspace.imag
        file["kspace"] = values.transpose(1, 0, 3, 2)  # MATLAB's [y x slice coil], axes reversed
    with (tmp_path / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    np.testing.assert_allclose(np.stack(list(open_scan(tmp_path / "new.mat"))), kspace, rtol=1e-6)


def test_cfl_two_phase_encodings_slices_and_three_dimensions(tmp_path, kspace):
    one = kspace[0].transpose(1, 2, 0)  # y x coil
    write_cfl(tmp_path / "plane.cfl", one[None])
    write_cfl(tmp_path / "read.cfl", one[:, :, None])
    slices = np.zeros((24, 20, 1, 4, *[1] * 9, 3), np.complex64)
    slices.reshape(24, 20, 4, 3)[...] = kspace.transpose(2, 3, 1, 0)
    write_cfl(tmp_path / "slices.cfl", slices)
    for name, expected in (("plane", kspace[:1]), ("read", kspace[:1]), ("slices", kspace)):
        np.testing.assert_allclose(np.stack(list(open_scan(tmp_path / f"{name}.cfl"))), expected, rtol=1e-6)
    volume = kspace.transpose(0, 2, 3, 1)  # read phase1 phase2 coil, the slices being the readout
    write_cfl(tmp_path / "volume.cfl", volume)
    scan = open_scan(tmp_path / "volume.cfl")
    assert "three-dimensional" in scan.notes[0]
    from synth.physics import ifftc

    np.testing.assert_allclose(scan[1], ifftc(kspace, (0,))[1], atol=1e-5)
    write_cfl(tmp_path / "noise.cfl", kspace[0, :, 0].T[:, None, None, :])
    np.testing.assert_allclose(open_scan(tmp_path / "noise.cfl").noise, kspace[0, :, 0], rtol=1e-6)


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


def test_fastmri_with_its_padding_and_oversampling(tmp_path, kspace):
    """As fastMRI's files: the encoded width padded with zeros on both sides, the readout twice oversampled."""
    wide = np.zeros((3, 4, 48, 28), np.complex64)
    image = np.zeros((3, 4, 48, 20), np.complex64)
    image[:, :, 12:36] = ifft2c(kspace)  # in the middle
    wide[..., 4:24] = fft2c(image)
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file["kspace"], file["ismrmrd_header"] = wide, header(encoded=(48, 28))
    scan = open_scan(tmp_path / "f.h5")
    assert (scan.padding, scan.oversampling, scan.shape) == ((4, 4), 2, (3, 4, 24, 20))
    assert scan.field_of_view_mm == (200, 200)
    np.testing.assert_allclose(scan[2], kspace[2], atol=1e-5)
    assert scan.as_stored(0).shape == (4, 48, 28)


@pytest.mark.parametrize(
    ("left", "right", "columns"), [(4, 4, 28), (5, 4, 28), (4, 5, 28), (4, 4, 29), (3, 9, 40), (0, 7, 30)]
)
def test_stripping_keeps_the_centre(left, right, columns):
    a, b = strip_of(left, right, columns)
    assert a <= left
    assert b <= right
    assert columns // 2 - a == (columns - a - b) // 2
    assert a + b >= 2 * min(left, right) - 1


def mrd_types():
    head = np.dtype(
        [
            ("flags", "<u8"),
            ("number_of_samples", "<u2"),
            ("active_channels", "<u2"),
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


def flag(bit):
    return 1 << (bit - 1)


def test_mrd_flags(tmp_path, kspace, rng):
    noise, calibration = complex_normal(rng, 4, 60), complex_normal(rng, 4, 24)
    lines = [(noise, 0, 0, flag(19), {}), (calibration, 7, 0, flag(20), {}), (calibration, 7, 0, flag(23), {})]
    lines += [(kspace[s, :, :, x], x, s, 0, {}) for s in range(3) for x in range(20)]
    lines.append((2 * kspace[0, :, :, 3], 3, 0, 0, {"average": 1}))
    lines.append((9 * kspace[0, :, :, 3], 3, 0, 0, {"contrast": 1}))
    write_mrd(tmp_path / "m.mrd", lines, header(encoded=(24, 20), fov=(200, 200)))
    scan = open_scan(tmp_path / "m.mrd")
    np.testing.assert_allclose(scan.noise, noise)
    assert any("contrast" in note for note in scan.notes)
    expected = kspace.copy()
    expected[0, :, :, 3] *= 1.5
    np.testing.assert_allclose(np.stack([scan.as_stored(k) for k in range(3)]), expected, rtol=1e-5)


def test_mrd_lines_that_ran_backwards(tmp_path, rng):
    for n in (17, 20):
        kspace = complex_normal(rng, 2, n, 8)
        lines = [
            (kspace[:, ::-1, x] if x % 2 else kspace[:, :, x], x, 0, flag(22) if x % 2 else 0, {}) for x in range(8)
        ]
        write_mrd(tmp_path / f"r{n}.h5", lines, header(encoded=(n, 8), recon=(n, 8), fov=(200, 200), centre=4, last=7))
        np.testing.assert_allclose(open_scan(tmp_path / f"r{n}.h5").as_stored(0), kspace, rtol=1e-6)


def test_mrd_averages_bandwidth_and_encodings(tmp_path, rng):
    kspace, noise = complex_normal(rng, 2, 16, 8), complex_normal(rng, 2, 400)
    lines = [(noise, 0, 0, flag(19), {"sample_time_us": 1.25})]
    for average in range(4):
        lines += [(kspace[:, :, x], x, 0, 0, {"average": average, "sample_time_us": 5.0}) for x in range(8)]
    lines.append((9 * kspace[:, :, 0], 0, 0, 0, {"encoding_space_ref": 1, "sample_time_us": 5.0}))
    write_mrd(tmp_path / "a.h5", lines, header(encoded=(16, 8), recon=(16, 8), fov=(200, 200), centre=4, last=7))
    scan = open_scan(tmp_path / "a.h5")
    np.testing.assert_allclose(scan.as_stored(0), kspace, rtol=1e-5)
    assert scan.averages == 4
    assert any("encodings" in note for note in scan.notes)
    np.testing.assert_allclose(scan.noise, noise / 2, rtol=1e-5)  # a quarter of the bandwidth, half the sigma
    write_mrd(tmp_path / "b.h5", lines[:-2], header(encoded=(16, 8), recon=(16, 8), fov=(200, 200), centre=4, last=7))
    assert open_scan(tmp_path / "b.h5").averages is None


def test_bad_mrd(tmp_path, kspace):
    line = (kspace[0, :, :, 0], 0, 0, 0, {})
    write_mrd(tmp_path / "spiral.h5", [line], header(trajectory="spiral"))
    refused(tmp_path / "spiral.h5", "trajectory is spiral")
    write_mrd(tmp_path / "noise.h5", [(kspace[0, :3, :, 0], 0, 0, flag(19), {}), line], header(encoded=(24, 20)))
    refused(tmp_path / "noise.h5", "noise scan has 3 coils")
    write_mrd(tmp_path / "far.h5", [(kspace[0, :, :, 0], 99, 0, 0, {})], header(encoded=(24, 20)))
    refused(tmp_path / "far.h5", "outside its encoded space")
    write_mrd(tmp_path / "huge.h5", [line], header(encoded=(60000, 60000)))
    refused(tmp_path / "huge.h5", "far more than its lines fill")
    write_mrd(tmp_path / "only.h5", [(kspace[0, :, :, 0], 0, 0, flag(19), {})], header())
    refused(tmp_path / "only.h5", "no imaging lines")
    write_mrd(tmp_path / "xml.h5", [line], "<not xml")
    refused(tmp_path / "xml.h5", "no XML")


def test_hdf5_never_leads_out_of_the_file(tmp_path, kspace):
    np.save(tmp_path / "secret.npy", kspace)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["kspace"] = kspace
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["kspace"] = h5py.ExternalLink("other.h5", "/kspace")
    refused(tmp_path / "link.h5", "link to another file")
    with h5py.File(tmp_path / "storage.h5", "w") as file:
        file.create_dataset(
            "kspace", kspace.shape, np.complex64, external=[(tmp_path / "secret.npy", 0, kspace.nbytes)]
        )
    refused(tmp_path / "storage.h5", "stored in another file")
    layout = h5py.VirtualLayout(kspace.shape, np.complex64)
    layout[...] = h5py.VirtualSource(tmp_path / "other.h5", "kspace", kspace.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("kspace", layout)
    refused(tmp_path / "virtual.h5", "stored in another file")


def test_declared_sizes_are_not_believed(tmp_path):
    with h5py.File(tmp_path / "promise.h5", "w") as file:  # 100 terabytes of nothing
        file.create_dataset("kspace", (10**5, 16, 2800, 2800), np.complex64, chunks=(1, 1, 64, 64))
    refused(tmp_path / "promise.h5", "declared as")
    (tmp_path / "big.hdr").write_text("# Dimensions\n1000000 1000000 100 64\n")
    (tmp_path / "big.cfl").write_bytes(b"\0" * 64)
    refused(tmp_path / "big.cfl", "do not belong together")
    header = (
        np.lib.format.magic(1, 0)
        + b"v\0"
        + b"{'descr': '<c8', 'fortran_order': False, 'shape': (900000, 90000, 64), }".ljust(117)
        + b"\n"
    )
    (tmp_path / "big.npy").write_bytes(header)
    refused(tmp_path / "big.npy")


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/fathom-executed", "w"))


def test_what_is_no_scan(tmp_path, kspace):
    def put(name, data):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    refused(put("text.h5", b"this is text" * 100), "no HDF5")
    refused(put("empty.npy", b""))
    refused(put("empty.mat", b""))
    refused(put("cut.mat", b"MATLAB 5.0 MAT-file".ljust(140, b"\1")))
    refused(put("gre.dat", b"\0" * 3000))
    refused(put("picture.nii", b"\0" * 352), "no scan by its name")
    refused(put("alone.cfl", b"\0" * 80), "no alone.hdr")
    np.save(tmp_path / "objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    refused(tmp_path / "objects.npy")
    np.save(tmp_path / "real.npy", kspace.real)
    refused(tmp_path / "real.npy", "k-space is complex")
    np.save(tmp_path / "five.npy", kspace[None])
    refused(tmp_path / "five.npy", "name them")
    np.save(tmp_path / "small.npy", kspace[..., :4, :4])
    refused(tmp_path / "small.npy", "is no k-space")
    np.save(tmp_path / "psi.npy", np.eye(16).astype(np.complex64))
    refused(tmp_path / "psi.npy", "matrix between coils")
    kspace[1, 2, 3, 4] = np.nan
    np.save(tmp_path / "nan.npy", kspace)
    refused(tmp_path / "nan.npy", "slice 1", "not numbers")
    np.save(tmp_path / "zero.npy", np.zeros((2, 4, 24, 20), np.complex64))
    refused(tmp_path / "zero.npy", "zero everywhere")
    scipy.io.savemat(tmp_path / "none.mat", {"a": np.eye(20)})
    refused(tmp_path / "none.mat", "none of its arrays ['a'] is complex")
    scipy.io.savemat(tmp_path / "three.mat", {n: np.ones((20, 20)) * 1j + np.arange(20) for n in "pqr"})
    refused(tmp_path / "three.mat", "['p', 'q', 'r']", "name one as variable")
    refused(tmp_path / "three.mat", "do not fit", variable="p", axes="y x coil")
    refused(tmp_path, "is not a file")


@pytest.mark.parametrize(
    ("name", "shape", "options"),
    [
        ("brain_8ch_bart/full.cfl", (1, 8, 230, 180), {}),
        ("brain_8ch_bart/und2x2.cfl", (1, 8, 230, 180), {}),
        ("brain_mprage_4ch/MPRAGE_multi_channel.mat", (1, 4, 256, 256), {}),
        ("brain_t2_1ch/T2_single_channel.mat", (1, 1, 256, 340), {}),
        ("brain_prescan_16ch/preScanRefData.npy", (1, 16, 64, 64), {}),
        ("head_tse_2ch_32sl/kdata_body.mat", (32, 2, 128, 68), {}),
        ("phantom_gre_siemens/gre.dat", (1, 2, 160, 160), {}),
        ("noise/noise.cfl", (0, 16, 0, 0), {}),
        ("noise/noise2.cfl", (0, 16, 0, 0), {"shape": (377, 16), "axes": "sample coil"}),
        ("noise/noise_old.cfl", (0, 16, 0, 0), {"shape": (512, 16), "axes": "sample coil"}),
        ("noise/noise_cov.npz", (0, 16, 0, 0), {"variable": "bart2025_noise_scan_256x16", "axes": "sample coil"}),
    ],
)
def test_real_files(name, shape, options):
    scan = open_scan(shared(f"scans/{name}"), **options)
    assert (scan.stored[0], scan.coils, *(scan.matrix if len(scan) else (0, 0))) == shape
    if len(scan):
        image = scan.rss(len(scan) // 2)
        centre, edge = image[image.shape[0] // 4 : -image.shape[0] // 4].mean(), image[:4].mean()
        assert centre > 2 * edge  # a head, or a phantom, in the middle


def test_undersampling_is_noticed():
    (note,) = open_scan(shared("scans/brain_8ch_bart/und2x2.cfl")).notes
    assert "74 %" in note


def test_twixtools_agrees():
    twixtools = pytest.importorskip("twixtools")
    path = shared("scans/phantom_gre_siemens/gre.dat")
    theirs = np.zeros((2, 320, 160), np.complex64)
    for block in twixtools.read_twix(str(path), verbose=False)[-1]["mdb"]:
        theirs[:, :, block.cLin] = block.data
    np.testing.assert_array_equal(open_scan(path).as_stored(0), theirs)


def test_mutated_files_of_every_format_raise_nothing_else():
    """A taste of `tests/fuzz_readers.py`, which is run by hand for thousands."""
    program = Path(__file__).parents[2] / "fuzz_readers.py"
    done = subprocess.run([sys.executable, program, "77", "5"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["read"] + told["refused"] == 77
    assert told["refused"] > 30
    assert told["peak_MB"] < 500
