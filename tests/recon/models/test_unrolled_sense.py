import pytest
import torch
from conftest import recipe_data

from recon.data.datasets import VirtualPairs
from recon.data.loader import make_loader
from recon.models.baselines import CgSense
from recon.models.sense import Sense, regularised_sense, residual_of
from recon.models.unet import UNet
from recon.models.unrolled_sense import Denoiser, DenoiserSpec, UnrolledSense, UnrolledSpec
from synth.recipe import parse_recipe

SMALL = UnrolledSpec(iterations=2, channels=4, levels=2, cg_iterations=30, cg_tolerance=1e-6)


@pytest.fixture(scope="module")
def batch(photos):
    target = {"matrix": [36, 44], "fit": "crop"}
    pairs = VirtualPairs(parse_recipe(recipe_data(photos, pairs=3, target=target), "t"))
    return next(iter(make_loader(pairs, batch_size=3, device="cpu", shuffle=False)))


def test_a_new_unet_changes_nothing_and_any_size_passes():
    for shape in ((2, 37, 45), (1, 32, 32)):
        image = torch.randn(shape, dtype=torch.complex64)
        assert torch.equal(UNet(4, 3)(image), image)
    with pytest.raises(ValueError, match=r"too small for 5 levels; lower model\.levels"):
        UNet(4, 5)(torch.randn(1, 33, 16, dtype=torch.complex64))
    with pytest.raises(ValueError, match="takes 1 conditions per image, got 0"):
        UNet(4, 2, conditions=1)(torch.randn(1, 16, 16, dtype=torch.complex64))


def test_unets_are_homogeneous():
    net, image, level = UNet(4, 2, conditions=1), torch.randn(2, 20, 24, dtype=torch.complex64), torch.rand(2, 1)
    torch.nn.init.normal_(net.last.weight)
    with torch.no_grad():
        one, other = net(image, level), net(1e-3 * image, 1e-3 * level)
    assert (one - image).abs().max() > 1e-3
    torch.testing.assert_close(1e3 * other, one, rtol=1e-4, atol=1e-5)


def trained(spec, seed=1):
    """A network whose nets correct, as after a training."""
    made = UnrolledSense(spec, seed)
    for net in made.nets.modules():
        if isinstance(net, UNet):
            torch.nn.init.normal_(net.last.weight, generator=torch.Generator().manual_seed(seed))
    return made


@pytest.mark.parametrize(
    "more", [{}, {"noise_aware": True, "shrinkage": True}, {"noise_aware": True, "misfit_aware": True}]
)
def test_a_wider_network_begins_with_the_images_of_a_narrower_one(batch, more):
    spec = SMALL.model_copy(update={**more, "channels": 3})
    narrow = trained(spec.model_copy(update={"misfit_aware": False}))
    wide = UnrolledSense(spec.model_copy(update={"channels": 5}))
    wide.begin_as(narrow)
    images = wide(batch)
    torch.testing.assert_close(images, narrow(batch), rtol=1e-4, atol=1e-5)
    assert (images - UnrolledSense(spec)(batch)).norm() > 1e-3 * images.norm()
    images.abs().square().sum().backward()
    for name, p in wide.named_parameters():
        if p.ndim == 4:  # [output input y x], or [input output y x]: old channels can learn to use the new ones
            assert (p.grad[-1] if ".up." in name else p.grad[:, -1]).abs().max() > 0, name


def test_bf16_is_single_precision_but_for_rounding():
    one, image = UNet(8, 2), torch.randn(1, 32, 32, dtype=torch.complex64)
    torch.nn.init.normal_(one.last.weight)
    other = UNet(8, 2, bf16=True)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        exact, rounded = one(image), other(image)
    assert rounded.dtype == torch.complex64
    assert 0 < (rounded - exact).norm() < 0.02 * (exact - image).norm()


