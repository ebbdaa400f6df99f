import numpy as np
import pytest

from recon.data.device_pairs import DevicePairs
from synth.errors import RecipeError
from synth.plan import Plan
from synth.rng import rng as address
from synth.stages.fat import Fat, FatSpec


def test_tissue_by_hand():
    """Three quarters are darker than fat; in the middle of the rise, half is fat, and opposed phases cancel."""
    magnitude = np.repeat(np.array([0.2, 0.4, 0.6, 1.0], np.float32), 25).reshape(10, 10)
    threshold = np.quantile(magnitude, 0.75)  # 0.7
    assert threshold == pytest.approx(0.7)
    quarter = Fat(np.pi / 2, 0.75).factor(magnitude)
    np.testing.assert_allclose(quarter[magnitude < 0.65], 1)
    np.testing.assert_allclose(quarter[magnitude == 1], 1j, atol=1e-7)
    half = np.array([[0.2, 0.675, 0.7, 0.725, 1.0]], np.float32)  # above = 1/2: the threshold is 0.7
    np.testing.assert_allclose(Fat(np.pi, 0.5).factor(half), [[1, 0.5, 0, -0.5, -1]], atol=1e-5)


def test_both_signs_and_the_range_are_drawn():
    drawn = [FatSpec(phase=(1.0, 2.0)).draw(address(1, "fat", k)) for k in range(40)]
    phases = np.array([fat.phase_rad for fat in drawn])
    assert 10 < (phases > 0).sum() < 30
    assert 1 <= np.abs(phases).min() < np.abs(phases).max() <= 2


def test_magnitudes_without_the_phase_are_as_without_fat(recipe):
    """A pair with fat at the phase 0 is bit for bit the pair without it; at another phase, bright pixels turn alone."""
    sections = {"noise": {"kind": "none"}, "phase": {"kind": "none"}}
    plain = Plan.of(recipe(**sections)).pair(0)
    null = Plan.of(recipe(**sections, fat={"phase": 0.0})).pair(0)
    np.testing.assert_array_equal(null.target, plain.target)
    turned = Plan.of(recipe(**sections, fat={"phase": 1.0, "above": 0.9})).pair(0)
    change = turned.target / np.where(plain.target == 0, 1, plain.target)
    phase = turned.numbers["fat_phase_rad"]
    assert abs(phase) == pytest.approx(1.0)
    bright = np.abs(plain.target) > np.quantile(np.abs(plain.target), 0.97)
    np.testing.assert_allclose(np.angle(change[bright]), phase, atol=0.05)
    dark = (np.abs(plain.target) < 0.5 * np.quantile(np.abs(plain.target), 0.8)) & (np.abs(plain.target) > 1e-3)
    np.testing.assert_allclose(np.angle(change[dark]), 0, atol=1e-3)


def test_null_bytes_replay_and_refusals(recipe):
    assert Plan.of(recipe()).recipe.hash() == Plan.of(recipe(fat=None)).recipe.hash()
    plan = Plan.of(recipe(fat={}))
    assert plan.pair(3).digest() == Plan.of(recipe(fat={})).pair(3).digest()
    with pytest.raises(RecipeError, match="fat is done on the host"):
        DevicePairs(recipe(fat={}))
    with pytest.raises(RecipeError, match=r"fat\.above.*both excluded"):
        recipe(fat={"above": [0.0, 0.5]})
