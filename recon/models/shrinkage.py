"""Shrinkage of Haar coefficients, as in l1-wavelet reconstructions, and a U-net that corrects the result."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .unet import UNet

LEVELS = 4
FIRST, LAST = 0.5, 0.02  # initial thresholds of the first and the last step, over the image's maximum
Details = tuple[Tensor, Tensor, Tensor]


class ShrinkageUNet(nn.Module):
    """U(S(v), v): soft thresholds on Haar coefficients of v, then a U-net that takes both and corrects S(v).

    The threshold of level j is exp(theta_j) + sum_i exp(theta_ji) c_i, with `conditions` c. Before training it is
    `threshold` + sum_i c_i, and the net adds nothing.
    """

    def __init__(self, threshold: float, channels: int, levels: int, conditions: int, *, bf16: bool = False) -> None:
        super().__init__()
        first = torch.tensor([threshold] + [1.0] * conditions)
        self.log_thresholds = nn.Parameter(first.log().repeat(LEVELS, 1))
        self.net = UNet(channels, levels, conditions, images=2, bf16=bf16)

    @property
    def thresholds(self) -> Tensor:
        """The parts [level, 1 + condition] of the thresholds: a constant in the image's unit, and one per condition."""
        return self.log_thresholds.exp()

    def forward(self, image: Tensor, conditions: Tensor | None = None) -> Tensor:
        """Correct images [batch y x], given `conditions` [batch condition]."""
        of_unit, of_conditions = self.thresholds[:, 0], self.thresholds[:, 1:]
        thresholds = of_unit if conditions is None else of_unit + conditions @ of_conditions.T
        corrected: Tensor = self.net(haar_shrinkage(image, thresholds), conditions, beside=image)
        return corrected


def haar_shrinkage(image: Tensor, thresholds: Tensor) -> Tensor:
    """Shrink the details of images [batch y x]; `thresholds` [batch level] or [level], >= 0 in the image's unit.

    Level j has sums and differences of pixels 2^j apart along both axes, with periodic edges, scaled as orthonormal
    coefficients are. Each complex difference d becomes d max(0, 1 - t_j / |d|); the coarsest average does not change.
    If both sides are multiples of 2^levels, the result equals the mean over all shifts of shrinkage in the decimated
    transform (Coifman and Donoho 1995, "cycle spinning"). The result can be differentiated once, in both arguments.
    The image's unit should be about its maximum, because differences below 1e-10 count as 0. Raises ValueError for
    images too small for their coarsest level.
    """
    least = 2 ** (thresholds.shape[-1] - 1) + 1
    if min(image.shape[-2:]) < least:
        rows, columns = image.shape[-2:]
        raise ValueError(f"images of {rows}x{columns} are too small for shrinkage, which needs {least}x{least} pixels")
    result: Tensor = _Shrinkage.apply(image, thresholds.expand(len(image), -1))  # type: ignore[no-untyped-call]
    return result


class _Shrinkage(torch.autograd.Function):
    """T^H S(T v) of the tight frame T, whose gradient is T^H S'(T v) T g: both in passes over real arrays."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, thresholds: Tensor) -> Tensor:
        average, levels = _analysis(image, thresholds.shape[-1])
        kept: list[Tensor] = []
        for level, bands in enumerate(levels):
            least = _least(thresholds, level)
            for d in bands:
                inverse = (d[0] * d[0]).addcmul_(d[1], d[1]).add_(1e-20).rsqrt_()
                kept += [d * inverse, (1 - least * inverse).clamp_min_(0)]  # d / |d|, and the factor of d
                d.mul_(kept[-1])
        ctx.save_for_backward(thresholds, *kept)
        return _synthesis(average, levels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Along d the derivative is 1 where |d| > t and 0 elsewhere; perpendicular to d it is the factor of d."""
        thresholds, *kept = ctx.saved_tensors
        average, levels = _analysis(gradients[0], thresholds.shape[-1])
        slopes, pairs = torch.zeros_like(thresholds), iter(zip(kept[::2], kept[1::2], strict=True))
        for level, bands in enumerate(levels):
            for g in bands:
                direction, factor = next(pairs)
                along = (direction[0] * g[0]).addcmul_(direction[1], g[1]).mul_(factor > 0)
                slopes[:, level] -= along.sum(dim=(-2, -1)) / 2 ** (level + 1)
                g.mul_(factor).addcmul_(direction, along.mul_(1 - factor))
        return _synthesis(average, levels), slopes


def _least(thresholds: Tensor, level: int) -> Tensor:
    """The threshold on half differences, each of which is an orthonormal coefficient divided by 2^(level + 1)."""
    return (thresholds[:, level] / 2 ** (level + 1))[:, None, None]


def _analysis(image: Tensor, count: int) -> tuple[Tensor, list[Details]]:
    """The coarsest average and the details of each level, [part batch y x] with real and imaginary parts."""
    average = torch.view_as_real(image.resolve_conj()).movedim(-1, 0).contiguous()
    levels = []
    for level in range(count):
        low, high = _split(average, 2**level, -1)
        average, detail = _split(low, 2**level, -2)
        levels.append((detail, *_split(high, 2**level, -2)))
    return average, levels


def _synthesis(average: Tensor, levels: list[Details]) -> Tensor:
    for level, (detail, high_low, high_high) in reversed(list(enumerate(levels))):
        low, high = _join(average, detail, 2**level, -2), _join(high_low, high_high, 2**level, -2)
        average = _join(low, high, 2**level, -1)
    return torch.view_as_complex(average.movedim(0, -1).contiguous())


def _split(x: Tensor, step: int, axis: int) -> tuple[Tensor, Tensor]:
    """Half the sum and half the difference of neighbours `step` apart."""
    low = _rolled(x, -step, axis).add_(x).mul_(0.5)
    return low, x - low


def _join(low: Tensor, high: Tensor, step: int, axis: int) -> Tensor:
    """The mean of the two ways in which `_split` can be undone."""
    return _rolled(low - high, step, axis).add_(low).add_(high).mul_(0.5)


def _rolled(x: Tensor, step: int, axis: int) -> Tensor:
    """The same as `torch.roll`, which takes up to four times as long on a CPU."""
    first = step % x.shape[axis]
    return torch.cat([x.narrow(axis, x.shape[axis] - first, first), x.narrow(axis, 0, x.shape[axis] - first)], axis)
