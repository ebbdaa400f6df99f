import numpy as np
import pytest
import torch
from conftest import recipe_data
from properties import complex_normal
from typer.testing import CliRunner

from pipelines.cli.app import app
from pipelines.cluster import ClusterSpec
from pipelines.corpus.build import build
from recon.data.datasets import PairDataset
from recon.evaluation.probes import (
    contrast_recovery,
    data_consistency,
    false_lesions,
    lesion_error,
    noise_centre,
    noise_maps,
    noise_spread,
    pure_noise,
    shows,
)
from recon.evaluation.rows import lesion_rows, noise_rows, reconstructions, refuse_other_pairs, same_but_for_lesions
from recon.models.baselines import RegularisedSense, ZeroFilled
from recon.models.gfactor import block_g
from synth.physics import sense_forward
from synth.recipe import parse_recipe
from synth.stages.lesions import LesionsSpec, disc

SHAPE, SIGMA = (48, 64), 0.05


@pytest.fixture
def batch():
    """Two pairs of 6 coils with noise; 32 of 64 lines are sampled, as many as by a regular mask of R = 2."""
    draw = torch.Generator().manual_seed(2)
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SHAPE), indexing="ij")
    angle = 2 * torch.pi * torch.arange(6) / 6
    maps = torch.exp(-((y - angle.sin()[:, None, None]) ** 2 + (x - angle.cos()[:, None, None]) ** 2)).to(
        torch.complex64
    )
    maps = (maps / maps.abs().square().sum(0).sqrt())[None].repeat(2, 1, 1, 1)
    target = torch.rand(2, *SHAPE, dtype=torch.float32, generator=draw).to(torch.complex64) + 0.5
    mask = (torch.arange(SHAPE[1]) % 2 == 0).view(1, 1, 1, -1).repeat(2, 1, 1, 1)
    noise = SIGMA * torch.view_as_complex(torch.randn(*maps.shape, 2, generator=draw))
    kspace = (sense_forward(target, maps, mask) + noise) * mask
    sigma, pair = torch.full((2,), SIGMA), torch.tensor([3, 7])
    return {"masked_kspace": kspace, "sens_maps": maps, "mask": mask, "target": target, "sigma": sigma, "pair_id": pair}


def test_the_true_image_leaves_noise_and_none_leaves_the_data(batch):
    for value in data_consistency(batch["target"], batch):
        assert value == pytest.approx(1, abs=4 / (2 * (6 * 48 * 32) ** 0.5))
    k = batch["masked_kspace"][1]
    expected = (k.abs().square().sum() / (6 * 48 * 32)).sqrt() / (2**0.5 * SIGMA)
    assert data_consistency(torch.zeros_like(batch["target"]), batch)[1] == pytest.approx(float(expected), rel=1e-5)


def test_recovery_by_hand():
    lesion = np.zeros(SHAPE, np.complex64)
    lesion += 0.3j * (disc(SHAPE, (12, 20), 4) + disc(SHAPE, (30, 44), 6))
    target = np.ones(SHAPE, np.complex64)
    kept = np.where(np.arange(SHAPE[1]) < 32, 1.0, 0.25)  # all of the left lesion, a quarter of the right
    found = contrast_recovery(0.9 * target + kept * lesion, 0.9 * target, target + lesion, target)
    assert found == pytest.approx([1.0, 0.25], rel=1e-5)


def test_recovery_of_a_linear_reconstruction_is_its_matrix_of_resolution(batch):
    """The response of the resolution matrix is the reconstruction of the lesion alone, without noise."""
    lesion = torch.from_numpy(0.4 * disc(SHAPE, (20, 30), 4)).to(torch.complex64)
    model = RegularisedSense(1.5)
    more = sense_forward(lesion.expand(2, -1, -1), batch["sens_maps"], batch["mask"])
    alone = model({**batch, "masked_kspace": more})[0]
    changed = model({**batch, "masked_kspace": batch["masked_kspace"] + more})[0]
    plain, target = model(batch)[0], batch["target"][0]
    (found,) = contrast_recovery(*(part.numpy() for part in (changed, plain, target + lesion, target)))
    expected = torch.vdot(lesion.ravel(), alone.ravel()).real / lesion.abs().square().sum()
    assert 0.2 < found < 0.95
    assert found == pytest.approx(float(expected), rel=1e-3)


