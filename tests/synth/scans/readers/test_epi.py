import numpy as np
import pytest
from conftest import shared
from properties import complex_normal
from scan_files import refused
from siemens_files import (
    NOISE,
    PHASE_CORRECTION,
    REFLECTED,
    acquisition,
    measurement,
    opened,
    write,
)

from synth.physics import fft2c, fftc, ifft2c, ifftc, rss
from synth.scans.open import open_scan
from synth.scans.readers.epi import Trapezoid, are_alike, noise_gain, polarity_phase, regridding, without_phase

REAL = Trapezoid(ramp_up=160, flat=240, ramp_down=160, delay=32, duration=496)  # 80 rows of a Siemens EPI, 3.1 us
TEXT = """
sSliceArray.asSlice[0].dReadoutFOV\t = \t200.0
<ParamLong."alRegridRampupTime">  { 160 0  }
<ParamLong."alRegridRampdownTime">  { 160 0  }
<ParamLong."alRegridFlattopTime">  { 240 0  }
<ParamLong."alRegridDelaySamplesTime">  { 32 0  }
<ParamDouble."aflRegridADCDuration">  { <Precision> 6  496.000000 0.000000  }
<ParamLong."alRegridDestSamples">  { 160 0  }
<ParamLong."alRegridMode">  { 2 1  }
"""


def test_positions_by_hand():
    """Areas up to 32 and 528 us are 32^2 / 320 = 3.2 and 400 + 160 - 80 - 3.2 - 80 = 396.8: 393.6 are sampled.

    The first sample, at 33.55 us, has 33.55^2 / 320 - 3.2 = 0.31750781 of them, the 81st, at 281.55 us, 198.35.
    """
    positions = REAL.positions(160, 160)
    assert positions[0] == pytest.approx(160 * 0.31750781 / 393.6 - 80, abs=1e-6)
    assert positions[80] == pytest.approx(160 * 198.35 / 393.6 - 80, abs=1e-9)
    np.testing.assert_allclose(positions, -positions[::-1], atol=1e-9)
    assert np.diff(positions).max() == pytest.approx(160 * 3.1 / 393.6)
    assert REAL.is_centred
    assert not Trapezoid(160, 240, 160, 40, 496).is_centred
    assert not Trapezoid(160, 240, 100, 2, 496).is_centred
    flat = Trapezoid(100, 400, 100, 100, 400)
    np.testing.assert_allclose(flat.positions(64, 64), np.arange(64) - 31.5, atol=1e-9)


def test_regridding_is_exact_for_rows_and_close_for_points_between_them():
    """Points of the middle half, whose samples are known at all positions; the ends lack neighbours on one side."""
    draw = np.random.default_rng(3)
    between, weights = draw.uniform(-39, 39, 12), complex_normal(draw, 12)
    positions, even = REAL.positions(160, 160), np.arange(160) - 79.5
    matrix = regridding(positions, 160)

    def samples(places, k):
        return np.exp(-2j * np.pi / 160 * np.outer(k, places)) @ weights

    def error(found):
        wanted = samples(between, even)
        return np.linalg.norm((found - wanted)[8:-8]) / np.linalg.norm(wanted[8:-8])

    rows = np.round(between)
    np.testing.assert_allclose(matrix @ samples(rows, positions), samples(rows, even), atol=1e-8)
    linear = np.interp(even, positions, samples(between, positions))
    assert error(matrix @ samples(between, positions)) < 0.02
    assert error(linear) > 0.1
    flat = regridding(Trapezoid(100, 400, 100, 100, 400).positions(160, 160), 160)
    np.testing.assert_allclose(flat @ samples(rows, even), samples(rows, even), atol=1e-8)


def test_noise_gains_what_it_measures(rng):
    matrix = regridding(REAL.positions(160, 160), 160)
    rows = ifftc(complex_normal(rng, 4000, 160) @ matrix.T, (1,))[:, 40:120]
    assert noise_gain(matrix) == pytest.approx(np.sqrt(np.mean(np.abs(rows) ** 2) / 2), rel=0.01)
    even = regridding(Trapezoid(10, 400, 10, 10, 400).positions(64, 64), 64)
    assert noise_gain(even) == pytest.approx(1)
    assert regridding(np.array([-3.5, -2.5, 0.0, 0.5, 1, 1.5, 2, 3.5]), 8) is None


def test_a_delay_between_directions_is_a_slope_of_the_phase(rng):
    """0.4 samples: 2 pi 0.4 / 64 from row to row, and 0.3 for the constant phase."""
    row = np.arange(64) - 32
    line = fftc((np.exp(-((row / 12) ** 2)) * complex_normal(rng, 3, 1)).astype(np.complex64))
    phase = 2 * np.pi * 0.4 / 64 * row + 0.3
    forward = without_phase(line, -phase)
    np.testing.assert_allclose(polarity_phase(forward, line), phase, atol=1e-4)
    np.testing.assert_allclose(without_phase(forward, phase), line, atol=1e-4)


def test_phase_correction_lines_that_mirror_each_other_are_not_used(tmp_path, rng):
    images, _ = phantom(rng)
    images[:, 80:] *= 2
    line = fftc(images.sum(axis=2))
    assert are_alike(line, line)
    assert not are_alike(line, np.ascontiguousarray(line[:, ::-1]))
    made = epi(fft2c(images), corrected=False, delayed=False)
    bad = [acquisition(line, 12, 0, PHASE_CORRECTION, *bits, centre_line=12) for bits in ((REFLECTED,), ())]
    scan = opened(tmp_path / "m.dat", *bad, *made, text=TEXT.replace("{ 2 1  }", "{ 1 1  }"))
    assert error_of(scan, images) < 1e-5
    assert any("no phase-correction lines that can be used: expect a ghost" in note for note in scan.notes)


