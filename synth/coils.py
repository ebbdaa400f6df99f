"""Coil maps [coil y x] with sum_c |map|^2 = 1 at every pixel: Biot-Savart loops, birdcage, or a library of maps.

A pair draws one of `sets` map sets; a set is a pure function of (spec, seed, set index, shape), so the corpus
stores each set once. Maps are not cut at an object's outline: a photo fills its field of view (papers: Knoll 2019
used ESPIRiT maps; cropped ones would cut the photo to the outline of a knee).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import scipy.special
from numpy.typing import NDArray
from pydantic import Field, model_validator

from .coil_images import virtual_coils
from .library import MAX_COILS, open_library, random_unitary, resampled
from .physics import rss
from .rng import rng
from .spec import PositiveRange, Range, Spec, draw_uniform

MAX_RADIUS = 0.5  # of a loop, over the distance of its centre: few coils do not become one around the object
Maps = NDArray[np.complex64]
Vectors = NDArray[np.float64]


def normalise(maps: NDArray[Any]) -> Maps:
    """Divide maps [coil y x] by their root sum of squares, so that sum_c |map|^2 = 1."""
    norm = rss(maps)
    if not (norm.min() > 0 and np.isfinite(norm).all()):
        raise ValueError("the maps vanish in all coils at some pixel, or are not numbers there; mend them")
    return np.asarray(maps * (1 / norm), np.complex64)


def loop_field(points: Vectors, centre: Vectors, normal: Vectors, radius: float) -> Vectors:
    """Magnetic field [point xyz] of a circular loop at points [point xyz], in units of mu0 I / (2 pi).

    Closed form of the Biot-Savart integral with complete elliptic integrals K, E of parameter
    m = 4 a rho / ((a + rho)^2 + z^2) in the loop's own frame (Smythe, Static and Dynamic Electricity, 7.10).
    """
    offset = points - centre
    z = offset @ normal
    radial = offset - z[:, None] * normal
    rho = np.linalg.norm(radial, axis=1)
    far2, near2 = (radius + rho) ** 2 + z**2, (radius - rho) ** 2 + z**2
    k, e = scipy.special.ellipk(4 * radius * rho / far2), scipy.special.ellipe(4 * radius * rho / far2)
    along = (k + (radius**2 - rho**2 - z**2) / near2 * e) / np.sqrt(far2)
    safe = np.maximum(rho, 1e-9 * radius)  # the radial field vanishes on the axis
    outward = z / (safe * np.sqrt(far2)) * (-k + (radius**2 + rho**2 + z**2) / near2 * e)
    return along[:, None] * normal + (outward / safe)[:, None] * radial


def _chebyshev(n_pixels: int, half_length: float, nodes: int) -> tuple[Vectors, Vectors]:
    """Chebyshev nodes on an axis, and the matrix [pixel node] that interpolates from them to pixel centres."""
    order = np.arange(nodes)
    t = np.cos(np.pi * (order + 0.5) / nodes)
    values_to_coefficients = np.cos(np.outer(order, np.arccos(t))) * (2 / nodes)
    values_to_coefficients[0] /= 2
    pixels = 2 * (np.arange(n_pixels) - n_pixels // 2) / n_pixels
    return t * half_length, np.cos(np.outer(np.arccos(pixels), order)) @ values_to_coefficients


@dataclass(frozen=True)
class LoopCoils:
    """Circular receive loops on a ring around the field of view; lengths in half diagonals of the field of view.

    The image is the plane z = 0, B0 is along z, and by reciprocity (Hoult and Richards 1976) a loop's map is
    Bx - i By of its field at unit current. Loops face the centre, tilted, with a receiver phase each.
    """

    angle_rad: tuple[float, ...]
    distance: tuple[float, ...]
    height: tuple[float, ...]
    tilt_rad: tuple[float, ...]  # about the ring's tangent
    turn_rad: tuple[float, ...]  # about z
    radius: tuple[float, ...]
    receiver_phase_rad: tuple[float, ...]

    def fields(self, y: Vectors, x: Vectors) -> NDArray[np.complex128]:
        """Bx - i By of every loop on the grid y [y], x [x], as [coil y x], receiver phase included."""
        yy, xx = np.meshgrid(y, x, indexing="ij")
        points = np.stack([xx.ravel(), yy.ravel(), np.zeros(xx.size)], axis=1)
        maps = []
        for angle, r, h, tilt, turn, a, phase in zip(*asdict(self).values(), strict=True):
            centre = np.array([r * np.cos(angle), r * np.sin(angle), h])
            facing = angle + np.pi + turn
            normal = np.array([np.cos(facing) * np.cos(tilt), np.sin(facing) * np.cos(tilt), np.sin(tilt)])
            field = loop_field(points, centre, normal, a)
            maps.append((np.exp(1j * phase) * (field[:, 0] - 1j * field[:, 1])).reshape(xx.shape))
        return np.stack(maps)

    def maps(self, shape: tuple[int, int], nodes: int = 40) -> Maps:
        """Maps [coil y x], normalised.

        The field is analytic where there is no wire, so it is evaluated on nodes x nodes Chebyshev points and
        interpolated: 75 times fewer evaluations at 320x368, exact to single precision (see the test).
        """
        diagonal = np.hypot(*shape)
        (y, to_y), (x, to_x) = (_chebyshev(n, n / diagonal, nodes) for n in shape)
        fields = self.fields(y, x).astype(np.complex64)
        return normalise(to_y.astype(np.complex64) @ fields @ to_x.T.astype(np.complex64))

    def numbers(self) -> dict[str, Any]:
        """What was drawn, one value per coil, by name."""
        return {f"coils_{key}": value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class BirdcageCoils:
    """Birdcage maps by ``sigpy.mri.birdcage_maps``: `count` rungs at `radius` half fields of view."""

    count: int
    radius: float

    def maps(self, shape: tuple[int, int]) -> Maps:
        """Maps [coil y x], normalised."""
        from sigpy.mri import birdcage_maps  # slow to import (numba), and only this kind needs it

        return normalise(birdcage_maps((self.count, *shape), r=self.radius))

    def numbers(self) -> dict[str, Any]:
        """What was drawn."""
        return {"coils_radius": self.radius}


@dataclass(frozen=True)
class LibraryCoils:
    """One set of a map library, turned, resampled and mixed as drawn."""

    path: str
    index: int
    count: int
    resample: bool = False
    flip_y: bool = False
    flip_x: bool = False
    quarter_turns: int = 0
    mixing_seed: int | None = None  # of the unitary matrix between channels

    def maps(self, shape: tuple[int, int]) -> Maps:
        """Maps [coil y x], normalised."""
        library = open_library(self.path).with_coils(self.count)
        if not self.resample:
            library.refuse_other_sizes(shape)
        try:
            maps = normalise(library[self.index])
        except ValueError as error:
            raise ValueError(f"coils.path {self.path}, set {self.index}: {error}") from None
        turned = np.rot90(maps, self.quarter_turns, axes=(1, 2))
        flipped = turned[:, :: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
        made = virtual_coils(resampled(np.ascontiguousarray(flipped), shape), self.count)
        if self.mixing_seed is not None:
            made = np.tensordot(random_unitary(len(made), rng(self.mixing_seed, "mixing")), made, axes=1)
        return normalise(made) if made is not maps else maps

    def numbers(self) -> dict[str, Any]:
        """What was drawn, as numbers."""
        drawn = {"index": self.index, "flip_y": self.flip_y, "flip_x": self.flip_x, "turns": self.quarter_turns}
        return {f"coils_library_{key}": float(value) for key, value in drawn.items()}


class DrawnCoils(Protocol):
    """What every kind of coils offers once drawn."""

    def maps(self, shape: tuple[int, int]) -> Maps:
        """Maps [coil y x], normalised."""
        ...

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        ...


Count = Annotated[int, Field(ge=1, le=MAX_COILS)]


class LoopsSpec(Spec):
    """``[coils] kind = "loops"``: loops on a ring, overlapping neighbours, jittered in place, tilt and size."""

    kind: Literal["loops"] = "loops"
    count: Count = 8
    sets: int = Field(default=32, ge=1, le=10**5)
    distance: PositiveRange = (1.2, 1.5)  # of the loop centres, in half diagonals; beyond 1 the wire stays outside
    height: Range = (-0.2, 0.2)
    tilt: Range = (-0.15, 0.15)  # rad
    jitter: float = Field(default=0.25, ge=0, le=0.5)  # of the angle between neighbours
    overlap: PositiveRange = (1.0, 1.4)  # loop diameter over the distance between neighbours

    @model_validator(mode="after")
    def _wires_stay_outside(self) -> LoopsSpec:
        radius = min(np.pi / self.count * self.overlap[1], MAX_RADIUS)  # over the distance
        inward = radius * np.sin(min(max(np.abs(self.tilt)), np.pi / 2))
        if self.distance[0] * (1 - inward) <= 1:
            raise ValueError(
                f"distance {self.distance[0]:g} with tilts up to {max(np.abs(self.tilt)):g} rad brings wires into the "
                "field of view; raise coils.distance or lower coils.tilt"
            )
        return self

    def draw(self, rng: np.random.Generator, index: int) -> LoopCoils:
        """Draw the ring's rotation and each loop's place, tilt, size and receiver phase."""
        n = self.count

        def each(bounds: tuple[float, float]) -> tuple[float, ...]:
            return tuple(float(v) for v in rng.uniform(*bounds, n))

        spacing = 2 * np.pi / n
        start = draw_uniform(rng, (0.0, 2 * np.pi))
        angles = tuple(start + spacing * (i + j) for i, j in enumerate(each((-self.jitter, self.jitter))))
        distance = each(self.distance)
        overlap = each(self.overlap)
        radius = tuple(min(spacing / 2 * o, MAX_RADIUS) * d for o, d in zip(overlap, distance, strict=True))
        return LoopCoils(
            angles, distance, each(self.height), each(self.tilt), each(self.tilt), radius, each((0.0, 2 * np.pi))
        )


class BirdcageSpec(Spec):
    """``[coils] kind = "birdcage"``."""

    kind: Literal["birdcage"] = "birdcage"
    count: Count = 8
    sets: int = Field(default=8, ge=1, le=10**5)
    radius: PositiveRange = (1.2, 1.8)

    def draw(self, rng: np.random.Generator, index: int) -> BirdcageCoils:
        """Draw the radius."""
        return BirdcageCoils(self.count, draw_uniform(rng, self.radius))


class LibrarySpec(Spec):
    """``[coils] kind = "library"``: maps harvested by `fathom coils`, of a corpus, or in a file.

    `count` compresses sets of more coils to as many virtual ones. With `flip`, `rotate` (quarter turns) or `mix` (a
    unitary matrix between channels) a set may be drawn again as another: `sets` says how many there are to be.
    """

    kind: Literal["library"] = "library"
    path: str
    count: Count | None = None
    sets: int = Field(default=0, ge=0, le=10**5, description="0: as many as the library has")
    resample: bool = Field(default=False, description="stretch maps to the target's matrix")
    flip: bool = False
    rotate: bool = False
    mix: bool = False

    def draw(self, rng: np.random.Generator, index: int) -> LibraryCoils:
        """Set `index` modulo the library's number, and how it is turned and mixed."""
        library = open_library(self.path).with_coils(self.count)
        flips = (bool(rng.integers(2)), bool(rng.integers(2))) if self.flip else (False, False)
        turns = int(rng.integers(4)) if self.rotate else 0
        mixing = int(rng.integers(2**31)) if self.mix else None
        count = self.count or library.coils
        return LibraryCoils(self.path, index % len(library), count, self.resample, *flips, turns, mixing)


