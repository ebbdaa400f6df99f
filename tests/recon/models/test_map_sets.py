"""SENSE, baselines and networks with two map sets: maps [batch set coil y x], images [batch set y x]."""

import numpy as np
import pytest
import torch
from properties import as_torch, assert_adjoint, complex_normal

from recon.models import device_solver
from recon.models.baselines import CgSense, Grappa, RegularisedSense, Wavelet, ZeroFilled
from recon.models.catalogue import make_model
from recon.models.sense import Sense, cg_sense, regularised_sense
from recon.models.unrolled_sense import DenoiserSpec, UnrolledSpec, each_set
from recon.models.variational import VariationalSpec
from recon.training.losses import loss_of
from synth import physics

SHAPE = (16, 20)
NETWORKS = {
    "unrolled": UnrolledSpec(iterations=2, channels=4, levels=1, cg_iterations=6),
    "shrinking": UnrolledSpec(iterations=2, channels=4, levels=1, cg_iterations=6, shrinkage=True, noise_aware=True),
    "denoiser": DenoiserSpec(channels=4, levels=1, cg_iterations=6, noise_aware=True),
    "variational": VariationalSpec(stages=2, filters=3, kernel=5, nodes=11, noise_aware=True),
}


def maps_of(rng, batch=2, sets=2, coils=5, dtype=np.complex64):
    """Orthonormal map sets [batch set coil y x]."""
    random = rng.standard_normal((batch, *SHAPE, coils, sets)) + 1j * rng.standard_normal((batch, *SHAPE, coils, sets))
    return np.moveaxis(np.linalg.qr(random)[0], (-1, -2), (1, 2)).astype(dtype)


def batch_of(rng, batch=2, points=False):
    mask = rng.random((batch, 1, SHAPE[0] if points else 1, SHAPE[1])) < 0.6
    mask[..., 6:14] = True
    maps, image = maps_of(rng, batch), complex_normal(rng, batch, 2, *SHAPE)
    kspace = physics.sense_forward(image, maps, mask, sets=True)
    found = dict(
        zip(("masked_kspace", "sens_maps", "mask", "target"), as_torch(kspace, maps, mask, image), strict=True)
    )
    return found | {"sigma": torch.full((batch,), 0.1), "max_value": found["target"].abs().amax(dim=(1, 2, 3))}


def test_physics_by_hand():
    """Two coils, one pixel: coil 0 sees 1 * 2 + i * 3 = 2 + 3i, coil 1 sees 0 * 2 + 2 * 3 = 6."""
    maps = np.array([[1, 0], [1j, 2]], np.complex64)[:, :, None, None]  # [set coil y x]
    image = np.array([2, 3], np.complex64)[:, None, None]
    seen = physics.coil_expand(image, maps, sets=True)
    np.testing.assert_array_equal(seen[:, 0, 0], [2 + 3j, 6])
    # set 0: 1 (2 + 3i) + 0 * 6; set 1: -i (2 + 3i) + 2 * 6 = 3 - 2i + 12
    np.testing.assert_array_equal(physics.coil_combine(seen, maps, sets=True)[:, 0, 0], [2 + 3j, 15 - 2j])


@pytest.mark.parametrize("kind", [lambda *a: a, as_torch], ids=["numpy", "torch"])
@pytest.mark.parametrize("points", [False, True])
def test_sense_with_sets_is_adjoint_and_the_sum_over_sets(rng, kind, points):
    mask = rng.random(SHAPE if points else SHAPE[1]) < 0.5
    arrays = complex_normal(rng, 3, 2, *SHAPE), maps_of(rng, 3), complex_normal(rng, 3, 5, *SHAPE), mask
    image, maps, kspace, mask = kind(*arrays)
    assert_adjoint(
        lambda x: physics.sense_forward(x, maps, mask, sets=True),
        lambda y: physics.sense_adjoint(y, maps, mask, sets=True),
        image,
        kspace,
    )
    one_by_one = sum(physics.sense_forward(image[:, k], maps[:, k], mask) for k in range(2))
    np.testing.assert_allclose(physics.sense_forward(image, maps, mask, sets=True), one_by_one, atol=1e-5)
    both = physics.sense_normal(image, maps, mask, sets=True)
    product = physics.sense_adjoint(physics.sense_forward(image, maps, mask, sets=True), maps, mask, sets=True)
    np.testing.assert_allclose(both, product, atol=1e-5)


@pytest.mark.parametrize("points", [False, True])
@pytest.mark.parametrize("shared", [False, True], ids=["a set each", "shared"])
def test_the_normal_operator_is_the_product_on_every_device(rng, points, shared):
    batch = batch_of(rng, points=points)
    maps = batch["sens_maps"][:1] if shared else batch["sens_maps"]
    model = Sense(maps, batch["mask"])
    assert model.acceleration.shape == (2, 1, 1, 1)
    expected = model.acceleration * physics.sense_normal(batch["target"], maps, batch["mask"], sets=True)
    np.testing.assert_allclose(model.normal(batch["target"]), expected, atol=2e-5)
    on_device = device_solver.normal(batch["target"], maps, model._weight, model._axes)
    np.testing.assert_allclose(on_device, expected, atol=2e-5)


def test_equal_sets_share_the_image_of_one(rng):
    """Sets m and 0 are one set: its image is that of one set, and that of the empty set is 0."""
    batch = batch_of(rng)
    one = batch["sens_maps"][:, 0]
    padded = torch.stack([one, torch.zeros_like(one)], dim=1)
    for solve in (cg_sense, regularised_sense):
        alone, two = (solve(batch["masked_kspace"], maps, batch["mask"], iterations=6) for maps in (one, padded))
        np.testing.assert_allclose(two[:, 0], alone, atol=1e-5)
        assert not two[:, 1].any()


