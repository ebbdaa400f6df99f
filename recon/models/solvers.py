"""Conjugate gradients for batches of Hermitian positive systems; each sample has its own step size and its own end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .late import Late

Operator = Callable[[Tensor], Tensor]
ROUNDING = 8  # the residual of a rounded solution, over the precision of its type
NULL = 1e-6  # well below the smallest eigenvalues that matter, and well above the rounding of single precision


@dataclass(frozen=True, eq=False)
class Solved:
    """A solution [batch ...], how many iterations it took, and each sample's relative residual [batch]."""

    x: Tensor
    iterations: int
    residual: Tensor


def conjugate_gradient(
    operator: Operator,
    right: Tensor,
    start: Tensor | None = None,
    *,
    iterations: int = 50,
    tolerance: float = 1e-6,
    precondition: Operator | None = None,
) -> Solved:
    """Solve operator(x) = right [batch ...] for a Hermitian positive operator A (Hestenes and Stiefel 1952).

    The iteration ends after `iterations`, or once ||right - operator(x)|| <= tolerance ||right|| in every sample, with
    the residual of the recursion. (On a GPU it ends one iteration later, which changes nothing.) The tolerance is at
    least the rounding error. A sample that has converged no longer changes.

    A may be singular if `right` lies in its range. Rounding errors do not lie in this range, and steps along them have
    no bound. A sample therefore also ends when <p, A p> / <p, p> of a direction p falls below `NULL` times the largest
    such value so far.

    `precondition` applies an approximate inverse. If the operator is differentiable, so is the result, with the
    gradients of the iterations that were made.
    """
    scale = _norm(right).clamp_min(torch.finfo(right.real.dtype).tiny)
    tolerance = floor(tolerance, right.dtype)
    x = torch.zeros_like(right) if start is None else start
    r = right if start is None else right - operator(x)
    z = r if precondition is None else precondition(r)
    p, rz = z, _inner(r, z)
    square_r = rz if precondition is None else _inner(r, r)
    going = Late(torch.ones(1, dtype=torch.bool))
    done, largest, live = 0, torch.zeros_like(rz), torch.ones_like(rz, dtype=torch.bool)
    for done in range(1, iterations + 1):
        active = live & (square_r.sqrt() > tolerance * scale)
        going, before = Late(active), going
        if not bool((going if going.is_there else before).read().any()):  # a GPU is asked one iteration late
            done -= 1
            break
        q = operator(p)
        curvature = _inner(p, q)
        with torch.no_grad():  # this only decides which samples end
            square = _inner(p, p)
            largest = torch.maximum(largest, ratio(curvature, square, active))
            live = live & (curvature > NULL * largest * square)
            active = active & live
        step = ratio(rz, curvature, active)
        x = x + _wide(step, x) * p
        r = r - _wide(step, r) * q
        z = r if precondition is None else precondition(r)
        old, rz = rz, _inner(r, z)
        square_r = rz if precondition is None else _inner(r, r)
        p = z + _wide(ratio(rz, old, active), p) * p
    return Solved(x, done, square_r.sqrt() / scale)


def floor(tolerance: float, dtype: torch.dtype) -> float:
    """The tolerance, or that of a solution which is rounded to `dtype`, whichever is larger."""
    return max(tolerance, ROUNDING * torch.finfo(dtype).eps)


def ratio(a: Tensor, b: Tensor, active: Tensor) -> Tensor:
    """A / b where the sample is active and b is positive, else 0; no division by 0 enters the gradients."""
    usable = active & (b > 0)
    return torch.where(usable, a / torch.where(usable, b, torch.ones_like(b)), torch.zeros_like(a))


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Re <a, b> of every sample [batch]."""
    a, b = (torch.view_as_real(t.resolve_conj().contiguous()) if t.is_complex() else t for t in (a, b))
    return (a * b).flatten(1).sum(1)


def _norm(a: Tensor) -> Tensor:
    return _inner(a, a).sqrt()


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
