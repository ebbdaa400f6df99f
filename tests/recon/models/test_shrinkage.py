"""Haar shrinkage against PyWavelets, and the unrolled network that starts as an l1-wavelet reconstruction."""

import itertools

import numpy as np
import pytest
import pywt
import torch
from conftest import recipe_data

from recon.data.datasets import VirtualPairs
from recon.data.loader import make_loader
from recon.models.sense import Sense, regularised_sense
from recon.models.shrinkage import LEVELS, ShrinkageUNet, haar_shrinkage
from recon.models.unrolled_sense import UnrolledSense, UnrolledSpec
from recon.training.losses import loss_of
from synth.recipe import parse_recipe

SHRINKING = UnrolledSpec(iterations=3, channels=4, levels=2, cg_iterations=60, cg_tolerance=1e-7, shrinkage=True)


@pytest.fixture(scope="module")
def batch(photos):
    target = {"matrix": [36, 44], "fit": "crop"}
    pairs = VirtualPairs(parse_recipe(recipe_data(photos, pairs=3, target=target), "t"))
    return next(iter(make_loader(pairs, batch_size=3, device="cpu", shuffle=False)))


def noise(*shape, dtype=torch.complex128):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(5))


def spun_by_pywt(image, thresholds):
    """Decimated Haar shrinkage, averaged over every shift."""
    depth, shifts, total = len(thresholds), range(2 ** len(thresholds)), np.zeros_like(image)
    for shift in itertools.product(shifts, shifts):
        coarse, *details = pywt.wavedec2(np.roll(image, shift, (0, 1)), "haar", mode="periodization", level=depth)
        shrunk = [
            tuple(pywt.threshold(band, t, "soft") for band in bands)
            for bands, t in zip(details, reversed(thresholds), strict=True)
        ]
        total += np.roll(pywt.waverec2([coarse, *shrunk], "haar", mode="periodization"), (-shift[0], -shift[1]), (0, 1))
    return total / len(shifts) ** 2


def test_it_is_pywavelets_haar_at_every_shift():
    image, thresholds = noise(2, 24, 40), torch.tensor([[0.9, 0.5, 1.4], [0.1, 2.0, 0.0]], dtype=torch.float64)
    found = haar_shrinkage(image, thresholds)
    for one, levels, result in zip(image, thresholds, found, strict=True):
        assert np.abs(result.numpy() - spun_by_pywt(one.numpy(), levels.tolist())).max() < 1e-9
    assert (found - image).abs().max() > 0.5


def test_thresholds_of_zero_keep_the_image_and_large_ones_its_mean():
    image = noise(2, 21, 34)
    torch.testing.assert_close(haar_shrinkage(image, torch.zeros(2, 4)), image)
    flat = haar_shrinkage(image, torch.full((2, 4), 1e6))
    torch.testing.assert_close(flat.mean(dim=(1, 2)), image.mean(dim=(1, 2)))
    assert flat.abs().square().mean() < 0.02 * image.abs().square().mean()
    with pytest.raises(ValueError, match="8x40 are too small for shrinkage, which needs 9x9"):
        haar_shrinkage(noise(1, 8, 40), torch.ones(1, 4))


@pytest.mark.parametrize("thresholds", [[[0.4, 0.3], [0.2, 0.6]], [0.4, 0.3]])
def test_gradients_are_differences(thresholds):
    given = torch.tensor(thresholds, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(haar_shrinkage, (noise(2, 5, 6).requires_grad_(), given))


def test_a_new_net_only_shrinks_and_is_told_the_noise():
    net, image, level = (
        ShrinkageUNet(0.3, 4, 2, 1),
        noise(2, 20, 24, dtype=torch.complex64),
        torch.tensor([[0.0], [0.2]]),
    )
    with torch.no_grad():
        found = net(image, level)
    expected = haar_shrinkage(image, torch.tensor([[0.3] * LEVELS, [0.5] * LEVELS]))
    torch.testing.assert_close(found, expected)


def test_a_new_network_is_admm(batch):
    """A literal implementation: SENSE towards z - u, shrinkage of x + u, and u is what shrinkage removes."""
    data, maps, mask = (batch[name] for name in ("masked_kspace", "sens_maps", "mask"))
    network, model = UnrolledSense(SHRINKING), Sense(maps, mask)
    scale = (model.adjoint(data) / model.acceleration).abs().amax(dim=(1, 2), keepdim=True)
    z = u = torch.zeros_like(scale.to(maps.dtype) * maps[:, 0])
    for threshold in (0.5, 0.1, 0.02):
        x = regularised_sense(data / scale[:, None], maps, mask, z - u, 4.0, iterations=200)
        z = haar_shrinkage(x + u, torch.full((3, LEVELS), threshold))
        u = x + u - z
    with torch.no_grad():
        found = network(batch)
    torch.testing.assert_close(found, z * scale, rtol=0, atol=1e-3 * float(scale.max()))


def test_thresholds_multipliers_and_nets_learn(batch):
    network = UnrolledSense(SHRINKING.model_copy(update={"cg_iterations": 10, "cg_tolerance": 1e-3}))
    torch.manual_seed(4)
    with torch.no_grad():
        for part in network.nets:
            part.net.last.weight.normal_(0, 1e-2)
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=3e-3), []
    for _ in range(10):
        optimiser.zero_grad()
        loss = loss_of(network(batch), batch, "decibel").mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum().item() > 0 for p in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


def test_an_option_that_is_off_changes_no_identity():
    assert "shrinkage" not in UnrolledSpec().model_dump()
    assert UnrolledSpec.model_validate(SHRINKING.model_dump()) == SHRINKING
    assert UnrolledSpec().revision == ""
    assert UnrolledSpec(noise_aware=True).revision  # which it was not when lam was proportional to the SNR


def test_one_step_has_no_multiplier(batch):
    network = UnrolledSense(SHRINKING.model_copy(update={"iterations": 1}))
    assert network.memory.numel() == 0
    with torch.no_grad():
        assert torch.isfinite(network(batch).abs()).all()
