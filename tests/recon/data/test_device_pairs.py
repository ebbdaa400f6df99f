"""Pairs made on the device: the line's values where nothing random is involved, and its law where noise is."""

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import recipe_data
from pretended_gpu import Gpu, pretended_gpu
from properties import complex_normal

from recon.data import device_pairs
from recon.data.datasets import VirtualPairs
from recon.data.device_pairs import DevicePairs
from recon.data.loader import make_loader
from recon.evaluation.measured_noise import measured
from synth.errors import RecipeError, SourceRejectedError
from synth.physics import centring, sense_forward
from synth.recipe import parse_recipe
from synth.rng import rng as stream
from synth.stages.noise import NoiseSpec

ZOOMED = {"fit": "resize", "zoom": [1.0, 1.5], "position": "random", "outline": "rimmed", "contrast": "inverted"}
LINES = {"acceleration": 2, "reference_lines": 6}
KINDS = {
    "zoom, contrast, rim": {"target": ZOOMED},
    "resize, ellipse, two sizes": {"target": {"fit": "resize", "matrix": [[64, 40], [80, 90]], "outline": "ellipse"}},
    "pad": {"target": {"fit": "pad", "matrix": [96, 90], "position": "random"}},
    "clean": {"target": {"reference": "clean"}},
    "odd, full, oversampled": {"kspace": "full", "target": {"matrix": [47, 55], "readout_oversampling": 3}},
    **{f"phase {kind}": {"phase": {"kind": kind}} for kind in ("none", "polynomial", "smooth-random", "knoll2020")},
    "near loops, head": {
        "coils": {"distance": [0.75, 0.85], "tilt": [-0.05, 0.05]},
        "target": {"outline": "head", "fit": "resize", "matrix": [48, 48]},
    },
    "birdcage": {"coils": {"kind": "birdcage", "count": 5, "sets": 2}},
    "library": {"coils": {"kind": "library", "path": "maps.npy", "resample": True, "flip": True, "sets": 5}},
    **{f"SNR {name}": {"noise": {"definition": name}} for name in ("knoll", "knoll-rms", "image")},
    "no noise": {"noise": {"kind": "none"}},
    "covariance": {"noise": {"covariance": "covariance.npy", "definition": "image"}},
    **{
        f"sampling {kind}": {"sampling": {"kind": kind, **LINES}}
        for kind in ("uniform", "gaussian", "variable-density", "poisson")
    },
    **{
        f"sampling fastmri-{kind}": {"sampling": {"kind": f"fastmri-{kind}"}}
        for kind in ("random", "equispaced", "equispaced-fraction")
    },
    "sampling regular-2d, odd": {
        "sampling": {"kind": "regular-2d", "reference_lines": 8},
        "target": {"matrix": [47, 55]},
    },
    "sampling file": {"sampling": {"kind": "file", "path": "mask.npy"}},
}


@pytest.fixture
def parsed(photos, tmp_path, monkeypatch, rng):
    """Make a recipe; files that it may name are in the current folder."""
    monkeypatch.chdir(tmp_path)
    mixing = complex_normal(rng, 4, 4)
    np.save("covariance.npy", mixing @ mixing.conj().T + 4 * np.eye(4))
    np.save("mask.npy", np.arange(56) % 3 == 0)
    y, x = np.mgrid[:20, :24] / 20
    waves = np.exp(1j * (rng.uniform(0, 2, (3, 4, 1, 1)) * y + rng.uniform(0, 2, (3, 4, 1, 1)) * x))
    np.save("maps.npy", (waves * rng.uniform(0.5, 1, (3, 4, 1, 1))).astype(np.complex64))
    return lambda **sections: parse_recipe(recipe_data(photos, **sections), "t")


def noise_of_the_line(recipe):
    """`complex_noise`, but with the numbers that `synth.pair` draws, moved to where `DevicePairs` adds noise.

    The line adds noise to columns that are not centred, before the factor along y; or to k-space, after all factors.
    """

    def made(index, key, coils, rows, taken, n):
        count = taken.stop - taken.start
        out = []
        for number in index.tolist():
            white = NoiseSpec().draw_unit((coils, rows, n), stream(recipe.seed, "noise", number))
            noise = np.stack(list(white))[:, taken]
            if recipe.sampling.kind in ("poisson", "regular-2d"):
                out.append(noise * np.outer(centring(count)[1], centring(n)[1]).conj())
            else:
                out.append(np.fft.fftshift(noise, -1) * centring(count)[0][:, None])
        return torch.from_numpy(np.stack(out).astype(np.complex64))

    return made


