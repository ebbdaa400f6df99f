import numpy as np
import pytest
from properties import complex_normal
from scan_files import middle_half
from siemens_files import (
    NOISE,
    REFERENCE,
    REFERENCE_AND_IMAGE,
    REFLECTED,
    acquisition,
    lines,
    measurement,
    opened,
    write,
)

from recon.data.scan_batch import Undersampling, batch_of
from synth.calibration.scan_noise import calibrate
from synth.errors import ScanError
from synth.physics import fft2c
from synth.scans.open import open_scan
from synth.scans.readers.twix_header import TwixHeader
from synth.stages.mask import Mask


@pytest.fixture
def kspace(rng):
    return complex_normal(rng, 3, 32, 16)


def test_lines_averages_and_reflections(tmp_path, kspace):
    reflected = [acquisition(kspace[:, ::-1, x], x, 1, REFLECTED) for x in range(16)]
    scan = opened(tmp_path / "a.dat", *lines(kspace), *reflected)
    np.testing.assert_allclose(scan.as_stored(0), kspace, rtol=1e-6)
    assert (scan.averages, scan.oversampling, scan.matrix) == (2, 2, (16, 16))


def test_noise_of_this_and_of_an_earlier_measurement(tmp_path, kspace, rng):
    noise = 0.5 * complex_normal(rng, 3, 4000)
    own = opened(tmp_path / "a.dat", acquisition(noise, 0, 0, NOISE), *lines(kspace))
    earlier = open_scan(
        write(tmp_path / "b.dat", measurement(acquisition(noise, 0, 0, NOISE)), measurement(*lines(kspace)))
    )
    for scan in (own, earlier):
        np.testing.assert_allclose(scan.noise, middle_half(noise), rtol=1e-5, atol=1e-6)
        assert calibrate(scan, place="noise scan").rms_sigma == pytest.approx(0.5, rel=0.03)
    assert own.notes[0] == "the time per sample is not in the file: the noise scan may be of another bandwidth"
    assert "earlier measurement" in earlier.notes[0]


@pytest.mark.parametrize(
    ("own", "other", "microseconds"),
    [
        ("", "", 30.0),  # 7.68 ms / 256 samples
        ('<ParamString."SoftwareVersions">  { "syngo MR XA30"  }\n', "", 5.0),
        ("", '<ParamString."tProtocolName"> \n { \n "AdjQuietCoilSens" }\n', 4.0),
    ],
)
def test_noise_lines_have_the_bandwidth_of_the_image(tmp_path, kspace, rng, own, other, microseconds):
    """Image samples of 3.75 us and sigma 1; the variance of noise lines is smaller by the ratio of times per sample."""
    noise = [acquisition(np.sqrt(3.75 / microseconds) * complex_normal(rng, 3, 256), 0, 0, NOISE) for _ in range(40)]
    text = own + "sRXSPEC.alDwellTime[0]\t = \t3750\n"
    if other:
        path = write(tmp_path / "n.dat", measurement(*noise, text=other), measurement(*lines(kspace), text=text))
    else:
        path = write(tmp_path / "n.dat", measurement(*noise, *lines(kspace), text=text))
    scan = open_scan(path)
    assert calibrate(scan, place="noise scan").rms_sigma == pytest.approx(1, rel=0.02)
    assert any(f"{microseconds:g} us is taken" in note for note in scan.notes)


def test_a_noise_scan_of_unknown_bandwidth_does_not_set_the_level(tmp_path, rng):
    """Noise of sigma 0.02 / sqrt(8), as from samples 8 times as long; the image's own has 0.02."""
    y, x = np.meshgrid(np.arange(128) - 64, np.arange(48) - 24, indexing="ij")
    object_ = ((y / 24) ** 2 + (x / 14) ** 2 < 1) * np.array([1, 1j, -1])[:, None, None]
    kspace = fft2c(object_.astype(np.complex64)) + 0.02 * complex_normal(rng, 3, 128, 48)
    noise = [acquisition(0.02 / 8**0.5 * complex_normal(rng, 3, 256), 0, 0, NOISE) for _ in range(20)]
    image = lines(kspace, centre_line=24)
    unknown = opened(tmp_path / "u.dat", *noise, *image)
    assert (calibrate(unknown).place, calibrate(unknown, checked=False).place) == ("background", "background")
    assert calibrate(unknown).rms_sigma == pytest.approx(0.02, rel=0.03)
    known = opened(tmp_path / "k.dat", *noise, *image, text="sRXSPEC.alDwellTime[0]\t = \t3750\n")
    assert calibrate(known).place == "noise scan"
    assert calibrate(known).rms_sigma == pytest.approx(0.02, rel=0.02)
    assert calibrate(known).notes == ()


