"""Learned activations: sums of Gaussians, evaluated through cubic tables, with a backward of their own.

phi(x) = factor sum_j w_j exp(-(x - mu_j)^2 / (2 sigma^2)), mu_j = linspace(-1, 1, n). Evaluated directly, the sum needs
n numbers for each pixel and filter. Here a pixel needs only the four coefficients of its interval's cubic, and one
small matrix gives these coefficients from the weights. Hermite cubics through values and slopes at nodes h apart err by
at most h^4 / 384 max |phi^(4)|; with h = sigma / 8 that is 2e-6 of a single Gaussian.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from .operators import rbf_gradients, rbf_values

RbfKind = Literal["icg", "optox", "bart"]
NODES_PER_SIGMA = 8
REACH = 6.0  # sigmas beyond the outermost centres, where a Gaussian has fallen to exp(-18) = 2e-8


class RbfTable:
    """The linear map from weights [filter n] to the coefficients [filter interval 4] of cubics.

    Widths and factors differ between implementations of the network: ``icg`` (tensorflow-icg, which the papers used)
    has sigma = 2 / n and factor 1; ``optox`` has sigma = 2 / (n - 1) and factor 0.4; ``bart`` has sigma = 2 / (n - 1)
    and factor 1.
    """

    def __init__(self, nodes: int = 31, kind: RbfKind = "icg") -> None:
        self.kind = kind
        self.sigma = 2 / nodes if kind == "icg" else 2 / (nodes - 1)
        self.factor = 0.4 if kind == "optox" else 1.0
        self.centres = torch.linspace(-1, 1, nodes)
        self.step = self.sigma / NODES_PER_SIGMA
        self.low = -1 - REACH * self.sigma
        self.intervals = int((2 + 2 * REACH * self.sigma) / self.step) + 1
        points = self.low + self.step * torch.arange(self.intervals + 1, dtype=torch.float64)
        away = points[:, None] - self.centres.double()
        values = self.factor * torch.exp(-(away**2) / (2 * self.sigma**2))
        slopes = -away / self.sigma**2 * values * self.step
        left, right, rise, end = values[:-1], values[1:], slopes[:-1], slopes[1:]
        cubic = [left, rise, 3 * (right - left) - 2 * rise - end, 2 * (left - right) + rise + end]
        self.matrix = torch.stack(cubic, dim=1)  # [interval 4 n]
        self._placed: dict[tuple[torch.device, torch.dtype], Tensor] = {}

    def matrix_like(self, tensor: Tensor) -> Tensor:
        """`matrix` on a tensor's device and in its precision, where it stays."""
        key = tensor.device, tensor.dtype
        if key not in self._placed:
            self._placed[key] = self.matrix.to(*key)
        return self._placed[key]

    def coefficients(self, weights: Tensor) -> Tensor:
        """Coefficients [4, filter * interval] for weights [filter n]; beyond the table, phi keeps its end values."""
        made = torch.einsum("kjn,fn->jfk", self.matrix_like(weights), weights)
        return made.reshape(4, -1)

    def exact(self, x: Tensor, weights: Tensor) -> Tensor:
        """The sum evaluated directly, for x [batch filter y x]; this needs n times the memory."""
        away = x[..., None] - self.centres.to(x)
        gauss = self.factor * torch.exp(-(away**2) / (2 * self.sigma**2))
        return (gauss * weights[None, :, None, None, :]).sum(-1)


class _Rbf(torch.autograd.Function):
    """Looks up cubics; the backward pass computes the places again instead of storing them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, table: RbfTable) -> Tensor:
        coefficients = table.coefficients(weights)
        place, t = _place(x, table)
        constant, linear, square, cube = (row.index_select(0, place) for row in coefficients)
        ctx.save_for_backward(x, coefficients)
        ctx.table, ctx.filters = table, len(weights)
        return cube.mul_(t).add_(square).mul_(t).add_(linear).mul_(t).add_(constant).view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, coefficients = ctx.saved_tensors
        table: RbfTable = ctx.table
        place, t = _place(x, table)
        g = gradients[0].reshape(-1)
        dx = dw = None
        if ctx.needs_input_grad[0]:
            linear, square, cube = (row.index_select(0, place) for row in coefficients[1:])
            slope = cube.mul_(3).mul_(t).add_(square, alpha=2).mul_(t).add_(linear)
            dx = slope.mul_(g).div_(table.step).view_as(x)
        if ctx.needs_input_grad[1]:
            sums, power = torch.zeros_like(coefficients), g
            for row in sums:
                row.scatter_add_(0, place, power)
                power = power * t
            shaped = sums.reshape(4, ctx.filters, table.intervals).double()
            dw = torch.einsum("jfk,kjn->fn", shaped, table.matrix_like(shaped)).to(x.dtype)
        return dx, dw, None


def _place(x: Tensor, table: RbfTable) -> tuple[Tensor, Tensor]:
    """The index of the coefficients, and the place 0 ... 1 in the interval, of every value of x [batch filter y x]."""
    position = ((x - table.low) / table.step).clamp_(0, table.intervals - 1e-3)
    interval = position.floor().nan_to_num_(0.0)  # NaN stays NaN in t, and takes interval 0
    t = (position - interval).reshape(-1)
    filters = torch.arange(x.shape[1], device=x.device)[:, None, None] * table.intervals
    return (interval.to(torch.int64) + filters).reshape(-1), t


class _DeviceRbf(torch.autograd.Function):
    """The same on a GPU: one kernel each way, and gradients in the weights by the Gaussians, without atomic sums."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, table: RbfTable) -> Tensor:
        coefficients = torch.einsum("kjn,fn->fkj", table.matrix_like(weights), weights).contiguous()
        x = x.contiguous()
        ctx.save_for_backward(x, coefficients)
        ctx.table, ctx.nodes = table, weights.shape[1]
        return rbf_values(x, coefficients, table.low, table.step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, coefficients = ctx.saved_tensors
        table: RbfTable = ctx.table
        how = ctx.nodes, table.low, table.step, table.sigma, table.factor
        return *rbf_gradients(x, gradients[0].contiguous(), coefficients, *how), None


def rbf(x: Tensor, weights: Tensor, table: RbfTable) -> Tensor:
    """phi_i(x_i) for x [batch filter y x] and weights [filter n]."""
    if x.device.type != "cpu":
        return _DeviceRbf.apply(x, weights, table)  # type: ignore[no-untyped-call]
    return _Rbf.apply(x, weights, table)  # type: ignore[no-untyped-call]
