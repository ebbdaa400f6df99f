import numpy as np
import pytest
import sigpy

from recon.data.device_pairs import DevicePairs
from synth.errors import RecipeError, SourceRejectedError
from synth.physics import fft2c, ifft2c
from synth.plan import Plan
from synth.rng import rng as address
from synth.stages.target import TargetSpec
from synth.stages.truncation import truncated


def waves(n, *cycles):
    """1 plus a cosine of each number of cycles per field of view, the same in each of n rows."""
    return np.ones((n, 1), np.float32) * (1 + sum(np.cos(2 * np.pi * c * np.arange(n) / n) for c in cycles))


def test_waves_of_the_matrix_stay_and_finer_ones_vanish():
    """Of 32 columns, 15 cycles are the last with a partner at -15; 17 cycles of 64 columns are beyond."""
    np.testing.assert_allclose(truncated(waves(64, 3, 15, 17, 25), (32, 32)), waves(32, 3, 15), atol=2e-6)


def test_it_is_the_centre_of_kspace_as_sigpy_cuts_it(rng):
    image = rng.random((48, 60)).astype(np.float32)
    for matrix in ((24, 30), (16, 20), (15, 21)):
        cut = sigpy.resize(sigpy.fft(image), matrix)
        expected = sigpy.ifft(cut).real * np.sqrt(matrix[0] * matrix[1] / image.size)
        np.testing.assert_allclose(truncated(image, matrix), expected, atol=1e-6)
        assert truncated(image, matrix).mean() == pytest.approx(image.mean(), rel=1e-5)


def test_edges_ring_by_nine_per_cent():
    """The overshoot of a truncated Fourier series is Si(pi)/pi - 1/2 = .0895 of the step (Gibbs 1899)."""
    step = np.zeros((1024, 1024), np.float32)
    step[256:768] = 1
    coarse = truncated(step, (128, 1024)).astype(complex)
    finer = np.zeros((1024, 1024), complex)
    finer[448:576] = fft2c(coarse)
    assert ifft2c(finer).real.max() * np.sqrt(8) - 1 == pytest.approx(0.0895, abs=0.003)


def test_frequencies_up_to_the_last_line_are_whole():
    """White noise as a photograph: resizing loses some four tenths of the outermost power, truncation nothing."""
    photo = address(1, "photo").random((200, 240)).astype(np.float32)
    powers = []
    for options in ({"truncated": 2}, {}):
        image, _ = TargetSpec(matrix=(100, 120), fit="resize", **options).apply(photo, (100, 120), address(2, "target"))
        power = (np.abs(fft2c(image)) ** 2).mean(0)
        powers.append(power[2:8].mean() / power[40:50].mean())
    assert powers[0] == pytest.approx(1, abs=0.15)
    assert powers[1] < 0.65


def test_a_fitting_is_that_of_the_finer_matrix():
    photo = address(1, "photo").random((70, 90)).astype(np.float32)
    image, how = TargetSpec(matrix=(32, 40), truncated=2).apply(photo, (32, 40), address(2, "target"))
    assert image.shape == (32, 40)
    assert np.abs(image).max() == 1
    assert (how.top, how.left) == (3, 5)
    assert image.mean() * how.scale == pytest.approx(photo[3:67, 5:85].mean(), rel=1e-5)
    with pytest.raises(SourceRejectedError, match="black"):
        TargetSpec(matrix=(32, 40), truncated=2).apply(np.zeros((70, 90), np.float32), (32, 40), address(2, "target"))
    with pytest.raises(SourceRejectedError, match="cannot be brought to 96x120"):
        TargetSpec(matrix=(32, 40), truncated=3).apply(photo, (32, 40), address(2, "target"))


def test_a_pair_has_the_truncated_object(recipe):
    """Without noise, the reference has the magnitude of the truncated photograph."""
    sections = {"noise": {"kind": "none"}, "target": {"truncated": 2, "fit": "resize"}}
    plan = Plan.of(recipe(**sections))
    pair = plan.pair(0)
    fine, _ = TargetSpec(matrix=(96, 112), fit="resize").apply(plan.photo(0).image, (96, 112), address(0, "target"))
    expected = np.abs(truncated(fine, (48, 56)))
    np.testing.assert_allclose(np.abs(pair.target), expected / expected.max(), atol=2e-6)


def test_who_cannot_use_it_says_so(recipe):
    with pytest.raises(RecipeError, match=r"target\.truncated is done on the host"):
        DevicePairs(recipe(target={"truncated": 2}))
