"""The outline of a photographed object: an ellipse with air around it, as objects in a scanner have."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

ELLIPSE_HALF, HEAD_HALF = (0.3, 0.5), (0.35, 0.45)  # half axes of outlines, in fractions of the matrix
HEAD_SHIFT, MAX_ANGLE = 0.02, 0.3  # of the centre, in fractions of the matrix; rad

Kind = Literal["none", "ellipse", "rimmed", "head"]


@dataclass(frozen=True)
class Outline:
    """An ellipse with air around it, in fractions of the matrix: objects in a scanner do not fill the field of view."""

    y: float  # of the ellipse's centre; 0 is the centre of the matrix
    x: float
    half_height: float  # 0.5 reaches from edge to edge
    half_width: float
    angle_rad: float
    rim: float = 0.0  # brightness of a rim just inside the edge, over the object's mean: as skin and fat around a head
    rim_width: float = 0.0  # as a fraction of the smaller half-axis

    @classmethod
    def draw(cls, rng: np.random.Generator, *, rimmed: bool = False, head: bool = False) -> Outline:
        """Draw an outline as of heads and limbs in scans: 60 to 100 % of the field of view, a little off its centre.

        With a rim, the ellipse may reach beyond the field of view along the readout, as a head does in a sagittal slab.
        A `head` is 70 to 90 % of the field of view and within 2 % of its centre, as axial brain scans are.
        """
        low, high = HEAD_HALF if head else (ELLIPSE_HALF[0], [1.0 if rimmed else ELLIPSE_HALF[1], ELLIPSE_HALF[1]])
        half = rng.uniform(low, high, 2)
        centre = rng.uniform(-1, 1, 2) * (HEAD_SHIFT if head else 0.5 - half)
        angle = rng.uniform(-MAX_ANGLE, MAX_ANGLE)
        rim = (rng.uniform(0.5, 5.0), rng.uniform(0.02, 0.12)) if rimmed else (0.0, 0.0)
        return cls(*map(float, (*centre, *half, angle, *rim)))

    def apply(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """The image [y x] inside the ellipse, 0 outside, with the rim, which keeps a part of the image's texture."""
        distance = self._pixels_inside(image.shape)
        inside = np.clip(distance / 2 + 0.5, 0, 1)
        if self.rim == 0:
            return np.asarray(image * inside, np.float32)
        width = self.rim_width * min(self.half_height * image.shape[0], self.half_width * image.shape[1])
        rim = np.clip(1.5 - np.abs(2 * distance / max(width, 2.0) - 1), 0, 1) * inside
        mean = float(image.mean())
        return np.asarray(image * inside * (1 - rim) + rim * self.rim * (0.7 * mean + 0.3 * image), np.float32)

    def _pixels_inside(self, matrix: tuple[int, ...]) -> NDArray[np.float64]:
        """Approximate distance [y x] of each pixel from the edge, in pixels: positive inside, negative outside."""
        y, x = np.meshgrid(*((np.arange(n) + 0.5) / n - 0.5 for n in matrix), indexing="ij")
        y, x = y - self.y, x - self.x
        cos, sin = np.cos(self.angle_rad), np.sin(self.angle_rad)
        radius = np.hypot((cos * y - sin * x) / self.half_height, (sin * y + cos * x) / self.half_width)
        return np.asarray((1 - radius) * min(self.half_height * matrix[0], self.half_width * matrix[1]))


def reach(kind: Kind, matrix: tuple[int, int]) -> float:
    """Largest distance of an object from the centre, in half diagonals of a field of view of this matrix.

    It is 1, the corner, where the object may fill the field of view. For ellipses it is the largest support
    h(u) = centre . u + |half axes . rotated u| over all directions u and all ellipses that can be drawn, whose half
    axes are longer by the soft edge: a pixel on the shorter one. h is convex in the half axes, so it is largest at
    the ends of their ranges.
    """
    if kind not in ("ellipse", "head"):
        return 1.0
    ends = HEAD_HALF if kind == "head" else ELLIPSE_HALF
    direction = np.linspace(0, np.pi, 361)[:, None]
    height, width = 2 * np.array(matrix) / np.hypot(*matrix)
    y, x = height * np.sin(direction), width * np.cos(direction)
    angle = np.linspace(-MAX_ANGLE, MAX_ANGLE, 61)
    turned = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
    largest = 0.0
    for half_y, half_x in itertools.product(ends, ends):
        shift = (HEAD_SHIFT,) * 2 if kind == "head" else (0.5 - half_y, 0.5 - half_x)
        edge = 1 + 1 / min(half_y * matrix[0], half_x * matrix[1])
        ellipse = edge * np.hypot(half_y * turned[0], half_x * turned[1])
        largest = max(largest, float((shift[0] * np.abs(y) + shift[1] * np.abs(x) + ellipse).max()))
    return min(1.0, largest)
