import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from conftest import shared
from scan_files import refused

from synth.errors import ScanError
from synth.scans.open import open_scan


def test_npy_and_npz(tmp_path, kspace):
    np.save(tmp_path / "a.npy", kspace)
    np.savez(tmp_path / "b.npz", kspace=kspace, mask=np.ones(20))
    np.save(tmp_path / "c.npy", kspace.transpose(2, 3, 0, 1).astype(np.complex128))
    for name, axes in (("a.npy", None), ("b.npz", None), ("c.npy", "y x slice coil")):
        scan = open_scan(tmp_path / name, axes=axes)
        assert scan.shape == (3, 4, 24, 20)
        np.testing.assert_allclose(np.stack(list(scan)), kspace, rtol=1e-6)
        assert any("guessed" in note for note in scan.notes) == (axes is None)
    with pytest.raises(ScanError, match="there is no slice 3"):
        scan[3]


def test_declared_sizes_are_not_believed(tmp_path):
    with h5py.File(tmp_path / "promise.h5", "w") as file:  # 100 terabytes of nothing
        file.create_dataset("kspace", (10**5, 16, 2800, 2800), np.complex64, chunks=(1, 1, 64, 64))
    refused(tmp_path / "promise.h5", "declared as")
    (tmp_path / "big.hdr").write_text("# Dimensions\n1000000 1000000 100 64\n")
    (tmp_path / "big.cfl").write_bytes(b"\0" * 64)
    refused(tmp_path / "big.cfl", "holds 8 samples", "it is cut off, or big.hdr is another file's")
    (tmp_path / "big.hdr").write_text("# Dimensions\n2 2\n")
    refused(tmp_path / "big.cfl", "need 4; big.hdr is another file's")
    (tmp_path / "empty.npy").touch()
    refused(tmp_path / "empty.npy", "is empty; copy it anew")
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

    refused(put("text.h5", b"this is text" * 100), "not an HDF5 file")
    refused(put("empty.npy", b""))
    refused(put("empty.mat", b""))
    refused(put("cut.mat", b"MATLAB 5.0 MAT-file".ljust(140, b"\1")))
    refused(put("gre.dat", b"\0" * 3000))
    refused(put("picture.nii", b"\0" * 352), "does not have the suffix of a scan")
    refused(put("alone.cfl", b"\0" * 80), "no alone.hdr")
    np.save(tmp_path / "objects.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    refused(tmp_path / "objects.npy")
    np.save(tmp_path / "real.npy", kspace.real)
    refused(tmp_path / "real.npy", "k-space is complex")
    np.save(tmp_path / "five.npy", kspace[None])
    refused(tmp_path / "five.npy", "name them")
    np.save(tmp_path / "small.npy", kspace[..., :4, :4])
    refused(tmp_path / "small.npy", "cannot be k-space")
    np.save(tmp_path / "psi.npy", np.eye(16).astype(np.complex64))
    refused(tmp_path / "psi.npy", "matrix [coil coil]")
    kspace[1, 2, 3, 4] = np.nan
    np.save(tmp_path / "nan.npy", kspace)
    refused(tmp_path / "nan.npy", "slice 1", "NaN or infinite")
    np.save(tmp_path / "zero.npy", np.zeros((2, 4, 24, 20), np.complex64))
    refused(tmp_path / "zero.npy", "zero everywhere")
    scipy.io.savemat(tmp_path / "none.mat", {"a": np.eye(20)})
    refused(tmp_path / "none.mat", "none of its arrays is complex", "Numeric arrays in it: ['a']")
    scipy.io.savemat(tmp_path / "three.mat", {n: np.ones((20, 20)) * 1j + np.arange(20) for n in "pqr"})
    refused(tmp_path / "three.mat", "['p', 'q', 'r']", "name one as variable")
    refused(tmp_path / "three.mat", "do not fit", variable="p", axes="y x coil")
    refused(tmp_path, "is not a file; give a scan")
    refused(tmp_path / "zero", "is not a file; did you mean zero.npy?")


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
    done = subprocess.run([sys.executable, program, "22", "5"], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["read"] + told["calibrated"] + told["refused"] == 22
    assert told["refused"] > 7
    assert told["calibrated"] > 0
    assert told["peak_MB"] < 500


def test_a_path_and_a_text_are_wanted(kspace):
    for arguments in ((kspace,), (3,)):
        with pytest.raises(TypeError, match="open_scan takes the path of a file"):
            open_scan(*arguments)
    with pytest.raises(TypeError, match="axes = 3"):
        open_scan("scan.npy", axes=3)
