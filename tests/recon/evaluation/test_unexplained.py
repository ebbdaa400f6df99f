import numpy as np
import pytest
import torch
from properties import complex_normal

from recon.evaluation.unexplained import unexplained
from synth.physics import fft2c, sense_forward

SHAPE = (40, 48)


def batch_of(kspace, maps, mask, sigma):
    arrays = {"masked_kspace": kspace * mask, "sens_maps": maps, "mask": mask[None]}
    return {name: torch.from_numpy(a)[None] for name, a in arrays.items()} | {"sigma": torch.tensor([sigma])}


@pytest.fixture
def scan(rng):
    """A bright square, the maps of two coils, and every second line with those in the middle."""
    image, maps = np.zeros(SHAPE, np.complex64), np.empty((2, *SHAPE), np.complex64)
    image[10:30, 12:36] = 20 + complex_normal(rng, 20, 24)
    angle = np.linspace(0, np.pi / 2, SHAPE[1])
    maps[:] = np.stack([np.cos(angle), np.sin(angle)])[:, None]
    mask = np.zeros((1, SHAPE[1]), bool)
    mask[0, ::2] = mask[0, 18:30] = True
    return image, maps, mask


def test_the_true_image_explains_all_but_the_noise(scan, rng):
    image, maps, mask = scan
    kspace = sense_forward(image, maps, mask) + 0.5 * complex_normal(rng, 2, *SHAPE)
    assert unexplained(image, batch_of(kspace.astype(np.complex64), maps, mask, 0.5)) < 0.02
    known_to_be_less = batch_of(kspace.astype(np.complex64), maps, mask, 0.25)
    share = np.sqrt(2 * (0.5**2 - 0.25**2) / np.mean(np.abs(kspace[:, :, mask[0]][:, :, 6:24]) ** 2))
    assert unexplained(image, known_to_be_less) == pytest.approx(share, rel=0.1)


def test_by_hand():
    """One coil with the map 1, all sampled: of an image that is 0.9 times the true one, a tenth is unexplained."""
    image = np.random.default_rng(1).standard_normal((16, 20)).astype(np.complex64)
    batch = batch_of(fft2c(image)[None], np.ones((1, 16, 20), np.complex64), np.ones((1, 20), bool), 1e-6)
    assert unexplained(np.float32(0.9) * image, batch) == pytest.approx(0.1, rel=1e-4)
    assert unexplained(0 * image, batch) == pytest.approx(1, rel=1e-4)


def test_signal_that_the_maps_have_no_place_for_is_told(scan, rng):
    """A tenth of the signal in both coils, as from beyond the field of view; with points, too, and with map sets."""
    image, maps, mask = scan
    other = np.stack([-maps[1], maps[0]])  # orthogonal to the maps
    kspace = fft2c(image * maps + 0.1 * image * other) + 0.01 * complex_normal(rng, 2, *SHAPE)
    points = np.broadcast_to(mask, SHAPE) & (np.arange(SHAPE[0]) % 2 == 0)[:, None]
    for sampled in (mask, points):
        one = batch_of(kspace.astype(np.complex64), maps, sampled, 0.01)
        assert unexplained(image, one) == pytest.approx(0.1, rel=0.02)
        both = batch_of(kspace.astype(np.complex64), np.stack([maps, other]), sampled, 0.01)
        assert unexplained(np.stack([image, 0.1 * image]).astype(np.complex64), both) < 2e-3


@pytest.mark.parametrize("case", ["magnitudes", "not finite", "noise alone"])
def test_images_that_cannot_explain_samples_have_no_share(scan, case):
    image, maps, mask = scan
    batch = batch_of(sense_forward(image, maps, mask), maps, mask, 0.01)
    if case == "noise alone":
        batch["sens_maps"] = torch.zeros_like(batch["sens_maps"])
    given = {"magnitudes": np.abs(image), "not finite": image * np.nan, "noise alone": 0 * image}[case]
    assert np.isnan(unexplained(given, batch))


def test_without_sigma_it_is_not_known(scan):
    image, maps, mask = scan
    assert np.isnan(unexplained(image, batch_of(sense_forward(image, maps, mask), maps, mask, float("nan"))))
