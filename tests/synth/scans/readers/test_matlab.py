import h5py
import numpy as np
import pytest
import scipy.io

from synth.errors import ScanError
from synth.scans.open import open_scan


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


@pytest.mark.parametrize(("real", "imaginary"), [("k_re", "k_im"), ("kspaceReal", "kspaceImag"), ("ReK", "ImK")])
def test_real_and_imaginary_parts_as_two_arrays(tmp_path, kspace, real, imaginary):
    stored = kspace[0].transpose(1, 2, 0)
    scipy.io.savemat(tmp_path / "two.mat", {real: stored.real, imaginary: stored.imag, "other": stored.real})
    scan = open_scan(tmp_path / "two.mat")
    np.testing.assert_allclose(scan[0], kspace[0], rtol=1e-6)
    assert f"the arrays '{real},{imaginary}' were taken as the real and imaginary part of the k-space" in scan.notes


def test_two_real_arrays_by_name(tmp_path, kspace):
    stored = kspace[0].transpose(1, 2, 0)
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["a"], file["b"], file["short"] = stored.real.T, stored.imag.T, stored.real.T[:2]
    with (tmp_path / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    np.testing.assert_allclose(open_scan(tmp_path / "new.mat", variable="a,b")[0], kspace[0], rtol=1e-6)
    with pytest.raises(ScanError, match=r"none of its arrays is complex.*'real,imaginary'.*\['a', 'b', 'short'\]"):
        open_scan(tmp_path / "new.mat")
    with pytest.raises(ScanError, match="are not two real arrays alike"):
        open_scan(tmp_path / "new.mat", variable="a,short")
    with pytest.raises(ScanError, match="variable 'a,c': 'c'"):
        open_scan(tmp_path / "new.mat", variable="a,c")


def test_real_arrays_beside_complex_ones_are_not_read(tmp_path, kspace):
    """One that is declared and never written, which cannot be read, does not stop the k-space from being read."""
    stored = kspace[0].transpose(1, 2, 0)
    values = np.empty(stored.T.shape, [("real", "f8"), ("imag", "f8")])
    values["real"], values["imag"] = stored.real.T, stored.imag.T
    with h5py.File(tmp_path / "new.mat", "w", userblock_size=512) as file:
        file["kspace"] = values
        file.create_dataset("unwritten", (1000, 1000), "f8", chunks=(100, 100))
    with (tmp_path / "new.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    np.testing.assert_allclose(open_scan(tmp_path / "new.mat")[0], kspace[0], rtol=1e-6)


def test_structs_are_said(tmp_path, kspace):
    scipy.io.savemat(tmp_path / "s.mat", {"data": {"kspace": kspace[0]}, "count": np.ones((3, 3))})
    with pytest.raises(ScanError, match=r"structs, cells and texts \['data'\] are not looked into"):
        open_scan(tmp_path / "s.mat")


def test_a_complex_trajectory_is_not_taken_as_kspace(tmp_path, kspace):
    """Positions kx + i ky of 30 radial spokes."""
    trajectory = np.linspace(-0.5, 0.5, 256)[:, None] * np.exp(1j * np.arange(30) * np.pi / 30)
    scipy.io.savemat(tmp_path / "t.mat", {"k": trajectory, "samples": kspace[0].transpose(1, 2, 0)})
    scan = open_scan(tmp_path / "t.mat")
    np.testing.assert_allclose(scan[0], kspace[0], rtol=1e-6)
    assert "'samples' was taken as the k-space, from the complex arrays ['k', 'samples']" in scan.notes
    scipy.io.savemat(tmp_path / "alone.mat", {"k": trajectory})
    with pytest.raises(ScanError, match=r"\['k'\] are as smooth as a trajectory"):
        open_scan(tmp_path / "alone.mat")
