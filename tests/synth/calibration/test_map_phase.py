from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
from conftest import shared
from properties import complex_normal

from synth.calibration import espirit as module
from synth.calibration.espirit import espirit, lag_coefficients, matrices_at, positions_of, signal_space
from synth.calibration.map_phase import (
    _references,
    object_where_defined,
    phase_of_maps,
    principal,
    referenced,
    smooth_phase,
)
from synth.calibration.noise_profile import whiten
from synth.calibration.scan_noise import calibrate
from synth.physics import centre_block, fft2c, ifft2c, rss
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.scans.open import open_scan

SCANS = {
    "scans/brain_8ch_bart/full.cfl": 1,
    "scans/brain_mprage_4ch/MPRAGE_multi_channel.mat": 1,
    "scans/brain_prescan_16ch/preScanRefData.npy": 1,
    "scans/head_tse_2ch_32sl/kdata_body.mat": 32,
    "scans/phantom_gre_siemens/gre.dat": 1,
}
EVERYWHERE = np.ones((20, 16), bool)


opened = lru_cache(maxsize=1)(open_scan)


def around(y, x, shape=(20, 16)):
    """exp(i angle) around a point."""
    return np.exp(1j * np.arctan2(np.arange(shape[0])[:, None] - y, np.arange(shape[1]) - x)).astype(np.complex64)


def white(name, number=0):
    """A slice's whitened k-space, and the root of the sum of squares of its images."""
    scan = opened(shared(name))
    kspace = whiten(scan[number], calibrate(scan, number, checked=False))
    return kspace, rss(ifft2c(kspace))


def measured(kspace, image, **how):
    size = tuple(min(24, n) for n in kspace.shape[1:])
    plain = espirit(kspace, reference=size)
    maps = espirit(kspace, reference=size, **how).maps[0]
    return phase_of_maps(maps, object_where_defined(image, plain.eigenvalues[0]))


def test_a_vortex_is_found_where_it_is():
    """The corners of the block around it lie at 45, 135, 225 and 315 degrees: neighbours differ by pi / 2."""
    still = np.full((3, 20, 16), 3**-0.5, np.complex64)
    for turn in (around(10.5, 7.5), around(10.5, 7.5).conj()):
        found = phase_of_maps(still * turn, EVERYWHERE)
        np.testing.assert_array_equal(found.vortices, [[10, 7]])
        assert found.largest == pytest.approx(np.pi / 2, abs=1e-5)
    two = phase_of_maps(still * around(10.5, 7.5) * around(3.5, 12.5), EVERYWHERE)
    np.testing.assert_array_equal(two.vortices, [[3, 12], [10, 7]])
    hidden = EVERYWHERE.copy()
    hidden[11, 8] = False
    assert len(phase_of_maps(still * around(10.5, 7.5), hidden).vortices) == 0


def test_a_slope_is_no_vortex_and_is_measured():
    slope = np.exp(1j * (0.3 * np.arange(20)[:, None] - 0.2 * np.arange(16))).astype(np.complex64)
    found = phase_of_maps(np.full((2, 20, 16), 0.5, np.complex64) * slope, EVERYWHERE)
    assert len(found.vortices) == 0
    assert found.largest == pytest.approx(0.3, abs=1e-5)


def test_the_zero_of_one_coil_is_no_vortex():
    """Coil 0 is a (y - 10.5 + i (x - 7.5)), whose phase turns around its zero; coil 1 is 1."""
    y, x = np.arange(20)[:, None] - 10.5, np.arange(16) - 7.5
    maps = np.stack([0.05 * (y + 1j * x), np.ones((20, 16))]).astype(np.complex64)
    assert len(phase_of_maps(maps[:1], EVERYWHERE).vortices) == 1
    assert len(phase_of_maps(maps / rss(maps), EVERYWHERE).vortices) == 0


def plane(scale, centre):
    """Vectors [y x coil] (1, w) / norm, w = scale (x + i y) + centre: orthogonal to (1, u) where w = -1 / conj(u)."""
    y, x = np.mgrid[-6:7, -6:7] / 6
    vectors = np.stack([np.ones((13, 13)), scale * (x + 1j * y) + centre], axis=-1)
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.complex64)


