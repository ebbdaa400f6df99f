"""What is drawn on the host for a batch of pairs that are made on a device: some kilobytes for each pair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from synth.plan import Plan
from synth.rng import rng
from synth.stages.mask_lines import RegularSpec
from synth.stages.mask_points import Regular2DSpec
from synth.stages.sampling import FileSpec

from .device_photos import DevicePhotos, Placed
from .packed_batch import Geometry

DRAWN_BYTES = 2**28  # most bytes of drawn pairs that are kept
FIXED = (RegularSpec, Regular2DSpec, FileSpec)  # masks that are the same for every pair of a size


@dataclass(frozen=True, eq=False)
class DrawnPair:
    """One pair as drawn by the line's own code, from the same generators as there."""

    photo: Placed
    left: np.ndarray  # factors [y rank] and [x rank] of the phase in rad
    right: np.ndarray
    maps_index: int
    mask: np.ndarray  # lines [x] or points [y x]
    numbers: tuple[float, ...]  # SNR, acceleration, net acceleration, and those of the outline

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        return self.left.nbytes + self.right.nbytes + self.mask.nbytes


class Drawing:
    """Draws pairs, and keeps what was drawn, because each epoch needs the same pairs again; threads may use it."""

    def __init__(self, plan: Plan, photos: DevicePhotos) -> None:
        self._plan, self._photos = plan, photos
        self._kept: dict[int, DrawnPair] = {}
        self._masks: dict[tuple[int, int], tuple[np.ndarray, float]] = {}
        self._bytes = 0

    def pair(self, index: int, geometry: Geometry) -> DrawnPair:
        """Draw a pair; raises SourceRejectedError."""
        if index in self._kept:
            return self._kept[index]
        recipe = self._plan.recipe
        seed = recipe.seed
        photo = self._photos.placed(index, geometry.matrix)
        left, right = recipe.phase.draw(rng(seed, "phase", index)).factors(geometry.matrix)
        sampled, acceleration = self._mask(index, geometry.size)
        snr = recipe.noise.draw_snr(rng(seed, "snr", index))
        drawn = DrawnPair(
            photo,
            left.astype(np.float32),
            right.astype(np.float32),
            int(rng(seed, "maps", index).integers(recipe.coils.sets)),
            sampled,
            (snr, acceleration, sampled.size / sampled.sum(), *photo.outline),
        )
        if self._bytes < DRAWN_BYTES:
            self._kept[index] = drawn
            self._bytes += drawn.nbytes
        return drawn

    def _mask(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray, float]:
        if size in self._masks:
            return self._masks[size]
        sampling = self._plan.recipe.sampling
        mask = sampling.draw(rng(self._plan.recipe.seed, "sampling", index), size)
        if isinstance(sampling, FIXED) and sampling.is_whole:
            self._masks[size] = mask.sampled, mask.acceleration
        return mask.sampled, mask.acceleration


@dataclass(frozen=True, eq=False)
class DrawnBatch:
    """Drawn pairs of one bucket; `recon.data.device_pairs` makes items of them on the device of these tensors."""

    geometry: Geometry
    photos: tuple[Placed, ...]
    maps_index: Tensor  # [batch], always in the host's memory
    pair_id: Tensor  # [batch]
    left: Tensor  # [batch y rank]
    right: Tensor  # [batch x rank]
    mask: Tensor  # [batch x] or [batch y x]
    numbers: Tensor  # [batch number]: SNR, acceleration, net acceleration, and the seven of an outline

    @property
    def map_keys(self) -> list[tuple[int, int]]:
        """The bucket and the number of every pair's map set."""
        return [(self.geometry.bucket, number) for number in self.maps_index.tolist()]

    def map(self, function: Callable[[Tensor], Tensor]) -> DrawnBatch:
        """Apply a function to every tensor but `maps_index`."""
        names = [f.name for f in fields(self) if f.name not in ("geometry", "photos", "maps_index")]
        return replace(self, **{name: function(getattr(self, name)) for name in names})  # type: ignore[arg-type]

    def to(self, device: torch.device) -> DrawnBatch:
        """Move to a device."""
        return self if device.type == "cpu" else self.map(lambda t: t.to(device, non_blocking=True))

    def pin_memory(self) -> DrawnBatch:
        """Copy to page-locked memory, from which a GPU copies without the CPU."""
        return self.map(lambda t: t.pin_memory())
