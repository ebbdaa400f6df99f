import numpy as np
import pytest
import torch
from properties import as_torch, assert_adjoint, assert_linear, complex_normal, inner

from synth import physics
from synth.physics import centring, fftc

SHAPES = [(16, 20), (15, 21), (16, 21), (9, 12)]
ARRAYS = [lambda *a: a, as_torch]


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=ARRAYS, ids=["numpy", "torch"])
def kind(request):
    return request.param


def problem(kind, shape, rng, batch=(2,)):
    image = complex_normal(rng, *batch, *shape)
    maps = complex_normal(rng, *batch, 3, *shape)
    kspace = complex_normal(rng, *batch, 3, *shape)
    mask = rng.random(shape[1]) < 0.5
    return kind(image, maps, kspace, mask)


def test_fft_is_adjoint_and_unitary(kind, shape, rng):
    x, _, _, _ = problem(kind, shape, rng)
    y = x.flip(-1) if isinstance(x, torch.Tensor) else x[..., ::-1]
    assert_adjoint(physics.fft2c, physics.ifft2c, x, y)
    assert_linear(physics.fft2c, x, y)
    assert np.isclose(inner(physics.fft2c(x), physics.fft2c(x)), inner(x, x), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(physics.ifft2c(physics.fft2c(x))), np.asarray(x), atol=1e-5)


def test_fft_of_a_centred_point_is_flat(kind, shape):
    point = np.zeros(shape, np.complex64)
    point[shape[0] // 2, shape[1] // 2] = 1
    (point,) = kind(point)
    np.testing.assert_allclose(np.asarray(physics.fft2c(point)), 1 / np.sqrt(shape[0] * shape[1]), atol=1e-6)


def test_fft_of_two_by_two_by_hand():
    # index 1 is zero, index 0 is -1: sums with signs, over sqrt(4)
    x = np.array([[1, 2], [3, 4]], np.complex64)
    expected = np.array([[1 - 2 - 3 + 4, -1 - 2 + 3 + 4], [-1 + 2 - 3 + 4, 10]]) / 2
    np.testing.assert_allclose(physics.fft2c(x), expected, atol=1e-6)


def test_sense_is_adjoint(kind, shape, rng):
    image, maps, kspace, mask = problem(kind, shape, rng)
    assert_adjoint(
        lambda x: physics.sense_forward(x, maps, mask), lambda y: physics.sense_adjoint(y, maps, mask), image, kspace
    )


def test_sense_refuses_what_does_not_fit(kind, shape, rng):
    """Of one map for all coils, torch would make an image without a word: its sum over coils."""
    image, maps, kspace, mask = problem(kind, shape, rng)
    with pytest.raises(ValueError, match="the same coils"):
        physics.sense_adjoint(kspace, maps[..., :1, :, :], mask)
    with pytest.raises(ValueError, match=r"the image \[... y x\] is"):
        physics.sense_forward(image[..., 1:], maps, mask)
    with pytest.raises(ValueError, match=r"the image \[... set y x\] is"):
        physics.sense_forward(image[:1], maps, mask, sets=True)


def test_sense_normal_is_selfadjoint_and_the_product(kind, shape, rng):
    image, maps, _, mask = problem(kind, shape, rng)
    other = image * 1j + 1
    normal = lambda x: physics.sense_normal(x, maps, mask)  # noqa: E731
    assert_adjoint(normal, normal, image, other)
    product = physics.sense_adjoint(physics.sense_forward(image, maps, mask), maps, mask)
    np.testing.assert_allclose(np.asarray(normal(image)), np.asarray(product), rtol=1e-5)


def test_coil_combine_is_adjoint_of_expand(kind, shape, rng):
    image, maps, coils, _ = problem(kind, shape, rng)
    assert_adjoint(lambda x: physics.coil_expand(x, maps), lambda y: physics.coil_combine(y, maps), image, coils)


def test_both_array_types_agree(shape, rng):
    arrays = problem(lambda *a: a, shape, rng)
    tensors = as_torch(*arrays)
    for function in (physics.sense_forward, physics.sense_normal):
        np.testing.assert_allclose(
            function(arrays[0], arrays[1], arrays[3]), function(tensors[0], tensors[1], tensors[3]).numpy(), atol=1e-4
        )
    np.testing.assert_allclose(physics.rss(arrays[2]), physics.rss(tensors[2]).numpy(), rtol=1e-5)


def test_rss_by_hand():
    assert physics.rss(np.array([[[3.0 + 0j]], [[4j]]]))[0, 0] == 5


def test_sense_equals_sigpy(shape, rng):
    from sigpy.mri.linop import Sense

    image, maps, _, mask = problem(lambda *a: a, shape, rng, batch=())
    theirs = Sense(maps, weights=np.broadcast_to(mask, shape).astype(np.float32)) * image
    np.testing.assert_allclose(physics.sense_forward(image, maps, mask), theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 20), (15, 21), (16, 21), (14, 368)], ids=str)
def test_transform_of_sampled_lines_equals_the_whole(shape, rng):
    import scipy.fft

    x = complex_normal(rng, 3, *shape)
    lines = np.flatnonzero(rng.random(shape[1]) < 0.4)
    spectra = scipy.fft.fft(x, norm="ortho")[..., (lines - shape[1] // 2) % shape[1]]
    np.testing.assert_allclose(physics.lines_along_y(spectra, lines, shape[1]), physics.fft2c(x)[..., lines], atol=2e-5)


@pytest.mark.parametrize("n", [2, 7, 8, 12, 15])
def test_factors_centre_a_transform_without_shifts(n, rng):
    x = complex_normal(rng, 3, n)
    before, after = centring(n)
    np.testing.assert_allclose(after * np.fft.fft(before * x) / n**0.5, fftc(x), atol=2e-6)


def test_centring_factors_by_hand():
    before, after = centring(4)  # (-1)^m, and (-1)^(k - 2)
    assert before.tolist() == after.tolist() == [1, -1, 1, -1]
    third = np.exp(2j * np.pi / 3)
    np.testing.assert_allclose(centring(3), [[1, third, third**2], [third**-1, 1, third]], atol=1e-6)


def test_gradients_flow_through_torch():
    maps = torch.ones(1, 4, 4, dtype=torch.complex64)
    image = torch.ones(4, 4, dtype=torch.complex64, requires_grad=True)
    physics.sense_forward(image, maps, torch.ones(4)).abs().pow(2).sum().backward()
    np.testing.assert_allclose(image.grad.numpy(), 2 * np.ones((4, 4)), atol=1e-5)  # d ||x||^2 of a unitary map
