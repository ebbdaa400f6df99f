import numpy as np
import pytest
import torch
from properties import complex_normal

from recon.models.misfit import misfit
from recon.models.sense import Sense
from recon.models.unrolled_sense import UnrolledSense, UnrolledSpec
from synth.physics import fft2c

SHAPE = (40, 48)
SIGMA = 0.5


def tensor(array):
    return torch.from_numpy(np.asarray(array, np.complex64))[None]


@pytest.fixture
def scan(rng):
    """A white image, two coils with maps of norm 1, maps that are orthogonal to them, and noise of `SIGMA`."""
    angle = np.linspace(0, np.pi / 2, SHAPE[1])
    maps = np.broadcast_to(np.stack([np.cos(angle), np.sin(angle)])[:, None], (2, *SHAPE))
    image = 5 * complex_normal(rng, *SHAPE)
    return image, maps, np.stack([-maps[1], maps[0]]), SIGMA * complex_normal(rng, 2, *SHAPE)


def of(kspace, maps, sampled):
    model = Sense(tensor(maps), torch.from_numpy(np.broadcast_to(sampled, (1, *sampled.shape)).copy())[None])
    return float(misfit(model, tensor(kspace * sampled), torch.tensor([SIGMA])))


LINES = np.zeros((1, SHAPE[1]), bool)
LINES[0, ::2] = LINES[0, 12:36] = True
POINTS = LINES & (np.arange(SHAPE[0]) % 2 == 0)[:, None]


@pytest.mark.parametrize("sampled", [LINES, POINTS, np.ones((1, SHAPE[1]), bool)])
def test_it_is_1_where_the_maps_are_right(scan, sampled):
    image, maps, _, noise = scan
    assert 1 <= of(fft2c(image * maps) + noise, maps, sampled) < 1.08


@pytest.mark.parametrize("sampled", [LINES, np.ones((1, SHAPE[1]), bool)])
def test_by_hand(scan, sampled):
    """Of signal that no image explains, with power a^2 at every sample, it is sqrt(1 + a^2 / (2 sigma^2))."""
    image, maps, other, noise = scan
    beyond = 2 * np.exp(2j * np.pi * np.random.default_rng(5).random(SHAPE))  # a^2 = 4, white: of every sample, too
    kspace = fft2c(image * maps + beyond * other) + noise
    assert of(kspace, maps, sampled) == pytest.approx(np.sqrt(1 + 4 / (2 * SIGMA**2)), rel=0.08)
    assert of(kspace, np.stack([maps, other]), sampled) < 1.05  # a second set of maps explains it


def test_rows_count_by_their_signal(scan):
    """Half of the power lies in rows with a misfit of 3: sqrt(3). With points, which couple all rows, power adds up."""
    image, maps, other, noise = scan
    beyond = 2 * np.exp(2j * np.pi * np.random.default_rng(5).random(SHAPE))
    rows = np.arange(SHAPE[0]) < SHAPE[0] // 2
    power = np.mean(np.abs(image) ** 2)
    kspace = (
        fft2c(rows[:, None] * (np.sqrt(1 - 4 / power) * image * maps + beyond * other))
        + fft2c(~rows[:, None] * image * maps)
        + noise
    )
    assert of(kspace, maps, LINES) == pytest.approx(np.sqrt(3), rel=0.06)
    everywhere = np.ones(SHAPE, bool)
    everywhere[0, 0] = False  # points
    assert of(kspace, maps, everywhere) == pytest.approx(np.sqrt(1 + 0.5 * 4 / (2 * SIGMA**2)), rel=0.08)


def test_one_coil_explains_everything(scan):
    image, _, _, noise = scan
    one = np.ones((1, *SHAPE))
    assert of(fft2c(image * one) + noise[:1], one, LINES) == pytest.approx(1, abs=0.02)


def test_without_samples_at_the_centre_nothing_is_amiss(scan):
    image, maps, other, noise = scan
    outside = np.ones((1, SHAPE[1]), bool)
    outside[0, 12:36] = False
    assert of(fft2c(image * maps + image * other) + noise, maps, outside) == 1


def test_lam_falls_by_its_power(scan):
    image, maps, other, noise = scan
    kspace = fft2c(image * maps + image * other) + noise
    mask = torch.from_numpy(LINES.copy())[None, None]
    batch = {
        "masked_kspace": tensor(kspace * LINES),
        "sens_maps": tensor(maps),
        "mask": mask,
        "sigma": torch.tensor([SIGMA]),
    }
    spec = UnrolledSpec(iterations=2, channels=4, levels=1, noise_aware=True, cg_iterations=20)
    plain, aware = UnrolledSense(spec, 1), UnrolledSense(spec.model_copy(update={"misfit_aware": True}), 1)
    with torch.no_grad():
        before = plain(batch)
        assert torch.equal(aware(batch), before)  # the powers are 0 at first
        apart = misfit(Sense(batch["sens_maps"], mask), batch["masked_kspace"], batch["sigma"])
        assert apart > 2
        aware.misfit_powers.copy_(torch.tensor([1.0, 0.5]))
        plain.log_lam.sub_(torch.tensor([1.0, 0.5]) * apart.log())
        torch.testing.assert_close(aware(batch), plain(batch), rtol=1e-4, atol=1e-4)
        assert (aware(batch) - before).norm() > 1e-3 * before.norm()
    aware(batch).abs().square().sum().backward()
    assert aware.misfit_powers.grad.abs().min() > 0


def test_it_needs_the_noise():
    with pytest.raises(ValueError, match="misfit_aware needs noise_aware = true"):
        UnrolledSpec(misfit_aware=True)
    assert "misfit_aware" not in UnrolledSpec().model_dump()