def test_recovery_is_the_response_of_the_matrix_of_resolution_by_hand():
    """l^H M l / l^H l with M = (A + mu)^-1 A written out as a matrix: A = R F^H P F, one coil of 1, R = 2, lam = 1."""
    shape, mu = (16, 18), 0.25
    fourier = np.fft.fft(np.eye(18), norm="ortho")
    a = 2 * np.kron(np.eye(16), fourier.conj().T @ np.diag(np.arange(18) % 2 == 1) @ fourier)  # 0 is at 9
    lesion = disc(shape, (8, 9), 4).ravel().astype(np.complex128)
    response = np.linalg.solve(a + mu * np.eye(288), a @ lesion)
    mask = (torch.arange(18) % 2 == 1).view(1, 1, 1, -1)
    maps, target = torch.ones(1, 1, *shape, dtype=torch.complex64), torch.ones(1, *shape, dtype=torch.complex64)
    target[:, :3] = 0
    both = torch.cat([target + torch.from_numpy(lesion.reshape(shape)), target]).to(torch.complex64)
    batch = {"sens_maps": maps.repeat(2, 1, 1, 1), "mask": mask.repeat(2, 1, 1, 1)}
    batch["masked_kspace"] = sense_forward(both, batch["sens_maps"], batch["mask"])
    images = RegularisedSense(1.0)(batch).numpy()
    (found,) = contrast_recovery(*images, *both.numpy())
    assert found == pytest.approx(np.vdot(lesion, response).real / np.vdot(lesion, lesion).real, rel=1e-3)
    assert found == pytest.approx(2 / 2.25 / 2, rel=1e-5)  # A is 0 or 2, and half of a lesion of 4 pixels is its alias


def anatomy():
    """An object in air with structures [y x]: 1, and stripes of 1.4 and 0.7."""
    image = np.zeros(SHAPE, np.complex64)
    image[4:-4, 4:-4] = 1
    image[10:14, 8:-8], image[24:28, 8:-8] = 1.4, 0.7
    return image


def with_lesions(contrast):
    bare = anatomy()
    lesion = contrast * (disc(SHAPE, (19, 20), 4) + disc(SHAPE, (34, 44), 6))
    return bare + lesion, bare, lesion


@pytest.mark.parametrize("contrast", [0.5, -0.5])
def test_a_lesion_may_be_too_weak_or_too_strong(contrast):
    target, bare, lesion = with_lesions(contrast)
    for kept in (0.0, 0.4, 1.0, 1.5, 2.0, 5.0, -1.0):
        expected = min(1.0, abs(1 - kept))
        found = lesion_error(bare + kept * lesion, bare, target, bare)
        assert found == pytest.approx([expected, expected], abs=1e-5)
    turned = 3 * np.exp(0.7j)
    assert lesion_error(turned * target, turned * bare, target, bare) == pytest.approx([0, 0], abs=1e-5)


def test_a_lesion_is_seen_against_its_surroundings():
    target, bare, lesion = with_lesions(0.5)
    minus = lesion_error(target - 5 * bare, -4 * bare, target, bare)  # the lesion lies dark in a bright object
    assert minus == [1, 1]
    assert contrast_recovery(target - 5 * bare, -4 * bare, target, bare) == pytest.approx([1, 1], rel=1e-5)
    around = np.where(np.abs(lesion) > 0, 1.0, 0.0) + 0  # twice the background at the lesions halves their contrast
    assert lesion_error(target + 1, bare + 1, target, bare) == pytest.approx([0.5, 0.5], abs=1e-5)
    halo = disc(SHAPE, (19, 20), 12) + disc(SHAPE, (34, 44), 16) - around
    found = lesion_error(target + 0.1 * np.clip(halo, 0, 1), bare, target, bare)
    assert all(0.1 < error < 0.3 for error in found)  # 0.1 of 0.5 is hidden by the halo
    assert contrast_recovery(target + 0.1 * np.clip(halo, 0, 1), bare, target, bare) == pytest.approx([1, 1], abs=1e-5)


def nothing(image):
    noise = complex_normal(np.random.default_rng(3), *SHAPE)
    return [0 * image, 0 * image + 0.7, image * np.nan, np.where(image == 1, np.inf, image), noise, 2 - image]