def test_two_sets_come_back_from_enough_samples(rng):
    batch = batch_of(rng)
    found = cg_sense(batch["masked_kspace"], batch["sens_maps"], batch["mask"], iterations=200, tolerance=1e-7)
    assert float((found - batch["target"]).norm() / batch["target"].norm()) < 1e-3


def test_implicit_gradients_with_sets(rng):
    maps = torch.from_numpy(maps_of(rng, dtype=np.complex128))
    mask = torch.from_numpy(np.arange(SHAPE[1]) % 2 == 0)[None, None, None].expand(2, 1, 1, -1)
    data = torch.from_numpy(complex_normal(rng, 2, 5, *SHAPE)).to(torch.complex128) * mask
    prior = torch.from_numpy(complex_normal(rng, 2, 2, *SHAPE)).to(torch.complex128).requires_grad_()
    lam = torch.tensor([0.7, 1.5], dtype=torch.float64, requires_grad=True)

    def loss(prior, lam):
        solved = regularised_sense(data, maps, mask, prior, lam, iterations=300, tolerance=1e-13)
        return (solved - data[:, :2]).abs().square().sum()

    slope_prior, slope_lam = torch.autograd.grad(loss(prior, lam), (prior, lam))
    with torch.no_grad():
        step = 1e-5
        for k in range(2):
            change = step * torch.nn.functional.one_hot(torch.tensor(k), 2)
            numeric = (loss(prior, lam + change) - loss(prior, lam - change)) / (2 * step)
            assert float(slope_lam[k]) == pytest.approx(float(numeric), rel=1e-5)
        direction = torch.randn_like(prior)
        numeric = (loss(prior + step * direction, lam) - loss(prior - step * direction, lam)) / (2 * step)
        assert float((slope_prior.conj() * direction).real.sum()) == pytest.approx(float(numeric), rel=1e-5)


@pytest.mark.parametrize("model", [ZeroFilled(), CgSense(5), RegularisedSense(4.0)], ids=lambda m: type(m).__name__)
def test_baselines_give_an_image_for_each_set(rng, model):
    batch = batch_of(rng)
    assert model(batch).shape == batch["target"].shape
    if isinstance(model, ZeroFilled):
        expected = physics.sense_adjoint(batch["masked_kspace"], batch["sens_maps"], batch["mask"], sets=True)
        np.testing.assert_allclose(model(batch), expected, atol=1e-5)


def test_baselines_that_take_one_set_refuse_two(rng):
    pytest.importorskip("sigpy")
    with pytest.raises(ValueError, match="takes one map set, and these pairs have two; use cg-sense"):
        Wavelet()(batch_of(rng))


def test_grappa_combines_with_each_set(rng):
    pytest.importorskip("pygrappa")
    assert Grappa()(batch_of(rng)).shape == (2, 2, *SHAPE)


def test_a_net_sees_each_set_alone(rng):
    images, noise = torch.from_numpy(complex_normal(rng, 3, 2, *SHAPE)), torch.tensor([[1.0], [2.0], [3.0]])

    def net(image, conditions):
        assert image.shape == (6, *SHAPE)
        return image * conditions[:, :, None]

    np.testing.assert_array_equal(each_set(net, images, noise), images * noise[:, :, None, None])
    one = torch.from_numpy(complex_normal(rng, 3, *SHAPE))
    assert each_set(lambda image: image, one) is not None
    np.testing.assert_array_equal(each_set(lambda image: 2 * image, one), 2 * one)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_treat_sets_alike(rng, name):
    """The sets in the other order give the images in the other order; a set that is 0 leaves that of one set."""
    model, batch = make_model(NETWORKS[name], 3), batch_of(rng)
    with torch.no_grad():
        for p in model.parameters():
            p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    made = model(batch)
    assert made.shape == batch["target"].shape
    swapped = model({**batch, "sens_maps": batch["sens_maps"].flip(1)})
    np.testing.assert_allclose(swapped.flip(1).detach(), made.detach(), atol=1e-4)
    one = batch["sens_maps"][:, 0]
    padded = model({**batch, "sens_maps": torch.stack([one, torch.zeros_like(one)], dim=1)})
    np.testing.assert_allclose(padded[:, 0].detach(), model({**batch, "sens_maps": one}).detach(), atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_learn_on_two_sets(rng, name):
    """Also with stages that are computed again in the backward pass, which changes no gradient."""
    model, batch = make_model(NETWORKS[name], 3), batch_of(rng)
    batch["target"] = 0.5 * batch["target"]  # which SENSE does not give
    gradients = []
    for checkpointing in (False, True):
        model.checkpointing = checkpointing
        model.zero_grad()
        loss_of(model(batch), batch, "nrmse").mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(4):
        loss = loss_of(model(batch), batch, "nrmse").mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_losses_with_sets_by_hand():
    """Images (3, 4) and (0, 0) against (3, 0) and (0, 4): rss 5 against 3, and 0 against 4."""
    image = torch.tensor([[3.0, 0], [4, 0]], dtype=torch.complex64)[None, :, None]  # [batch set y x]
    target = torch.tensor([[3.0, 0], [0, 4]], dtype=torch.complex64)[None, :, None]
    batch = {"target": target, "max_value": torch.tensor([1.0])}
    assert float(loss_of(image, batch, "complex")) == pytest.approx(16 + 16)
    assert float(loss_of(image, batch, "magnitude")) == pytest.approx(4 + 16, rel=1e-5)
    assert float(loss_of(image, batch, "nrmse")) == pytest.approx((32 / 25) ** 0.5)
