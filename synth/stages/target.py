"""Fitting a photo to the target's matrix: turn, crop, resize or pad it (never silently), scale it; and the readout."""

from __future__ import annotations

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
from .outline import Kind, Outline
from .readout import Readout
from .truncation import truncated
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

MAX_UPSCALE = 4.0  # beyond this a resized photo is interpolation, not content


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
    outline: Kind = Field(
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
    truncated: int | None = Field(
        default=None,
        ge=2,
        le=8,
        description="not for scans: the photograph is fitted to a matrix this many times finer along y and x, and the "
        "centre of its k-space is kept: sharp to the last line, with Gibbs ringing, as a scanner's images are",
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

    def apply(
        self, photo: NDArray[np.float32], matrix: tuple[int, int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Fitting]:
        """Fit a photo [y x] to the matrix and scale it to a maximum of 1; raises SourceRejectedError if that fails.

        With `truncated`, the image may be negative next to edges, and the fitting tells places in the finer matrix.
        """
        finer = matrix[0] * (self.truncated or 1), matrix[1] * (self.truncated or 1)
        fitted, place = self._on(photo, finer, rng)
        if self.truncated is not None:
            fitted = truncated(fitted, matrix)
        scale = float(np.abs(fitted).max())
        if scale == 0:
            raise SourceRejectedError("the part of the photo within the matrix is black; use target.fit = 'resize'")
        fitted /= np.float32(scale)
        return fitted, Fitting(place.turned, place.resized, place.top, place.left, scale, place.outline)

    def _on(
        self, photo: NDArray[np.float32], matrix: tuple[int, int], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], Place]:
        """A photo [y x] on a matrix, in its own grey values, and its place there."""
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
        return fitted, place

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
