import numpy as np
import pytest
import torch
from properties import complex_normal
from torch import nn
from torch.autograd.function import once_differentiable

from recon.evaluation.linearised import linearised
from recon.evaluation.noise_map import colours, noise_map
from recon.evaluation.probes import drawn_noise, noise_maps
from recon.models.baselines import CgSense, RegularisedSense, ZeroFilled
from recon.models.gfactor import block_g
from recon.models.sense import Sense, mu_of
from recon.models.unrolled_sense import UnrolledSense, UnrolledSpec
from recon.models.variational import VariationalNetwork, VariationalSpec
from synth.physics import sense_forward
from synth.stages.coils import LoopsSpec, draw_coils

SHAPE, SIGMA = (24, 32), 0.02
REGULAR = np.arange(32) % 2 == 0
LINES = (np.arange(32) % 3 == 0) | (np.abs(np.arange(32) - 16) < 4)


def batch_of(mask=REGULAR, pairs=2, shape=SHAPE):
    rng = np.random.default_rng(4)
    maps = torch.from_numpy(draw_coils(LoopsSpec(count=6), 2, 0).maps(shape).astype(np.complex64))[None]
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = 1 + 0.4 * np.cos(0.3 * y + np.arange(pairs)[:, None, None]) * np.sin(0.2 * x)
    target = torch.from_numpy((smooth * np.exp(0.05j * y)).astype(np.complex64))
    sampled = torch.from_numpy(np.broadcast_to(mask, (1, shape[1])).copy()).view(1, 1, 1, -1).repeat(pairs, 1, 1, 1)
    noise = SIGMA * torch.from_numpy(complex_normal(rng, pairs, 6, *shape).astype(np.complex64))
    kspace = (sense_forward(target, maps, sampled) + noise) * sampled
    numbers = {"sigma": torch.full((pairs,), SIGMA), "pair_id": torch.arange(pairs) + 3}
    return {"masked_kspace": kspace, "sens_maps": maps, "mask": sampled, "target": target, **numbers}


def network(kind):
    """A network whose weights are random, so that each of its parts changes the image."""
    if kind == "variational":
        made = VariationalNetwork(VariationalSpec(stages=2, filters=3, kernel=5, nodes=11))
        with torch.no_grad():
            for stage in made.stages:
                stage.weights.mul_(20)
        return made
    spec = {"iterations": 2, "channels": 4, "levels": 1, "cg_iterations": 4, "shrinkage": kind == "shrinking"}
    made = UnrolledSense(UnrolledSpec(**spec))
    with torch.no_grad():
        for net in made.nets:
            (net.net if kind == "shrinking" else net).last.weight.normal_(
                std=0.2, generator=torch.Generator().manual_seed(1)
            )
    return made


def exact(batch, lam=None):
    """sigma sqrt(R) sqrt(diag((A + mu)^-1 A (A + mu)^-1)) from the whole matrix A, for any mask."""
    model = Sense(batch["sens_maps"].to(torch.complex128), batch["mask"][:1])
    count = SHAPE[0] * SHAPE[1]
    a = model.normal(torch.eye(count, dtype=torch.complex128).reshape(count, *SHAPE)).reshape(count, count).T
    mu = 0.0 if lam is None else float(mu_of(torch.tensor(lam)))
    inverse = torch.linalg.inv(a + mu * torch.eye(count))
    g = (inverse @ a @ inverse).diagonal().real.sqrt().reshape(SHAPE)
    return SIGMA * float(model.acceleration) ** 0.5 * g.numpy()


@pytest.mark.parametrize(("model", "lam"), [(CgSense(30), None), (RegularisedSense(2.0), 2.0)])
def test_sense_has_the_analytic_noise(model, lam):
    batch = batch_of()
    found = noise_map(model, batch, 9)
    expected = SIGMA * 2**0.5 * block_g(batch["sens_maps"][0].numpy(), REGULAR, lam)  # sigma sqrt(R) g
    assert found.how == "double backward"
    for k in range(2):
        np.testing.assert_allclose(found.spread[k], expected, rtol=0.02)
        np.testing.assert_allclose(found.magnitude[k], expected, rtol=0.02)
    assert found.error.max() < 0.005


