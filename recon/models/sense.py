"""Regularised SENSE with Nickel's lam, which says how far the data may pull an image away from a prior.

x = argmin ||E x - y||^2 + ||x - z||^2 / (4 lam^2), with prior z and the model scaled by sqrt(R), R = positions over
sampled positions: E = sqrt(R) P F C, y = sqrt(R) y_measured, so that A = E^H E has unit diagonal for every mask (maps
with sum |map|^2 = 1). Then with mu = 1 / (4 lam^2)

- x = z + (A + mu)^-1 E^H (y - E z); lam -> 0 gives z, lam -> infinity unregularised SENSE;
- noise is amplified by g = sqrt(diag((A + mu)^-1 A (A + mu)^-1)) <= lam at every voxel, for every mask and coils: an
  eigenvalue a of A contributes a / (a + mu)^2 <= 1 / (4 mu) = lam^2, as a + mu >= 2 sqrt(a mu);
- against a white prior image of variance E|x|^2 the best lam is SNR / (2 sqrt(R)).

sigpy's and BART's ``lambda`` regularise in the opposite direction: see `opposite_lambda`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from synth.physics import coil_expand, sense_adjoint, sense_forward

from .device_solver import normal as device_normal
from .device_solver import solve as device_solve
from .solvers import conjugate_gradient, floor

Convention = Literal["A", "A2", "B"]
Gradients = Literal["implicit", "iterations"]
CACHE_BYTES = 2**20  # bytes of coil data that a CPU works on at a time


def mu_of(lam: Tensor, convention: Convention = "A") -> Tensor:
    """The weight mu of the prior: 1 / (4 lam^2) (A), 1 / lam^2 (A2) or 1 / lam (B)."""
    return {"A": 0.25 / lam**2, "A2": 1 / lam**2, "B": 1 / lam}[convention]


def opposite_lambda(lam: float, acceleration: float, convention: Convention = "A") -> float:
    """The lambda for which sigpy's ``SenseRecon(lamda)`` and BART's ``pics -l2 -r`` give the same image, with prior 0.

    They minimise ||P F C x - y||^2 + lambda ||x||^2 (sigpy with halves on both terms), without the factor R:
    lambda = mu / R.
    """
    return float(mu_of(torch.tensor(lam, dtype=torch.float64), convention)) / acceleration


@dataclass(frozen=True, eq=False)
class Sense:
    """The model E of a batch: maps [batch coil y x] (batch may be 1), mask [batch 1 y x] or [batch 1 1 x] of bool.

    With maps [batch set coil y x], images are [batch set y x], and coils see their sum (`synth.physics`).
    If whole lines are sampled, A needs the Fourier transform along x alone; on a CPU it is then applied to as many rows
    at a time as fit into the cache.
    """

    maps: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        """Refuse a single pair, whose coils would be taken for a batch."""
        if self.maps.ndim < 4:
            raise ValueError(
                f"sens_maps has the shape {list(self.maps.shape)}; give a batch [batch coil y x], such as make_loader's"
            )

    @property
    def lines(self) -> bool:
        """Whether the mask is of whole lines."""
        return self.mask.shape[-2] == 1

    @property
    def sets(self) -> bool:
        """Whether the maps have an axis of sets."""
        return self.maps.ndim == 5

    @cached_property
    def acceleration(self) -> Tensor:
        """R [batch 1 1], or [batch 1 1 1] with sets: positions over sampled positions."""
        return _wide(1 / self.mask.to(self.maps.real.dtype).mean(dim=(-3, -2, -1)), self.maps.ndim - 1)

    @cached_property
    def _axes(self) -> tuple[int, ...]:
        return (-1,) if self.lines else (-2, -1)

    @cached_property
    def _weight(self) -> Tensor:
        """R / N on sampled positions, else 0, in the order of the uncentred transform; 1 / N is the inverse's."""
        count = math.prod(self.maps.shape[axis] for axis in self._axes)
        weight = _wide(self.acceleration, 4) / count * self.mask.to(self.maps.real.dtype)
        return torch.fft.ifftshift(weight, dim=self._axes)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """E^H y [batch y x] of measured k-space [batch coil y x], which is scaled by sqrt(R) as the model is."""
        return self.acceleration * sense_adjoint(kspace, self.maps, self.mask, sets=self.sets)

    def forward(self, x: Tensor) -> Tensor:
        """E x / sqrt(R) [batch coil y x] of images [batch y x]: k-space as it is measured."""
        return sense_forward(x, self.maps, self.mask, sets=self.sets)

    def normal(self, x: Tensor) -> Tensor:
        """A x = E^H E x [batch y x]; its derivative is A as well, so that nothing is stored for the backward pass."""
        if torch.is_grad_enabled() and x.requires_grad:
            made: Tensor = _Normal.apply(x, self)  # type: ignore[no-untyped-call]
            return made
        if x.device.type != "cpu":
            return device_normal(x, self.maps, self._weight, self._axes)
        if not self.lines:
            return self._normal(self.maps, self._conjugate, x)
        rows = max(1, CACHE_BYTES // (self.maps.shape[1:-2].numel() * x.shape[-1] * x.element_size()))
        pieces = zip(*(part.split(rows, dim=-2) for part in (self.maps, self._conjugate, x)), strict=True)
        return torch.cat([self._normal(*piece) for piece in pieces], dim=-2)

    @cached_property
    def _conjugate(self) -> Tensor:
        return self.maps.conj().resolve_conj()  # computed once: a lazy conjugate is copied at every product

    def _normal(self, maps: Tensor, conjugate: Tensor, x: Tensor) -> Tensor:
        # Centring the image is a shift of both sides, which cancels; the weight is shifted instead of k-space.
        spectrum = torch.fft.fftn(coil_expand(x, maps, sets=True) if self.sets else maps * x[:, None], dim=self._axes)
        spectrum *= self._weight
        seen = torch.fft.ifftn(spectrum, dim=self._axes, norm="forward")
        return (seen[:, None] * conjugate).sum(2) if self.sets else seen.mul_(conjugate).sum(1)

    def solve(
        self, right: Tensor, mu: Tensor | None, start: Tensor | None, iterations: int, tolerance: float
    ) -> Tensor:
        """(A + mu)^-1 right [batch y x], with mu [batch 1 1] (None is 0), by conjugate gradients without gradients.

        With sets, right is [batch set y x] and mu [batch 1 1 1].
        """
        with torch.no_grad():
            if right.device.type != "cpu":
                shift = right.real.new_zeros(len(right)) if mu is None else mu.reshape(-1).expand(len(right))
                given = right.resolve_conj().contiguous(), start, shift, iterations, floor(tolerance, right.dtype)
                return device_solve(self, self.maps, self._weight, self._axes, *given)
            shifted = self.normal if mu is None else lambda p: self.normal(p) + mu * p
            return conjugate_gradient(shifted, right, start, iterations=iterations, tolerance=tolerance).x


def _wide(values: Tensor, ndim: int) -> Tensor:
    """One value per sample as [batch 1 ...] with `ndim` axes."""
    return values.reshape(-1, *[1] * (ndim - 1))


class _Normal(torch.autograd.Function):
    """A x, whose derivative is A as well, so that nothing is stored for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, model: Sense) -> Tensor:
        ctx.model = model
        with torch.no_grad():
            return model.normal(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """A g, which is differentiable in g (noise maps differentiate twice)."""
        return ctx.model.normal(gradients[0].contiguous()), None


class _RegularisedSense(torch.autograd.Function):
    """Solves (A + mu) x = E^H y + mu z; gradients by one more solve with the same matrix (implicit differentiation)."""

    @staticmethod
    def forward(
        ctx: Any, data: Tensor, prior: Tensor, mu: Tensor, model: Sense, iterations: int, tolerance: float
    ) -> Tensor:
        """Start from the prior: it is the solution for a small lam."""
        x = model.solve(data + mu * prior, mu, prior, iterations, tolerance)
        ctx.save_for_backward(prior, mu, x)
        ctx.model, ctx.how = model, (iterations, tolerance)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """V = (A + mu)^-1 g gives dL/d(E^H y) = v, dL/dz = mu v and dL/dmu = Re <v, z - x>."""
        prior, mu, x = ctx.saved_tensors
        if torch.is_grad_enabled():  # differentiated twice
            v = _RegularisedSense.apply(gradients[0], torch.zeros_like(x), mu, ctx.model, *ctx.how)  # type: ignore[no-untyped-call]
        else:
            v = ctx.model.solve(gradients[0], mu, None, *ctx.how)
        slope = (v.conj() * (prior - x)).real.sum(dim=(-2, -1), keepdim=True).sum_to_size(mu.shape)
        return v, mu * v, slope, None, None, None


def regularised_sense(
    kspace: Tensor,
    maps: Tensor,
    mask: Tensor,
    prior: Tensor | None = None,
    lam: Tensor | float = 4.0,
    *,
    convention: Convention = "A",
    iterations: int = 50,
    tolerance: float = 1e-6,
    gradients: Gradients = "implicit",
) -> Tensor:
    """Regularised SENSE [batch y x] of k-space [batch coil y x] with maps [batch coil y x] and mask [batch 1 y|1 x].

    `prior` is [batch y x] (default 0); `lam` is one number, or one per image [batch] (see the module for its meaning).
    With maps [batch set coil y x], the image and the prior are [batch set y x]. The result is differentiable in
    `prior`, `lam` and `kspace`, not in `maps`. ``implicit`` gradients are those of the exact solution, if both the
    forward and the backward system are solved to `tolerance`. For a large lam the backward system needs many more
    iterations, because its right-hand side is all detail. ``iterations`` gives exactly the gradients of the iterations
    that were made, at the same cost. Raises ValueError for lam <= 0.
    """
    level = torch.as_tensor(lam, dtype=maps.real.dtype, device=maps.device)
    if not bool((level > 0).all()):
        raise ValueError(f"lam must be greater than 0, got {level.min():g}")
    model = Sense(maps, mask)
    how: dict[str, Any] = {"iterations": iterations, "tolerance": tolerance, "gradients": gradients}
    return towards(prior, model, model.adjoint(kspace), mu_of(level, convention), **how)


def towards(
    prior: Tensor | None,
    model: Sense,
    data: Tensor,
    mu: Tensor,
    *,
    iterations: int,
    tolerance: float,
    gradients: Gradients,
) -> Tensor:
    """The image [batch y x] that `regularised_sense` gives, from data E^H y [batch y x] and mu > 0, [] or [batch]."""
    mu = _wide(mu, data.ndim)
    if gradients == "iterations":
        right = data if prior is None else data + mu * prior
        return conjugate_gradient(
            lambda p: model.normal(p) + mu * p,
            right,
            prior,
            iterations=iterations,
            tolerance=tolerance,
        ).x
    start = torch.zeros_like(data) if prior is None else prior
    return _RegularisedSense.apply(data, start, mu, model, iterations, tolerance)  # type: ignore[no-untyped-call]


def residual_of(x: Tensor, prior: Tensor | None, model: Sense, data: Tensor, mu: Tensor) -> float:
    """||b - (A + mu) x|| / ||b|| with b = data + mu prior, for x of `towards`; the largest of the batch."""
    mu, axes = _wide(mu, data.ndim), tuple(range(1, data.ndim))
    right = data if prior is None else data + mu * prior
    left = torch.linalg.vector_norm(right - model.normal(x) - mu * x, dim=axes)
    return float((left / torch.linalg.vector_norm(right, dim=axes).clamp_min(1e-30)).max())


def cg_sense(kspace: Tensor, maps: Tensor, mask: Tensor, *, iterations: int = 30, tolerance: float = 1e-5) -> Tensor:
    """Unregularised SENSE [batch y x] by at most `iterations` of conjugate gradients from 0.

    With maps [batch set coil y x], the image is [batch set y x].

    Stopping early regularises. A sample ends when its residual is `tolerance` times the right-hand side: further
    iterations would not improve the image, but amplify rounding errors in A's null space, which exists if there are
    fewer coils than aliases.

    Pruessmann et al., Magn Reson Med 46:638, 2001.
    """
    model = Sense(maps, mask)
    if torch.is_grad_enabled() and kspace.requires_grad:
        return conjugate_gradient(model.normal, model.adjoint(kspace), iterations=iterations, tolerance=tolerance).x
    return model.solve(model.adjoint(kspace), None, None, iterations, tolerance)
