import h5py
import numpy as np
import pytest
from properties import complex_normal
from scan_files import flag, header, middle_half, refused, write_mrd

from synth.calibration.scan_noise import calibrate
from synth.physics import fft2c, ifft2c, ifftc
from synth.scans.open import open_scan


def test_mrd_flags(tmp_path, kspace, rng):
    noise, calibration = complex_normal(rng, 4, 60), complex_normal(rng, 4, 24)
    lines = [(noise, 0, 0, flag(19), {}), (calibration, 7, 0, flag(20), {}), (calibration, 7, 0, flag(23), {})]
    lines += [(kspace[s, :, :, x], x, s, 0, {}) for s in range(3) for x in range(20)]
    lines.append((2 * kspace[0, :, :, 3], 3, 0, 0, {"average": 1}))
    lines.append((9 * kspace[0, :, :, 3], 3, 0, 0, {"contrast": 1}))
    write_mrd(tmp_path / "m.mrd", lines, header(encoded=(24, 20), fov=(200, 200)))
    scan = open_scan(tmp_path / "m.mrd")
    np.testing.assert_allclose(scan.noise, middle_half(noise), rtol=1e-5, atol=1e-6)
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
    half_sigma = middle_half(noise) / 2  # a quarter of the bandwidth
    np.testing.assert_allclose(scan.noise, half_sigma, rtol=1e-5, atol=1e-6)
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
    write_mrd(tmp_path / "only.h5", [(kspace[0, :, :, 0], 0, 0, flag(24), {})], header())
    refused(tmp_path / "only.h5", "no imaging lines and no noise lines")
    write_mrd(tmp_path / "xml.h5", [line], "<not xml")
    refused(tmp_path / "xml.h5", "not XML")


def calibrate_noise(scan):
    return calibrate(scan, place="noise scan").rms_sigma


def image_lines(kspace, flags=0, **counters):
    """A line for each column of k-space [coil y x]."""
    return [(kspace[:, :, x], x, 0, flags, counters) for x in range(kspace.shape[-1])]


def opened(path, lines, xml=None):
    write_mrd(path, lines, xml or header(encoded=(24, 20), fov=(200, 200)).replace(">100.0<", ">200<"))
    return open_scan(path)


def test_embedded_calibration_lines_are_used_and_said(tmp_path, kspace):
    lines = [line for line in image_lines(kspace[0]) if line[1] % 4 == 0]
    calibration = [(line[0], line[1], 0, flag(20), {}) for line in image_lines(kspace[0])[6:14] if line[1] % 4]
    scan = opened(tmp_path / "e.h5", lines + calibration)
    expected = kspace[0].copy()
    expected[..., [x for x in range(20) if x % 4 and not 6 <= x < 14]] = 0
    np.testing.assert_array_equal(scan.as_stored(0), expected)
    assert "6 calibration lines are used where no other line was measured" in scan.notes
    assert scan.calibration is None


def test_a_separate_calibration_scan_stays_beside_the_image(tmp_path, kspace):
    calibration = [(3 * line[0], line[1], 0, flag(20), {}) for line in image_lines(kspace[0])[8:12]]
    scan = opened(tmp_path / "s.h5", image_lines(kspace[0]) + calibration)
    np.testing.assert_array_equal(scan.as_stored(0), kspace[0])
    np.testing.assert_array_equal(scan.calibration[0][..., 8:12], 3 * kspace[0][..., 8:12])
    assert not scan.calibration[0][..., :8].any()
    assert any("separate scan" in note for note in scan.notes)


def test_samples_that_are_to_be_discarded_are(tmp_path, kspace):
    rubbish = np.full((4, 4), 1e3, np.complex64)
    more = [np.concatenate([rubbish, kspace[0, :, :, x], rubbish[:, :2]], axis=1) for x in range(20)]
    counters = {"discard_pre": 4, "discard_post": 2, "center_sample": 12 + 4}
    scan = opened(tmp_path / "d.h5", [(values, x, 0, 0, counters) for x, values in enumerate(more)])
    np.testing.assert_array_equal(scan.as_stored(0), kspace[0])


def test_reversed_lines_in_both_ways_of_counting_the_centre(tmp_path, kspace):
    for centre in (12, 24 - 1 - 12):
        lines = [
            (line[0][:, ::-1], line[1], 0, flag(22), {"center_sample": centre}) if line[1] % 2 else line
            for line in image_lines(kspace[0])
        ]
        np.testing.assert_array_equal(opened(tmp_path / f"{centre}.h5", lines).as_stored(0), kspace[0])


def test_lines_with_the_same_counters_are_averaged_where_they_differ_by_noise_alone(tmp_path, rng):
    signal = 50 * np.exp(-((np.arange(24) - 12) ** 2) / 8)[:, None] * complex_normal(rng, 4, 1, 20)
    first, second = ((signal + complex_normal(rng, 4, 24, 20)).astype(np.complex64) for _ in range(2))
    scan = opened(tmp_path / "same.h5", image_lines(first) + image_lines(second))
    np.testing.assert_allclose(scan.as_stored(0), (first + second) / 2, rtol=1e-4, atol=1e-4)
    assert scan.averages == 2
    scan = opened(tmp_path / "echo.h5", image_lines(first) + image_lines((second - 0.4 * signal).astype(np.complex64)))
    np.testing.assert_allclose(scan.as_stored(0), first, rtol=1e-5)
    assert scan.averages == 1
    assert any("20 lines have the same counters as others but differ" in note for note in scan.notes)


