import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import shared
from properties import complex_normal

from synth.calibration.from_samples import _profile, profile_of_samples
from synth.calibration.neighbourhoods import Neighbourhoods
from synth.calibration.noise_tiles import Tile, equations_of
from synth.calibration.sampled_noise import SampledNoise, noise_of_samples
from synth.calibration.scan_noise import calibrate
from synth.errors import CalibrationError
from synth.physics import fft2c, ifft2c
from synth.rng import rng as seeded
from synth.scans.open import open_scan
from synth.scans.scan import Scan
from synth.stages.coils import LoopsSpec, draw_coils
from synth.stages.mask_lines import RegularSpec

PSI = np.array([[2, 0.5j, 0, 0], [-0.5j, 3, 0, 0], [0, 0, 1, -0.3], [0, 0, -0.3, 2]])


def a_slice(rng, coils=4, shape=(96, 80), snr=60, psi=None, radius=2.0):
    """Smooth texture that fills the field of view, or an ellipse, with noise of covariance psi [coil coil]."""
    maps = draw_coils(LoopsSpec(count=coils), 1, 0).maps(shape)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    image = (1 + 0.5 * np.cos(9 * y[:, None]) * np.cos(11 * x)) * (y[:, None] ** 2 + x**2 < radius**2)
    factor = np.linalg.cholesky((2 * np.eye(coils) if psi is None else psi) / 2)
    noise = np.tensordot(factor, complex_normal(rng, coils, *shape), axes=1)
    return (fft2c((snr * image * maps).astype(np.complex64)) + noise).astype(np.complex64)