def phantom(rng):
    """Images [coil y x], 160 rows of which the middle 80 hold an object; and its k-space on the trapezoid."""
    y, x = np.meshgrid(np.arange(160) - 80, np.arange(24) - 12, indexing="ij")
    object_ = ((y / 30) ** 2 + (x / 8) ** 2 < 1) * (1 + 0.4 * np.cos(y / 3) * np.sin(x))
    images = (object_ * complex_normal(rng, 2, 1, 1)).astype(np.complex64)
    turn = np.exp(-2j * np.pi / 160 * np.outer(REAL.positions(160, 160), np.arange(160) - 80)) / np.sqrt(160)
    return images, np.einsum("ky,cyx->ckx", turn, fftc(images, (2,)))


def epi(kspace, corrected=True, delayed=True, **options):
    """Lines [coil sample] of which every other ran backward, 0.3 samples late, after three phase-correction lines."""
    phase = (2 * np.pi * 0.3 / 160 * (np.arange(160) - 80) + 0.2) * delayed

    def line(values, x, *bits, backward):
        if backward:
            values = without_phase(values.astype(np.complex64), phase)[:, ::-1]
        return acquisition(values, x, 0, *bits, *([REFLECTED] if backward else []), centre_line=12, **options)

    middle = kspace[:, :, 12]
    made = [line(middle, 12, PHASE_CORRECTION, backward=k % 2 == 0) for k in range(3)] if corrected else []
    return made + [line(kspace[:, :, x], x, backward=x % 2 == 1) for x in range(24)]


def error_of(scan, images):
    wanted = rss(images[:, 40:120])
    return float(np.linalg.norm(scan.rss(0) - wanted) / np.linalg.norm(wanted))


def test_a_ramp_sampled_scan_is_regridded_and_its_ghost_corrected(tmp_path, rng):
    images, kspace = phantom(rng)
    scan = opened(tmp_path / "e.dat", *epi(kspace), text=TEXT)
    assert error_of(scan, images) < 0.03
    assert "its readout is sampled on gradient ramps: it is regridded" in scan.notes[0]
    assert "corrected by its phase-correction lines" in scan.notes[1]
    uneven = opened(tmp_path / "u.dat", *epi(kspace), text=TEXT.replace("{ 2 1  }", "{ 1 1  }"))
    assert error_of(uneven, images) > 0.3
    ghost = opened(tmp_path / "g.dat", *epi(kspace, corrected=False), text=TEXT)
    assert error_of(ghost, images) > 3 * error_of(scan, images)
    assert any("expect a ghost" in note for note in ghost.notes)


def test_what_a_header_does_not_say_is_told_or_refused(tmp_path, rng):
    _, kspace = phantom(rng)
    scan = opened(tmp_path / "n.dat", *epi(kspace))
    assert any("does not say whether samples lie on gradient ramps (alRegridMode)" in note for note in scan.notes)
    scan = opened(tmp_path / "o.dat", *epi(kspace, off_centre=-30.0), text=TEXT)
    assert any("30.0 mm off-centre along the readout" in note for note in scan.notes)
    for name, old, new, told in (
        ("sine", "{ 2 1  }", "{ 4 1  }", "alRegridMode 4"),
        ("lacks", "alRegridFlattopTime", "x", "lacks alRegridFlattopTime"),
        ("late", "{ 32 0  }", "{ 60 0  }", "alRegridDelaySamplesTime = 60 us"),
        ("none", "496.000000", "0.000000", "no trapezoid"),
        ("few", "{ 160 0  }\n<ParamLong.\"alRegridMode", "{ 999 0  }\n<ParamLong.\"alRegridMode", "999 even ones"),
    ):  # fmt: skip
        assert old in TEXT
        path = write(tmp_path / f"{name}.dat", measurement(*epi(kspace), text=TEXT.replace(old, new)))
        refused(path, told, "give even k-space")


def test_a_noise_scan_gains_what_regridding_gains(tmp_path, rng):
    _, kspace = phantom(rng)
    noise = acquisition(complex_normal(rng, 2, 8000), 0, 0, NOISE)
    sigma = [
        np.std(opened(tmp_path / f"{k}.dat", noise, *epi(kspace), text=text).noise) for k, text in enumerate((TEXT, ""))
    ]
    assert sigma[0] / sigma[1] == pytest.approx(noise_gain(regridding(REAL.positions(160, 160), 160)))


def test_a_real_scan_is_as_round_as_its_phantom():
    """The EPI of twixtools' examples, and the gradient echo image of the same phantom, cropped to the same rows."""
    found = open_scan(shared("scans/phantom_gre_siemens/epi.dat")).rss(0)
    other = rss(ifft2c(open_scan(shared("scans/phantom_gre_siemens/gre.dat"))[0][:, 40:120, 40:120]))
    shift = np.exp(2j * np.pi * 0.5 / 80 * -(np.arange(80) - 40))  # half a column
    moved = np.abs(ifft2c(fft2c(found.astype(np.complex64)) * shift))
    assert np.corrcoef(moved.ravel(), other.ravel())[0, 1] > 0.93  # 0.69 before regridding