@pytest.mark.parametrize("more", [{}, {"shrinkage": True}, {"noise_aware": True, "misfit_aware": True}])
def test_double_precision_gives_the_image_of_single(batch, more):
    network = trained(SMALL.model_copy(update=more))
    double = {"masked_kspace", "sens_maps", "sigma"}
    wide = {
        name: t.to(torch.promote_types(t.dtype, torch.float64)) if name in double else t for name, t in batch.items()
    }
    with torch.no_grad():
        found, expected = network(wide).to(torch.complex64), network(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


def test_a_new_network_is_sense_repeated(batch):
    """With U-nets that add nothing: x_2 starts from the prior x_1."""
    network = UnrolledSense(SMALL)
    model = batch["masked_kspace"], batch["sens_maps"], batch["mask"]
    with torch.no_grad():
        first = regularised_sense(*model, None, 4.0, iterations=200)
        expected = regularised_sense(*model, first, 4.0, iterations=200)
        found = network(batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


def test_every_parameter_learns_and_the_loss_falls(batch):
    network = UnrolledSense(SMALL)
    with torch.no_grad():
        for net in network.nets:
            net.last.weight.normal_(0, 1e-2)
    optimiser, losses = torch.optim.Adam(network.parameters(), lr=1e-3), []
    for _ in range(15):
        optimiser.zero_grad()
        loss = (network(batch) - batch["target"]).abs().square().mean()
        loss.backward()
        assert all(p.grad is not None and p.grad.abs().sum().item() > 0 for p in network.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_gradient_of_lambda_is_a_difference(batch):
    network = UnrolledSense(SMALL.model_copy(update={"cg_iterations": 300, "cg_tolerance": 1e-9})).double()
    precise = {k: v.to(torch.complex128) if v.is_complex() else v for k, v in batch.items()}

    def loss():
        return (network(precise) - precise["target"]).abs().square().sum()

    loss().backward()
    found = network.log_lam.grad.clone()
    for k in range(2):
        values = []
        for step in (1e-4, -1e-4):
            with torch.no_grad():
                network.log_lam[k] += step
                values.append(loss().item())
                network.log_lam[k] -= step
        assert found[k].item() == pytest.approx((values[0] - values[1]) / 2e-4, rel=1e-4)


def test_scale_of_the_data_passes_through(batch):
    network = UnrolledSense(SMALL)
    with torch.no_grad():
        one, other = network(batch), network({**batch, "masked_kspace": 1e-4 * batch["masked_kspace"]})
    torch.testing.assert_close(1e4 * other, one, rtol=0, atol=1e-3 * float(one.abs().max()))


def test_a_noise_aware_network_follows_sigma(batch):
    network = UnrolledSense(SMALL.model_copy(update={"noise_aware": True}))
    with torch.no_grad():
        low, high = (network({**batch, "sigma": s * batch["sigma"]}) for s in (0.1, 30.0))
    assert low.abs().mean() > high.abs().mean()  # much noise: little is let in
    for wrong in (0.0, float("nan")):
        with pytest.raises(ValueError, match="not known"):
            network({**batch, "sigma": wrong * batch["sigma"]})


def test_the_same_seed_gives_the_same_network_and_touches_no_other_draw(batch):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, other = UnrolledSense(SMALL, seed=1), UnrolledSense(SMALL, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_denoiser_starts_as_cg_sense(batch):
    with torch.no_grad():
        image = Denoiser(DenoiserSpec(channels=4, levels=2, cg_iterations=10))(batch)
    torch.testing.assert_close(image, CgSense(10)(batch), rtol=1e-5, atol=1e-6)


def test_noise_aware_lam_follows_the_snr_by_its_power(batch):
    network = UnrolledSense(SMALL.model_copy(update={"noise_aware": True, "lam": 0.2}))
    given = torch.tensor([0.01, 0.04]), torch.tensor([4.0, 9.0])
    with torch.no_grad():
        network.powers.copy_(torch.tensor([1.0, 0.0]))
        lams, told = network._noise({"sigma": given[0]}, torch.ones(2), given[1])
    torch.testing.assert_close(lams[0], 0.2 * torch.tensor([25.0, 25 / 6]))  # 1 / (2 sigma sqrt(R)) = 25, 4.17
    torch.testing.assert_close(lams[1], torch.full((2,), 0.2 * 20))
    torch.testing.assert_close(told[:, 0], given[0])


def test_without_a_number_conjugate_gradients_end_at_the_tolerance(batch):
    enough = UnrolledSense(UnrolledSpec(iterations=2, channels=4, levels=2, lam=7.0))
    few = UnrolledSense(UnrolledSpec(iterations=2, channels=4, levels=2, lam=7.0, cg_iterations=2))
    assert max(enough.residuals(batch)) < 2e-4  # twice cg_tolerance: that of the recursion is not quite the true one
    assert max(few.residuals(batch)) > 1e-2
    exact = regularised_sense(
        batch["masked_kspace"], batch["sens_maps"], batch["mask"], lam=7.0, iterations=1000, tolerance=1e-7
    )
    first, early = (network.steps(batch)[0] for network in (enough, few))  # new nets change nothing
    assert (first - exact).norm() < 0.02 * exact.norm()
    assert (early - exact).norm() > 0.05 * exact.norm()


def test_the_residual_by_hand():
    # one coil of 1, all sampled: A = 1. (1 + mu) x = d + mu z with mu = 1, d = 3, z = 1: x = 2; at x = 1 it is 2 of 4
    model = Sense(torch.ones(1, 1, 4, 4, dtype=torch.complex64), torch.ones(1, 1, 1, 4, dtype=torch.bool))
    one = torch.ones(1, 4, 4, dtype=torch.complex64)
    for x, expected in ((2.0, 0.0), (1.0, 0.5)):
        assert residual_of(x * one, one, model, 3 * one, torch.ones(1)) == pytest.approx(expected, abs=1e-6)
