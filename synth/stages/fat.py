"""Tissue with a phase of its own, as fat has in scans: a photograph's bright parts stand for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from ..settings.spec import Range, Spec, draw_uniform
from .object_mask import object_of

SOFT = 0.1  # of the image's maximum: from tissue that is wholly water to tissue that is wholly fat


def _shares(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] < 1:
        raise ValueError("must lie between 0 and 1, both excluded")
    return value


@dataclass(frozen=True)
class Fat:
    """Fat's phase relative to water's, and how bright fat is.

    Fat's protons precess 3.4 ppm slower than water's, so that at the echo time TE its signal has the phase
    phi = 2 pi 3.4e-6 f TE relative to water's, at a scanner's frequency f (Dixon, Radiology 153:189, 1984). Of a pixel
    of brightness m, the share F is fat and 1 - F water, so that its signal is m (1 - F + F e^(i phi)): where a pixel
    holds both, they add or cancel. F rises from 0 to 1 within `SOFT` of the maximum about the brightness below which a
    share `above` of the object's pixels lie. No phase that is smooth over the image explains this one.
    """

    phase_rad: float
    above: float

    def factor(self, magnitude: NDArray[np.float32]) -> NDArray[np.complex64]:
        """What the magnitude [y x], which may be negative next to edges, is multiplied by [y x]."""
        bright = np.abs(magnitude)
        threshold = np.quantile(bright[object_of(bright)], self.above)
        share = np.clip((bright - threshold) / (SOFT * bright.max()) + 0.5, 0, 1)
        return (1 + share * (np.exp(1j * self.phase_rad) - 1)).astype(np.complex64)

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        return {"fat_phase_rad": self.phase_rad, "fat_above": self.above}


class FatSpec(Spec):
    """``[fat]``: the bright parts of photographs have another phase than the rest, as fat has."""

    phase: Range = Field(
        default=(0.0, 3.14), description="of fat relative to water in rad, drawn from this range with either sign"
    )
    above: Annotated[Range, AfterValidator(_shares)] = Field(
        default=(0.5, 0.95), description="share of the object's pixels that are darker than fat; drawn from this range"
    )

    def draw(self, rng: np.random.Generator) -> Fat:
        """Draw the phase, its sign, and how bright fat is."""
        phase, sign = draw_uniform(rng, self.phase), 1.0 if rng.integers(2) else -1.0
        return Fat(sign * phase, draw_uniform(rng, self.above))
