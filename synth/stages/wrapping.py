"""Images that are wider than the field of view along the phase encoding x, and wrap around into it."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from ..settings.spec import Range, draw_uniform


def _widths(value: tuple[float, float]) -> tuple[float, float]:
    if not (value[0] >= 1 and value[1] <= 2):
        raise ValueError("must lie in 1 ... 2 fields of view")
    return value


WidthRange = Annotated[Range, AfterValidator(_widths)]


def draw_image_size(
    widths: tuple[float, float] | None, matrix: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Draw the size [y x] of an image that is wider than the matrix by a factor; without `widths`, it is the matrix."""
    return matrix if widths is None else (matrix[0], round(draw_uniform(rng, widths) * matrix[1]))


def folded(image: NDArray[np.complex64], n: int) -> NDArray[np.complex64]:
    """An image [y x] in a field of view of n columns: what lies beyond wraps around, x to x + n or x - n.

    With samples of k-space 1 / n apart, the image is the sum of copies that are shifted by n (Poisson's sum). The
    centres, at index N // 2, stay above each other. It may have at most 2 n columns.
    """
    width = image.shape[-1]
    if width == n:
        return image
    start = width // 2 - n // 2
    inside = image[..., start : start + n].copy()
    inside[..., n - start :] += image[..., :start]
    inside[..., : width - start - n] += image[..., start + n :]
    return inside