@pytest.mark.parametrize("kind", range(6), ids=["black", "constant", "NaN", "infinity", "noise", "inverted"])
def test_an_image_that_shows_nothing_scores_worst(kind):
    target, bare, _ = with_lesions(0.5)
    with np.errstate(all="ignore"):
        image, without = nothing(target)[kind], nothing(bare)[kind]
        assert not shows(without, bare)
        assert lesion_error(image, without, target, bare) == [1, 1]
        assert set(false_lesions(without, bare, LesionsSpec()).values()) == {1.0}
    alone = lesion_error(1 + target - bare, np.ones_like(bare), target, bare)  # the lesions, and nothing of the object
    assert alone == [1, 1]
    assert shows(bare + 0.3 * complex_normal(np.random.default_rng(3), *SHAPE), bare)


@pytest.mark.parametrize("contrast", [0.5, -0.5])
@pytest.mark.parametrize("where", [(16, 20), (17, 21), (18, 22)])
def test_a_false_lesion_is_found_wherever_it_is(contrast, where):
    lesions = LesionsSpec(diameter=4, contrast=contrast)
    reference = np.zeros(SHAPE, np.complex64)
    reference[4:-4, 4:-4] = 1
    assert set(false_lesions(1.2 * reference, reference, lesions).values()) == {0.0}  # brighter everywhere is no lesion
    lesion, faint = disc(SHAPE, where, 4), 0.4 * disc(SHAPE, (32, 40), 4)
    passing = 0
    for y in range(10, 28):  # by hand: mean over a disc less mean over the ring around it
        for x in range(12, 32):
            inner, outer = disc(SHAPE, (y, x), 4), disc(SHAPE, (y, x), 8)
            ring = outer - inner
            passing += (lesion * inner).sum() / inner.sum() - (lesion * ring).sum() / ring.sum() >= 0.5
    assert passing > 4
    for sign, name, other in ((1, "false_bright", "false_dark"), (-1, "false_dark", "false_bright")):
        found = false_lesions(2 * (reference + sign * 0.5 * (lesion + faint)), reference, lesions)
        assert found["false_lesions"] == found[name] == pytest.approx(passing / (40 * 56))
        assert found[other] == 0


def test_noise_alone(batch):
    """Zero-filled images have 1 / sqrt(R) of a full image's noise, evenly; SENSE has at most lam sqrt(R)."""
    for found in pure_noise(ZeroFilled(), batch):
        assert found["noise_gain"] == pytest.approx(0.5**0.5, rel=0.05)
        assert found["noise_kurtosis"] == pytest.approx(2, rel=0.1)
    assert pure_noise(RegularisedSense(0.4), batch)[0]["noise_gain"] <= 0.4 * 2**0.5
    rectified = pure_noise(lambda b: torch.relu(ZeroFilled()(b).real - 0.05).to(torch.complex64), batch)
    assert rectified[0]["noise_kurtosis"] > 4  # noise made into dots
    alone = {name: part[1:] for name, part in batch.items()}
    assert pure_noise(ZeroFilled(), alone)[0] == pytest.approx(pure_noise(ZeroFilled(), batch)[1], rel=1e-4)


def test_noise_maps_equal_the_analytic_g_factor(batch):
    lam, replicas = 2.0, 200
    maps = noise_maps(RegularisedSense(lam), batch, replicas)
    g = block_g(batch["sens_maps"][0].numpy(), batch["mask"][0, 0, 0].numpy(), lam)
    error = maps[0] / (2**0.5 * g) - 1
    assert np.abs(error.mean()) < 0.005
    assert error.std() == pytest.approx(1 / (2 * replicas**0.5), rel=0.3)


def test_spread():
    reference = np.ones(SHAPE, np.complex64)
    assert noise_spread(np.full(SHAPE, 0.3), reference) == pytest.approx(1)
    assert noise_centre(np.full(SHAPE, 0.3), reference) == pytest.approx(1)
    middle = np.full(SHAPE, 0.3)
    middle[12:36, 16:48] = 0.6
    assert noise_centre(middle, np.ones(SHAPE)) == pytest.approx(2)
    slope = np.broadcast_to(np.linspace(1, 3, SHAPE[1]), SHAPE)
    assert noise_spread(slope, reference) == pytest.approx(2.9 / 1.1, rel=0.05)


