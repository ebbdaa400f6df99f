"""Calibration of scans whose unit is far from 1, and of scans with a dead coil."""

import numpy as np
import pytest
from properties import complex_normal

from synth.calibration.noise_only import unit_of
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError
from synth.physics import fft2c
from synth.scans.open import open_scan
from synth.sources.crimes import crimes_of_kspace
from synth.stages.coils import LoopsSpec, draw_coils

SIGMA = 0.02


@pytest.fixture
def kspace(rng):
    """An ellipse in four coils, with noise of `SIGMA`."""
    shape = (96, 80)
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps(shape)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    image = np.clip(0.3 - y[:, None] ** 2 - x**2, 0, None) * 10
    return fft2c((image * maps).astype(np.complex64)) + np.float32(SIGMA) * complex_normal(rng, 4, *shape)


def scan_of(path, kspace):
    np.save(path, kspace.astype(np.complex64)[None])
    return open_scan(path, axes="slice coil y x")


@pytest.mark.parametrize("place", ["background", "k-space edge", "samples"])
@pytest.mark.parametrize("unit", [1e-30, 1e22])
def test_sigma_in_any_unit(tmp_path, kspace, place, unit):
    plain = calibrate(scan_of(tmp_path / "plain.npy", kspace), place=place)
    found = calibrate(scan_of(tmp_path / "scaled.npy", kspace * unit), place=place)
    assert plain.rms_sigma == pytest.approx(SIGMA, rel=0.05)
    assert found.rms_sigma == pytest.approx(unit * plain.rms_sigma, rel=1e-4)
    assert found.notes == plain.notes
    assert found.uncertainty == pytest.approx(plain.uncertainty, rel=1e-3)


@pytest.mark.parametrize("unit", [1e-22, 1.0, 1e22])
def test_findings_in_any_unit(kspace, unit):
    window = np.hamming(96)[:, None] * np.hamming(80)
    assert crimes_of_kspace((kspace * unit).astype(np.complex64)) == ()
    assert crimes_of_kspace((kspace * window * unit).astype(np.complex64)) == ("filtered",)


def test_the_unit_is_a_power_of_two_far_from_1():
    assert unit_of(np.array([3e8, 1e-12], np.complex64)) == 1
    assert unit_of(np.array([2.0**-70], np.complex64)) == 2.0**-70
    assert unit_of(np.zeros(2, np.complex64)) == 1
    assert unit_of(np.array([3e38], np.complex64)) == 2.0**127  # 2^128 is infinite in single precision


def test_dead_coils_are_named(tmp_path, kspace):
    kspace[2] = 0
    with pytest.raises(CalibrationError, match=r"(: coil 2 holds zeros alone.*){3}"):  # background, edge, samples
        calibrate(scan_of(tmp_path / "one.npy", kspace))
    kspace[0] = 0
    with pytest.raises(CalibrationError, match="coils 0, 2 hold zeros alone"):
        calibrate(scan_of(tmp_path / "two.npy", kspace))


@pytest.mark.parametrize("kept", [1, 3])
@pytest.mark.parametrize("axis", [1, 2])
def test_very_few_lines_are_refused(tmp_path, kspace, kept, axis):
    outside = np.abs(np.arange(96)[:, None] - 48) if axis == 1 else np.abs(np.arange(80) - 40)
    kspace = kspace * (outside <= kept // 2)
    with pytest.raises(CalibrationError, match="samples"):
        calibrate(scan_of(tmp_path / "few.npy", kspace), place="samples")