def test_the_dwell_time_in_both_notations_of_headers():
    for text in (
        "sRXSPEC.alDwellTime[0]           = 3100\nsRXSPEC.alDwellTime[1] = 7\n",
        '<ParamLong."alDwellTime">  { 3100 12000  }',
        '<ParamLong."alDwellTime"> \n{\n 3100\n 0\n}\n',
    ):
        assert TwixHeader(text.encode()).dwell_us == 3.1
    assert TwixHeader(b'<ParamLong."alDwellTime">  { }').dwell_us is None
    assert TwixHeader(b"sPat.ucRefScanMode = 0x4\n").calibration_mode == "separate"
    assert TwixHeader(b'<ParamDouble."aflX">  { <Precision> 6 496.5 0 }').number("aflX") == 496.5


def test_reference_lines_at_empty_positions_are_used_and_said(tmp_path, rng):
    kspace = complex_normal(rng, 3, 32, 48)
    every_third = lines(kspace, centre_line=24)[::3]
    reference = [line for x, line in enumerate(lines(kspace, REFERENCE, centre_line=24)) if 16 <= x < 32 and x % 3]
    scan = opened(tmp_path / "r.dat", *every_third, *reference)
    expected = kspace.copy()
    expected[..., [x for x in range(48) if x % 3 and not 16 <= x < 32]] = 0
    np.testing.assert_array_equal(scan.as_stored(0), expected)
    assert scan.notes[0] == "11 calibration lines are used where no other line was measured"
    assert scan.calibration is None
    assert Mask(scan[0].any(axis=(0, 1)), 1.0).reference(16)[1] == 16  # lines 16 to 31; the image has five of them


def test_a_separate_reference_scan_stays_beside_the_image(tmp_path, kspace):
    told = "a separate scan: they are in `calibration`, not in the image"
    for text, chosen in (("", range(4, 12)), ("sPat.ucRefScanMode\t = \t4\n", range(5, 12, 2))):
        image = lines(kspace)[:: 2 if text else 1]
        # its lines are counted from 0, around a centre line of its own
        reference = [acquisition(3 * kspace[:, :, x], x - 4, 0, REFERENCE, centre_line=4) for x in chosen]
        scan = opened(tmp_path / "s.dat", *image, *reference, text=text)
        np.testing.assert_array_equal(scan.as_stored(0)[..., ::2], kspace[..., ::2])
        np.testing.assert_array_equal(scan.as_stored(0).any(axis=(0, 1)), [x % 2 == 0 or not text for x in range(16)])
        np.testing.assert_array_equal(scan.calibration[0][..., chosen], 3 * kspace[..., chosen])
        assert np.count_nonzero(scan.calibration[0].any(axis=(0, 1))) == len(chosen)
        assert f"{len(chosen)} calibration lines are {told}" in scan.notes


def test_maps_are_from_a_separate_reference_scan_where_the_image_has_too_few_lines(tmp_path, rng):
    y, x = np.meshgrid(np.arange(128) - 64, np.arange(48) - 24, indexing="ij")
    maps = np.array([np.exp(-((y / 40 - a) ** 2) - (x / 20 - b) ** 2 + 2j * a) for a, b in ((-1, 0), (1, 1), (0, -1))])
    kspace = fft2c((((y / 24) ** 2 + (x / 18) ** 2 < 1) * maps).astype(np.complex64))
    image = lines(kspace, centre_line=24)[::2]
    with pytest.raises(ScanError, match="1 reference lines"):
        batch_of(opened(tmp_path / "i.dat", *image)[0], None, Undersampling())
    reference = lines(3 * kspace, REFERENCE, centre_line=24)[12:36]
    scan = opened(tmp_path / "s.dat", *image, *reference)
    assert scan.calibration_of(0).shape == scan[0].shape
    found = batch_of(scan[0], None, Undersampling(), scan.calibration_of(0))[0]["sens_maps"][0].numpy()
    whole = batch_of(opened(tmp_path / "w.dat", *lines(kspace, centre_line=24))[0], None, Undersampling())[0]
    inside = ((y / 20) ** 2 + (x / 15) ** 2 < 1)[32:96]
    np.testing.assert_allclose(found[:, inside], whole["sens_maps"][0].numpy()[:, inside], atol=0.02)