def count(vectors):
    return len(phase_of_maps(np.moveaxis(vectors, -1, 0), np.ones(vectors.shape[:2], bool)).vortices)


def test_another_reference_where_the_centre_leaves_a_vortex():
    """The centre is (1, 1.02); (1, -1 / 1.02) lies inside, at x = -2.0 / 2.2. The corner x = -y = 1 avoids a zero."""
    vectors, everywhere = plane(2.2, 1.02), np.ones((13, 13), bool)
    centre, other = _references(vectors, everywhere)
    assert np.abs(vectors @ centre.conj()).min() < 0.1 < np.abs(vectors @ other.conj()).min()
    alone = smooth_phase(vectors, np.where(everywhere, np.float32(1), 0), centre)
    assert count(alone) == 1
    found, left = referenced(vectors, np.ones((13, 13), np.float32), everywhere)
    assert left == count(found) == 0
    np.testing.assert_allclose(np.abs(np.sum(found.conj() * vectors, axis=-1)), 1, atol=1e-5)


def test_maps_that_show_every_direction_have_a_smooth_phase():
    """(z^2 - 1, 2 z) is orthogonal to any vector where z^2 - 2 b z - 1 = 0: the product of these two z is -1.

    So one of them lies in the unit circle, and every reference leaves a vortex in an object that holds it.
    """
    z = np.linspace(-1.5, 1.5, 13) + 1j * np.linspace(-1.5, 1.5, 13)[:, None]
    vectors = np.stack([z**2 - 1, 2 * z], axis=-1)
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.complex64)
    certain, inside = np.ones((13, 13), np.float32), np.abs(z) < 1.4
    assert referenced(vectors, certain, inside, carried=False)[1] == 1
    found, left = referenced(vectors, certain, inside)
    assert left == 0
    np.testing.assert_allclose(np.abs(np.sum(found.conj() * vectors, axis=-1)), 1, atol=1e-5)
    turned = vectors * np.exp(5j * z.real**2).astype(np.complex64)[..., None]
    np.testing.assert_allclose(referenced(turned, certain, inside)[0], found, atol=1e-4)


def test_a_profile_of_few_samples_leaves_no_vortex():
    """159 samples of 16 coils: whitened maps change so much that version 3 left a vortex in the brain."""
    scan = open_scan(shared("scans/brain_prescan_16ch/preScanRefData.npy"))
    x = np.arange(64) - 32
    kept = (x % 4 == 0) | (np.abs(x + 0.5) < 12)
    kspace = whiten(scan[0], calibrate(replace(scan, load=lambda k: scan.load(k) * kept), place="samples"))
    inside = object_where_defined(rss(ifft2c(kspace)), espirit(kspace, sigma=1.0).eigenvalues[0])
    told = {version: espirit(kspace, sigma=1.0, version=version) for version in (3, 4)}
    assert [len(phase_of_maps(one.maps[0], inside).vortices) for one in told.values()] == [1, 0]
    assert "1 vortices" in told[3].notes[0]
    assert told[4].notes == ()


def test_vortices_that_no_reference_avoids_are_told(rng, monkeypatch):
    """Vectors of noise have no smooth phase."""
    vectors = complex_normal(rng, 13, 13, 3)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    found, left = referenced(vectors, np.ones((13, 13), np.float32), np.ones((13, 13), bool))
    assert left == count(found) > 0
    monkeypatch.setattr(module, "referenced", lambda vectors, *_: (np.ascontiguousarray(vectors), 3))
    kspace = complex_normal(rng, 4, 32, 32)
    assert espirit(kspace).notes == ("the phase of map set 0 has 3 vortices in the object: maps are wrong there",)
    assert espirit(kspace, version=1).notes == ()


def test_the_reference_does_not_depend_on_the_phase_of_eigenvectors(rng):
    vectors = plane(1.0, 0.3)
    turned = vectors * np.exp(2j * np.pi * rng.random((13, 13, 1))).astype(np.complex64)
    one, other = (referenced(v, np.ones((13, 13), np.float32), np.ones((13, 13), bool))[0] for v in (vectors, turned))
    np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("name", SCANS)