def test_masks_with_reference_lines_have_the_noise_of_the_whole_matrix():
    batch = batch_of(LINES, pairs=1)
    found = noise_map(RegularisedSense(2.0), batch, 36)
    np.testing.assert_allclose(found.spread[0], exact(batch, 2.0), rtol=0.02)


def test_a_zero_filled_image_by_hand():
    """E^H n / R: each pixel is a sum over coils of noise with sigma / sqrt(R), and sum |map|^2 = 1."""
    batch = batch_of()
    power = batch["sens_maps"][0].abs().square().sum(0).sqrt().numpy()
    np.testing.assert_allclose(noise_map(ZeroFilled(), batch, 9).spread[1], 0.5**0.5 * SIGMA * power, rtol=1e-3)


@pytest.mark.parametrize("kind", ["variational", "unrolled", "shrinking"])
def test_networks_have_the_noise_of_replicas(kind):
    batch, model = batch_of(LINES, pairs=1), network(kind)
    found = noise_map(model, batch, 36 if kind == "shrinking" else 72)
    assert found.how == ("differences" if kind == "shrinking" else "double backward")
    replicas = 80
    with torch.no_grad():
        level = noise_maps(model, batch, replicas) * SIGMA
    expected = float(np.hypot(found.error[0], 0.5 * replicas**-0.5))  # relative, of the map and of the replicas
    assert np.sqrt(np.mean((found.spread[0] - level[0]) ** 2) / np.mean(level[0] ** 2)) < 1.25 * expected
    assert found.spread[0].mean() == pytest.approx(level[0].mean(), rel=0.02)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(("power", "parts"), [(0.125, 1), (0.25, 2)])
def test_a_bent_function_by_hand(power, parts):
    """f = u + b u^2, where u is what noise changes, of variance s^2 in each part.

    Of a real u, u^2 has variance 2 s^4, so that f has s^2 + 2 b^2 s^4 = 1.125 s^2 with b = 1 / (4 s). Of a complex u,
    each part of u^2 has variance 4 s^4, and of f 1.25 s^2. Both u^2 have no covariance with u. The derivative at hand
    gives s^2. One draw's 2 b u (u^2 - s^2) + b^2 (u^2 - s^2)^2 has variance (40 / 16 + 56 / 256) s^4 of a real u, and
    with the mean left in 60 / 16 + 96 / 256, whose root is 1.23 times as large.
    """
    batch = batch_of(pairs=1)
    with torch.no_grad():
        still, s = ZeroFilled()(batch), 0.5**0.5 * SIGMA

    def bent(b):
        u = ZeroFilled()(b) - still
        u = u.real if parts == 1 else u
        return (5 if parts == 1 else 5j) + u + u.square() / (4 * s)

    seen = (still != 0).numpy()
    first, found = noise_map(bent, batch, 36), noise_map(bent, batch, 144)
    np.testing.assert_allclose(first.spread[seen], s, rtol=0.02)
    for part in (found.spread, found.magnitude):
        assert np.mean(part[seen] ** 2) == pytest.approx((1 + power) * s**2, rel=0.04)
    apart = np.sqrt(np.mean((found.spread[seen] ** 2 / s**2 - 1 - power) ** 2)) / (1 + power) / 2
    assert found.error.mean() == pytest.approx(apart * (1.23 if parts == 1 else 1), rel=0.2)
    assert first.error.max() < 0.02
    np.testing.assert_allclose(noise_map(ZeroFilled(), batch, 144).spread[seen], s, rtol=0.02)  # without draws


def test_the_said_error_is_the_error():
    batch = batch_of(LINES)
    found, other = (noise_map(RegularisedSense(2.0), batch, 10, seed) for seed in (0, 1))
    apart = np.sqrt(np.mean((found.spread**2 - other.spread**2) ** 2) / np.mean(found.spread**4) / 8)
    assert 0.01 < apart < 0.2
    assert found.error.mean() == pytest.approx(apart, rel=0.35)


