"""The operations that take most of a GPU's time, as operators of torch: one kernel each where Triton is there.

Each operator has a path of torch's own operations, which every device takes without Triton. On a CPU, `solvers`,
`sense` and `rbf` call faster forms of the same sums directly.
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from .solvers import NULL, ratio

TRITON = importlib.util.find_spec("triton") is not None
if TRITON:
    from . import triton_kernels
RZ, LARGEST, LIVE, LEFT, ACTIVE, GOING = range(6)  # rows of the state of conjugate gradients


@torch.library.custom_op("fathom::coil_combine", mutates_args=())
def coil_combine(images: Tensor, maps: Tensor) -> Tensor:
    """Sum_c conj(maps_c) images_c [batch y x] of coil images [batch coil y x]; maps may have a batch axis of 1."""
    return (images * maps.conj_physical()).sum(1)


@torch.library.custom_op("fathom::cg_products", mutates_args=("q", "sums"))
def cg_products(p: Tensor, q: Tensor, shift: Tensor, sums: Tensor) -> None:
    """Add shift p to q, and put <p, q> and <p, p> into `sums` [3 batch group], for real p and q [batch n]."""
    q.add_(shift[:, None] * p)
    sums.zero_()
    sums[0, :, 0], sums[1, :, 0] = (p * q).sum(1), (p * p).sum(1)


@torch.library.custom_op("fathom::cg_advance", mutates_args=("x", "r", "sums", "following"))
def cg_advance(
    x: Tensor, r: Tensor, p: Tensor, q: Tensor, sums: Tensor, state: Tensor, following: Tensor, limit: Tensor
) -> None:
    """Move x along p in every sample that is still active, and r with it; put <r, r> into `sums`.

    `state` and `following` [row batch] are the states before and after the iteration; a sample is active while its
    residual is above `limit` [batch]. The sums are those of `recon.models.solvers.conjugate_gradient`.
    """
    curvature, square = sums[:2].sum(-1)
    rz = state[RZ]
    active = (state[LIVE] > 0) & (state[LEFT] > 0) & (rz.sqrt() > limit)
    largest = torch.maximum(state[LARGEST], ratio(curvature, square, active))
    live = state[LIVE] * (curvature > NULL * largest * square)
    active = active & (live > 0)
    step = ratio(rz, curvature, active)[:, None]
    x.add_(step * p)
    r.sub_(step * q)
    sums[2, :, 0] = (r * r).sum(1)
    following[LARGEST], following[LIVE], following[LEFT] = largest, live, state[LEFT] - 1
    following[ACTIVE] = active.to(following.dtype)


@torch.library.custom_op("fathom::cg_turn", mutates_args=("p", "following"))
def cg_turn(p: Tensor, r: Tensor, sums: Tensor, state: Tensor, following: Tensor, limit: Tensor) -> None:
    """Turn p to the next direction, r + <r, r> / <r, r>_before p, and complete the state `following`."""
    rz = sums[2].sum(-1)
    p.copy_(r + ratio(rz, state[RZ], following[ACTIVE] > 0)[:, None] * p)
    following[RZ] = rz
    going = (following[LIVE] > 0) & (following[LEFT] > 0) & (rz.sqrt() > limit)
    following[GOING] = going.to(following.dtype)


@torch.library.custom_op("fathom::rbf_values", mutates_args=())
def rbf_values(x: Tensor, coefficients: Tensor, low: float, step: float) -> Tensor:
    """Cubics of x [batch filter y x], with `coefficients` [filter interval 4]; see `recon.models.rbf`."""
    rows, t = _cubics(x, coefficients, low, step)
    return ((rows[..., 3] * t + rows[..., 2]) * t + rows[..., 1]) * t + rows[..., 0]


@torch.library.custom_op("fathom::rbf_gradients", mutates_args=())
def rbf_gradients(
    x: Tensor, g: Tensor, coefficients: Tensor, nodes: int, low: float, step: float, sigma: float, factor: float
) -> tuple[Tensor, Tensor]:
    """Gradients in x [batch filter y x], by the cubics, and in the weights [filter n], by the Gaussians themselves."""
    rows, t = _cubics(x, coefficients, low, step)
    dx = g * ((3 * rows[..., 3] * t + 2 * rows[..., 2]) * t + rows[..., 1]) / step
    of_nodes = []
    for node in torch.linspace(-1, 1, nodes, dtype=torch.float64).tolist():
        gauss = torch.exp(-((x - node) ** 2) / (2 * sigma**2))
        of_nodes.append((g * gauss).sum(dim=(0, 2, 3)))
    return dx, factor * torch.stack(of_nodes, dim=1)


@coil_combine.register_fake
def _(images: Tensor, maps: Tensor) -> Tensor:
    return images.new_empty((len(images), *images.shape[2:]))


@rbf_values.register_fake
def _(x: Tensor, coefficients: Tensor, low: float, step: float) -> Tensor:
    return torch.empty_like(x)


@rbf_gradients.register_fake
def _(
    x: Tensor, g: Tensor, coefficients: Tensor, nodes: int, low: float, step: float, sigma: float, factor: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), x.new_empty((x.shape[1], nodes))


def _cubics(x: Tensor, coefficients: Tensor, low: float, step: float) -> tuple[Tensor, Tensor]:
    """The coefficients [batch filter y x 4] of every value's interval, and the place 0 ... 1 in it."""
    filters, intervals, _ = coefficients.shape
    position = ((x - low) / step).clamp(0, intervals - 1e-3)
    interval = position.floor().nan_to_num(0.0)
    first = torch.arange(filters, device=x.device)[:, None, None] * intervals
    return coefficients.flatten(0, 1)[interval.to(torch.int64) + first], position - interval


def groups_of(size: int, device: torch.device) -> int:
    """The number of partial sums of an array of `size` real numbers."""
    return int(triton_kernels.groups_of(size)) if TRITON and device.type == "cuda" else 1


if TRITON:
    coil_combine.register_kernel("cuda")(triton_kernels.combine)
    cg_products.register_kernel("cuda")(triton_kernels.products)
    cg_advance.register_kernel("cuda")(triton_kernels.advance)
    cg_turn.register_kernel("cuda")(triton_kernels.turn)
    rbf_values.register_kernel("cuda")(triton_kernels.activate)
    rbf_gradients.register_kernel("cuda")(triton_kernels.differentiate)
