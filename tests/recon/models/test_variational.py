import numpy as np
import pytest
import torch

from recon.models.rbf import RbfTable, rbf
from recon.models.variational import VariationalNetwork, VariationalSpec, symmetric_pad
from synth.physics import sense_adjoint, sense_forward

SMALL = VariationalSpec(stages=2, filters=3, kernel=5, nodes=11)


def batch_of(coils=3, shape=(20, 24), count=2, dtype=torch.complex64):
    draw = torch.Generator().manual_seed(1)
    maps = torch.randn(count, coils, *shape, dtype=dtype, generator=draw)
    maps = maps / maps.abs().square().sum(1, keepdim=True).sqrt()
    mask = ((torch.arange(shape[1]) - shape[1] // 2) % 3 == 0).view(1, 1, 1, -1)
    target = torch.randn(count, *shape, dtype=dtype, generator=draw)
    return {"masked_kspace": sense_forward(target, maps, mask), "sens_maps": maps, "mask": mask, "target": target}


def literal(network, batch):
    """A slow form of the stages, as in the papers and the authors' code: loops over filters and Gaussians, autograd."""
    spec, images = network.spec, []
    sigma, factor = network.table.sigma, network.table.factor
    mu = torch.linspace(-1, 1, spec.nodes, dtype=torch.float64)
    for kspace, maps in zip(batch["masked_kspace"], batch["sens_maps"], strict=True):
        mask = batch["mask"][0]
        f0 = sense_adjoint(kspace, maps, mask)
        norm = f0.abs().max()
        f, u = kspace / norm, f0 / norm
        for stage in network.stages:
            total = torch.zeros_like(u)
            for k in range(spec.filters):
                k_re, k_im = (stage.kernels[k, part].double()[None, None] for part in (0, 1))
                width = spec.kernel
                both = (np.pad(p.numpy(), width, mode="symmetric") for p in (u.real, u.imag))
                padded = [torch.from_numpy(p)[None, None] for p in both]
                same = width // 2
                response = torch.nn.functional.conv2d(padded[0], k_re, padding=same)
                response = response + torch.nn.functional.conv2d(padded[1], k_im, padding=same)
                phi = factor * sum(
                    stage.weights[k, j].double() * torch.exp(-((response - mu[j]) ** 2) / (2 * sigma**2))
                    for j in range(spec.nodes)
                )
                parts = [
                    torch.nn.functional.conv_transpose2d(phi, kernel, padding=same)[0, 0] for kernel in (k_re, k_im)
                ]
                total = total + torch.complex(*(p[width:-width, width:-width] for p in parts))
            data = sense_adjoint(sense_forward(u, maps, mask) - f, maps, mask)
            u = u - total / spec.filters - stage.lam.double() * data
        images.append(u * norm)
    return torch.stack(images)


@pytest.mark.parametrize("kind", ["icg", "optox", "bart"])
def test_tables_equal_the_sums(kind):
    table, draw = RbfTable(31, kind), torch.Generator().manual_seed(0)
    x = (1.2 * torch.randn(2, 4, 30, 30, generator=draw)).requires_grad_()
    weights = torch.randn(4, 31, generator=draw).requires_grad_()
    upstream = torch.randn(2, 4, 30, 30, generator=draw)
    found, exact = rbf(x, weights, table), table.exact(x.double(), weights.double())
    assert (found - exact).abs().max() < 1e-4 * exact.abs().max()
    ours = torch.autograd.grad(found, (x, weights), upstream)
    truth = torch.autograd.grad(exact, (x, weights), upstream.double())
    for a, b in zip(ours, truth, strict=True):
        assert (a - b).norm() < 1e-3 * b.norm()


@pytest.mark.parametrize(("kind", "slope"), [("icg", 0.0970), ("optox", 0.0401), ("bart", 0.1003)])
def test_slopes_of_the_first_activation(kind, slope):
    """The three codes' definitions start from these slopes at 0 (papers.md 3.1)."""
    table = RbfTable(31, kind)
    x = torch.tensor([-0.01, 0.01]).view(1, 1, 1, 2)
    values = rbf(x, 0.04 * table.centres[None], table).flatten()
    assert float(values[1] - values[0]) / 0.02 == pytest.approx(slope, abs=1e-3)


def test_far_away_activations_are_zero():
    table = RbfTable()
    assert rbf(torch.tensor([-50.0, 50.0]).view(1, 1, 1, 2), torch.ones(1, 31), table).abs().max() < 1e-6


def test_the_network_is_the_literal_one():
    network = VariationalNetwork(SMALL)
    batch = batch_of()
    precise = {k: v.to(torch.complex128) if v.is_complex() else v for k, v in batch.items()}
    with torch.no_grad():
        found, expected = network(batch), literal(network, precise)
    assert (found - expected).norm() < 1e-4 * expected.norm()


def test_parameters_are_knolls():
    assert sum(p.numel() for p in VariationalNetwork().parameters()) == 65_530


def losses_of(network, batch, steps, rate):
    """Train with Adam and the projections; yield the loss after each step."""
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        optimiser.zero_grad()
        loss = (network(batch) - batch["target"]).abs().square().mean()
        loss.backward()
        optimiser.step()
        network.project()
        yield loss.item()


def test_projections_hold_after_every_step():
    network = VariationalNetwork(SMALL)
    for loss in losses_of(network, batch_of(), 10, 0.3):
        assert np.isfinite(loss)
        for stage in network.stages:
            assert stage.kernels.mean(dim=(-2, -1)).abs().max().item() < 1e-6
            assert stage.kernels.flatten(1).norm(dim=1).max().item() < 1 + 1e-5
            assert stage.lam.item() >= 0


def test_scale_of_the_data_passes_through():
    network, batch = VariationalNetwork(SMALL), batch_of()
    with torch.no_grad():
        one, other = network(batch), network({**batch, "masked_kspace": 1e-5 * batch["masked_kspace"]})
    torch.testing.assert_close(1e5 * other, one, rtol=1e-3, atol=1e-4)


def test_symmetric_padding_is_numpys(rng):
    image = rng.random((1, 1, 6, 7)).astype(np.float32)
    expected = np.pad(image, [(0, 0), (0, 0), (3, 3), (3, 3)], "symmetric")
    np.testing.assert_array_equal(symmetric_pad(torch.from_numpy(image), 3), expected)


def test_training_lowers_the_loss():
    losses = list(losses_of(VariationalNetwork(VariationalSpec(stages=3, filters=4, kernel=5)), batch_of(), 30, 1e-3))
    assert losses[-1] < losses[0]


def test_noise_aware_stages_begin_as_the_papers_and_learn_powers_of_the_noise():
    batch = {**batch_of(), "sigma": torch.tensor([0.01, 0.04])}
    aware = VariationalNetwork(SMALL.model_copy(update={"noise_aware": True}), seed=4)
    plain = VariationalNetwork(SMALL, seed=4)
    torch.testing.assert_close(aware(batch), plain(batch))
    before = plain(batch)
    with torch.no_grad():
        for stage in aware.stages:
            stage.powers.copy_(torch.tensor([1.0, 0.0]))  # the regulariser as strong as the noise
    louder = {**batch, "sigma": 100 * batch["sigma"]}
    quiet = {**batch, "sigma": 1e-9 * batch["sigma"]}
    without = VariationalNetwork(SMALL, seed=4)
    with torch.no_grad():
        for stage in without.stages:
            stage.weights.zero_()
    torch.testing.assert_close(aware(quiet), without(batch), rtol=1e-4, atol=1e-5)
    assert (aware(louder) - before).abs().max() > (aware(batch) - before).abs().max()
    aware(batch).abs().sum().backward()
    assert all(stage.powers.grad.abs().min() > 0 for stage in aware.stages)
    with pytest.raises(ValueError, match="needs the noise level"):
        aware({**batch, "sigma": torch.tensor([0.01, float("nan")])})
