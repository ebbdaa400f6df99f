import numpy as np
from scan_files import write_cfl

from synth.physics import ifftc
from synth.scans.open import open_scan


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

    np.testing.assert_allclose(scan[1], ifftc(kspace, (0,))[1], atol=1e-5)
    write_cfl(tmp_path / "noise.cfl", kspace[0, :, 0].T[:, None, None, :])
    np.testing.assert_allclose(open_scan(tmp_path / "noise.cfl").noise, kspace[0, :, 0], rtol=1e-6)
