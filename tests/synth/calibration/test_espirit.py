import numpy as np
import pytest
from conftest import shared
from properties import complex_normal

from synth.calibration.espirit import espirit, lag_coefficients, matrices_at, signal_space
from synth.calibration.map_phase import smooth_phase
from synth.physics import fft2c, rss
from synth.scans.open import open_scan
from synth.stages.coils import LoopsSpec, draw_coils

SHAPE = (96, 80)


def ellipse(shape):
    y, x = (np.linspace(-1, 1, n) for n in shape)
    return (y[:, None] / 0.8) ** 2 + (x[None, :] / 0.7) ** 2 < 1


def scan(rng, coils=6, shape=SHAPE, noise=1e-3):
    """Noisy k-space of an ellipse with texture and phase, its true maps, and where the object is."""
    maps = draw_coils(LoopsSpec(count=coils), 1, 0).maps(shape)
    y, x = (np.linspace(-1, 1, n) for n in shape)
    image = ellipse(shape) * (1 + 0.5 * np.cos(9 * y)[:, None] * np.cos(7 * x)) * np.exp(1j * (2 * x + y[:, None]))
    return fft2c((image * maps).astype(np.complex64)) + noise * complex_normal(rng, coils, *shape), maps, ellipse(shape)


def cosine(a, b):
    return np.abs(np.sum(a.conj() * b, 0)) / np.maximum(rss(a) * rss(b), 1e-12)


def agreement(a, b, where):
    found = cosine(a, b)[where]
    return np.median(found), np.percentile(found, 1)


def test_true_maps_come_back(rng):
    kspace, maps, inside = scan(rng)
    found = espirit(kspace)
    median, low = agreement(found.maps[0], maps, inside)
    assert median > 0.9999
    assert low > 0.999
    assert np.median(found.eigenvalues[0][inside]) > 0.99


def test_the_fast_form_is_the_slow_one(rng):
    """At single pixels: the kernels, zero-padded and transformed one by one, and all eigenvectors (Uecker 2014)."""
    kspace, _, _ = scan(rng)
    centre = kspace[:, 36:60, 28:52]
    kernel, coils = 6, len(kspace)
    signal = signal_space(centre, kernel, 0.02)
    patches = np.array(
        [centre[:, y : y + kernel, x : x + kernel].ravel() for y in range(19) for x in range(19)], np.complex128
    )
    _, values, right = np.linalg.svd(patches, full_matrices=False)
    slow = right[values > 0.02 * values[0]]  # [kernel, coil*y*x]
    assert slow.shape[0] == signal.shape[1]
    found = espirit(kspace)
    for y, x in ((48, 40), (30, 52), (60, 33)):
        phase = np.exp(
            2j * np.pi * ((y / 96 - 0.5) * np.arange(kernel)[:, None] + (x / 80 - 0.5) * np.arange(kernel)[None, :])
        )
        transformed = (slow.reshape(-1, coils, kernel, kernel) * phase).sum((2, 3))  # [kernel coil]
        matrix = transformed.T @ transformed.conj() / kernel**2
        fast = matrices_at(
            lag_coefficients(signal, coils, kernel), (np.array([y / 96 - 0.5]), np.array([x / 80 - 0.5]))
        )
        np.testing.assert_allclose(fast[0, 0], matrix, atol=2e-5)
        eigenvalues, vectors = np.linalg.eigh(fast[0, 0])
        np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(matrix), atol=2e-5)
        assert abs(np.vdot(found.maps[0][:, y, x], vectors[:, -1])) > 0.99999
        assert found.eigenvalues[0][y, x] == pytest.approx(eigenvalues[-1], abs=1e-4)


def test_sigpy_agrees(rng):
    mri = pytest.importorskip("sigpy.mri")
    kspace, _, inside = scan(rng)
    theirs = mri.app.EspiritCalib(kspace, calib_width=24, crop=0, show_pbar=False).run()
    median, low = agreement(espirit(kspace).maps[0], theirs, inside)
    assert median > 0.999
    assert low > 0.99


