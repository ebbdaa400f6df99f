"""Two map sets for an object wider than the field of view, and maps of noise."""

import shutil
import subprocess

import numpy as np
import pytest
from conftest import shared
from properties import complex_normal
from scipy.ndimage import uniform_filter
from wide_scans import COILS, white_profile, wide_scan

from synth.calibration.espirit import NOISE_ALONE, espirit, maps_of_coils
from synth.calibration.espirit_maps import FURTHER, EspiritMaps
from synth.calibration.noise_profile import whiten
from synth.calibration.patches import MARGIN, noise_edge, signal_space
from synth.calibration.scan_noise import calibrate
from synth.physics import fft2c, ifft2c, rss
from synth.scans.open import open_scan
from synth.stages.coils import LoopsSpec, draw_coils
from synth.writers.cfl import read_array, write_array


def residual(maps, images, where):
    """Rms of what maps [set coil y x] leave of coil images over that of the noise which least squares leaves."""
    columns = np.moveaxis(maps, (0, 1), (-1, -2))[where].astype(complex)  # [pixel coil set]
    seen = np.moveaxis(images, 0, -1)[where][..., None]
    left = seen - columns @ (np.linalg.pinv(columns, rcond=1e-4) @ seen)
    numbers = COILS - columns.any(axis=1).sum(axis=1)  # complex numbers of noise that are left at each pixel
    return float(np.sqrt(np.sum(np.abs(left) ** 2) / 2 / numbers.sum()))


@pytest.fixture(scope="module")
def wide():
    return wide_scan()


def test_one_set_leaves_signal_where_the_object_wraps_and_two_leave_noise(wide):
    kspace, shown = wide
    images, found = ifft2c(kspace), espirit(kspace, sets=2, sigma=1.0)
    assert residual(found.maps[:1], images, shown == 2) > 1.6
    assert residual(found.maps, images, shown == 2) == pytest.approx(1, abs=0.05)
    for where in (shown == 2, shown == 1):
        assert residual(found.sets(0), images, where) == pytest.approx(1, abs=0.05)
    overlap = np.abs(np.sum(found.maps[0].conj() * found.maps[1], axis=0))
    assert overlap.max() < 1e-5
    np.testing.assert_allclose(rss(found.maps), 1, atol=1e-4)
    assert found.eigenvalues[1][shown == 2].min() > FURTHER
    assert np.median(found.eigenvalues[1][shown == 1]) < 0.6
    assert found.notes == ()
    np.testing.assert_array_equal(espirit(kspace, sigma=1.0).maps[0], found.maps[0])  # the first set is the only one


def test_the_sets_span_what_barts_span(wide, tmp_path):
    if not shutil.which("bart"):
        pytest.skip("bart is not installed")
    kspace, shown = wide
    write_array(tmp_path / "k", kspace)
    command = ["bart", "ecalib", "-m2", "-r24", "-c0", "-t0.0004", "k", "m", "e"]  # BART's -t is for squares: 0.02^2
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    theirs = read_array(tmp_path / "m")
    theirs /= rss(theirs)[:, None]
    products = np.einsum("scyx,tcyx->yxst", espirit(kspace, sets=2).maps.conj(), theirs)[shown == 2]
    angles = np.linalg.svd(products, compute_uv=False)  # cosines of the principal angles
    assert np.percentile(angles[:, 1], 1) > 0.9999


def test_sets_keep_the_first_everywhere_and_others_where_signal_wraps():
    maps = np.ones((2, 1, 1, 4), np.complex64)
    values = np.array([[[1, 0.5, 0.5, 1]], [[0.95, 0.89, 0.91, 0.97]]], np.float32)
    found = EspiritMaps(maps, values)
    np.testing.assert_array_equal(found.sets(0)[:, 0, 0], [[1, 1, 1, 1], [1, 0, 1, 1]])
    np.testing.assert_array_equal(found.sets(0.96)[:, 0, 0], [[1, 0, 0, 1], [0, 0, 0, 1]])
    np.testing.assert_array_equal(found.sets(0.96)[0], found.cropped(0.96))
    np.testing.assert_array_equal(found.sets(0.8, soft=True)[0], found.soft(0.8))
    assert found.sets(0.8, soft=True)[1, 0, 0, 1] == pytest.approx(np.sin((2 * 0.89 / 0.9 - 1) * np.pi / 2) ** 2)


def test_a_second_set_of_an_object_within_the_field_of_view_is_0(rng):
    maps = draw_coils(LoopsSpec(count=6), 1, 0).maps((96, 80))
    y, x = (np.linspace(-1, 1, n) for n in (96, 80))
    image = 40 * ((y[:, None] / 0.6) ** 2 + (x / 0.6) ** 2 < 1)
    found = espirit(fft2c((image * maps).astype(np.complex64)) + complex_normal(rng, 6, 96, 80), sets=2, sigma=1.0)
    assert (rss(found.sets(0)[1]) > 0)[image > 0].mean() < 0.02
    assert found.notes == ()


def test_more_sets_than_coils_are_refused(rng):
    with pytest.raises(ValueError, match="2 map sets need 2 coils or more, and k-space has 1; ask for 1 set"):
        espirit(complex_normal(rng, 1, 32, 32), sets=2)


@pytest.mark.parametrize("axis", [1, 2])
def test_missing_rows_and_columns_are_refused(axis, rng):
    """A centre of which every second row is missing gives maps with an alias."""
    kspace = np.moveaxis(complex_normal(rng, 4, 32, 32), axis, 0)
    kspace[::2] = 0
    with pytest.raises(ValueError, match=r"not fully sampled; sample it, or lower `reference`"):
        espirit(np.moveaxis(kspace, 0, axis))


