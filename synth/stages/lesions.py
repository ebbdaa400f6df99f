"""Small lesions of known size and contrast, added to a target before the coil maps: a reconstruction must show them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy.ndimage import uniform_filter

from ..errors import SourceRejectedError
from ..settings.spec import Spec
from .object_mask import mean_of_object, object_of

TRIES = 1000  # places that are drawn before the search ends


class LesionsSpec(Spec):
    """``[target.lesions]``: discs with edges one pixel wide, apart from each other, in the object.

    A disc adds `contrast` times the object's mean magnitude; values that a negative contrast would bring below 0 become
    0. The SNR is that of the image without lesions: two corpora that differ in this section alone have the same noise,
    so that the difference of their reconstructions shows the reconstructed lesions alone.
    """

    count: int = Field(default=4, ge=1, le=100, description="lesions in each image, or as many as have room")
    diameter: float = Field(default=4.0, ge=1, le=256, description="in pixels")
    contrast: float = Field(default=0.3, ge=-1, le=10, description="as a fraction of the object's mean magnitude")

    @field_validator("contrast")
    @classmethod
    def _seen(cls, contrast: float) -> float:
        if contrast == 0:
            raise ValueError("must not be 0: such a lesion would not change the image; give a contrast of -1 ... 10")
        return contrast

    def insert(
        self, image: NDArray[np.float32], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], dict[str, float]]:
        """A magnitude image [y x] with lesions, and their number; raises SourceRejectedError if not one has room."""
        height = self.contrast * mean_of_object(image)
        changed, places = image.copy(), self._places(image, rng)
        if not places:
            raise SourceRejectedError(
                f"no lesion with a diameter of {self.diameter:g} pixels has room in the object; lower "
                "target.lesions.diameter"
            )
        for place in places:
            changed += np.float32(height) * disc(image.shape, place, self.diameter)
        return np.maximum(changed, 0), {"lesion_count": float(len(places)), "lesion_height": height}

    def _places(self, image: NDArray[np.float32], rng: np.random.Generator) -> list[tuple[int, int]]:
        """Centres at least two diameters plus four pixels apart, and a diameter plus two pixels from the borders.

        More than nine tenths of the square around each disc lie in the object.
        """
        apart, border = 2 * self.diameter + 4, self.diameter + 2
        inside = object_of(image).astype(np.float32)
        centres = np.argwhere(uniform_filter(inside, round(self.diameter), mode="constant") > 0.9)
        if len(centres) == 0:
            return []
        found: list[tuple[int, int]] = []
        for y, x in centres[rng.integers(len(centres), size=TRIES)].tolist():
            clear = min(y, x, image.shape[0] - 1 - y, image.shape[1] - 1 - x) >= border
            if clear and all(np.hypot(y - b, x - a) >= apart for b, a in found):
                found.append((y, x))
            if len(found) == self.count:
                break
        return found


def disc(shape: tuple[int, ...], centre: tuple[int, int], diameter: float) -> NDArray[np.float32]:
    """1 inside, 0 outside, falling over one pixel at the edge: [y x]."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    away = np.hypot(y - centre[0], x - centre[1])
    return np.clip(diameter / 2 - away + 0.5, 0, 1).astype(np.float32)
