import numpy as np
from properties import complex_normal
from scan_files import flag, header, refused, write_mrd

from synth.scans.open import open_scan


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
