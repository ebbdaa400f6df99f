"""Computed heads: axial slices with scalp, skull, cortex, white matter and ventricles, for tests without any data.

They are no model of anatomy. They have what matters to a reconstruction and what photographs lack: air around the
object, a bright rim, few grey values, folds of a few pixels and smooth shading.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ..rng import rng

COUNT, SUFFIX = 64, ".computed"
SIZE = 512  # pixels of each side; a matrix is smaller, so that edges are averaged over several of them
# Relative signals of a T1-weighted spoiled gradient echo at 3 T, chosen to look like one; no tissue is quantified.
SCALP, SKULL, WHITE, GREY, FLUID = 1.0, 0.08, 0.75, 0.5, 0.15
FOLDS = 7.0  # pixels of SIZE: standard deviation of the Gaussian from which the cortex's folds are made


def names() -> list[str]:
    """The names of all heads, in their order."""
    return [f"head-{number:02d}{SUFFIX}" for number in range(COUNT)]


def computed_head(name: str) -> tuple[NDArray[np.float32], str]:
    """The head of a name, as a picture [512 512] in 0 ... 1, and its sha256; the same name gives the same picture."""
    number = int(name.removeprefix("head-").removesuffix(SUFFIX))
    draw = rng(0, "head", number)
    y, x = np.mgrid[:SIZE, :SIZE] / (SIZE - 1) * 2 - 1
    height, width = draw.uniform(0.86, 0.95), draw.uniform(0.68, 0.78)
    angle = draw.uniform(-0.12, 0.12)
    u, v = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    bumps = sum(draw.uniform(-0.012, 0.012) * np.cos(k * np.arctan2(v, u) + draw.uniform(0, 6.3)) for k in (2, 3, 4))
    radius = np.hypot(u / height, v / width) + bumps
    field = gaussian_filter(draw.standard_normal((SIZE, SIZE)), FOLDS)
    folds = field / field.std()
    image = np.select(
        [radius > 1, radius > 0.93, radius > 0.87, radius > 0.85], [0.0, SCALP, SKULL, FLUID], default=WHITE
    )
    brain = radius <= 0.85
    depth = (0.85 - radius) / 0.85
    image[brain & (folds > -0.7 + 4 * depth)] = GREY
    image[brain & (folds > 0.9 + 7 * depth)] = FLUID
    for side in (-1, 1):  # a lateral ventricle, and the grey matter beside it
        for half, value, out in (((0.10, 0.07), GREY, 0.2), ((0.24, 0.055), FLUID, 0.1)):
            size = draw.uniform(0.8, 1.2)
            tilt = (v - side * out) + side * 0.25 * u
            image[brain & (np.hypot(u / (half[0] * size), tilt / (half[1] * size)) < 1)] = value
    shading = 1 + 0.15 * draw.uniform(-1, 1) * u + 0.15 * draw.uniform(-1, 1) * v
    texture = 1 + 0.03 * gaussian_filter(draw.standard_normal((SIZE, SIZE)), 1.5) * 1.5
    made = np.clip(gaussian_filter(image, 0.7) * shading * texture, 0, None)
    picture = np.round(made / made.max() * 65535).astype("<u2")  # as a 16-bit file would hold it
    return picture.astype(np.float32) / np.float32(65535), hashlib.sha256(picture.tobytes()).hexdigest()
