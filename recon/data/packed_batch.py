"""Batches with packed k-space, the form in which they are sent; the device that uses a batch unpacks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from synth.physics import fftc, ifftc
from synth.stages.readout import Readout

Batch = dict[str, Tensor]
"""Items with a batch axis in front, as `pairs` describes them; every reconstruction is called with a batch."""


def known_sigma(batch: Batch) -> Tensor:
    """A batch's sigma [batch]; raises ValueError where it is 0 or not known.

    A GPU is not waited for: there, such a sigma becomes NaN, and so does the image.
    """
    sigma = batch["sigma"]
    if sigma.device.type != "cpu":
        return torch.where(sigma > 0, sigma, torch.nan)
    if not bool((sigma > 0).all()):
        raise ValueError("a noise-aware network needs the noise level of every pair; some sigma is 0 or not known")
    return sigma


def image_shape(batch: Batch) -> torch.Size:
    """Shape of a batch's images, [batch y x] or [batch set y x]; also of a scan's batch, which has no ``target``."""
    if "target" in batch:
        return batch["target"].shape
    kspace = batch["masked_kspace"]
    return torch.Size([len(kspace), *batch["sens_maps"].shape[1:-3], *kspace.shape[-2:]])


@dataclass(frozen=True)
class Geometry:
    """What the pairs of one bucket have in common."""

    bucket: int  # the bucket's number in the dataset
    matrix: tuple[int, int]  # y, x of the target
    readout: int  # acquired samples along y
    lines: bool  # whether masks are of whole lines
    full: bool  # whether k-space is kept in full
    sets: int = 1  # map sets of each pair

    @property
    def size(self) -> tuple[int, int]:
        """y, x of the acquired k-space."""
        return (self.readout, self.matrix[1])


@dataclass(frozen=True)
class PackedBatch:
    """Pairs of one bucket; k-space is packed as [batch coil y line] or [batch coil point], or is [... y x] in full."""

    geometry: Geometry
    kspace: Tensor
    mask: Tensor  # [batch x] or [batch y x]
    target: Tensor  # [batch y x], or [batch set y x] of pairs with several map sets
    maps_index: Tensor  # [batch], always in the host's memory
    max_value: Tensor  # [batch], as are all below
    scale: Tensor
    sigma: Tensor
    acceleration: Tensor
    acceleration_net: Tensor
    pair_id: Tensor

    @property
    def map_keys(self) -> list[tuple[int, int]]:
        """The bucket and the number of every pair's map set."""
        return [(self.geometry.bucket, number) for number in self.maps_index.tolist()]

    def map(self, function: Callable[[Tensor], Tensor]) -> PackedBatch:
        """Apply a function to every tensor."""
        tensors = {f.name: function(getattr(self, f.name)) for f in fields(self) if f.name != "geometry"}
        return replace(self, **tensors)  # type: ignore[arg-type]

    def to(self, device: torch.device) -> PackedBatch:
        """Move to a device, packed."""
        if device.type == "cpu":
            return self
        return replace(self.map(lambda t: t.to(device, non_blocking=True)), maps_index=self.maps_index)

    def pin_memory(self) -> PackedBatch:
        """Copy what is not there yet to page-locked memory, from which a GPU copies without the CPU."""
        return self.map(lambda t: t if t.is_pinned() else t.pin_memory())


def unpack(batch: PackedBatch, maps: Tensor | None, *, oversampled: bool = False) -> dict[str, Tensor]:
    """Items of a batch, as `recon.data.pairs` describes them, with a batch axis in front.

    `maps` is [batch coil y x] or [batch set coil y x], or None for items without maps. The readout's oversampling is
    removed (by transforming y, cropping, and transforming back, on the sampled lines alone) unless `oversampled` keeps
    it.
    """
    geometry, kspace = batch.geometry, batch.kspace
    size = geometry.size if oversampled else geometry.matrix
    if geometry.lines and size != geometry.size:
        kspace = remove_oversampling(kspace, Readout(geometry.matrix[0], geometry.readout))
    kspace = _masked(kspace, batch.mask) if geometry.full else _scattered(kspace, batch.mask, size)
    item = {
        "masked_kspace": kspace,
        "mask": batch.mask[:, None, None, :] if geometry.lines else batch.mask[:, None],
        "target": batch.target,
        "max_value": batch.max_value,
        "scale": batch.scale,
        "sigma": batch.sigma,
        "acceleration": batch.acceleration,
        "acceleration_net": batch.acceleration_net,
        "pair_id": batch.pair_id,
    }
    if maps is not None:
        if oversampled and size != geometry.matrix:
            before = Readout(geometry.matrix[0], geometry.readout).image_rows.start
            maps = torch.nn.functional.pad(maps, (0, 0, before, size[0] - geometry.matrix[0] - before))
        item["sens_maps"] = maps
    return item


def remove_oversampling(kspace: Tensor, readout: Readout) -> Tensor:
    """Packed lines [... samples line] to [... rows line]: the image's rows of an oversampled readout."""
    return fftc(readout.crop(ifftc(kspace, (-2,))), (-2,))  # type: ignore[arg-type, return-value]


def _masked(kspace: Tensor, mask: Tensor) -> Tensor:
    """K-space kept in full, [batch coil y x] or [batch coil point], with the unsampled part set to 0."""
    if mask.ndim == 3:
        return kspace.reshape(*kspace.shape[:2], *mask.shape[1:]) * mask[:, None]
    return kspace * mask[:, None, None, :]


def _scattered(packed: Tensor, mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Packed samples put into zeros [batch coil y x]; samples beyond the count of a pair's mask are padding."""
    batch, coils = packed.shape[:2]
    if packed.device.type != "cpu":  # each position takes its sample, so that no count is asked of the device
        flat_mask = mask.flatten(1)
        number = (flat_mask.cumsum(1) - 1).clamp_(0, packed.shape[-1] - 1)
        shape = [batch, coils, *([] if mask.ndim == 3 else size[:1]), flat_mask.shape[1]]
        wide = [1] * (len(shape) - 2)
        taken = packed.gather(-1, number.view(batch, *wide, -1).expand(shape))
        found = torch.where(flat_mask.view(batch, *wide, -1), taken, packed.new_zeros(()))
        return found.view(batch, coils, *size)
    kspace = packed.new_zeros((batch, coils, *size))
    flat = kspace.view(batch, coils, *((-1,) if mask.ndim == 3 else size))
    for into, samples, sampled in zip(flat, packed, mask, strict=True):
        places = sampled.reshape(-1).nonzero()[:, 0]
        into.index_copy_(-1, places, samples[..., : len(places)])
    return kspace
