"""Fitting a photo to the target's matrix: turn, crop, resize or pad it (never silently), scale it; and the readout."""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, PlainSerializer, PlainValidator, WithJsonSchema, model_validator

from ..errors import SourceRejectedError
from ..settings.spec import PositiveRange, Spec, draw_uniform
from .lesions import LesionsSpec
from .object_mask import object_of
from .readout import Readout
from .wrapping import WidthRange
from .zero_filling import FilledFraction


def _as_matrices(value: Any) -> tuple[tuple[int, int], ...]:
    several = value if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple) else [value]
    for size in several:
        if not (isinstance(size, list | tuple) and len(size) == 2 and all(type(n) is int for n in size)):
            raise ValueError("must be [y, x] in pixels, or a list of such sizes")
        if not all(8 <= n <= 4096 for n in size):
            raise ValueError("each side must be 8 ... 4096")
    return tuple((y, x) for y, x in several)


_SIZE = {"type": "array", "items": {"type": "integer", "minimum": 8, "maximum": 4096}, "minItems": 2, "maxItems": 2}
_SCHEMA = {"anyOf": [_SIZE, {"type": "array", "items": _SIZE, "minItems": 1}]}

Matrices = Annotated[
    tuple[tuple[int, int], ...], PlainValidator(_as_matrices), PlainSerializer(list), WithJsonSchema(_SCHEMA)
]
"""[y, x] (readout, phase encoding), or a list of such sizes."""

ELLIPSE_HALF, HEAD_HALF = (0.3, 0.5), (0.35, 0.45)  # half axes of outlines, in fractions of the matrix
HEAD_SHIFT, MAX_ANGLE = 0.02, 0.3  # of the centre, in fractions of the matrix; rad
MAX_UPSCALE = 4.0  # beyond this a resized photo is interpolation, not content


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


@dataclass(frozen=True)
class Place:
    """Where a photo goes in the matrix, as drawn from its shape alone."""

    turned: bool  # by 90 degrees
    resized: float  # factor; 1 is untouched
    size: tuple[int, int]  # y, x of the photo once it is turned and resized
    top: int  # first row and column of the crop, or minus the rows and columns padded before
    left: int
    outline: Outline | None

    def prepared(self, photo: NDArray[np.float32]) -> NDArray[np.float32]:
        """The photo [y x], turned and resized, but not yet cropped or padded."""
        image = np.rot90(photo) if self.turned else photo
        return image if self.resized == 1 else _resized(image, self.size)


@dataclass(frozen=True)
class Fitting:
    """How a photo was fitted to the matrix; stored with the pair."""

    turned: bool  # by 90 degrees
    resized: float  # factor; 1 is untouched
    top: int  # first row and column of the crop, or minus the rows and columns padded before
    left: int
    scale: float  # the photo's grey values were divided by this
    outline: Outline | None = None

    def numbers(self) -> dict[str, Any]:
        """What was done, as numbers by name; all names but `scale` begin with ``fit_`` or ``outline_``."""
        named = {("scale" if k == "scale" else f"fit_{k}"): v for k, v in asdict(self).items() if k != "outline"}
        drawn = {} if self.outline is None else {f"outline_{k}": v for k, v in asdict(self.outline).items()}
        return {k: float(v) for k, v in {**named, **drawn}.items()}


