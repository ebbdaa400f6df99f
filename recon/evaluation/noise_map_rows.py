"""Rows of local noise, and of where the data do not decide the image, for every pair of a corpus."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from synth.stages.object_mask import mean_over_object

from ..data.datasets import PairDataset
from ..data.loader import make_loader
from ..data.packed_batch import Batch
from ..models.called import image_by
from ..models.catalogue import Reconstruction
from .noise_map import PROBES, noise_map
from .rows import Row
from .undecided import halves_agreement, null_component, null_share

Shown = dict[str, NDArray[np.float64]]


def noise_map_rows(
    model: Reconstruction,
    pairs: PairDataset,
    probes: int = PROBES,
    batch_size: int = 4,
    device: torch.device | str | None = None,
    advance: Callable[[int, str], None] = lambda *_: None,
) -> tuple[list[Row], Shown]:
    """Rows of the noise at hand and of what the data decide, and the first pair's maps [y x].

    ``noise_sd`` and ``noise_sd_magnitude`` are the means over the object of the maps of `noise_map`, and
    ``noise_sd_error`` is the relative standard error of a pixel of the map; ``null_share`` and ``halves_agreement`` are
    those of `recon.evaluation.undecided`. Magnitudes have no ``null_share``, since it needs the phase. The maps are
    "noise", "null share" and "agreement".

    `advance` is called with the number of pairs that are done, 0 between products, and a note on the products.

    Raises ValueError where the corpus's noise is not known, or not white.
    """
    if not pairs.recipe.noise_is_white:
        raise ValueError(
            "noise maps are for white noise, and this corpus's is not: noise.covariance is "
            f"'{pairs.recipe.noise.covariance}', target.zero_filled {pairs.recipe.target.zero_filled}; leave the noise "
            "map out"
        )
    rows: list[Row] = []
    first: tuple[int, Shown] | None = None
    for batch in make_loader(pairs, batch_size, shuffle=False, device=device):
        for row, shown in _of_batch(model, batch, probes, counted(probes, partial(advance, 0))):
            rows.append(row)
            if first is None or row["pair"] < first[0]:
                first = row["pair"], shown
        advance(len(batch["pair_id"]), "")
    if first is None:
        raise ValueError("this corpus has no pair")
    return rows, first[1]


def counted(probes: int, told: Callable[[str], None], what: str = "its noise map") -> Callable[[], None]:
    """A function that tells what share of a map's products was made, each time that it is called."""
    number = itertools.count()
    return lambda: told(f", {what}: {100 * min(next(number), probes) // probes} %")


def _of_batch(
    model: Reconstruction, batch: Batch, probes: int, progress: Callable[[], None]
) -> list[tuple[Row, Shown]]:
    found = noise_map(model, batch, probes, progress=progress)
    halves = halves_agreement(model, batch)
    with torch.no_grad():
        images = image_by(model, batch)
        null = null_component(images, batch).cpu().numpy() if images.is_complex() else None
    made = []
    for k, (pair, reference) in enumerate(zip(batch["pair_id"].tolist(), batch["target"].cpu().numpy(), strict=True)):
        truth = np.abs(reference)
        row: Row = {
            "pair": pair,
            "noise_sd": mean_over_object(found.spread[k], truth),
            "noise_sd_magnitude": mean_over_object(found.magnitude[k], truth),
            "noise_sd_error": float(found.error[k]),
            "halves_agreement": halves[k][0],
        }
        shown: Shown = {"noise": found.spread[k], "agreement": halves[k][1]}
        if null is not None:
            row["null_share"], shown["null share"] = null_share(images[k].cpu().numpy(), null[k], reference)
        made.append((row, shown))
    return made
