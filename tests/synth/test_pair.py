import numpy as np
import pytest
from conftest import recipe_data

from synth.physics import coil_combine, fft2c, ifft2c, sense_forward
from synth.plan import Plan
from synth.recipe import parse_recipe
from synth.stages.coil_cache import map_cache
from synth.stages.mask import Mask


def make(photos, index=0, **sections):
    plan = Plan.of(parse_recipe(recipe_data(photos, **sections), "t"))
    pair = plan.pair(index)
    maps = map_cache.get(plan.recipe.coils, plan.recipe.seed, pair.maps_index, pair.target.shape)
    return plan, pair, maps


SAMPLINGS = [
    {"kind": "regular", "acceleration": 4, "reference_lines": 8},
    {"kind": "variable-density", "acceleration": 3, "reference_lines": 4},
    {"kind": "poisson", "acceleration": 3, "reference_lines": 8},
    {"kind": "regular-2d", "acceleration": [2, 2], "shift": 1, "reference_lines": 8},
]


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: s["kind"])
@pytest.mark.parametrize("matrix", [[48, 56], [47, 55]], ids=str)
def test_without_noise_a_pair_is_the_sense_model(photos, sampling, matrix):
    _, pair, maps = make(photos, noise={"kind": "none"}, sampling=sampling, target={"matrix": matrix})
    kspace = pair.mask.unpack(pair.kspace, tuple(matrix))
    np.testing.assert_allclose(kspace, sense_forward(pair.target, maps, pair.mask.sampled), atol=3e-5)
    assert pair.numbers["sigma"] == 0


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=lambda s: s["kind"])
@pytest.mark.parametrize("kspace", ["packed", "full"])
def test_the_snr_wanted_is_the_snr_made(photos, sampling, kspace):
    for definition in ("rms", "knoll", "knoll-rms", "image"):
        level = 0.05 if definition == "knoll" else 30
        noise = {"snr": level, "definition": definition}
        _, noisy, _ = make(photos, noise=noise, sampling=sampling, kspace=kspace)
        _, clean, _ = make(photos, noise={"kind": "none"}, sampling=sampling, kspace=kspace)
        difference = (noisy.kspace - clean.kspace).astype(np.complex128)
        sigma = np.sqrt(np.mean(np.abs(difference) ** 2) / 2)
        samples = difference.size
        assert sigma == pytest.approx(noisy.numbers["sigma"], rel=4 / np.sqrt(2 * samples))
        name = f"snr_{definition.replace('-', '_')}"
        assert noisy.numbers[name] == pytest.approx(level, rel=6 / np.sqrt(2 * min(samples, 48 * 56)))
        if definition == "rms" and kspace == "packed":
            signal = np.sqrt(np.mean(np.abs(clean.kspace) ** 2))
            assert signal / (np.sqrt(2) * sigma) == pytest.approx(30, rel=0.03)


def test_packed_and_full_hold_the_same_samples(photos):
    for sampling in SAMPLINGS:
        _, packed, _ = make(photos, sampling=sampling)
        _, full, _ = make(photos, sampling=sampling, kspace="full")
        everything = full.kspace.reshape(4, 48, 56)
        np.testing.assert_allclose(packed.kspace, packed.mask.pack(everything), atol=1e-6)
        np.testing.assert_allclose(packed.target, full.target, atol=1e-6)


def test_the_noisy_reference_has_the_noise_of_the_input(photos):
    _, full, maps = make(photos, kspace="full", noise={"snr": 5})
    np.testing.assert_allclose(coil_combine(ifft2c(full.kspace), maps), full.target, atol=1e-4)
    _, clean, _ = make(photos, kspace="full", noise={"snr": 5}, target={"reference": "clean"})
    np.testing.assert_array_equal(clean.kspace, full.kspace)
    residual = full.target - clean.target
    assert np.sqrt(np.mean(np.abs(residual) ** 2) / 2) == pytest.approx(full.numbers["sigma"], rel=0.05)


