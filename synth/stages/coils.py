"""Coil maps [coil y x] with sum_c |map|^2 = 1 at every pixel: Biot-Savart loops, birdcage, or a library of maps.

A pair draws one of `sets` map sets; a set is a pure function of (spec, seed, set index, shape), so the corpus
stores each set once. Maps are not set to zero outside an object, because a photo fills its field of view (Knoll 2019
used ESPIRiT maps of knees; cropped ones would cut the photo to the outline of a knee).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

import numpy as np
from pydantic import Field

from ..rng import rng
from ..settings.spec import PositiveRange, Range, Spec, draw_uniform
from .coil_estimate import EspiritSpec, EstimateSpec
from .coil_library import Count, open_library, random_unitary, resampled
from .coil_loops import MAX_RADIUS, LoopCoils, Maps, normalise, wire_distance
from .virtual_coils import virtual_coils


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
    """The methods that drawn coils of every kind have."""

    def maps(self, shape: tuple[int, int]) -> Maps:
        """Maps [coil y x], normalised."""
        ...

    def numbers(self) -> dict[str, Any]:
        """What was drawn, by name."""
        ...


class SharedSpec(Spec):
    """Base of the sections of coils whose map sets are shared by pairs: coils of photographs."""

    estimated: EstimateSpec | None = Field(
        default=None,
        description="pairs have maps that ESPIRiT estimates from their noisy reference lines, and references combined "
        "with these, as scans have; for objects with air around them (target.outline)",
    )


class LoopsSpec(SharedSpec):
    """``[coils] kind = "loops"``: loops on a ring that overlap their neighbours, with random place, tilt and size.

    A map is infinite at a wire, so wires must pass outside the object. `Recipe` compares `nearest_wire` with
    `TargetSpec.reach`, the largest distance of the object: 1, the corner of the field of view, unless
    ``target.outline`` puts air around the object. With air, loops may be as near as those of a head coil, and wires
    then pass through the air in the corners of the field of view. Maps that are made without a recipe are not checked.
    """

    kind: Literal["loops"] = Field(
        default="loops", description="circular loops around the object, by the law of Biot and Savart"
    )
    count: Count = Field(default=8, description="number of loops")
    sets: int = Field(default=32, ge=1, le=10**5, description="map sets that are drawn; each pair uses one of them")
    distance: PositiveRange = Field(
        default=(1.2, 1.5),
        description="of the loops' centres from that of the field of view, in its half diagonals",
    )
    height: Range = Field(
        default=(-0.2, 0.2), description="of the loops' centres above the slice, in half diagonals (negative: below)"
    )
    tilt: Range = Field(default=(-0.15, 0.15), description="rotation of a loop about two axes, in rad")
    jitter: float = Field(
        default=0.25,
        ge=0,
        le=0.5,
        description="largest random shift of a loop along the ring, as a fraction of the angle between neighbours",
    )
    overlap: PositiveRange = Field(
        default=(1.0, 1.4), description="diameter of a loop over the distance between neighbours"
    )
    shading: bool | None = Field(  # not given: not in the hash of the recipe
        default=None,
        description="references are brighter near the coils, as in scans: an image times the root sum of squares of "
        "the loops' fields, which is 1 at the centre",
    )

    @property
    def nearest_wire(self) -> float:
        """How near a wire may come to the centre of the field of view, in its half diagonals."""
        radius = min(np.pi / self.count * self.overlap[1], MAX_RADIUS)  # over the distance
        return self.distance[0] * wire_distance(1.0, radius, max(np.abs(self.tilt)))

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


class BirdcageSpec(SharedSpec):
    """``[coils] kind = "birdcage"``."""

    kind: Literal["birdcage"] = Field(default="birdcage", description="the birdcage of sigpy")
    count: Count = Field(default=8, description="number of rungs")
    sets: int = Field(default=8, ge=1, le=10**5, description="map sets that are drawn; each pair uses one of them")
    radius: PositiveRange = Field(default=(1.2, 1.8), description="of the birdcage, in half fields of view")

    def draw(self, rng: np.random.Generator, index: int) -> BirdcageCoils:
        """Draw the radius."""
        return BirdcageCoils(self.count, draw_uniform(rng, self.radius))


class LibrarySpec(SharedSpec):
    """``[coils] kind = "library"``: maps that `fathom coils` harvested, those of a corpus, or an array in a file.

    With `flip`, `rotate` (quarter turns) or
    `mix` (a unitary matrix between channels), one set of the library can give several: `sets` is their total number.
    """

    kind: Literal["library"] = Field(
        default="library", description="maps that exist: of `fathom coils`, of a corpus, or in a file"
    )
    path: str = Field(
        description="a library or a corpus (.zarr), or an array [set coil y x] (.npy; .npz with the name 'maps')"
    )
    count: Count | None = Field(
        default=None,
        description="coils of a pair, to which sets of more are compressed; default: those of the library",
    )
    sets: int = Field(default=0, ge=0, le=10**5, description="0: as many as the library has")
    resample: bool = Field(default=False, description="stretch maps to the target's matrix")
    flip: bool = Field(default=False, description="flip maps along y and x at random")
    rotate: bool = Field(default=False, description="turn maps by random quarter turns")
    mix: bool = Field(default=False, description="combine the coils by a random unitary matrix")

    def draw(self, rng: np.random.Generator, index: int) -> LibraryCoils:
        """Take set `index` modulo the library's number of sets, and draw how it is flipped, turned and mixed."""
        library = open_library(self.path).with_coils(self.count)
        flips = (bool(rng.integers(2)), bool(rng.integers(2))) if self.flip else (False, False)
        turns = int(rng.integers(4)) if self.rotate else 0
        mixing = int(rng.integers(2**31)) if self.mix else None
        count = self.count or library.coils
        return LibraryCoils(self.path, index % len(library), count, self.resample, *flips, turns, mixing)


CoilsSpec = Annotated[LoopsSpec | BirdcageSpec | LibrarySpec | EspiritSpec, Field(discriminator="kind")]
SharedCoils = LoopsSpec | BirdcageSpec | LibrarySpec


def draw_coils(spec: SharedCoils, seed: int, index: int) -> DrawnCoils:
    """Draw map set `index` of a recipe; the same for every pair that uses it."""
    return spec.draw(rng(seed, "coils", index), index)
