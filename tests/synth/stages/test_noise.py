import json

import numpy as np
import pytest
import scipy.stats
from properties import complex_normal

from synth import physics
from synth.rng import rng as address
from synth.snr import snr_per_sigma
from synth.stages import noise


def test_sigma_is_of_each_part():
    n = noise.complex_noise((1000, 1000), 0.3, address(1, "t"))
    assert n.dtype == np.complex64
    error = 0.3 / np.sqrt(2 * 1e6)
    for part in (n.real, n.imag):
        assert part.std(dtype=float) == pytest.approx(0.3, abs=4 * error)
        assert part.mean(dtype=float) == pytest.approx(0, abs=4 * 0.3 / 1e3)
    assert np.mean(np.abs(n.astype(np.complex128)) ** 2) == pytest.approx(2 * 0.3**2, rel=0.005)
    assert abs(np.corrcoef(n.real.ravel(), n.imag.ravel())[0, 1]) < 4e-3


def test_noise_is_normal_to_its_tails():
    n = noise.complex_noise((2_000_000,), 1.0, address(2, "t"))
    for part in (n.real, n.imag):
        assert scipy.stats.kstest(part[:200_000].astype(float), "norm").pvalue > 1e-3
        assert scipy.stats.kurtosis(part.astype(float)) == pytest.approx(0, abs=4 * np.sqrt(24 / 2e6))
        beyond = (np.abs(part) > 4).mean()
        assert beyond == pytest.approx(6.334e-5, rel=0.4)
    assert np.abs(n).max() > 4.8  # of 2 million Rayleigh draws: P(max < 4.8) = 2e-9


def test_noise_is_white_over_samples():
    n = noise.complex_noise((noise.BLOCK * 4 + 7,), 1.0, address(3, "t"))
    for lag in (1, 2, noise.BLOCK):
        r = np.vdot(n[:-lag], n[lag:]) / (2 * (n.size - lag))
        assert abs(r) < 5 / np.sqrt(n.size)


def test_fft_keeps_sigma():
    n = noise.complex_noise((8, 101, 120), 2.0, address(4, "t"))
    assert physics.fft2c(n).real.std() == pytest.approx(2.0, rel=0.01)


def covariance(coils, rng):
    a = complex_normal(rng, coils, coils).astype(np.complex128)
    return a @ a.conj().T + np.eye(coils)


def test_coloured_noise_has_its_covariance(tmp_path, rng):
    psi = covariance(4, rng)
    np.save(tmp_path / "psi.npy", psi)
    spec = noise.NoiseSpec(covariance=str(tmp_path / "psi.npy"))
    n = np.asarray(spec.draw_unit((4, 400, 500), address(5, "t"))).reshape(4, -1).astype(np.complex128)
    measured = n @ n.conj().T / n.shape[1]
    expected = psi * (2 * 4 / np.trace(psi).real)  # unit sigma: E|n|^2 = 2, on average over the coils
    assert np.linalg.norm(measured - expected) < 0.02 * np.linalg.norm(expected)


def test_a_profile_may_be_json(tmp_path, rng):
    psi = covariance(3, rng)
    np.save(tmp_path / "psi.npy", psi)
    stored = {"covariance": {"real": psi.real.tolist(), "imag": psi.imag.tolist()}}
    (tmp_path / "psi.json").write_text(json.dumps(stored))
    a, b = (noise.covariance_factor(str(tmp_path / name), 3) for name in ("psi.npy", "psi.json"))
    np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("psi", "message"),
    [(np.eye(3), "need 4x4"), (np.triu(np.ones((4, 4))), "Hermitian"), (np.diag([1, 1, 1, 0.0]), "positive definite")],
)
def test_bad_covariances_are_refused(tmp_path, recipe, psi, message):
    np.save(tmp_path / "psi.npy", psi)
    with pytest.raises(ValueError, match=message):
        recipe(noise={"covariance": str(tmp_path / "psi.npy")})


def test_snr_definitions_by_hand():
    # f = two samples of magnitude 3 and 4: mean |f|^2 = 12.5, ||f|| = 5; image 2, sigma 0.5
    per_sigma = snr_per_sigma(power=12.5, samples=2, image_power=4.0, combined_variance=2.0)
    snr = {name: value / 0.5 for name, value in per_sigma.items()}
    assert snr["rms"] == pytest.approx(np.sqrt(12.5) / (np.sqrt(2) * 0.5))
    assert snr["knoll"] == pytest.approx((5 / 2) / (0.5 + 0.5))
    assert snr["knoll-rms"] == pytest.approx((5 / np.sqrt(2)) / (0.5 + 0.5))
    assert snr["image"] == pytest.approx(2 / (np.sqrt(2) * 0.5))


def test_combined_variance_equals_measurement(tmp_path, rng):
    from synth.stages.coils import LoopsSpec, draw_coils

    np.save(tmp_path / "psi.npy", covariance(4, rng))
    maps = draw_coils(LoopsSpec(count=4), 0, 0).maps((60, 64))
    for source in ("white", str(tmp_path / "psi.npy")):
        spec = noise.NoiseSpec(covariance=source)
        power = [
            np.mean(
                np.abs(physics.coil_combine(np.asarray(list(spec.draw_unit((4, 60, 64), address(k, "t")))), maps)) ** 2
            )
            for k in range(20)
        ]
        assert np.mean(power) == pytest.approx(spec.combined_variance(maps), rel=0.03)


def test_snr_laws(rng):
    uniform = [noise.NoiseSpec(snr=(10, 1000)).draw_snr(rng) for _ in range(2000)]
    logarithmic = [noise.NoiseSpec(snr=(10, 1000), law="log-uniform").draw_snr(rng) for _ in range(2000)]
    assert np.median(uniform) == pytest.approx(505, rel=0.1)
    assert np.median(logarithmic) == pytest.approx(100, rel=0.2)
    assert noise.NoiseSpec(kind="none").draw_snr(rng) == np.inf
