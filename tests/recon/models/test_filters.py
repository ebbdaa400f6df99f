import torch
from torch.nn.functional import conv2d, conv_transpose2d

from recon.models.filters import correlate, transposed


def drawn(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape) + shape[-1]))


def test_filters_and_their_transpose_equal_torch_s():
    images, kernels = drawn(2, 2, 17, 20), drawn(3, 2, 5, 5)
    responses = correlate(images, kernels)
    torch.testing.assert_close(responses, conv2d(images, kernels))
    torch.testing.assert_close(transposed(responses, kernels), conv_transpose2d(responses, kernels)[..., 4:-4, 4:-4])


def test_transposes_are_adjoint():
    """<K u, r> = <u, K^T r> for images that are zero where they are cropped."""
    inner, kernels, responses = drawn(1, 2, 9, 12), drawn(3, 2, 5, 5), drawn(1, 3, 13, 16)
    outer = torch.nn.functional.pad(inner, [4] * 4)
    left = (correlate(outer, kernels) * responses).sum()
    torch.testing.assert_close(left, (inner * transposed(responses, kernels)).sum())


def test_gradients_of_both_equal_finite_differences():
    images, kernels = drawn(2, 2, 8, 7).requires_grad_(), drawn(3, 2, 3, 3).requires_grad_()
    responses = drawn(2, 3, 8, 7).requires_grad_()
    assert torch.autograd.gradcheck(correlate, (images, kernels))
    assert torch.autograd.gradcheck(transposed, (responses, kernels))