def test_no_vortex_in_any_shared_scan(name):
    for number in range(SCANS[name]):
        kspace, image = white(name, number)
        for extend in (False, True):
            found = measured(kspace, image, extend=extend)
            assert len(found.vortices) == 0, (number, extend)
            assert found.largest < 0.5, (number, extend)


def test_the_vortex_of_version_1_is_gone_and_the_map_is_right_there():
    """At a corner of the block: what the map leaves of the signal, in sigma; the eigenvector there leaves the least."""
    kspace, image = white("scans/brain_8ch_bart/full.cfl")
    old = measured(kspace, image, version=1)
    np.testing.assert_array_equal(old.vortices, [[111, 93]])
    assert old.largest > 2.5
    assert measured(kspace, image).largest < 0.05
    pixel = ifft2c(kspace)[:, 111, 94]
    block = kspace[(slice(None), *(centre_block(n, 24) for n in kspace.shape[1:]))]
    y, x = (p[k : k + 1] for p, k in zip(positions_of(image.shape, image.shape), (111, 94), strict=True))
    matrix = matrices_at(lag_coefficients(signal_space(block, 6, 0.02), 8, 6), (y, x))[0, 0]
    best = np.linalg.eigh(matrix)[1][:, -1]
    before, after, least = (
        np.linalg.norm(pixel - m * np.vdot(m, pixel)) / np.sqrt(14)  # sigma is 1, and 7 complex numbers are left
        for m in (espirit(kspace, version=1).maps[0][:, 111, 94], espirit(kspace).maps[0][:, 111, 94], best)
    )
    assert before > 4
    assert after == pytest.approx(least, abs=0.01)
    assert least < 1.5


def test_only_the_phase_changes_away_from_the_vortex():
    kspace, image = white("scans/brain_8ch_bart/full.cfl")
    old, new = (espirit(kspace, version=version).maps[0] for version in (1, 2))
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    where = object_where_defined(image, espirit(kspace).eigenvalues[0]) & (np.hypot(y - 111, x - 93) > 24)
    np.testing.assert_allclose(np.abs(np.sum(old.conj() * new, 0))[where], 1, atol=1e-4)
    np.testing.assert_allclose(np.abs(old[:, where]), np.abs(new[:, where]), atol=5e-3)


def test_no_vortex_in_augmented_pairs():
    """12 pairs, flipped, shifted and turned by up to 10 degrees: version 1 has vortices in most of them."""
    recipe = parse_recipe(
        {
            "name": "augmented",
            "pairs": 12,
            "seed": 13,
            "source": {"kind": "scans", "path": str(shared("scans/brain_prescan_16ch/preScanRefData.npy"))},
            "target": {"fit": "native", "flip": True, "shift": 0.05, "degrees": 10},
            "coils": {"kind": "espirit"},
            "noise": {"kind": "none"},
            "sampling": {"kind": "regular", "acceleration": 4, "reference_lines": 24},
        },
        "test",
    )
    plan = Plan.of(recipe)
    counts = {1: 0, 2: 0}
    for version in counts:
        for index in range(12):
            pair = Plan(recipe, plan.files, {"maps": version}).pair(index)
            inside = object_where_defined(np.abs(pair.target), np.ones(pair.target.shape))
            counts[version] += len(phase_of_maps(pair.maps, inside).vortices) > 0
    assert counts[1] >= 9
    assert counts[2] == 0


def test_version_1_starts_from_the_principal_component(rng):
    """Its reference, computed in another way: the first left singular vector of all weighted vectors."""
    vectors, weights = complex_normal(rng, 5, 6, 4), rng.random((5, 6)).astype(np.float32)
    rows = (vectors * weights[..., None]).reshape(-1, 4).T
    assert abs(np.vdot(principal(vectors, weights), np.linalg.svd(rows)[0][:, 0])) == pytest.approx(1, abs=1e-5)


def test_maps_of_noise_and_of_one_coil_are_finite(rng):
    for coils in (1, 4):
        kspace = fft2c(complex_normal(rng, coils, 40, 36))
        assert np.isfinite(espirit(kspace, extend=True).maps).all()