class EspiritSpec(Spec):
    """``[coils] kind = "espirit"``, for scans: maps of each slice from its own reference lines, as in Knoll 2019.

    `count` compresses to as many virtual coils, `compression` says how; without it a scan keeps its own. `crop` sets
    maps to zero where their eigenvalue is below it, or with `soft` fades them out; 0 keeps them everywhere.
    """

    kind: Literal["espirit"] = "espirit"
    count: Count | None = None
    compression: Literal["svd", "geometric"] = "svd"
    reference: int = Field(default=24, ge=8, le=256, description="samples along each side of the reference")
    kernel: int = Field(default=6, ge=2, le=12)
    threshold: float = Field(default=0.02, gt=0, lt=1)
    crop: float = Field(default=0.0, ge=0, lt=1)
    soft: bool = Field(default=False, description="weigh maps down around crop instead of cutting them")
    extend: bool = Field(default=False, description="continue the maps beyond the object")

    @property
    def sets(self) -> int:
        """None that pairs share."""
        return 0


CoilsSpec = Annotated[LoopsSpec | BirdcageSpec | LibrarySpec | EspiritSpec, Field(discriminator="kind")]
SharedCoils = LoopsSpec | BirdcageSpec | LibrarySpec


def draw_coils(spec: SharedCoils, seed: int, index: int) -> DrawnCoils:
    """Draw map set `index` of a recipe; the same for every pair that uses it."""
    return spec.draw(rng(seed, "coils", index), index)