@pytest.fixture(scope="module")
def corpora(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("lesions")
    for name, lesions in (("plain", None), ("lesions", {"diameter": 5})):
        target = {"reference": "clean"} | ({"lesions": lesions} if lesions else {})
        build(
            parse_recipe(recipe_data(photos, pairs=4, target=target), name), out / f"{name}.zarr", ClusterSpec("sync")
        )
    return out / "plain.zarr", out / "lesions.zarr"


def rows_of_lesions(model, lesions, plain):
    both = (reconstructions(model, pairs, 3, "cpu") for pairs in (lesions, plain))
    found = []
    for (batch, images), (bare_batch, bare_images) in zip(*both, strict=True):
        assert torch.is_grad_enabled()
        found += lesion_rows(batch, images, bare_batch, bare_images, lesions.recipe.target.lesions)
    return found


def test_rows_of_lesions_and_noise(corpora):
    plain, lesions = map(PairDataset, corpora)
    kept, lost = (rows_of_lesions(RegularisedSense(lam), lesions, plain) for lam in (8.0, 0.2))
    assert torch.is_grad_enabled()
    assert sorted(row["pair"] for row in kept) == [0, 1, 2, 3]
    pairs = zip(kept, lost, strict=True)
    for a, b in pairs:
        assert 0 < b["contrast_recovery"] < a["contrast_recovery"] < 1.3
        assert 0 <= a["lesion_error"] < b["lesion_error"] <= 1
        assert a["false_lesions"] == a["false_bright"] + a["false_dark"] <= 1
    with pytest.raises(ValueError, match=r"has no target\.lesions"):
        refuse_other_pairs(plain, lesions)
    refuse_other_pairs(lesions, plain)
    with pytest.raises(ValueError, match=r"they differ in pairs, seed$"):
        same_but_for_lesions(lesions.recipe, plain.recipe.model_copy(update={"seed": 99, "pairs": 3}))
    rows, first = noise_rows(ZeroFilled(), plain, 8, 3, "cpu")
    assert {"noise_gain", "noise_kurtosis", "noise_spread", "noise_centre"} <= rows[0].keys()
    assert first.shape == (48, 56)


@pytest.mark.parametrize(
    ("noise", "message"),
    [({"kind": "none"}, "some sigma is 0"), ({"covariance": "psi.npy"}, "replicas of noise are white")],
)
def test_noise_that_replicas_cannot_repeat(photos, tmp_path, monkeypatch, noise, message):
    monkeypatch.chdir(tmp_path)
    np.save("psi.npy", np.diag([1, 1, 1, 40]).astype(np.complex64))
    build(parse_recipe(recipe_data(photos, pairs=2, noise=noise), "n"), tmp_path / "n.zarr", ClusterSpec("sync"))
    words = ["test", "zero-filled", str(tmp_path / "n.zarr"), "--out", str(tmp_path / "out"), "--replicas", "2"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code != 0
    assert message in " ".join(refused.output.split())
    assert "Traceback" not in refused.output


def test_noise_alone_counts_where_coils_see(batch):
    half = torch.arange(SHAPE[1]) < 32
    cut = {**batch, "sens_maps": batch["sens_maps"] * half}
    assert pure_noise(ZeroFilled(), cut)[0]["noise_kurtosis"] == pytest.approx(2, rel=0.1)


def test_the_command_probes(corpora, tmp_path):
    plain, lesions = map(str, corpora)
    words = ["test", "cg-sense:6", "zero-filled", lesions, "--without", plain, "--replicas", "4", "--out"]
    made = CliRunner().invoke(app, [*words, str(tmp_path / "out")])
    assert made.exit_code == 0, made.output
    assert "contrast_recovery" in made.output
    assert (tmp_path / "out" / "noise.png").exists()
    again = CliRunner().invoke(app, ["test", "zero-filled", plain, "--without", lesions, "--out", str(tmp_path / "no")])
    assert "has no target.lesions" in again.output
    assert (
        "one replica" in CliRunner().invoke(app, [*words[:6], "--replicas", "1", "--out", str(tmp_path / "no")]).output
    )