def test_an_oversampled_readout_pads_the_image_and_not_the_noise(photos):
    plan, pair, maps = make(photos, kspace="full", target={"readout_oversampling": 2}, noise={"snr": 5})
    assert pair.kspace.shape == (4, 96, 56)
    images = ifft2c(pair.kspace)
    readout = plan.recipe.target.readout((48, 56))
    outside = np.concatenate([images[:, : readout.image_rows.start], images[:, readout.image_rows.stop :]], axis=1)
    sigma = pair.numbers["sigma"]
    assert outside.real.std() == pytest.approx(sigma, rel=0.03)  # noise alone, and all of it
    assert outside.imag.std() == pytest.approx(sigma, rel=0.03)
    np.testing.assert_allclose(coil_combine(readout.crop(images), maps), pair.target, atol=1e-4)


def test_unit_noise_stays_unit_noise_through_every_stage(photos):
    """Noise alone (the same pair with and without): k-space, its transform, its combination, its crop."""
    sections = {"kspace": "full", "target": {"readout_oversampling": 2}, "coils": {"count": 15}}
    plan, noisy, maps = make(photos, noise={"snr": 10}, **sections)
    _, clean, _ = make(photos, noise={"kind": "none"}, **sections)
    sigma = noisy.numbers["sigma"]
    noise = (noisy.kspace - clean.kspace) / sigma
    images = ifft2c(noise)
    cropped = plan.recipe.target.readout((48, 56)).crop(images)
    for stage in (noise, images, cropped, coil_combine(cropped, maps), fft2c(cropped)):
        error = 4 / np.sqrt(2 * stage.size)
        assert stage.real.std() == pytest.approx(1, abs=error)
        assert stage.imag.std() == pytest.approx(1, abs=error)


def test_coloured_noise_reaches_its_snr_and_its_covariance(photos, tmp_path, rng):
    a = rng.standard_normal((4, 4)) + 1j * rng.standard_normal((4, 4))
    psi = a @ a.conj().T + np.eye(4)
    np.save(tmp_path / "psi.npy", psi)
    noise = {"snr": 20, "covariance": str(tmp_path / "psi.npy")}
    _, noisy, _ = make(photos, kspace="full", noise=noise)
    _, clean, _ = make(photos, kspace="full", noise={"kind": "none"})
    n = (noisy.kspace - clean.kspace).reshape(4, -1).astype(np.complex128)
    measured = n @ n.conj().T / n.shape[1]
    expected = psi * (4 / np.trace(psi).real) * 2 * noisy.numbers["sigma"] ** 2
    assert np.linalg.norm(measured - expected) < 0.08 * np.linalg.norm(expected)
    assert noisy.numbers["snr_rms"] == pytest.approx(20, rel=0.05)


def test_a_pair_is_a_function_of_its_address(photos):
    _, first, _ = make(photos, 4)
    _, again, _ = make(photos, 4, pairs=400, shard_pairs=1)
    assert first.digest() == again.digest()
    digests = {make(photos, k)[1].digest() for k in range(8)}
    assert len(digests) == 8
    assert make(photos, 4, seed=4)[1].digest() != first.digest()


