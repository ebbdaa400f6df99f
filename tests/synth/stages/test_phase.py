import numpy as np
import pytest

from synth.physics import fft2c
from synth.stages import phase

SHAPES = [(32, 40), (31, 41)]
SPECS = [
    phase.NoPhaseSpec(),
    phase.SinusoidalSpec(),
    phase.PolynomialSpec(),
    phase.SmoothRandomSpec(),
    phase.Knoll2020Spec(),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_phase_changes_no_magnitude_and_replays(spec, shape, rng):
    drawn = spec.draw(rng)
    factor = drawn.on(shape)
    assert factor.shape == shape
    assert factor.dtype == np.complex64
    np.testing.assert_allclose(np.abs(factor), 1, atol=1e-6)
    again = type(drawn)(**{key.removeprefix("phase_"): value for key, value in drawn.numbers().items()})
    assert np.array_equal(again.on(shape), factor)


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_phase_is_the_product_of_its_factors(spec, shape, rng):
    drawn = spec.draw(rng)
    left, right = drawn.factors(shape)
    assert left.shape[1] == right.shape[1] <= 6
    np.testing.assert_allclose(left @ right.T, drawn.radians(shape), atol=3e-6)


def test_sinusoid_by_hand():
    drawn = phase.SinusoidalPhase(cycles=1.0, direction_rad=0.0, amplitude_rad=2.0, offset_rad=0.0)
    radians = drawn.radians((8, 8))
    np.testing.assert_allclose(radians[3], 2 * np.sin(2 * np.pi * (np.arange(8) - 4) / 8), atol=1e-5)
    assert np.ptp(radians, axis=0).max() < 1e-6  # direction 0 is along x
    along_y = phase.SinusoidalPhase(1.0, np.pi / 2, 2.0, 0.0).radians((8, 8))
    np.testing.assert_allclose(along_y[:, 3], radians[3], atol=1e-5)


def test_sinusoid_draws_fill_their_ranges(rng):
    spec = phase.SinusoidalSpec(cycles=(0.5, 3), amplitude=(0, 3.14))
    drawn = [spec.draw(rng) for _ in range(500)]
    cycles, amplitude = np.array([[d.cycles, d.amplitude_rad] for d in drawn]).T
    assert 0.5 <= cycles.min() < 0.55
    assert 2.95 < cycles.max() <= 3
    assert 0 <= amplitude.min() < 0.1
    assert 3.0 < amplitude.max() <= 3.14
    assert len({round(d.direction_rad, 1) for d in drawn}) > 50


def test_polynomial_has_the_degree_it_says(rng):
    radians = phase.PolynomialSpec(order=2, amplitude=1).draw(rng).radians((33, 33)).astype(float)
    assert np.abs(np.diff(radians, 3, axis=0)).max() < 1e-4
    assert np.abs(np.diff(radians, 2, axis=0)).max() > 1e-4
    assert np.abs(np.diff(np.diff(radians, 2, axis=0), axis=1)).max() < 1e-4  # y^2 x is of degree 3
    assert np.abs(np.diff(np.diff(radians, axis=0), axis=1)).max() > 1e-4


def test_smooth_random_has_the_rms_it_says(rng):
    for _ in range(5):
        drawn = phase.SmoothRandomSpec(amplitude=0.8, cycles=2).draw(rng)
        radians = drawn.radians((200, 220)) - drawn.offset_rad
        assert np.sqrt(np.mean(radians**2)) == pytest.approx(0.8, rel=0.01)


def test_smooth_random_is_band_limited(rng):
    radians = phase.SmoothRandomSpec(amplitude=1, cycles=2).draw(rng).radians((128, 128))
    mirrored = np.block([[radians, radians[:, ::-1]], [radians[::-1], radians[::-1, ::-1]]])
    spectrum = np.abs(np.fft.fft2(mirrored))
    assert spectrum[6:-6, 6:-6].max() < 1e-3 * spectrum.max()  # 2 cycles per field of view are 4 of the mirrored one


def test_knoll2020_by_hand():
    radians = phase.Knoll2020Phase().radians((4, 5))
    np.testing.assert_allclose(radians[0], -np.sin(4 * np.linspace(-np.pi / 2, np.pi / 2, 5) ** 2), atol=1e-6)
    assert np.ptp(radians, axis=0).max() == 0


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: s.kind)
def test_an_echo_shift_is_a_shift_of_kspace(spec):
    """A whole number of samples along an axis moves k-space by as many, around its ends; the rest stays as it was."""
    image = np.random.default_rng(0).standard_normal(SHAPES[0])
    plain = spec.draw(np.random.default_rng(1))
    moved = phase.ShiftedPhase(plain, shift_y=3.0, shift_x=-2.0)
    wanted = np.roll(fft2c(image * plain.on(SHAPES[0])), (3, -2), (0, 1))
    np.testing.assert_allclose(fft2c(image * moved.on(SHAPES[0])), wanted, atol=1e-4)
    left, right = moved.factors(SHAPES[0])
    np.testing.assert_allclose(left @ right.T, moved.radians(SHAPES[0]), atol=2e-5)


def test_echo_shifts_are_drawn_in_all_directions_after_the_phase():
    spec = phase.SinusoidalSpec(echo_shift=(1.0, 2.3))
    drawn = [spec.draw(np.random.default_rng(seed)) for seed in range(200)]
    shifts = np.array([[d.shift_y, d.shift_x] for d in drawn])
    length = np.hypot(*shifts.T)
    assert (length >= 1).all() and (length <= 2.3).all() and np.ptp(length) > 1.2  # noqa: PT018
    assert (np.histogram(np.arctan2(*shifts.T), 4, (-np.pi, np.pi))[0] > 30).all()  # of 50 +- 6
    assert drawn[0].phase == phase.SinusoidalSpec().draw(np.random.default_rng(0))
    assert drawn[0].numbers()["phase_echo_shift_x"] == shifts[0, 1]
    assert "echo_shift" not in phase.SinusoidalSpec().model_dump(exclude_none=True)
