"""Which pixels of an image show an object, and which show air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEAST = 0.05  # of the largest magnitude: pixels above it are not air


def object_of(magnitude: NDArray[np.floating]) -> NDArray[np.bool_]:
    """The pixels [y x] above 5 % of the image's maximum."""
    return np.asarray(magnitude > LEAST * magnitude.max())


def mean_over_object(values: NDArray[np.floating], magnitude: NDArray[np.floating]) -> float:
    """Mean of values [y x] over the object of a magnitude image [y x]."""
    return float(values[object_of(magnitude)].mean())


def mean_of_object(magnitude: NDArray[np.floating]) -> float:
    """Mean of a magnitude image [y x] over its object."""
    return mean_over_object(magnitude, magnitude)
