import numpy as np
import pytest
import torch
from conftest import recipe_data
from properties import complex_normal

from recon.data.datasets import VirtualPairs
from recon.data.loader import make_loader
from recon.evaluation.metrics import (
    fastmri_volume,
    nrmse_complex,
    nrmse_magnitude,
    psnr_magnitude_slice_max,
    slice_metrics,
    ssim_global_slice_max,
    ssim_windowed_slice_range,
)
from recon.models.baselines import CgSense, Grappa, RegularisedSense, Wavelet, ZeroFilled
from synth.recipe import parse_recipe


@pytest.fixture
def images(rng):
    reference = (np.outer(np.hanning(40), np.hanning(48)) * np.exp(0.3j)).astype(np.complex64)
    return reference + 0.02 * complex_normal(rng, 40, 48), reference


def test_by_hand():
    reference, image = np.array([[3, 4j]]), np.array([[3, 0]])
    assert nrmse_complex(image, reference) == pytest.approx(4 / 5)
    assert nrmse_magnitude(-image, reference) == pytest.approx(4 / 5)
    assert nrmse_complex(-reference, reference) == pytest.approx(2)
    assert psnr_magnitude_slice_max(image, reference) == pytest.approx(20 * np.log10(4 / np.sqrt(8)))
    # one window: means 1.5 and 3.5, variances 2.25 and 0.25, covariance -0.75, L = 4
    c1, c2 = 0.04**2, 0.12**2
    expected = (2 * 1.5 * 3.5 + c1) * (2 * -0.75 + c2) / ((1.5**2 + 3.5**2 + c1) * (2.25 + 0.25 + c2))
    assert ssim_global_slice_max(image, reference) == pytest.approx(expected)


def test_a_perfect_image(images):
    _, reference = images
    found = slice_metrics(reference, reference)
    assert found["nrmse_complex"] == 0
    assert found["psnr_magnitude_slice_max"] == np.inf
    assert found["ssim_windowed_slice_range"] == pytest.approx(1)
    assert found["ssim_global_slice_max"] == pytest.approx(1)


def test_a_batch_and_a_slice_are_not_compared(images):
    image, reference = images
    with pytest.raises(ValueError, match=r"the image is \[1, .* give one slice of each, \[y x\]"):
        slice_metrics(image[None], reference)
    with pytest.raises(ValueError, match="of a batch, one after another"):
        slice_metrics(np.stack([image] * 3), np.stack([reference] * 3))
    assert slice_metrics(torch.from_numpy(image), torch.from_numpy(reference)) == slice_metrics(image, reference)


def test_without_a_reference_there_is_no_scale(images):
    x, _ = images
    assert all(np.isnan(value) for value in slice_metrics(x, 0 * x).values())


def test_cg_sense_without_an_iteration_is_refused():
    for iterations in (0, -1, 2.5, "ten"):
        with pytest.raises(ValueError, match="whole number of iterations, at least 1, got"):
            CgSense(iterations)


def test_an_image_that_is_not_finite_is_never_perfect(images):
    broken, reference = images
    broken[3, 4] = np.nan
    assert np.isnan(psnr_magnitude_slice_max(broken, reference))


def test_scale_of_both_does_not_matter(images):
    image, reference = images
    one, other = slice_metrics(image, reference), slice_metrics(1e-6 * image, 1e-6 * reference)
    assert all(other[name] == pytest.approx(value, rel=1e-4) for name, value in one.items())


def test_scikit_image_agrees(images):
    metrics = pytest.importorskip("skimage.metrics")
    image, reference = images
    r, x = np.abs(reference).astype(float), np.abs(image).astype(float)
    assert psnr_magnitude_slice_max(image, reference) == pytest.approx(
        metrics.peak_signal_noise_ratio(r, x, data_range=r.max()), rel=1e-6
    )
    assert 0.5 < ssim_windowed_slice_range(image, reference) < 1


@pytest.mark.peers
def test_fastmri_agrees(images):
    evaluate = pytest.importorskip("fastmri.evaluate")
    image, reference = images
    volume, truth = np.abs(np.stack([image, 2 * image])), np.abs(np.stack([reference, 2 * reference]))
    found = fastmri_volume(volume, truth)
    assert found["fastmri_nmse"] == pytest.approx(np.asarray(evaluate.nmse(truth, volume)).item(), rel=1e-5)
    assert found["fastmri_psnr"] == pytest.approx(np.asarray(evaluate.psnr(truth, volume)).item(), rel=1e-5)
    assert found["fastmri_ssim"] == pytest.approx(np.asarray(evaluate.ssim(truth, volume)).item(), rel=1e-4)


def test_baselines_are_called_alike_and_better_is_better(photos):
    target = {"matrix": [64, 72], "reference": "clean", "fit": "resize"}
    pairs = VirtualPairs(parse_recipe(recipe_data(photos, pairs=4, target=target, noise={"snr": 30}), "t"))
    (batch,) = make_loader(pairs, batch_size=4, device="cpu", shuffle=False)
    errors = {}
    for model in (ZeroFilled(), CgSense(10), RegularisedSense(4.0), Wavelet(2e-3, 60)):
        image = model(batch)
        assert image.shape == batch["target"].shape
        assert image.dtype == torch.complex64
        both = zip(image.numpy(), batch["target"].numpy(), strict=True)
        errors[type(model)] = np.mean([nrmse_complex(i, t) for i, t in both])
        np.random.seed(1)  # noqa: NPY002
        assert torch.equal(model(batch), image)  # whatever another part of the program drew
        assert np.random.normal() == pytest.approx(1.62434536)  # noqa: NPY002 (its draws stay what they are)
    assert max(errors[kind] for kind in (CgSense, RegularisedSense, Wavelet)) < errors[ZeroFilled]


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
def test_grappa_fills_what_was_not_sampled(photos):
    pytest.importorskip("pygrappa")
    target = {"matrix": [64, 72], "reference": "clean", "fit": "resize"}
    sampling = {"kind": "regular", "acceleration": 2, "reference_lines": 16}
    recipe = recipe_data(photos, pairs=2, target=target, noise={"snr": 500}, sampling=sampling)
    (batch,) = make_loader(VirtualPairs(parse_recipe(recipe, "t")), batch_size=2, device="cpu", shuffle=False)
    error = {}
    for model in (ZeroFilled(), Grappa()):
        both = zip(model(batch).numpy(), batch["target"].numpy(), strict=True)
        error[type(model)] = max(nrmse_complex(image, reference) for image, reference in both)
    assert error[Grappa] < 0.75 * error[ZeroFilled]
