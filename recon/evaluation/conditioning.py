"""Errors by the g-factor of the voxel, which says how well SENSE is conditioned there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.datasets import PairDataset
from ..models.catalogue import Reconstruction
from ..models.gfactor import block_g
from .rows import image_of

PAIRS = 8  # the first pairs of a corpus, whose voxels are sorted by g-factor
BINS = 8


@dataclass(frozen=True)
class Conditioned:
    """Rms errors in eighths of the voxels, sorted by g-factor, over sqrt(2) sigma, a fully sampled image's noise."""

    g: list[float]  # median of each eighth
    noise: list[float]  # noise of unregularised SENSE: rms of sqrt(R) g
    errors: dict[str, list[float]]  # by model


def by_conditioning(models: dict[str, Reconstruction], pairs: PairDataset, device: torch.device) -> Conditioned:
    """Errors of models by the g-factor of the voxels; raises ValueError for a corpus that does not allow it."""
    recipe = pairs.recipe
    pairs.refuse_map_sets("errors by g-factor")
    if recipe.noise.covariance != "white" or recipe.target.reference != "clean":
        raise ValueError(
            "errors by g-factor need noise.covariance 'white' and target.reference 'clean', and this corpus has "
            f"'{recipe.noise.covariance}' and '{recipe.target.reference}'"
        )
    levels: list[NDArray[np.floating]] = []
    noise: list[NDArray[np.floating]] = []
    errors: dict[str, list[NDArray[np.floating]]] = {name: [] for name in models}
    for position in range(min(PAIRS, len(pairs))):
        item = pairs[position]
        target, sigma = item["target"].numpy(), float(item["sigma"])
        if not sigma > 0:
            raise ValueError("errors by g-factor are relative to the noise, and this corpus has no noise")
        g = block_g(item["sens_maps"].numpy(), item["mask"][0].numpy())
        levels.append(g[g > 0])
        noise.append(float(item["acceleration_net"]) ** 0.5 * g[g > 0])
        for name, model in models.items():
            errors[name].append(np.abs(image_of(model, item, device) - target)[g > 0] / (2**0.5 * sigma))
    order = np.argsort(np.concatenate(levels), kind="stable")
    eighths = np.array_split(order, BINS)

    def rms(parts: list[NDArray[np.floating]]) -> list[float]:
        squares = np.concatenate(parts) ** 2
        return [float(squares[eighth].mean() ** 0.5) for eighth in eighths]

    middles = [float(np.median(np.concatenate(levels)[eighth])) for eighth in eighths]
    return Conditioned(middles, rms(noise), {name: rms(parts) for name, parts in errors.items()})