def test_a_pair_does_not_depend_on_blas_threads(photos, monkeypatch):
    from threadpoolctl import threadpool_info, threadpool_limits

    import synth.pair

    inside = []
    original = synth.pair.matrix_of  # called first in every pair

    def spy(*arguments):
        inside.append([pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"])
        return original(*arguments)

    monkeypatch.setattr(synth.pair, "matrix_of", spy)
    digests = set()
    for threads in (1, 2, 4):
        map_cache._held.clear()
        with threadpool_limits(threads):
            digests.add(make(photos, 2, phase={"kind": "polynomial"}, target={"matrix": [56, 48]})[1].digest())
    assert len(digests) == 1
    assert inside
    assert all(set(threads) == {1} for threads in inside)


def test_snrs_are_measured_on_the_noise_that_was_made(photos):
    noise = {"snr": 10}
    _, noisy, _ = make(photos, noise=noise)
    _, clean, _ = make(photos, noise={"kind": "none"})
    difference = (noisy.kspace - clean.kspace).astype(np.complex128)
    measured = np.sqrt(np.mean(np.abs(difference) ** 2) / 2)
    assert noisy.numbers["sigma_measured"] == pytest.approx(measured, rel=1e-4)
    assert noisy.numbers["sigma_measured"] != pytest.approx(noisy.numbers["sigma"], rel=1e-4)
    combined = np.sqrt(np.mean(np.abs(noisy.target - clean.target).astype(float) ** 2))
    signal = np.sqrt(np.mean(np.abs(clean.target).astype(float) ** 2))
    assert noisy.numbers["snr_image"] == pytest.approx(signal / combined, rel=1e-3)


def test_the_seed_of_fastmris_masks_is_kept(photos):
    from synth.stages.mask_lines import FastmriSpec

    _, pair, _ = make(photos, sampling={"kind": "fastmri-random", "center_fraction": 0.2})
    spec = FastmriSpec(kind="fastmri-random", center_fraction=0.2)
    assert np.array_equal(spec.mask(56, int(pair.numbers["mask_seed"])), pair.mask.sampled)


def test_every_number_is_a_finite_number(photos):
    for kind in ("sinusoidal", "smooth-random", "polynomial"):
        _, pair, _ = make(photos, phase={"kind": kind})
        for name, value in pair.numbers.items():
            assert np.isfinite(np.asarray(value, float)).all(), name


def test_the_digest_sees_every_part(photos):
    from dataclasses import replace

    _, pair, _ = make(photos)
    kspace, target = pair.kspace.copy(), pair.target.copy()
    kspace.flat[5] += 1e-6
    target.flat[5] += 1e-6
    other = Mask(np.roll(pair.mask.sampled, 1), 4.0)
    changed = [
        replace(pair, kspace=kspace),
        replace(pair, target=target),
        replace(pair, mask=other),
        replace(pair, index=9),
        replace(pair, source_sha256="0"),
        replace(pair, numbers={**pair.numbers, "sigma": 1.0}),
    ]
    assert len({p.digest() for p in [pair, *changed]}) == 7


def test_whitened_photographs_are_those_of_whitened_coils(photos, tmp_path, rng):
    psi = np.diag([1.0, 2.0, 4.0, 9.0]).astype(complex)
    psi[0, 1], psi[1, 0] = 0.5j, -0.5j
    np.save(tmp_path / "psi.npy", psi)
    inverse = np.linalg.inv(np.linalg.cholesky(psi * (4 / 16)))
    noise = {"kind": "none", "covariance": str(tmp_path / "psi.npy")}
    plain, white = (
        Plan.of(parse_recipe(recipe_data(photos, noise=noise | more, target={"reference": "clean"}), "t")).pair(0)
        for more in ({}, {"whiten": True})
    )
    np.testing.assert_allclose(white.kspace, np.tensordot(inverse, plain.kspace, axes=1), atol=1e-5)


def test_whitened_photographs_hold_white_noise_of_their_sigma(photos, tmp_path, rng):
    np.save(tmp_path / "psi.npy", np.diag([1.0, 2.0, 4.0, 9.0]).astype(complex))
    noise = {"kind": "gaussian", "snr": 20, "covariance": str(tmp_path / "psi.npy"), "whiten": True}
    made = parse_recipe(recipe_data(photos, noise=noise, kspace="full", target={"reference": "clean"}), "t")
    pair = Plan.of(made).pair(0)
    maps = made.noise.received(map_cache.get(made.coils, made.seed, pair.maps_index, (48, 56)))[0]
    np.testing.assert_allclose(np.sum(np.abs(maps) ** 2, axis=0), 1, atol=1e-5)
    left = pair.kspace - sense_forward(pair.target, maps, np.ones((1, 56), bool))
    found = left.reshape(4, -1) @ left.reshape(4, -1).conj().T / left[0].size / (2 * pair.numbers["sigma"] ** 2)
    np.testing.assert_allclose(found, np.eye(4), atol=0.08)  # diag(.25, .5, 1, 2.25) without whitening


def test_whitening_is_in_the_hash_only_where_it_is_asked_for(photos, tmp_path):
    np.save(tmp_path / "psi.npy", np.diag([1.0, 2.0, 4.0, 9.0]).astype(complex))
    noise = {"covariance": str(tmp_path / "psi.npy")}
    plain, white = (parse_recipe(recipe_data(photos, noise=noise | more), "t") for more in ({}, {"whiten": True}))
    assert plain.hash() != white.hash()
    assert "whiten" not in plain.model_dump(exclude_none=True)["noise"]
    with pytest.raises(ValueError, match=r"noise\.whiten.*covariance"):
        parse_recipe(recipe_data(photos, noise={"whiten": True}), "t")
