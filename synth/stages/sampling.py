"""Undersampling as a recipe asks for it: lines [x] (`mask_lines`), points [y x] (`mask_points`), or a file.

`acceleration` is nominal. The net acceleration (positions divided by sampled positions, reference lines included) is
always computed and stored: 24 reference lines turn R = 4 on 368 lines into 3.35.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from ..storage.arrays import load_array
from .mask import Mask, Sampled, Size
from .mask_extent import MaskSpec
from .mask_lines import FastmriSpec, GaussianSpec, RegularSpec, UniformSpec, VariableDensitySpec
from .mask_points import PoissonSpec, Regular2DSpec


class FileSpec(MaskSpec):
    """``kind = "file"``: a mask from an .npy file, lines [x] or points [y x]; anything but 0 and NaN is sampled."""

    kind: Literal["file"] = Field(default="file", description="one mask from a file, the same for all pairs")
    path: str = Field(description="an .npy file, lines [x] or points [y x]; all but 0 and NaN is sampled")

    def _capacity(self, size: Size) -> int:
        """Lines or points that a pair needs room for."""
        return int(self._mask(size).sampled.sum())

    def _draw(self, rng: np.random.Generator, size: Size) -> Mask:
        """The mask; nothing is drawn."""
        return self._mask(size)

    @property
    def _draws_points(self) -> bool:
        return self.load().ndim == 2

    def load(self) -> Sampled:
        """The mask in the file; raises ValueError where the file holds no mask."""
        values = np.asarray(load_array(self.path, "sampling.path"))
        sampled = (values != 0) & np.isfinite(values)
        if sampled.ndim not in (1, 2) or not sampled.any():
            what = f"has {sampled.ndim} axes" if sampled.ndim not in (1, 2) else "samples no position"
            raise ValueError(
                f"sampling.path {self.path} {what}; a mask is [x] or [y x], and not 0 where k-space is sampled"
            )
        return np.asarray(sampled)

    def _mask(self, size: Size) -> Mask:
        sampled = self.load()
        if sampled.shape not in ((size[1],), size):
            raise ValueError(
                f"sampling.path {self.path} is {sampled.shape}, k-space is {size}; need {(size[1],)} or {size}"
            )
        return Mask(sampled, float(sampled.size / sampled.sum()))


SamplingSpec = Annotated[
    RegularSpec
    | UniformSpec
    | GaussianSpec
    | VariableDensitySpec
    | FastmriSpec
    | Regular2DSpec
    | PoissonSpec
    | FileSpec,
    Field(discriminator="kind"),
]
