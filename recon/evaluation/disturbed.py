"""What a reconstruction is told wrongly in a test: coil maps that do not fit the data.

Maps come from reference lines with noise, or from a scan that the patient did before. The targets stay as they are.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from synth.settings.spec import Spec

from ..data.packed_batch import Batch

SMOOTH = 4  # frequencies of an error of the maps in each direction: such errors are smooth, as maps are


class Disturbance(Spec):
    """Errors of the coil maps that a model is given, in a test.

    With `maps_error`, each coil's map is multiplied by 1 + e, with e complex normal in the lowest frequencies. The maps
    are then normalised again, sum |map|^2 = 1.
    """

    maps_shift: int = Field(
        default=0,
        ge=-256,
        le=256,
        description="pixels by which maps are shifted along x, as if the object had moved since a reference scan",
    )
    maps_error: float = Field(default=0.0, ge=0, le=10, description="rms of a smooth relative error of each coil's map")

    def of(self, batch: Batch) -> Batch:
        """The batch with disturbed maps; a pair's error is the same in every batch."""
        maps = batch["sens_maps"]
        if maps.ndim == 5 and self.maps_error:
            raise ValueError("maps_error is for pairs with one map set; build them with coils.espirit_sets = 1")
        if self.maps_shift:
            maps = maps.roll(self.maps_shift, -1)
        if self.maps_error:
            pairs = batch["pair_id"].tolist()
            error = torch.stack([_smooth_error(pair, maps.shape[1:]) for pair in pairs]).to(maps.device)
            before = maps.abs().square().sum(1, keepdim=True).sqrt()
            maps = maps * (1 + self.maps_error * error)
            maps = maps * (before / maps.abs().square().sum(1, keepdim=True).sqrt().clamp_min(1e-30))
        return {**batch, "sens_maps": maps}


UNDISTURBED = Disturbance()


def _smooth_error(pair: int, shape: torch.Size) -> Tensor:
    """Complex errors [coil y x] with E |e|^2 = 1, from the frequencies up to `SMOOTH` / 2."""
    coils, *size = shape
    draw = torch.Generator().manual_seed(pair)
    spectrum = torch.randn(coils, SMOOTH + 1, SMOOTH + 1, dtype=torch.complex64, generator=draw)
    frequencies = torch.arange(SMOOTH + 1) - SMOOTH // 2
    waves = [torch.exp(2j * math.pi * frequencies[:, None] * torch.arange(n) / n) for n in size]
    return torch.einsum("cuv,uy,vx->cyx", spectrum, *waves) / (SMOOTH + 1)
