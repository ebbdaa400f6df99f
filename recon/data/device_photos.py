"""Photographs that stay on the device, and magnitude images of a batch made from them there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

import numpy as np
import torch
from torch import Tensor

from synth.errors import RecipeError, SourceRejectedError
from synth.plan import Plan
from synth.rng import rng
from synth.stages.object_mask import LEAST
from synth.stages.target import Place

from .shared_memory import Empty

OUTLINE = 7  # numbers of an outline
Key = tuple[int, bool, tuple[int, int] | None]


@dataclass(frozen=True)
class Placed:
    """A photograph, and its place in the matrix."""

    file: int  # among the plan's files
    place: Place
    zoomed: bool  # resized by a factor of its own, on the device

    @property
    def key(self) -> Key:
        """What of the photograph is kept on the device: turned, and resized where every pair needs the same size."""
        return self.file, self.place.turned, None if self.zoomed else self.place.size

    @property
    def outline(self) -> tuple[float, ...]:
        """The numbers of its outline, or zeros."""
        return (0.0,) * OUTLINE if self.place.outline is None else astuple(self.place.outline)


class DevicePhotos:
    """The photographs of a recipe, each read at its first use and then kept on the device, at most `limit` bytes.

    Threads may call `placed` and `prepare`; only the thread that makes batches may call `magnitudes`.
    """

    def __init__(self, plan: Plan, limit: int) -> None:
        self._plan, self._limit = plan, limit
        self._shapes: dict[int, tuple[int, ...]] = {}
        self._fresh: dict[int, np.ndarray] = {}  # read, but not yet prepared
        self._prepared: dict[Key, Tensor] = {}  # on their way to the device
        self._sent: set[Key] = set()
        self._resident: dict[tuple[Key, torch.device], Tensor] = {}
        self._bytes: dict[torch.device, int] = {}

    def placed(self, index: int, matrix: tuple[int, int]) -> Placed:
        """Draw the place of pair `index` by the line's own code; raises SourceRejectedError."""
        target, file = self._plan.recipe.target, index % len(self._plan.files)
        if file not in self._shapes:
            image = self._plan.photo(file).image
            self._fresh[file], self._shapes[file] = image, image.shape
        try:
            place = target.place(self._shapes[file], matrix, rng(self._plan.recipe.seed, "target", index))
        except SourceRejectedError as error:
            raise self._plan.naming_the_source(index, error) from None
        return Placed(file, place, zoomed=target.zoom is not None)

    def prepare(self, photo: Placed, empty: Empty) -> None:
        """Read a photograph, turn and resize it by the line's own code, unless it was done before."""
        if photo.key not in self._sent:
            self._prepared[photo.key] = self._read(photo, empty)
            self._sent.add(photo.key)

    def _read(self, photo: Placed, empty: Empty) -> Tensor:
        image = self._fresh.pop(photo.file, None)
        image = self._plan.photo(photo.file).image if image is None else image
        made = np.rot90(image) if photo.place.turned else image
        if not photo.zoomed:
            made = photo.place.prepared(image)
        kept = empty(made.shape, np.dtype(np.float32))
        kept[...] = made
        return torch.from_numpy(kept)

    def _on(self, photo: Placed, device: torch.device) -> Tensor:
        where = photo.key, device
        if where not in self._resident:
            image = self._prepared.pop(photo.key, None)
            image = self._read(photo, np.empty) if image is None else image
            total = self._bytes.get(device, 0) + image.nbytes
            if total > self._limit:
                raise RecipeError(
                    f"the photographs of {self._plan.recipe.name} take more than {self._limit / 2**30:.3g} GB on "
                    f"{device}; lower their number by source.part or source.every, or their size by target.fit = "
                    "'resize', raise photo_bytes of DevicePairs, or use VirtualPairs"
                )
            if device.type == "cuda":
                image = (image if image.is_pinned() else image.pin_memory()).to(device, non_blocking=True)
            self._resident[where], self._bytes[device] = image, total
        return self._resident[where]

    def magnitudes(self, photos: Sequence[Placed], outlines: Tensor, matrix: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Magnitude images [pair y x] with a maximum of 1, and the scales [pair] that they were divided by.

        They are what `TargetSpec.apply` makes. `outlines` [pair 7] are on the device. A part of a photograph that is
        black gives NaN, because to refuse it the device would have to be waited for.
        """
        target, device = self._plan.recipe.target, outlines.device
        fitted = torch.zeros((len(photos), *matrix), device=device)
        for photo, out in zip(photos, fitted, strict=True):
            image, place = self._on(photo, device), photo.place
            if photo.zoomed and place.resized != 1:
                out.copy_(_zoomed(image, place, matrix))
                continue
            cut = image[max(place.top, 0) :, max(place.left, 0) :][: matrix[0], : matrix[1]]
            y0, x0 = max(-place.top, 0), max(-place.left, 0)
            out[y0 : y0 + cut.shape[0], x0 : x0 + cut.shape[1]] = cut
        if target.contrast == "inverted":
            top = fitted.amax((1, 2), keepdim=True)
            fitted = torch.where(fitted > LEAST * top, 1.1 * top - fitted, fitted)
        if target.outline != "none":
            fitted = outlined(fitted, outlines, rimmed=target.outline == "rimmed")
        scale = fitted.abs().amax((1, 2))
        return fitted / scale[:, None, None], scale


def outlined(images: Tensor, outlines: Tensor, *, rimmed: bool) -> Tensor:
    """`Outline.apply` for images [pair y x], each with the seven numbers of its outline [pair 7]."""
    ny, nx = images.shape[1:]
    centre_y, centre_x, height, width, angle, bright, rim_width = outlines.T[:, :, None, None]
    y = ((torch.arange(ny, device=images.device) + 0.5) / ny - 0.5)[:, None] - centre_y
    x = ((torch.arange(nx, device=images.device) + 0.5) / nx - 0.5) - centre_x
    cos, sin = angle.cos(), angle.sin()
    radius = torch.hypot((cos * y - sin * x) / height, (sin * y + cos * x) / width)
    smaller = torch.minimum(height * ny, width * nx)
    distance = (1 - radius) * smaller
    inside = (distance / 2 + 0.5).clamp(0, 1)
    if not rimmed:
        return images * inside
    rim = (1.5 - (2 * distance / (rim_width * smaller).clamp(min=2.0) - 1).abs()).clamp(0, 1) * inside
    mean = images.mean((1, 2), keepdim=True)
    return images * inside * (1 - rim) + rim * bright * (0.7 * mean + 0.3 * images)


def _zoomed(image: Tensor, place: Place, matrix: tuple[int, int]) -> Tensor:
    """The part [y x] of a resized image that the matrix shows, as Pillow's Lanczos filter resizes it."""
    first = (place.top, place.left)
    y, x = (lanczos(image.shape[k], place.size[k], first[k], matrix[k], image.device) for k in (0, 1))
    with full_precision():
        return (y @ (image @ x.T)).clamp_(min=0)


def lanczos(before: int, after: int, first: int, count: int, device: torch.device) -> Tensor:
    """Weights [count before] of samples `first` ... of an axis that is resized from `before` to `after` samples.

    Pillow's ``precompute_coeffs`` (src/libImaging/Resample.c): sinc(t) sinc(t / 3) for |t| < 3, scaled to a sum of 1.
    Here t is the distance of two samples' centres in the coarser one of the two grids. The distance is a difference of
    whole numbers, exact before it is divided.
    """
    to, of = torch.arange(first, first + count, device=device), torch.arange(before, device=device)
    distance = ((2 * of + 1) * after - (2 * to + 1)[:, None] * before).float()
    t = distance / (2 * max(before, after))
    weights = torch.where(t.abs() < 3, torch.sinc(t) * torch.sinc(t / 3), 0.0)
    return weights / weights.sum(1, keepdim=True)


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Matrix products in single precision, also where a user lets a GPU round their factors to 10 bits (TF32)."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