def test_the_real_brain(rng):
    mri = pytest.importorskip("sigpy.mri")
    brain = open_scan(shared("scans/brain_8ch_bart/full.cfl"))
    image = brain.rss(0)
    theirs = mri.app.EspiritCalib(brain[0], calib_width=24, crop=0, show_pbar=False).run()
    median, low = agreement(espirit(brain[0]).maps[0], theirs, image > 0.15 * np.percentile(image, 99))
    assert median > 0.999
    assert low > 0.99


def test_scale_and_a_phase_of_the_scan_do_not_matter(rng):
    kspace, _, inside = scan(rng)
    one, other = espirit(kspace).maps[0], espirit(1e-6j * kspace).maps[0]
    np.testing.assert_allclose(one[:, inside], other[:, inside], atol=1e-3)


def test_maps_are_normalised_smooth_and_finite_everywhere(rng):
    kspace, _, inside = scan(rng)
    for extend in (False, True):
        maps = espirit(kspace, extend=extend).maps[0]
        assert np.isfinite(maps).all()
        np.testing.assert_allclose(rss(maps), 1, atol=1e-3)
        steps = np.sqrt(np.sum(np.abs(np.diff(maps, axis=2)) ** 2, 0))
        assert steps[(inside[:, 1:] & inside[:, :-1]) if not extend else slice(None)].max() < 0.25


def test_extended_maps_are_close_to_true_ones_beyond_the_object(rng):
    kspace, maps, inside = scan(rng)
    plain, extended = (cosine(espirit(kspace, extend=e).maps[0], maps)[~inside] for e in (False, True))
    assert np.percentile(extended, 10) > max(0.85, np.percentile(plain, 10))


def test_the_other_sizes_of_a_map(rng):
    kspace, maps, _ = scan(rng, shape=(97, 81))
    found = espirit(kspace, (194, 162)).maps[0]
    assert found.shape == (6, 194, 162)
    assert np.median(cosine(found[:, ::2, ::2], maps)[ellipse((97, 81))]) > 0.999


def test_two_sets_where_the_field_of_view_is_too_small(rng):
    """An object cut and folded over needs two map sets where it overlaps; they are orthogonal."""
    kspace, _, _ = scan(rng, shape=(96, 112))
    folded = kspace[:, :, ::2]  # half the field of view
    found = espirit(np.ascontiguousarray(folded), sets=2)
    assert found.eigenvalues[1].max() > 0.95
    overlap = np.abs(np.sum(found.maps[0].conj() * found.maps[1], 0))
    assert np.median(overlap) < 0.05


def test_crop_and_soft_weights(rng):
    kspace, _, inside = scan(rng)
    found = espirit(kspace)
    assert not found.cropped(0.95)[:, 0, 0].any()
    assert (rss(found.cropped(0.9))[inside] > 0.99).mean() > 0.97
    weight = rss(found.soft(0.8))
    assert ((weight >= 0) & (weight < 1.01)).all()
    assert np.median(weight[inside]) == pytest.approx(1, abs=1e-3)


def test_one_coil_and_smooth_phase(rng):
    kspace, _, inside = scan(rng, coils=1)
    assert np.allclose(np.abs(espirit(kspace).maps[0][0][inside]), 1, atol=1e-3)
    vectors = np.ones((12, 12, 1), np.complex64) * np.exp(2j * np.pi * rng.random((12, 12, 1))).astype(np.complex64)
    smoothed = smooth_phase(vectors, np.ones((12, 12), np.float32), vectors[0, 0])
    np.testing.assert_allclose(smoothed, np.full_like(smoothed, smoothed[0, 0, 0]), atol=1e-4)


def test_bad_references_are_said(rng):
    kspace, _, _ = scan(rng)
    with pytest.raises(ValueError, match="sample more reference lines"):
        espirit(kspace, reference=(24, 4))
    kspace[:, :, ::2] = 0
    with pytest.raises(ValueError, match="not fully sampled"):
        espirit(kspace)


def test_finite_kspace_of_one_slice_is_wanted():
    with pytest.raises(ValueError, match=r"k-space \[coil y x\] of one slice.*got an array of 4 axes"):
        espirit(np.zeros((1, 4, 32, 32), np.complex64))
    with pytest.raises(ValueError, match="got a str"):
        espirit("scan.cfl")
    with pytest.raises(ValueError, match="NaN or infinite"):
        espirit(np.full((4, 32, 32), np.nan, np.complex64))
