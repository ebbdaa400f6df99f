"""How far k-space is measured: partial Fourier along either axis, and the elliptical shutter; the base of all masks.

A mask loses what lies beyond the extent, and nothing else changes: the noise of what is left is white as before. The
acceleration is that of the mask of whole k-space; the net acceleration counts what is left.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from ..physics import centre_block
from ..settings.spec import Range, Spec, draw_uniform
from .mask import Mask, Sampled, Size


def _beyond_the_centre(value: tuple[float, float]) -> tuple[float, float]:
    if not (value[0] > 0.5 and value[1] <= 1):
        raise ValueError("must be above 0.5, which reaches k-space's centre, and at most 1")
    return value


Fraction = Annotated[Range, AfterValidator(_beyond_the_centre)]


class MaskSpec(Spec):
    """Base of sampling sections: subclasses draw masks of whole k-space, of lines [x] or of points [y x]."""

    partial_fourier: Fraction | None = Field(
        default=None,
        description="fraction of k-space that is measured along x, the phase encoding (0.75 is 6/8), or [low, high] to "
        "draw it from; which end is missing is drawn",
    )
    partial_fourier_y: Fraction | None = Field(
        default=None,
        description="the same along y: an asymmetric echo where y is the readout, else partial Fourier of the second "
        "phase encoding",
    )

    @property
    def is_whole(self) -> bool:
        """Whether k-space is measured to all of its ends."""
        return self.partial_fourier is None and self.partial_fourier_y is None

    @property
    def packs_points(self) -> bool:
        """Whether masks are of points [y x], not of whole lines [x]."""
        return self._draws_points or self.partial_fourier_y is not None

    @property
    def _draws_points(self) -> bool:
        return False

    @abstractmethod
    def _capacity(self, size: Size) -> int:
        """Lines or points of a mask of whole k-space, at most."""

    @abstractmethod
    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """A mask of whole k-space."""

    def capacity(self, size: Size) -> int:
        """Lines or points that a pair of k-space y, x needs room for; raises ValueError for impossible settings."""
        count = self._capacity(size)
        rows, columns = (self._most(n, f) for n, f in zip(size, self._fractions, strict=True))
        if self._draws_points:
            return min(count, rows * columns)
        return min(count, columns) * (rows if self.packs_points else 1)

    def draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """Draw the mask of a pair, and then how far its k-space is measured."""
        mask = self._draw(rng, size)
        return mask if self.is_whole else self._cut(mask, rng, size)

    @property
    def _fractions(self) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
        return self.partial_fourier_y, self.partial_fourier

    def _most(self, n: int, fraction: tuple[float, float] | None) -> int:
        if fraction is None:
            return n
        block = centre_block(n, min(getattr(self, "reference_lines", 0), n))
        missing = n - _count(n, fraction[0])
        if missing > min(block.start, n - block.stop):
            raise ValueError(
                f"partial Fourier {fraction[0]:g} leaves out {missing} of {n} positions at one end, and so a part of "
                f"the {block.stop - block.start} of sampling.reference_lines; raise it, or lower reference_lines"
            )
        return _count(n, fraction[1])

    def _cut(self, mask: Mask, rng: np.random.Generator, size: Size) -> Mask:
        drawn = dict(mask.drawn)
        sampled = mask.sampled
        if self.partial_fourier is not None:
            drawn["partial_fourier"] = draw_uniform(rng, self.partial_fourier)
            sampled = sampled & measured(size[1], drawn["partial_fourier"], last=bool(rng.integers(2)))
        if self.partial_fourier_y is not None:
            drawn["partial_fourier_y"] = draw_uniform(rng, self.partial_fourier_y)
            sampled = sampled & measured(size[0], drawn["partial_fourier_y"], last=bool(rng.integers(2)))[:, None]
        return Mask(sampled, mask.acceleration, drawn)


def measured(n: int, fraction: float, *, last: bool) -> Sampled:
    """The positions [n] of partial Fourier: the last ceil(fraction n) or the first: of 96, 6/8 are 24 ... 95."""
    kept = np.zeros(n, bool)
    kept[n - _count(n, fraction) if last else 0 :][: _count(n, fraction)] = True
    return kept


def _count(n: int, fraction: float) -> int:
    return math.ceil(round(fraction * n, 6))  # 0.7 of 10 is 7, though 0.7 is a little more as a number


def ellipse(size: Size) -> Sampled:
    """The elliptical shutter [y x]: (2 ky / Ny)^2 + (2 kx / Nx)^2 <= 1 about k-space's centre, pi / 4 of its area."""
    y, x = ((np.arange(n) - n // 2) / (n / 2) for n in size)
    return np.asarray(y[:, None] ** 2 + x[None, :] ** 2 <= 1)