def test_one_line_that_is_no_repetition_is_left_out(tmp_path, rng):
    """A line away from k-space's centre, whose signal is as strong at the readout's ends as in its middle."""
    first, second = 9 * complex_normal(rng, 4, 24, 20), complex_normal(rng, 4, 24, 20)
    first[..., :10], second[..., :10] = 0.1 * first[..., :10], 0.1 * second[..., :10]
    noisy = [(first[:, :, x].astype(np.complex64), x, 0, 0, {}) for x in range(20)]
    scan = opened(tmp_path / "o.h5", [*noisy, (9 * first[:, :, 15], 15, 0, 0, {})])
    np.testing.assert_allclose(scan.as_stored(0), first, rtol=1e-5)
    assert "1 lines have the same counters as others but differ" in " ".join(scan.notes)
    again = (first[:, :, 3] + 0.9 * second[:, :, 3]).astype(np.complex64)  # differs by noise
    scan = opened(tmp_path / "n.h5", [*noisy, (again, 3, 0, 0, {})])
    assert not any("same counters" in note for note in scan.notes)
    np.testing.assert_allclose(scan.as_stored(0)[..., 3], (first[:, :, 3] + again) / 2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bit", [23, 24, 26, 27, 28, 29, 30, 31])
def test_lines_that_are_no_image_are_left_out(tmp_path, kspace, bit):
    scan = opened(tmp_path / "f.h5", [*image_lines(kspace[0]), (9 * kspace[0, :, :, 3], 3, 0, flag(bit), {})])
    np.testing.assert_array_equal(scan.as_stored(0), kspace[0])
    assert scan.averages == 1


def test_slices_encodings_and_repetitions_that_do_not_begin_with_0(tmp_path, kspace):
    lines = [(values, x, k, 0, {}) for k in (1, 3) for values, x, *_ in image_lines(kspace[k // 2])]
    scan = opened(tmp_path / "slices.h5", lines)
    np.testing.assert_array_equal(np.stack([scan.as_stored(k) for k in range(2)]), kspace[:2])
    assert "its slices are numbered 1, 3; here they are counted from 0" in scan.notes
    scan = opened(tmp_path / "encoding.h5", image_lines(kspace[0], encoding_space_ref=1))
    np.testing.assert_array_equal(scan.as_stored(0), kspace[0])
    lines = image_lines(kspace[1])[:5] + image_lines(kspace[0], repetition=1)
    scan = opened(tmp_path / "dummies.h5", lines)
    np.testing.assert_array_equal(scan.as_stored(0), kspace[0])
    assert "its lines have 2 values of the counter 'repetition'; the value 1 is taken" in scan.notes


def test_groups_are_named_and_noise_alone_is_a_scan_of_noise(tmp_path, kspace, rng):
    noise = complex_normal(rng, 4, 400)
    write_mrd(tmp_path / "noise.h5", [(noise, 0, 0, flag(19), {})], header())
    alone = open_scan(tmp_path / "noise.h5")
    assert len(alone) == 0
    np.testing.assert_array_equal(alone.noise, noise)
    assert calibrate_noise(alone) == pytest.approx(1, rel=0.2)
    write_mrd(tmp_path / "two.h5", image_lines(kspace[0]), header(encoded=(24, 20)))
    write_mrd(tmp_path / "second.h5", image_lines(kspace[1]), header(encoded=(24, 20)))
    with h5py.File(tmp_path / "two.h5", "a") as file, h5py.File(tmp_path / "second.h5") as other:
        other.copy("dataset", file, "later")
    scan = open_scan(tmp_path / "two.h5")
    np.testing.assert_array_equal(scan.as_stored(0), kspace[0])
    assert any("/dataset is read; to read one of /later, name it as variable" in note for note in scan.notes)
    np.testing.assert_array_equal(open_scan(tmp_path / "two.h5", variable="later").as_stored(0), kspace[1])


def test_a_readout_oversampled_by_one_and_a_half(tmp_path, kspace):
    wide = np.zeros((4, 36, 20), np.complex64)
    wide[:, 18 - 12 : 18 + 12] = ifft2c(kspace[0])
    xml = header(encoded=(36, 20), recon=(24, 20), fov=(300, 200)).replace(">150.0<", ">200<")
    scan = opened(tmp_path / "o.h5", image_lines(fft2c(wide)), xml)
    assert scan.shape == (1, 4, 24, 20)
    np.testing.assert_allclose(scan[0], kspace[0], atol=1e-5)
    assert not scan.oversampling_removed


def test_the_noise_scan_is_that_of_the_middle_of_the_receivers_band(tmp_path, rng, kspace):
    """A filter that halves the power in the outer quarters of the band: the image keeps the middle, of sigma 1."""
    spectrum = complex_normal(rng, 4, 4096)
    spectrum[:, np.abs(np.arange(4096) - 2048) > 1024] *= 0.5
    lines = [(ifftc(spectrum), 0, 0, flag(19), {}), *image_lines(np.concatenate([kspace[0], kspace[1]], axis=1))]
    xml = header(encoded=(48, 20), recon=(24, 20), fov=(400, 200))
    scan = opened(tmp_path / "filter.h5", lines, xml)
    assert calibrate_noise(scan) == pytest.approx(1, rel=0.02)  # all samples together have 0.79
    assert any("time per sample is not in the file" in note for note in scan.notes)


def test_capitals_and_doubts_of_a_header(tmp_path, kspace):
    plain = header(encoded=(24, 20), fov=(200, 200))
    write_mrd(tmp_path / "c.h5", image_lines(kspace[0]), plain.replace(">cartesian<", ">Cartesian<"))
    assert len(open_scan(tmp_path / "c.h5")) == 1
    xml = header(encoded=(48, 20), recon=(24, 20), fov=(200, 200)).replace(">100.0<", ">200<")
    scan = opened(tmp_path / "fov.h5", image_lines(np.concatenate([kspace[0], kspace[1]], axis=1)), xml)
    assert any("48 samples and 24 rows over the same field of view" in note for note in scan.notes)