def test_parts_of_an_image_have_noise_of_their_own():
    """f = 3 Re z + i Im z of a zero-filled image z; the image is made real, so that Re is in phase with it."""
    batch = batch_of()

    def stretched(b):
        z = ZeroFilled()(b)
        return torch.complex(3 * z.real + 50, z.imag)

    found = noise_map(stretched, batch, 36)
    np.testing.assert_allclose(found.magnitude[0], 4.5**0.5 * SIGMA, rtol=0.05)
    np.testing.assert_allclose(found.spread[0], (10 / 4) ** 0.5 * SIGMA, rtol=0.05)
    alone = noise_map(lambda b: stretched(b).abs(), batch, 18)
    np.testing.assert_allclose(alone.spread[0], 4.5**0.5 * SIGMA, rtol=0.05)
    np.testing.assert_array_equal(alone.spread, alone.magnitude)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return 2 * g


class Forward(Once):
    @staticmethod
    def jvp(ctx, t):
        return 2 * t


class Learnt(nn.Module):
    def forward(self, batch):
        return 2 * ZeroFilled()(batch)


WAYS = {
    "double backward": Learnt(),
    "forward mode": lambda b: Forward.apply(ZeroFilled()(b)),
    "differences": lambda b: Once.apply(ZeroFilled()(b)),
    "without a derivative": lambda b: (2 * ZeroFilled()(b)).numpy(),
    "partly detached": lambda b: ZeroFilled()(b).detach() * 1.9 + ZeroFilled()(b) * 0.1,
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_a_derivative_gives_the_same_map(way):
    """What a model computes outside of torch, or detaches, is measured by differences alone."""
    batch = batch_of()
    alone = way in ("without a derivative", "partly detached")
    found = noise_map(WAYS[way], batch, 400 if alone else 18)
    assert found.how == ("differences" if alone else way)
    error = found.spread[0] / (2**0.5 * SIGMA) - 1
    assert np.abs(error).max() < (0.15 if alone else 0.01)
    if alone:
        assert found.error[0] == pytest.approx(error.std(), rel=0.2)


@pytest.mark.parametrize("model", [RegularisedSense(2.0), CgSense(5), network("variational"), network("unrolled")])
def test_products_are_adjoint(model):
    batch, rng = batch_of(LINES), np.random.default_rng(1)
    with linearised(model, batch, drawn_noise(batch, 0)) as near:
        n = drawn_noise(batch, 5)
        v = torch.from_numpy(complex_normal(rng, 2, *SHAPE).astype(np.complex64))
        pushed, pulled = (v.conj() * near.push(n)).real.sum(), (near.pull(v).conj() * n).real.sum()
        scale = torch.linalg.vector_norm(v) * torch.linalg.vector_norm(near.push(n))
    assert abs(float(pushed - pulled)) < 1e-4 * float(scale)


def test_colours():
    colour, number = colours(np.arange(32) % 4 == 0, SHAPE, 7)
    assert colour.max() + 1 == number <= 7
    for k in (8, 16, 24):  # aliases of each other never share a colour
        assert (colour[:, k:] != colour[:, :-k]).all()
    assert (colour[1:] != colour[:-1]).all()
    assert (colour[:, 1:] != colour[:, :-1]).all()


def test_a_pair_has_the_same_map_in_every_batch():
    batch = batch_of(LINES)
    alone = {name: part[1:] if len(part) == 2 else part for name, part in batch.items()}
    whole = noise_map(CgSense(8), batch, 9).spread[1]
    np.testing.assert_allclose(noise_map(CgSense(8), alone, 9).spread[0], whole, rtol=2e-3, atol=1e-4 * whole.max())


def test_bad_input():
    batch = batch_of()
    with pytest.raises(ValueError, match="some sigma is 0 or not known"):
        noise_map(ZeroFilled(), {**batch, "sigma": torch.tensor([0.1, float("nan")])})
    with pytest.raises(ValueError, match="at least 4 probes, got 3"):
        noise_map(ZeroFilled(), batch, 3)


def test_progress_is_told_before_each_product():
    """72 products of a complex-linear reconstruction, and those that find out that it is."""
    calls = []
    found = noise_map(ZeroFilled(), batch_of(pairs=1), 72, progress=lambda: calls.append(1))
    assert 0 <= len(calls) - found.probes <= 4