def every(kspace, lines, rows=1, reference=0):
    y, x = (np.arange(n) - n // 2 for n in kspace.shape[1:])
    return kspace * ((y[:, None] % rows == 0) & (x % lines == 0) | (np.abs(x + 0.5) < reference / 2))


def scan_of(kspace):
    return Scan(Path("s.npy"), "npy", (1, *kspace.shape), lambda _: kspace)


def test_neighbourhoods_have_the_spacing_of_the_lines():
    kspace = np.zeros((50, 20, 24), np.complex64)  # 50 coils: 200 // 50 = 4 positions, 2 by 2
    kspace[:, :, ::3] = np.arange(1, 21)[:, None] + 100j * np.arange(0, 24, 3)
    found = Neighbourhoods.of(kspace)
    assert (found.kernel, found.spacing, found.extent) == ((2, 2), (1, 3), (2, 4))
    assert len(found.y) == 19 * 7
    np.testing.assert_array_equal(found.vectors(kspace)[::50, 0], [1, 1 + 300j, 2, 2 + 300j])


@pytest.mark.parametrize("coils", [2, 3, 8])
def test_scattered_points_are_refused(rng, coils):
    kspace = a_slice(rng, coils) * (rng.random((96, 80)) < 0.2)
    with pytest.raises(CalibrationError, match="too few samples lie beside each other"):
        Neighbourhoods.of(kspace)


def test_the_equations_give_the_covariance_of_which_powers_are_exact(rng):
    """Powers v^H (Psi x I) v that are exact leave only the ridge's error, for vectors of any subspace."""
    tiles = []
    for _ in range(6):
        vectors = np.linalg.qr(complex_normal(rng, 24, 24))[0][:, :16]  # 6 positions, 4 coils
        tiles.append(Tile(vectors, vectors.conj().T @ np.kron(np.eye(6), PSI) @ vectors, 30, "corners", 0.0))
    psi, errors = equations_of(tiles, 4, 0.6).solved()
    np.testing.assert_allclose(psi, PSI, atol=0.02)
    assert np.abs(errors).max() < 0.02


@pytest.mark.parametrize(("lines", "rows", "reference"), [(1, 1, 0), (2, 1, 0), (2, 1, 16), (2, 2, 0)])
def test_covariance_of_a_slice_that_fills_the_image(rng, lines, rows, reference):
    found = noise_of_samples(every(a_slice(rng, psi=PSI, shape=(112, 104), snr=30), lines, rows, reference))
    assert found.sigma == pytest.approx(1, rel=0.04)  # trace(PSI) / 8 = 1
    assert np.linalg.norm(found.covariance - PSI) < 0.15 * np.linalg.norm(PSI)
    assert found.fits


def test_the_error_is_the_scatter(rng):
    found = [noise_of_samples(every(a_slice(rng, 2, (64, 56), radius=0.6), 2)) for _ in range(8)]
    scatter = np.std([one.sigma for one in found], ddof=1)
    assert 0.5 < np.mean([one.error for one in found]) / scatter < 2


def test_undersampled_scans_are_calibrated_and_told_how(rng):
    found = calibrate(scan_of(every(a_slice(rng, radius=0.7), 2)))
    assert found.place == "samples"
    assert found.rms_sigma == pytest.approx(1, rel=0.03)
    assert 0.015 <= found.uncertainty < 0.05
    assert found.notes == ()  # notes are doubts; `place` says how it was learnt
    with pytest.raises(CalibrationError):
        calibrate(scan_of(every(a_slice(rng, radius=0.7), 2)), checked=False)  # pairs stay as they were


def found_noise(error, apart=0.0, aliases=1):
    """Sigma 1 of two coils; 16 tiles that each add the trace 2 `error` give the error sqrt(16) 2 `error` / 2 / 4."""
    errors = np.tile(np.eye(2) * error, (16, 1, 1))
    same = {"corners": 1.0, "ends of x": 1.0}
    two = 2 * np.eye(2)
    return SampledNoise(two, errors, two, np.ones(6), 0.1, 60, 0.5, apart, same, same, fitting=7, aliases=aliases)


def test_the_interval_by_hand():
    """Half width: 2.13 and 4 standard errors, half the difference of two estimates, and 0.015, added as squares."""
    assert found_noise(0.01).error == pytest.approx(0.01)
    profile = _profile(found_noise(0.01, 0.04), [], "")
    assert profile.uncertainty == pytest.approx((0.0213**2 + 0.04**2 + 0.02**2 + 0.015**2) ** 0.5)  # 0.0518
    assert profile.notes == ("sigma is uncertain by 5 %, because signal fills most directions between coils",)
    assert _profile(found_noise(0.004), [], "").notes == ()
    with pytest.raises(CalibrationError, match="uncertain by 27 %"):
        _profile(found_noise(0.06), [], "")


@pytest.mark.parametrize(("aliases", "notes"), [(1, 0), (2, 1), (4, 1)])
def test_as_many_aliases_as_coils_are_told(aliases, notes):
    assert len(_profile(found_noise(0.004, aliases=aliases), [], "").notes) == notes


def test_signal_that_fills_all_coils_is_never_silent(rng):
    """White texture at 2x2 with 4 coils looks like noise itself: no method tells them apart."""
    maps = draw_coils(LoopsSpec(count=4), 1, 0).maps((96, 80))
    image = 20 * rng.random((96, 80)) * maps
    kspace = every(fft2c(image.astype(np.complex64)) + complex_normal(rng, 4, 96, 80), 2, 2).astype(np.complex64)
    try:
        found = profile_of_samples(kspace)
    except CalibrationError:
        return
    assert found.rms_sigma > 1.5
    assert any("folds 4 places of the image into one, with 4 coils" in note for note in found.notes)


def fermi(kspace):
    radius = np.hypot(*np.meshgrid(*(np.linspace(-1, 1, n) for n in kspace.shape[1:]), indexing="ij"))
    return kspace / (1 + np.exp((radius - 1) / 0.05))


def filled(kspace):
    """Every second line from its neighbours in all coils, with weights of a least-squares fit, as GRAPPA does."""
    near = np.concatenate([np.roll(kspace, (s, t), (1, 2)) for s in (-1, 0, 1) for t in (-1, 1)])
    half = (slice(None), slice(None), slice(32, 48))
    weights = np.linalg.lstsq(near[half].reshape(len(near), -1).T, kspace[half].reshape(4, -1).T, rcond=1e-3)[0].T
    made = np.tensordot(weights, near, axes=1)
    return np.where(np.arange(kspace.shape[2]) % 2, made, kspace).astype(np.complex64)


def masked(kspace):
    y, x = (np.linspace(-1, 1, n) for n in kspace.shape[1:])
    return fft2c(ifft2c(kspace) * (y[:, None] ** 2 + x**2 < 0.5))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (fermi, "by a filter"),
        (lambda k: every(fermi(k), 2), "by a filter"),
        (lambda k: k * np.hamming(k.shape[2]), "filter"),
        (filled, "GRAPPA|signal fills all coils"),
        (masked, "no noise that is white"),
        (lambda k: every(k[:1], 2), "one coil"),
    ],
)
def test_shaped_or_computed_samples_are_refused(rng, change, message):
    with pytest.raises(CalibrationError, match=message):
        profile_of_samples(change(a_slice(rng, radius=0.7)).astype(np.complex64))