class TargetSpec(Spec):
    """``[target]``: the matrix, how a photo is fitted to it, and what the reference is."""

    matrix: Matrices = Field(
        default=((320, 368),),
        description="[y, x] in pixels (readout, phase encoding), or a list of sizes from which each pair draws one",
    )
    fit: Literal["crop", "resize", "pad", "native"] = Field(
        default="crop",
        description="crop: cut out a part; resize: shrink or enlarge until the matrix is filled, then crop; pad: put "
        "zeros around; native: scans only, each in its own size",
    )
    zoom: PositiveRange | None = Field(
        default=None, description="with fit = 'resize': further enlargement, drawn log-uniformly, and then cropped"
    )
    position: Literal["centre", "random"] = Field(
        default="centre",
        description="where a larger photograph is cropped, or a smaller one lies: in the middle, or at random",
    )
    turn: bool = Field(
        default=True,
        description="turn portraits by 90 degrees for a landscape matrix, and landscapes for a portrait one",
    )
    contrast: Literal["kept", "inverted"] = Field(
        default="kept", description="inverted: bright and dark tissues are swapped, air stays dark"
    )
    outline: Literal["none", "ellipse", "rimmed", "head"] = Field(
        default="none",
        description="ellipse: the object has air around it, as in a scanner; rimmed: it also has a bright rim; head: "
        "an ellipse in the middle, around which coils can be as near as those of a head coil",
    )
    reference: Literal["noisy", "clean"] = Field(
        default="noisy",
        description="noisy: the target has the noise of the input, as references from scans have; clean: it has none",
    )
    readout_oversampling: int = Field(
        default=1,
        ge=1,
        le=4,
        description="rows of k-space over rows of the target; the field of view is longer by this factor along y",
    )
    zero_filled: FilledFraction | None = Field(
        default=None,
        description="a crime (Shimron 2022), not for scans: k-space, with its noise, is zero outside of this fraction "
        "of the matrix along y and x, as scanners interpolate; a number, or [low, high]",
    )
    wrap: WidthRange | None = Field(
        default=None,
        description="with coils.estimated: width of the image over the field of view along x, 1 to 2; what lies beyond "
        "wraps around; a number, or [low, high]",
    )
    lesions: LesionsSpec | None = Field(
        default=None,
        description="not for scans: discs that are added to the target, so that a test can ask for them",
    )
    flip: bool = Field(default=False, description="scans only: flip along y and x at random")
    shift: float = Field(
        default=0.0, ge=0, le=0.5, description="scans only: largest random shift, as a fraction of the field of view"
    )
    rotate: bool = Field(default=False, description="scans with square matrices only: random quarter turns")
    degrees: float | None = Field(
        default=None, gt=0, le=45, description="scans only: largest random rotation in degrees, in either direction"
    )

    @model_validator(mode="after")
    def _zoom_resizes(self) -> TargetSpec:
        if self.zoom is not None and (self.fit != "resize" or self.zoom[0] < 1):
            raise ValueError("zoom needs fit = 'resize' and values from 1: a smaller photo would not fill the matrix")
        return self

    def draw_matrix(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw one of the sizes in `matrix`."""
        return self.matrix[int(rng.integers(len(self.matrix)))]

    def readout(self, matrix: tuple[int, int]) -> Readout:
        """The readout of this matrix, oversampled as the recipe says."""
        return Readout(matrix[0], matrix[0] * self.readout_oversampling)

    def reach(self, matrix: tuple[int, int]) -> float:
        """Largest distance of the object from the centre, in half diagonals of a field of view of this matrix.

        It is 1, the corner, where the object may fill the field of view. For ellipses it is the largest support
        h(u) = centre . u + |half axes . rotated u| over all directions u and all ellipses that can be drawn, whose half
        axes are longer by the soft edge: a pixel on the shorter one. h is convex in the half axes, so it is largest at
        the ends of their ranges.
        """
        if self.outline not in ("ellipse", "head"):
            return 1.0
        ends = HEAD_HALF if self.outline == "head" else ELLIPSE_HALF
        direction = np.linspace(0, np.pi, 361)[:, None]
        height, width = 2 * np.array(matrix) / np.hypot(*matrix)
        y, x = height * np.sin(direction), width * np.cos(direction)
        angle = np.linspace(-MAX_ANGLE, MAX_ANGLE, 61)
        turned = np.cos(angle) * y + np.sin(angle) * x, np.cos(angle) * x - np.sin(angle) * y
        largest = 0.0
        for half_y, half_x in itertools.product(ends, ends):
            shift = (HEAD_SHIFT,) * 2 if self.outline == "head" else (0.5 - half_y, 0.5 - half_x)
            edge = 1 + 1 / min(half_y * matrix[0], half_x * matrix[1])
            ellipse = edge * np.hypot(half_y * turned[0], half_x * turned[1])
            largest = max(largest, float((shift[0] * np.abs(y) + shift[1] * np.abs(x) + ellipse).max()))
        return min(1.0, largest)

    def apply(
        self, photo: NDArray[np.float32], matrix: tuple[int, int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Fitting]:
        """Fit a photo [y x] to the matrix and scale it to a maximum of 1; raises SourceRejectedError if that fails."""
        place = self.place(photo.shape, matrix, rng)
        image = place.prepared(photo)
        fitted = np.zeros(matrix, np.float32)
        y0, x0 = max(-place.top, 0), max(-place.left, 0)
        cut = image[max(place.top, 0) : max(place.top, 0) + matrix[0], max(place.left, 0) :][:, : matrix[1]]
        fitted[y0 : y0 + cut.shape[0], x0 : x0 + cut.shape[1]] = cut
        if self.contrast == "inverted":
            fitted = inverted(fitted)
        if place.outline is not None:
            fitted = place.outline.apply(fitted)
        scale = float(np.abs(fitted).max())
        if scale == 0:
            raise SourceRejectedError("the part of the photo within the matrix is black; use target.fit = 'resize'")
        fitted /= np.float32(scale)
        return fitted, Fitting(place.turned, place.resized, place.top, place.left, scale, place.outline)

    def place(self, shape: tuple[int, ...], matrix: tuple[int, int], rng: np.random.Generator) -> Place:
        """Draw where a photo of this shape [y x] goes in the matrix; raises SourceRejectedError where it has no place.

        This needs the photo's shape alone, so that it can be drawn apart from the photo.
        """
        turned = self.turn and (shape[0] < shape[1]) != (matrix[0] < matrix[1]) and matrix[0] != matrix[1]
        turned = turned and shape[0] != shape[1]
        before = shape[::-1] if turned else shape
        factor, size = 1.0, before
        if self.fit == "resize":
            factor = max(m / n for m, n in zip(matrix, before, strict=True))
            if self.zoom is not None:
                factor *= float(np.exp(draw_uniform(rng, (np.log(self.zoom[0]), np.log(self.zoom[1])))))
            remedy = "target.fit = 'pad'" if self.zoom is None else "a smaller target.zoom"
            size = _new_size(before, factor, matrix, remedy)
        room = [n - m for n, m in zip(size, matrix, strict=True)]
        if (self.fit == "pad" and max(room) > 0) or (self.fit != "pad" and min(room) < 0):
            remedy = "'crop' or 'resize'" if self.fit == "pad" else "'pad' or 'resize', or a smaller target.matrix"
            raise SourceRejectedError(
                f"a photo of {size[0]}x{size[1]} cannot be brought to {matrix[0]}x{matrix[1]} with "
                f"target.fit = '{self.fit}'; use target.fit = {remedy}"
            )
        top, left = (
            int(np.sign(r)) * (abs(r) // 2 if self.position == "centre" else int(rng.integers(abs(r) + 1)))
            for r in room
        )
        kind = self.outline
        outline = None if kind == "none" else Outline.draw(rng, rimmed=kind == "rimmed", head=kind == "head")
        return Place(turned, factor, (size[0], size[1]), top, left, outline)


def inverted(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Invert the contrast of an image x [y x]: 1.1 max(x) - x in the object; air stays as it is."""
    top = image.max()
    return np.where(object_of(image), np.float32(1.1) * top - image, image)


def _new_size(shape: tuple[int, ...], factor: float, matrix: tuple[int, int], remedy: str) -> tuple[int, ...]:
    """Shape [y x] of a photo that is resized by a factor, so that it fills the matrix; raises SourceRejectedError."""
    if factor > MAX_UPSCALE:
        raise SourceRejectedError(
            f"a photo of {shape[0]}x{shape[1]} would be enlarged {factor:.1f} times; "
            f"the limit is {MAX_UPSCALE:g}: use larger photos, a smaller target.matrix or {remedy}"
        )
    return tuple(max(m, round(n * factor)) for m, n in zip(matrix, shape, strict=True))


def _resized(image: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    resized = Image.fromarray(np.ascontiguousarray(image)).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return np.maximum(np.asarray(resized, np.float32), 0)  # Lanczos may give negative values