def test_reference_lines_that_are_image_too_or_do_not_fit_or_are_all_there_is(tmp_path, kspace):
    both = [acquisition(kspace[:, :, x], x, 0, REFERENCE, REFERENCE_AND_IMAGE) for x in range(16)]
    scan = opened(tmp_path / "both.dat", *both)
    np.testing.assert_array_equal(scan.as_stored(0), kspace)
    assert not any("calibration" in note for note in scan.notes)
    np.testing.assert_array_equal(opened(tmp_path / "all.dat", *lines(kspace, REFERENCE)).as_stored(0), kspace)
    scan = opened(tmp_path / "odd.dat", *lines(kspace), acquisition(kspace[:2, :, 3], 3, 0, REFERENCE))
    np.testing.assert_array_equal(scan.as_stored(0), kspace)
    assert any("1 calibration lines do not fit" in note for note in scan.notes)


def test_samples_of_the_cut_off_are_discarded(tmp_path, kspace):
    rubbish = np.full((3, 6, 16), 50, np.complex64)
    more = np.concatenate([rubbish, kspace, rubbish[:, :2]], axis=1)
    scan = opened(tmp_path / "c.dat", *lines(more, cut=(6, 2), centre=16 + 6))
    np.testing.assert_array_equal(scan.as_stored(0), kspace)
    with pytest.raises(ScanError, match="discards 40 of 40 samples"):
        opened(tmp_path / "d.dat", *lines(more, cut=(20, 20)))


def test_slices_from_1_and_a_second_echo_with_the_same_counters(tmp_path, rng):
    signal = 50 * np.exp(-((np.arange(32) - 16) ** 2) / 8)[:, None] * complex_normal(rng, 3, 1, 16)
    first, second = ((part * signal + complex_normal(rng, 3, 32, 16)).astype(np.complex64) for part in (1, 0.5))
    scan = opened(tmp_path / "e.dat", *lines(first, number=1), *lines(second, number=1), *lines(second, number=2))
    np.testing.assert_array_equal(np.stack([scan.as_stored(k) for k in range(2)]), [first, second])
    assert any("16 lines have the same counters" in note for note in scan.notes)
    assert any("slices are numbered 1, 2" in note for note in scan.notes)


def test_damage_is_said(tmp_path, kspace):
    whole = write(tmp_path / "a.dat", measurement(*lines(kspace))).read_bytes()
    for cut in (9, 5000, 10300, len(whole) - 5000):
        (tmp_path / "cut.dat").write_bytes(whole[:cut])
        with pytest.raises(ScanError, match=r"cut\.dat"):
            open_scan(tmp_path / "cut.dat")
    with pytest.raises(ScanError, match="no imaging lines"):
        open_scan(write(tmp_path / "n.dat", measurement(acquisition(kspace[:, :, 0], 0, 0, NOISE))))


def test_a_readout_that_is_not_oversampled_is_read_whole_or_told(tmp_path):
    y, x = np.meshgrid(np.arange(64) - 32, np.arange(24) - 12, indexing="ij")
    image = ((y / 26) ** 2 + (x / 8) ** 2 < 1) * np.array([1, 2j])[:, None, None]
    made = lines(fft2c(image.astype(np.complex64)), centre_line=12)
    factor = '<ParamDouble."flReadoutOSFactor">  {{ <Precision> 6  {} }}'
    scan = opened(tmp_path / "one.dat", *made, text=factor.format("1.000000"))
    np.testing.assert_allclose(scan.rss(0), np.sqrt(5) * np.abs(image[0]), atol=1e-5)
    cut = opened(tmp_path / "none.dat", *made)
    assert cut.shape == (1, 2, 32, 24)
    assert any("signal outside of the middle half of its image is cut off" in note for note in cut.notes)
    narrow = lines(fft2c((image * (np.abs(y) < 14)).astype(np.complex64)), centre_line=12)
    for name, text, acquired in (("two", factor.format("2.000000"), made), ("dark", "", narrow)):
        assert not any("cut off" in note for note in opened(tmp_path / f"{name}.dat", *acquired, text=text).notes)
