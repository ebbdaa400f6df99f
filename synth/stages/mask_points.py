"""Masks of points [y x], where y is a second phase encoding: regular with a CAIPI shift, Poisson disc."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ..physics import centre_block
from .mask import Mask, Sampled, Size, check_reference, exactly
from .mask_extent import MaskSpec, ellipse


class PointsSpec(MaskSpec):
    """Base of masks over two phase encodings, y and x; `reference_lines` is the side of the fully sampled centre."""

    reference_lines: int = Field(
        default=24, ge=0, description="side of the block at k-space's centre that is always sampled, in points"
    )
    shutter: Literal["elliptical"] | None = Field(
        default=None, description="'elliptical' leaves out k-space's corners, 1 - pi / 4 of it"
    )

    @property
    def is_whole(self) -> bool:
        """Whether k-space is measured to all of its ends."""
        return super().is_whole and self.shutter is None

    @property
    def _draws_points(self) -> bool:
        return True

    def _cut(self, mask: Mask, rng: np.random.Generator, size: Size) -> Mask:
        inside = mask if self.shutter is None else Mask(mask.sampled & ellipse(size), mask.acceleration, mask.drawn)
        return super()._cut(inside, rng, size)

    def _centre(self, size: Size) -> Sampled:
        check_reference(self.reference_lines, min(size))
        sampled = np.zeros(size, bool)
        sampled[tuple(centre_block(n, self.reference_lines) for n in size)] = True
        return sampled


class Regular2DSpec(PointsSpec):
    """``kind = "regular-2d"``: every Ry-th row and Rx-th column, shifted from row to row (CAIPIRINHA, Breuer 2006)."""

    kind: Literal["regular-2d"] = Field(
        default="regular-2d", description="every Ry-th row and every Rx-th column, as CAIPIRINHA shifts them"
    )
    acceleration: tuple[int, int] = Field(default=(2, 2), description="[Ry, Rx]: factors along y and x")
    shift: int = Field(default=0, ge=0, le=10**6, description="columns of shift from each sampled row to the next")

    def _capacity(self, size: Size) -> int:
        """Points that a pair needs room for."""
        return int(self._mask(size).sampled.sum())

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """The mask; nothing is drawn."""
        return self._mask(size)

    def _mask(self, size: Size) -> Mask:
        ry, rx = self.acceleration
        if not (1 <= ry <= size[0] and 1 <= rx <= size[1]):
            raise ValueError(
                f"sampling.acceleration {list(self.acceleration)} cannot be met on {size[0]}x{size[1]}; need 1 to "
                f"{size[0]} along y and 1 to {size[1]} along x"
            )
        y, x = (np.arange(n) - n // 2 for n in size)
        row = np.floor_divide(y, ry)
        sampled = (y % ry == 0)[:, None] & ((x[None, :] - self.shift * row[:, None]) % rx == 0)
        return Mask(sampled | self._centre(size), float(ry * rx))


class PoissonSpec(PointsSpec):
    """``kind = "poisson"``: Poisson disc of variable density: the disc grows with the distance from the centre."""

    kind: Literal["poisson"] = Field(
        default="poisson", description="points at random, but never near each other: Poisson disc of variable density"
    )
    acceleration: float = Field(
        default=4.0, gt=1, description="R: positions over sampled points, the centre among them"
    )
    growth: float = Field(
        default=3.0, ge=0, le=100, description="disc radius at k-space's edge over that at its centre, minus 1"
    )

    def _capacity(self, size: Size) -> int:
        """Points that a pair needs room for."""
        count = int(size[0] * size[1] / self.acceleration)
        if count < max(int(self._centre(size).sum()), 1):
            raise ValueError(
                f"sampling.acceleration {self.acceleration:g} on {size[0]}x{size[1]} leaves {count} points, fewer than "
                f"the {self.reference_lines}x{self.reference_lines} of reference_lines; lower one of them"
            )
        return count

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Throw darts in one pass at the calibrated disc size, then drop or add points until the count is exact."""
        centre, wanted = self._centre(size), self._capacity(size)
        scale = _poisson_scale(size, wanted, self.reference_lines, self.growth)
        sampled = poisson_disc(centre, scale * _disc_growth(size, self.growth), rng)
        return Mask(exactly(wanted, sampled, ~centre, rng), self.acceleration)


def _disc_growth(size: Size, growth: float) -> NDArray[np.float64]:
    y, x = (np.abs(np.arange(n) - n // 2) / (n / 2) for n in size)
    return np.asarray(1 + growth * np.minimum(np.hypot(y[:, None], x[None, :]), 1.0))


def poisson_disc(centre: Sampled, radius: NDArray[np.float64], rng: np.random.Generator) -> Sampled:
    """Dart throwing on the grid [y x]: each position is tried once, in random order, and taken unless it is covered.

    A taken point covers the positions nearer than its radius [y x]. Radii are varied at random by +-25 %: on a grid,
    only few radii give different discs, and without the variation most accelerations could not be met. There is one
    pass over the grid, so the search always ends. The fully sampled `centre` covers no position outside itself.
    """
    ny, nx = radius.shape
    radius = radius * (0.75 + 0.5 * rng.random(radius.shape))
    reach = int(np.ceil(radius.max()))
    dy, dx = np.indices((2 * reach + 1, 2 * reach + 1)) - reach
    distance = np.hypot(dy, dx)
    covered = np.zeros((ny + 2 * reach, nx + 2 * reach), bool)  # a margin, so that discs need no clipping
    covered[reach : reach + ny, reach : reach + nx] = centre
    taken = centre.copy()
    discs: dict[int, tuple[int, Sampled]] = {}
    order = rng.permutation(ny * nx)
    steps = np.ceil(radius.ravel()[order] * 16).astype(int).tolist()  # in sixteenths, so that many points share a disc
    for (y, x), step in zip(zip(*(i.tolist() for i in np.divmod(order, nx)), strict=True), steps, strict=True):
        if covered[y + reach, x + reach]:
            continue
        taken[y, x] = True
        if step not in discs:
            r = step // 16 + 1
            inside = distance[reach - r : reach + r + 1, reach - r : reach + r + 1] if r <= reach else distance
            discs[step] = (min(r, reach), inside < step / 16)
        r, disc = discs[step]
        covered[y + reach - r : y + reach + r + 1, x + reach - r : x + reach + r + 1] |= disc
    return taken


@lru_cache(maxsize=32)
def _poisson_scale(size: Size, wanted: int, reference_lines: int, growth: float) -> float:
    """The disc scale that gives a little more than `wanted` points, by 12 bisection steps with the same draws."""
    centre = np.zeros(size, bool)
    centre[tuple(centre_block(n, reference_lines) for n in size)] = True
    shape = _disc_growth(size, growth)
    low, high = 0.0, 4 * np.sqrt(size[0] * size[1] / wanted)
    for _ in range(12):
        middle = (low + high) / 2
        count = poisson_disc(centre, middle * shape, np.random.Generator(np.random.SFC64(0))).sum()
        low, high = (middle, high) if count > 1.005 * wanted else (low, middle)
    return low
