"""Interpolation by zeros around k-space, as scanners do it: a crime that can be simulated.

Vendors fill k-space with zeros to a larger matrix, so that images look smoother. Shimron, Tamir, Wang and Lustig (PNAS
119:e2117203119, 2022) showed what follows where such data stand for measured ones: a mask of the larger matrix samples
zeros that were never measured, and noise that is missing there, so that errors seem smaller than they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from ..physics import centre_block
from ..settings.spec import Range


def _fractions(value: tuple[float, float]) -> tuple[float, float]:
    if not (value[0] > 0 and value[1] <= 1):
        raise ValueError("must be above 0, and at most 1")
    return value


FilledFraction = Annotated[Range, AfterValidator(_fractions)]


@dataclass(frozen=True)
class ZeroFilling:
    """The share of the matrix, along y and along x, within which k-space is measured; it is zero outside.

    Of n positions the round(fraction n) about n // 2 are measured (`centre_block`). Signal and noise of every coil are
    zero outside; inside, noise is white and has the pair's sigma.
    """

    fraction: float

    def measured(self, n: int) -> NDArray[np.bool_]:
        """The measured positions [n] of an axis: of 8, a half are 2 ... 5."""
        inside = np.zeros(n, bool)
        inside[centre_block(n, max(round(self.fraction * n), 1))] = True
        return inside

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        return {"zero_filled": self.fraction}
