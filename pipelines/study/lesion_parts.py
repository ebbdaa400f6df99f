"""Lesions as they were and as they came back: small parts of the reference and of each model's image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import label

from recon.data.datasets import PairDataset
from recon.evaluation.metrics import over_sets
from recon.evaluation.rows import image_of, source_columns
from recon.models.catalogue import Reconstruction
from synth.stages.object_mask import object_of

from ..display.image_panels import Line, Panel, draw_rows
from ..models.evaluate import told_of

SIDE, COLUMNS = 160, 7  # pixels of a panel, panels in a line
LEAST = 12  # pixels on each side of a lesion's centre, at least
QUANTILE = 0.99  # of the reference's part that is white
Image = NDArray[np.floating]


def draw_lesion(
    models: Mapping[str, Reconstruction],
    pairs: PairDataset,
    bare: PairDataset,
    errors: Mapping[int, float],
    device: torch.device,
    file: Path,
) -> None:
    """Draw a lesion of the pair with the median error, of the reference and of each model, and what it alone changed.

    `bare` holds the same pairs without lesions; `errors` are the lesion errors of the first model by pair.
    """
    median = sorted(errors, key=lambda pair: errors[pair])[len(errors) // 2]
    item, without = (part[part.pair_ids.index(median)] for part in (pairs, bare))
    images = {"reference": tuple(np.abs(over_sets(part["target"].numpy())) for part in (item, without))}
    for name, model in models.items():
        images[name] = tuple(np.abs(image_of(model, part, device)) for part in (item, without))
    lesions = pairs.recipe.target.lesions
    assert lesions is not None
    heading = f"{lesions.diameter:g} pixels: {told_of({'pair': median, **source_columns(pairs.sources.get(median))})}"
    draw_rows([heading, *lesion_lines(images, lesions.diameter)], file, SIDE, COLUMNS)


def lesion_lines(images: Mapping[str, tuple[Image, ...]], diameter: float) -> list[Line]:
    """Two lines of panels of the first lesion: images with it, and their change against images without it.

    `images` are magnitudes [y x] with and without the lesion; the first is the reference.
    """
    reference, bare = next(iter(images.values()))
    added = reference - bare
    regions, _ = label(object_of(np.abs(added)), np.ones((3, 3)))
    y, x = (round(float(part.mean())) for part in np.nonzero(regions == 1))
    half = max(LEAST, round(2 * diameter))
    part = tuple(slice(*_within(centre, half, n)) for centre, n in zip((y, x), reference.shape, strict=True))
    white = float(np.quantile(reference[part], QUANTILE)) or 1.0
    sign, most = float(np.sign(added[y, x])), float(np.abs(added[part]).max())
    shown = [Panel(name, image[part], white) for name, (image, _) in images.items()]
    alone = [Panel("lesion alone", sign * (image - without)[part], most) for image, without in images.values()]
    lines: list[Line] = []
    for k in range(0, len(shown), COLUMNS):
        lines += [shown[k : k + COLUMNS], alone[k : k + COLUMNS]]
    return lines


def _within(centre: int, half: int, size: int) -> tuple[int, int]:
    """The ends of a part of 2 `half` + 1 pixels around a centre, moved into the image."""
    start = min(max(0, centre - half), max(0, size - 2 * half - 1))
    return start, min(size, start + 2 * half + 1)
