"""Properties that many tests check."""

import numpy as np
import torch


def complex_normal(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64)


def as_torch(*arrays):
    return tuple(torch.from_numpy(np.ascontiguousarray(a)) for a in arrays)


def inner(a, b):
    """<a, b> in double precision, for arrays and tensors."""
    return np.vdot(np.asarray(a).astype(np.complex128), np.asarray(b).astype(np.complex128))


def assert_adjoint(forward, adjoint, x, y, rtol=1e-5):
    """<A x, y> = <x, A^H y>."""
    left, right = inner(forward(x), y), inner(x, adjoint(y))
    scale = np.linalg.norm(np.asarray(forward(x))) * np.linalg.norm(np.asarray(y))
    assert abs(left - right) <= rtol * scale, f"<Ax,y> = {left}, <x,A^Hy> = {right}"


def assert_linear(operator, x, z, rtol=1e-5):
    """A(x + 2i z) = A x + 2i A z."""
    left, right = np.asarray(operator(x + 2j * z)), np.asarray(operator(x)) + 2j * np.asarray(operator(z))
    assert np.linalg.norm(left - right) <= rtol * np.linalg.norm(right)