def test_real_samples_are_refused():
    with pytest.raises(ValueError, match=r"takes complex k-space .* real samples \(float64\)"):
        espirit(np.ones((2, 32, 32)))


def test_the_edge_by_hand():
    """Sqrt(2) (sqrt(361) + sqrt(288)) = 1.4142 * (19 + 16.9706) = 50.870."""
    assert noise_edge(361, 288) == pytest.approx(50.870, abs=1e-3)


@pytest.mark.parametrize("coils", [1, 2, 8])
def test_noise_alone_lies_below_the_edge_and_gives_no_maps(rng, coils):
    block = complex_normal(rng, coils, 24, 24)
    windows = np.lib.stride_tricks.sliding_window_view(block, (6, 6), axis=(1, 2))
    largest = np.linalg.svd(np.moveaxis(windows, 0, 2).reshape(361, -1), compute_uv=False)[0]
    assert largest == pytest.approx(noise_edge(361, 36 * coils), rel=0.15)
    assert largest < MARGIN * noise_edge(361, 36 * coils)
    assert signal_space(7 * block, 6, 0.02, 7.0).shape == (36 * coils, 0)
    kspace = complex_normal(rng, coils, 64, 48)
    found = espirit(kspace, sigma=1.0, sets=min(2, coils))
    assert not found.maps.any()
    assert not found.eigenvalues.any()
    assert found.notes == (NOISE_ALONE,)
    assert espirit(kspace, sigma=1.0, version=2).maps.any()  # as corpora of version 2 have them
    assert espirit(kspace).eigenvalues.min() > 0.99  # where the noise is not known
    assert espirit(kspace, sigma=0.5).maps.any()  # noise of less than sigma is signal


def test_weak_signals_have_better_maps_with_the_floor(rng):
    maps = draw_coils(LoopsSpec(count=8), 1, 0).maps((96, 80))
    y, x = (np.linspace(-1, 1, n) for n in (96, 80))
    inside = (y[:, None] / 0.7) ** 2 + (x / 0.6) ** 2 < 1
    kspace = fft2c((10 * inside * maps).astype(np.complex64)) + complex_normal(rng, 8, 96, 80)

    def error(**how):
        found = espirit(kspace, **how)
        sine = 1 - np.abs(np.sum(found.maps[0].conj() * maps, axis=0))[inside] ** 2
        return np.sqrt(np.mean(sine)), np.mean(found.eigenvalues[0][~inside] > 0.9)

    before, in_air = error()
    after, still = error(sigma=1.0)
    assert after < 0.75 * before
    assert still < 0.5 * in_air


@pytest.mark.parametrize(
    "name",
    ["brain_8ch_bart/full.cfl", "brain_mprage_4ch/MPRAGE_multi_channel.mat", "brain_prescan_16ch/preScanRefData.npy"],
)
def test_the_floor_leaves_maps_of_strong_scans_as_they_are(name):
    scan = open_scan(shared(f"scans/{name}"))
    profile = calibrate(scan, 0, checked=False)
    for version in (2, 3):
        maps, notes = maps_of_coils(scan[0], profile, version)
        assert notes == ()
        if version == 2:
            before = maps
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize("lines", [24, 12, 8])
def test_the_floor_is_right_for_a_small_object_and_few_lines(rng, lines):
    """Nine tenths of the image are air: sines to the true maps with the floor, and without it."""
    maps = draw_coils(LoopsSpec(count=2), 1, 0).maps((96, 96))
    y, x = (np.linspace(-1, 1, 96) for _ in range(2))
    inside = (y[:, None] / 0.3) ** 2 + (x / 0.25) ** 2 < 1
    kspace = fft2c((15 * inside * maps).astype(np.complex64)) + complex_normal(rng, 2, 96, 96)
    errors = []
    for sigma in (1.0, 0.0):
        found = espirit(kspace, reference=(24, lines), sigma=sigma).maps[0]
        sine = 1 - np.minimum(np.abs(np.sum(found.conj() * maps, axis=0)), 1)[inside] ** 2
        errors.append(np.sqrt(np.mean(sine)))
    assert errors[0] < min(0.05, 1.3 * errors[1])


@pytest.mark.parametrize("number", [0, 9, 16, 31])
def test_the_floor_keeps_maps_of_a_noisy_scan(number):
    """No slice is taken for noise alone; what maps leave of the object is the noise, with the floor as without it."""
    scan = open_scan(shared("scans/head_tse_2ch_32sl/kdata_body.mat"))
    white = whiten(scan[number], calibrate(scan, number, samples=False))
    images, left = ifft2c(white), []
    inside = uniform_filter(np.sum(np.abs(images) ** 2, axis=0), 5) > 2 * 2 * 1.6  # noise alone has 2 in each coil
    for sigma in (1.0, 0.0):
        maps = espirit(white, sigma=sigma).maps[0]
        power = np.sum(np.abs(images) ** 2, axis=0) - np.abs(np.sum(maps.conj() * images, axis=0)) ** 2
        left.append(np.sqrt(np.mean(power[inside]) / 2))
    assert left[0] == pytest.approx(1, abs=0.08)
    assert left[0] < 1.005 * left[1]


def test_noise_gives_no_library(rng):
    with pytest.raises(ValueError, match="nothing above the noise"):
        maps_of_coils(complex_normal(rng, 4, 48, 40), white_profile(4))
