import h5py
import numpy as np
import scipy.io

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