def assert_same(found, expected, rtol=4e-6):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype, name
        scale = 1 if value.dtype == torch.bool else float(value.abs().max())
        torch.testing.assert_close(found[name], value, rtol=0, atol=rtol * scale, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("oversampled", [False, True], ids=["cropped", "oversampled"])
@pytest.mark.parametrize("kind", KINDS)
def test_with_the_lines_noise_pairs_are_the_lines(kind, oversampled, parsed, monkeypatch):
    recipe = parsed(**KINDS[kind])
    monkeypatch.setattr(device_pairs, "complex_noise", noise_of_the_line(recipe))
    made = DevicePairs(recipe, device="cuda", oversampled=oversampled)
    line = VirtualPairs(recipe, oversampled=oversampled)
    for index in (0, 1, 8):
        assert_same(made[index], line[index])


@pytest.mark.parametrize("kind", ["clean", "sampling regular-2d, odd", "zoom, contrast, rim"])
def test_all_but_the_noise_equals_the_lines(kind, parsed):
    recipe = parsed(**KINDS[kind])
    made, line = DevicePairs(recipe, device="cuda")[3], VirtualPairs(recipe)[3]
    if recipe.target.reference == "noisy":
        assert not torch.allclose(made["target"], line["target"], rtol=1e-3)
    else:
        assert_same({"target": made["target"]}, {"target": line["target"]})
    for name in ("masked_kspace", "target", "max_value"):
        del made[name], line[name]
    assert_same(made, line)


def test_without_noise_k_space_is_the_forward_model(parsed):
    pairs = DevicePairs(parsed(noise={"kind": "none"}, target={"readout_oversampling": 2}), device="cuda")
    for item in pairs:
        model = sense_forward(item["target"], item["sens_maps"], item["mask"])
        torch.testing.assert_close(item["masked_kspace"], model, rtol=1e-4, atol=3e-6)


@pytest.mark.parametrize("reference", ["noisy", "clean"])
@pytest.mark.parametrize("sampling", ["regular", "regular-2d"])
def test_noise_measured_back(sampling, reference, parsed):
    """Sigma and SNR of the arrays, noise of the reference included, as `fathom verify --measure` looks at corpora."""
    sampling = {"kind": sampling, "reference_lines": 8}
    recipe = parsed(pairs=24, sampling=sampling, target={"reference": reference}, noise={"definition": "image"})
    noise = []
    for index, item in enumerate(DevicePairs(recipe, device="cuda")):
        snr = recipe.noise.draw_snr(stream(recipe.seed, "snr", index))  # the image's, by its definition
        found = measured({name: value.numpy() for name, value in item.items()}, snr, noisy=reference == "noisy")
        assert found.problem is None
        noise.append(found.normal)
    assert scipy.stats.kstest(np.concatenate(noise), "norm").pvalue > 0.01


def test_noise_has_the_covariance_of_the_recipe(parsed):
    recipe = parsed(pairs=40, noise={"covariance": "covariance.npy"}, target={"reference": "clean"})
    residuals = []
    for item in DevicePairs(recipe, device="cuda"):
        model = sense_forward(item["target"], item["sens_maps"], item["mask"])
        sampled = item["mask"].expand_as(model)[0]
        residuals.append((item["masked_kspace"] - model)[:, sampled] / item["sigma"])
    noise = torch.cat(residuals, 1).numpy()
    wanted = np.load("covariance.npy")
    wanted = 2 * wanted * 4 / np.trace(wanted).real
    assert np.abs(noise @ noise.conj().T / noise.shape[1] - wanted).max() < 5 * 4 / np.sqrt(noise.shape[1])


def collected(loader):
    return {
        int(index): {name: value[k] for name, value in batch.items()}
        for batch in loader
        for k, index in enumerate(batch["pair_id"])
    }


@pytest.mark.parametrize("kind", ["phase polynomial", "sampling regular-2d, odd"])
def test_pairs_do_not_depend_on_batches_order_or_ranks(kind, parsed):
    recipe = parsed(pairs=32, **KINDS[kind])
    alone = collected(make_loader(DevicePairs(recipe, device="cuda"), 1, device="cpu", shuffle=False))
    assert sorted(alone) == list(range(32))
    for size in (7, 32):
        again = collected(make_loader(DevicePairs(recipe, device="cuda"), size, device="cpu", seed=size))
        for index, item in alone.items():
            assert_same(again[index], item, rtol=1e-6)
    shared = {}
    for rank in range(2):
        loader = make_loader(DevicePairs(recipe, device="cuda"), 4, device="cpu", rank=rank, world_size=2)
        part = collected(loader)
        assert len(part) == 16
        shared |= part
    for index, item in alone.items():
        assert_same(shared[index], item, rtol=1e-6)


def test_a_cpus_pairs_are_the_lines_bit_for_bit(parsed):
    recipe = parsed()
    made, line = DevicePairs(recipe, device="cpu"), VirtualPairs(recipe)
    assert made.identity == line.identity != DevicePairs(recipe, device="cuda").identity
    for here, there in zip(make_loader(made, 4, device="cpu"), make_loader(line, 4, device="cpu"), strict=True):
        assert all(torch.equal(here[name], there[name]) for name in there)


@pytest.mark.parametrize("kind", ["zoom, contrast, rim", "sampling poisson", "birdcage", "covariance"])
def test_a_gpu_waits_for_nothing(kind, parsed):
    recipe = parsed(**KINDS[kind])
    here = collected(make_loader(DevicePairs(recipe, device="cuda"), 5, device="cpu", shuffle=False))
    with pretended_gpu() as seen:
        loader = make_loader(DevicePairs(recipe), 5, device="cuda", shuffle=False)
        first = list(loader)
        assert not seen.refused
        assert not seen.syncs
        assert not seen.uploads
        assert not seen.doubles
        seen.clear()
        again = list(loader)
        assert not seen.syncs
        assert not seen.uploads
    for batch in (*first, *again):
        for name, value in batch.items():
            assert isinstance(value, Gpu), name
        for k, index in enumerate(batch["pair_id"]._inner.tolist()):
            assert_same({name: value._inner[k] for name, value in batch.items()}, here[index])


def test_refusals(parsed, scans, photos):
    of_scans = {"source": {"kind": "scans", "path": str(scans)}, "coils": {"kind": "espirit", "reference": 16}}
    with pytest.raises(RecipeError, match=r"source\.kind 'scans'"):
        DevicePairs(parse_recipe({**recipe_data(photos), **of_scans}, "t"))
    with pytest.raises(RecipeError, match=r"target\.lesions"):
        DevicePairs(parsed(target={"lesions": {"diameter": 4}}))
    with pytest.raises(RecipeError, match=r"noise\.whiten"):
        DevicePairs(parsed(noise={"covariance": "covariance.npy", "whiten": True}))
    pairs = DevicePairs(parsed(), device="cuda", photo_bytes=2 * 60 * 72 * 4)
    assert len(pairs.__getitems__([0, 1, 6])) == 3  # pairs 0 and 6 share a photograph
    with pytest.raises(RecipeError, match="photo_bytes"):
        pairs[2]
    with pytest.raises(ValueError, match="leave out"):
        list(make_loader(pairs, 2, device="cpu", workers=1))
    with pytest.raises(SourceRejectedError, match=r"photo0\.png: a photo of 60x72"):
        DevicePairs(parsed(target={"matrix": [70, 80]}), device="cuda")[0]


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_gpu_gives_the_numbers_of_a_cpu(kind, parsed):
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    recipe = parsed(**KINDS[kind])
    here = collected(make_loader(DevicePairs(recipe, device="cuda"), 5, device="cpu"))
    for index, item in collected(make_loader(DevicePairs(recipe), 5, device="cuda")).items():
        assert_same({name: value.cpu() for name, value in item.items()}, here[index], rtol=3e-5)
