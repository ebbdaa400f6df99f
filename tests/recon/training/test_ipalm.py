import numpy as np
import pytest
import torch
from conftest import recipe_data

from recon.data.datasets import VirtualPairs
from recon.data.loader import make_loader
from recon.models.variational import VariationalNetwork, VariationalSpec
from recon.training.ipalm import Ipalm
from recon.training.losses import loss_of
from synth.recipe import parse_recipe


def quadratic(seed=0, n=6):
    """1/2 t^T H t - b^T t with known H, b."""
    draw = torch.Generator().manual_seed(seed)
    root = torch.randn(n, n, dtype=torch.float64, generator=draw)
    return root @ root.T + torch.eye(n, dtype=torch.float64), torch.randn(n, dtype=torch.float64, generator=draw)


def closure_of(parameters, loss):
    def closure(*, backward=True):
        value = loss()
        if backward:
            for p in parameters:
                p.grad = None
            value.backward()
        return value.detach()

    return closure


def test_one_step_is_the_formula():
    """Without a history, t~ = t; an L equal to the largest eigenvalue is accepted at once and then lowered."""
    h, b = quadratic()
    t = torch.ones(6, dtype=torch.float64, requires_grad=True)
    largest = float(torch.linalg.eigvalsh(h).max())
    optimiser = Ipalm([[t]], lambda: None, momentum=0.7, lipschitz=largest)
    first = t.detach().clone()
    optimiser.step(closure_of([t], lambda: 0.5 * t @ h @ t - b @ t))
    torch.testing.assert_close(t.detach(), first - (h @ first - b) / largest)
    assert optimiser.param_groups[0]["lipschitz"] == pytest.approx(0.75 * largest)
    second = t.detach().clone()
    ahead = second + 0.7 * (second - first)
    optimiser.step(closure_of([t], lambda: 0.5 * t @ h @ t - b @ t))
    steps = [(ahead - (h @ ahead - b) / (0.75 * largest * 2**k)) for k in range(3)]
    assert any(torch.allclose(t.detach(), s) for s in steps)


def test_a_step_size_that_is_too_long_is_found_out():
    h, b = quadratic()
    t = torch.ones(6, dtype=torch.float64, requires_grad=True)
    optimiser = Ipalm([[t]], lambda: None, momentum=0.0, lipschitz=1e-3)
    loss = lambda: 0.5 * t @ h @ t - b @ t  # noqa: E731
    before = loss().item()
    optimiser.step(closure_of([t], loss))
    assert loss().item() < before
    assert optimiser.param_groups[0]["lipschitz"] > 1e-3


def test_constrained_blocks_reach_the_constrained_minimum():
    """Nonnegative least squares, split into two blocks, against scipy."""
    from scipy.optimize import nnls

    draw = np.random.default_rng(1)
    a, y = draw.normal(size=(12, 6)), draw.normal(size=12)
    blocks = [torch.ones(3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    matrix, right = torch.from_numpy(a), torch.from_numpy(y)

    def prox():
        for block in blocks:
            block.clamp_min_(0.0)

    optimiser = Ipalm([[block] for block in blocks], prox, momentum=0.4, lipschitz=10.0)
    closure = closure_of(blocks, lambda: 0.5 * (matrix @ torch.cat(blocks) - right).square().sum())
    for _ in range(400):
        optimiser.step(closure)
    found = torch.cat(blocks).detach().numpy()
    least = 0.5 * nnls(a, y)[1] ** 2
    assert found.min() == 0  # some constraints are met with equality
    assert least <= 0.5 * np.linalg.norm(a @ found - y) ** 2 < 1.01 * least  # steps are tried with a slack


def test_ipalm_lowers_the_loss_of_the_network_and_keeps_its_constraints(photos):
    target = {"matrix": [36, 44], "fit": "crop"}
    pairs = VirtualPairs(parse_recipe(recipe_data(photos, pairs=4, target=target), "t"))
    batch = next(iter(make_loader(pairs, batch_size=4, device="cpu", shuffle=False)))
    network = VariationalNetwork(VariationalSpec(stages=3, filters=4, kernel=5))
    optimiser = Ipalm(network.blocks(), network.project)
    parameters = list(network.parameters())
    closure = closure_of(parameters, lambda: loss_of(network(batch), batch, "magnitude").mean())
    losses = []
    for _ in range(25):
        losses.append(float(optimiser.step(closure)))
        for stage in network.stages:
            assert stage.kernels.mean(dim=(-2, -1)).abs().max().item() < 1e-6
            assert stage.kernels.flatten(1).norm(dim=1).max().item() < 1 + 1e-5
            assert stage.lam.item() >= 0
    assert losses[-1] < 0.8 * losses[0]
