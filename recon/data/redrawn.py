"""Masks and noise drawn anew in every epoch, from k-space that a corpus keeps in full."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from synth.pair import unit_noise
from synth.recipe import Recipe
from synth.rng import rng
from synth.stages.mask import Mask

from .packed_batch import PackedBatch

PARTS = ("mask", "noise")


@dataclass(frozen=True)
class Redraw:
    """What is drawn anew for the pairs of a recipe; the numbers depend on (seed, epoch, pair) alone.

    Raises ValueError for parts that cannot be drawn anew: without k-space in full, or for the noise of scans.
    """

    recipe: Recipe
    parts: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        unknown = [part for part in self.parts if part not in PARTS]
        if unknown:
            raise ValueError(f"redraw takes 'mask' and 'noise', got {unknown[0]!r}")
        if self.recipe.kspace != "full":
            raise ValueError(
                f"redraw needs k-space in full, and recipe {self.recipe.name!r} keeps the sampled part; build a corpus "
                "with kspace = 'full'"
            )
        if "noise" in self.parts and self.recipe.target.zero_filled is not None:
            raise ValueError("noise is not drawn anew around target.zero_filled; redraw the mask alone")
        if "noise" in self.parts and self.recipe.own_maps:
            held = "theirs stays in k-space" if self.recipe.of_scans else "maps are estimated from it (coils.estimated)"
            of = "scans" if self.recipe.of_scans else "these pairs"
            raise ValueError(f"the noise of {of} cannot be drawn anew, since {held}; redraw the mask alone")

    def of(self, batch: PackedBatch, epoch: int) -> PackedBatch:
        """The batch with other masks and other noise of the same sigma; its tensors are changed in place.

        The reference stays, and a noisy one keeps its own noise. Coil maps stay, too; estimated ones, as those
        of scans, are from the reference lines of the stored mask.
        """
        indices = batch.pair_id.tolist()
        if "noise" in self.parts:
            for index, sigma, kspace in zip(indices, batch.sigma.tolist(), batch.kspace.numpy(), strict=True):
                kspace += np.float32(sigma) * self._change_of_noise(index, len(kspace), batch, epoch)
        if "mask" not in self.parts:
            return batch
        masks = [
            self.recipe.sampling.draw(self._rng("sampling", index, epoch), batch.geometry.size) for index in indices
        ]
        return replace(
            batch,
            mask=torch.from_numpy(np.stack([mask.sampled for mask in masks])),
            acceleration=torch.tensor([mask.acceleration for mask in masks], dtype=torch.float32),
            acceleration_net=torch.tensor([mask.net_acceleration for mask in masks], dtype=torch.float32),
        )

    def _change_of_noise(self, index: int, coils: int, batch: PackedBatch, epoch: int) -> np.ndarray:
        """New noise minus that of the stored pair, of sigma 1."""
        geometry = batch.geometry
        everything = Mask(np.ones(batch.mask.shape[1:], np.bool_), 1.0)
        new, old = (
            unit_noise(self.recipe, draw, (coils, *geometry.size), everything)
            for draw in (self._rng("noise", index, epoch), rng(self.recipe.seed, "noise", index))
        )
        return new - old

    def _rng(self, stage: str, index: int, epoch: int) -> np.random.Generator:
        return rng(self.recipe.seed, f"{stage} anew", index, epoch)