@functools.cache
def at_four(file, variable=None):
    """A scan, and what every fourth line of it gives."""
    scan = open_scan(shared(f"scans/{file}"), variable=variable)
    return scan, calibrate(replace(scan, load=lambda k: every(scan.load(k), 4)))


@pytest.mark.parametrize(
    ("file", "variable"),
    [
        ("brain_8ch_bart/full.cfl", None),
        ("brain_mprage_4ch/MPRAGE_multi_channel.mat", "kData"),
        ("brain_prescan_16ch/preScanRefData.npy", None),
        ("phantom_gre_siemens/gre.dat", None),
    ],
)
def test_every_fourth_line_of_real_scans(file, variable):
    scan, found = at_four(file, variable)
    assert found.place == "samples"
    assert found.rms_sigma == pytest.approx(calibrate(scan, checked=False).rms_sigma, rel=0.1)


def test_ghosts_in_a_background_are_no_noise():
    """The background of this scan holds ghosts along y: its sigma of 3.36 is 3.06 in the corners farthest from them."""
    scan, found = at_four("brain_mprage_4ch/MPRAGE_multi_channel.mat", "kData")
    corners = ifft2c(scan[0])[:, -26:, np.r_[:26, -26:0]]
    quiet = float(np.sqrt(np.mean(np.abs(corners) ** 2) / 2))
    assert abs(found.rms_sigma / quiet - 1) < found.uncertainty


def test_a_slice_of_two_coils_at_four_is_refused():
    scan = open_scan(shared("scans/head_tse_2ch_32sl/kdata_body.mat"))
    with pytest.raises(CalibrationError, match="samples: two estimates differ"):
        calibrate(replace(scan, load=lambda k: every(scan.load(k), 4)), 16)


def test_a_scan_that_was_undersampled_at_the_scanner():
    found = calibrate(open_scan(shared("scans/brain_8ch_bart/und2x2.cfl")))
    own = calibrate(open_scan(shared("scans/brain_8ch_bart/full.cfl"))).rms_sigma
    assert found.rms_sigma == pytest.approx(own, rel=0.1)
    assert abs(found.rms_sigma / own - 1) < found.uncertainty
    assert any("sigma differs between parts of k-space" in note for note in found.notes)


def volume_of_two_coils(tmp_path, last=1.0):
    """Seven slices at R = 4 of an object that fills the middle ones; noise is 1, and `last` in the last slice."""
    draw = np.random.default_rng(4)
    maps = draw_coils(LoopsSpec(count=2, distance=(1.2, 1.3)), 0, 0).maps((96, 64))
    texture = 20 * draw.uniform(0, 1, (96, 64))
    slices = [fft2c((strength * texture * maps).astype(np.complex64)) for strength in (0.02, 0.5, 1, 1, 1, 0.5, 0.02)]
    noise = complex_normal(draw, 7, 2, 96, 64)
    noise[-1] *= last
    mask = RegularSpec(acceleration=4, reference_lines=24).draw(seeded(0, "m"), (96, 64)).sampled
    path = tmp_path / "volume.npy"
    np.save(path, ((np.stack(slices) + noise) * mask).astype(np.complex64))
    return open_scan(path, axes="slice coil y x")


def test_the_ends_of_an_undersampled_volume_tell_the_noise_where_its_middle_does_not(tmp_path):
    scan = volume_of_two_coils(tmp_path)
    with pytest.raises(CalibrationError):
        calibrate(scan, 3)
    found = calibrate(scan)
    assert abs(found.rms_sigma - 1) < found.uncertainty < 0.1
    assert any("signal fills slice 3, and both ends of the volume agree" in note for note in found.notes)


def test_ends_that_disagree_tell_nothing(tmp_path):
    with pytest.raises(CalibrationError, match="cannot be learnt"):
        calibrate(volume_of_two_coils(tmp_path, last=1.4))


def test_the_noise_of_an_undersampled_head_of_two_coils(tmp_path):
    """At R = 4 within 10 % of that which the full scan's background gives, and within both intervals together."""
    full = open_scan(shared("scans/head_tse_2ch_32sl/kdata_body.mat"))
    kspace = np.stack([full[number] for number in range(len(full))])
    mask = RegularSpec(acceleration=4, reference_lines=24).draw(seeded(0, "sampling"), kspace.shape[2:]).sampled
    np.save(tmp_path / "r4.npy", kspace * mask)
    found, own = calibrate(open_scan(tmp_path / "r4.npy", axes="slice coil y x")), calibrate(full)
    assert abs(found.rms_sigma / own.rms_sigma - 1) < min(0.1, np.hypot(found.uncertainty, own.uncertainty))
