import json

import numpy as np
import pytest
import torch
from conftest import recipe_data
from properties import complex_normal
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.evaluation.undecided import agreement, detail, halves_agreement, null_component, null_share
from recon.models.baselines import ZeroFilled
from synth.physics import fft2c, ifft2c
from synth.recipe import parse_recipe

SHAPE = (32, 40)


def batch_of(maps, mask, sigma=0.05):
    """Noise alone, and a target that is 1 everywhere."""
    rng = np.random.default_rng(3)
    sampled = torch.from_numpy(np.broadcast_to(mask, (1, 40)).copy()).view(1, 1, 1, 40)
    kspace = sigma * torch.from_numpy(complex_normal(rng, 1, len(maps), *SHAPE)) * sampled
    numbers = {"sigma": torch.tensor([sigma]), "pair_id": torch.tensor([0])}
    arrays = {"sens_maps": torch.from_numpy(maps)[None], "target": torch.ones(1, *SHAPE, dtype=torch.complex64)}
    return {"masked_kspace": kspace, "mask": sampled, **arrays, **numbers}


def test_the_null_component_of_one_coil_is_what_was_not_sampled():
    mask = np.arange(40) % 4 == 0
    batch = batch_of(np.ones((1, *SHAPE), np.complex64), mask)
    image = complex_normal(np.random.default_rng(0), *SHAPE)
    null = null_component(torch.from_numpy(image)[None], batch)[0].numpy()
    np.testing.assert_allclose(null, ifft2c(fft2c(image) * ~mask), atol=2e-3 * np.abs(image).max())
    share, where = null_share(image, null, np.ones(SHAPE))
    assert share == pytest.approx(0.75, abs=0.04)  # of white detail, three lines of four
    assert where.shape == SHAPE
    assert 0 <= where.min() <= where.max() <= 1


def test_coils_that_see_different_halves_leave_nothing():
    """Two coils, each of which sees one half, unfold R = 2; where no coil sees, all is null."""
    maps = np.zeros((2, *SHAPE), np.complex64)
    maps[0, :, :20], maps[1, :, 20:] = 1, 1
    image = torch.from_numpy(complex_normal(np.random.default_rng(0), 1, *SHAPE))
    mask = np.arange(40) % 2 == 0
    assert null_component(image, batch_of(maps, mask)).abs().max() < 0.01
    maps[1] = 0
    null = null_component(image, batch_of(maps, mask))
    assert null[..., :20].abs().max() < 0.01
    torch.testing.assert_close(null[..., 20:], image[..., 20:])


def test_detail_is_what_a_gaussian_takes_away():
    """exp(i k x) becomes (1 - exp(-2^2 k^2 / 2)) exp(i k x), far from the edges."""
    wave = np.exp(0.8j * np.arange(120)) * np.ones((60, 1))
    np.testing.assert_allclose(detail(wave)[30, 40:80], (1 - np.exp(-2 * 0.64)) * wave[30, 40:80], rtol=1e-3)
    assert np.abs(detail(np.full(SHAPE, 3.0))).max() < 1e-12


def test_agreement_by_hand():
    rng = np.random.default_rng(1)
    a, b = (complex_normal(rng, 96, 96) for _ in range(2))
    assert agreement(a, a, np.ones(a.shape))[0] == pytest.approx(1)
    assert agreement(a, -a, np.ones(a.shape))[0] == pytest.approx(-1)
    assert abs(agreement(a, b, np.ones(a.shape))[0]) < 0.05
    both, where = agreement(a, a + b, np.ones(a.shape))
    assert both == pytest.approx(0.5**0.5, abs=0.03)
    assert where.mean() == pytest.approx(0.7, abs=0.05)
    assert np.isfinite(agreement(0 * a, a, np.ones(a.shape))[1]).all()


def test_halves_of_noise_alone_share_nothing_and_invented_detail_agrees():
    """y + n and y - n are independent where y holds nothing but noise of the same level."""
    batch = batch_of(np.ones((1, *SHAPE), np.complex64), np.ones(40, bool))
    assert abs(halves_agreement(ZeroFilled(), batch)[0][0]) < 0.12
    stripes = torch.from_numpy(np.cos(np.arange(40)).astype(np.float32))
    assert halves_agreement(lambda b: ZeroFilled()(b) + stripes, batch)[0][0] > 0.95
    levels = []

    def model(b):
        levels.append(float(b["sigma"]))
        return ZeroFilled()(b).abs()

    halves_agreement(model, batch)
    assert levels == pytest.approx([0.05 * 2**0.5] * 2)
    with pytest.raises(ValueError, match="some sigma is 0 or not known"):
        halves_agreement(model, {**batch, "sigma": torch.tensor([0.0])})


def test_the_test_command_maps_noise(photos, tmp_path):
    corpus, out = tmp_path / "c.zarr", tmp_path / "out"
    build(parse_recipe(recipe_data(photos, pairs=2, target={"matrix": [24, 32]}), "c"), corpus, ClusterSpec("sync"))
    words = ["test", "zero-filled", str(corpus), "--out", str(out), "--json"]
    made = CliRunner().invoke(app, [*words, "--noise-map", "--probes", "9"])
    assert made.exit_code == 0, made.output
    metrics = json.loads(made.output.strip().splitlines()[-1])["models"]["zero-filled"]["metrics"]
    assert {"noise_sd", "noise_sd_magnitude", "noise_sd_error", "null_share", "halves_agreement"} <= metrics.keys()
    assert (out / "noise_map.png").exists()
    again = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "without")])
    assert "noise_sd" not in again.output
    assert not (tmp_path / "without" / "noise_map.png").exists()


@pytest.mark.parametrize(
    ("noise", "message"), [({"kind": "none"}, "noise maps need every"), ({"covariance": "psi.npy"}, "for white noise")]
)
def test_noise_that_has_no_map(photos, tmp_path, monkeypatch, noise, message):
    monkeypatch.chdir(tmp_path)
    np.save("psi.npy", np.diag([1, 1, 1, 40]).astype(np.complex64))
    recipe = recipe_data(photos, pairs=1, noise=noise, target={"matrix": [24, 32]})
    build(parse_recipe(recipe, "n"), tmp_path / "n.zarr", ClusterSpec("sync"))
    words = ["test", "zero-filled", str(tmp_path / "n.zarr"), "--out", str(tmp_path / "out"), "--noise-map"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 1
    assert message in " ".join(refused.output.split())
