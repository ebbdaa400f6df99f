"""Testing a reconstruction on pairs: a row of metrics per pair, and intervals for their means and differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from synth.lines import RegularSpec
from synth.points import Regular2DSpec
from synth.sampling import SamplingSpec

from .batches import make_loader
from .loader import PairDataset
from .metrics import SLICE_METRICS, aliasing_energy, paired_bootstrap, slice_metrics
from .models import Reconstruction
from .probes import contrast_recovery, data_consistency, false_lesions, noise_maps, noise_spread, pure_noise

Row = dict[str, Any]
Image = NDArray[np.complex64]
PROBES = ("contrast_recovery", "false_lesions", "noise_gain", "noise_kurtosis", "noise_spread")
METRICS = (*(metric.__name__ for metric in SLICE_METRICS), "aliasing_energy", "data_consistency", *PROBES)


def reconstructions(
    model: Reconstruction, pairs: PairDataset, batch_size: int = 4, device: torch.device | str | None = None
) -> Iterator[tuple[dict[str, Tensor], Image]]:
    """Batches, bucket by bucket, each with its images [batch y x]."""
    for batch in make_loader(pairs, batch_size, shuffle=False, device=device):
        with torch.no_grad():
            yield batch, model(batch).cpu().numpy()


def rows_of(batch: dict[str, Tensor], images: Image, pairs: PairDataset) -> list[Row]:
    """A row per pair: which it is, its SNR and acceleration, and every metric of `recon.metrics`.

    Where there is noise also ``data_consistency``, and of regularly undersampled pairs ``aliasing_energy``: the share
    of the error that looks like aliases.
    """
    rows: list[Row] = []
    sampling = pairs.recipe.sampling
    consistency = data_consistency(torch.from_numpy(images).to(batch["masked_kspace"]), batch)
    for k, image in enumerate(images):
        reference = batch["target"][k].cpu().numpy()
        row: Row = {
            "pair": int(batch["pair_id"][k]),
            "acceleration_net": float(batch["acceleration"][k]),
            "sigma": float(batch["sigma"][k]),
            **slice_metrics(image, reference),
        }
        shifts = _alias_shifts(sampling, reference.shape)
        if shifts:
            row["aliasing_energy"] = aliasing_energy(image, reference, shifts)
        if row["sigma"] > 0:
            row["data_consistency"] = consistency[k]
        rows.append(row)
    return rows


def lesion_rows(
    model: Reconstruction,
    pairs: PairDataset,
    without: PairDataset,
    batch_size: int = 4,
    device: torch.device | str | None = None,
) -> list[Row]:
    """What became of lesions in `pairs`, and how often one appears in the same pairs `without` them (`recon.probes`).

    Raises ValueError where the corpora differ in more than their lesions.
    """
    lesions, bare = pairs.recipe.target.lesions, pairs.recipe.target.model_copy(update={"lesions": None})
    if lesions is None or pairs.recipe.model_copy(update={"target": bare}) != without.recipe:
        raise ValueError("these corpora must have the same recipe but for target.lesions, which the first has alone")
    rows = []
    both = (reconstructions(model, part, batch_size, device) for part in (pairs, without))
    for (batch, images), (bare_batch, bare_images) in zip(*both, strict=True):
        if not torch.equal(batch["pair_id"], bare_batch["pair_id"]):
            raise ValueError("these corpora rejected different photographs, so that their pairs do not match")
        targets, bare_targets = (part["target"].cpu().numpy() for part in (batch, bare_batch))
        for k, pair in enumerate(batch["pair_id"].tolist()):
            recovered = contrast_recovery(images[k], bare_images[k], targets[k], bare_targets[k])
            appeared = false_lesions(bare_images[k], bare_targets[k], lesions)
            rows.append({"pair": pair, "contrast_recovery": float(np.mean(recovered)), "false_lesions": appeared})
    return rows


def noise_rows(
    model: Reconstruction,
    pairs: PairDataset,
    replicas: int,
    batch_size: int = 4,
    device: torch.device | str | None = None,
) -> tuple[list[Row], NDArray[np.float64]]:
    """What becomes of noise alone, how even noise is (`recon.probes`), and the first pair's noise map [y x]."""
    rows, maps = [], []
    for batch in make_loader(pairs, batch_size, shuffle=False, device=device):
        with torch.no_grad():
            alone, levels = pure_noise(model, batch), noise_maps(model, batch, replicas)
        for pair, found, level, target in zip(batch["pair_id"].tolist(), alone, levels, batch["target"], strict=True):
            rows.append({"pair": pair, **found, "noise_spread": noise_spread(level, target.cpu().numpy())})
            maps.append((pair, level))
    return rows, min(maps, key=lambda entry: entry[0])[1]


def _alias_shifts(sampling: SamplingSpec, shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Where regular undersampling folds an image [y x] onto itself; nowhere for other masks."""
    if isinstance(sampling, RegularSpec):
        rates = (1, sampling.acceleration)
    elif isinstance(sampling, Regular2DSpec) and sampling.shift == 0:
        rates = sampling.acceleration
    else:
        return []
    steps = [n / rate for n, rate in zip(shape, rates, strict=True)]
    every = [(round(steps[0] * j), round(steps[1] * k)) for j in range(rates[0]) for k in range(rates[1])]
    return every[1:]


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over pairs with its 95 % bootstrap interval."""
    mean, low, high = paired_bootstrap(np.asarray(values), np.zeros(len(values)))
    return {"mean": mean, "low": low, "high": high}


def summary_of(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean and interval of every metric."""
    return {name: interval([row[name] for row in rows]) for name in _metrics_in(rows)}


def differences(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean of rows - others over the same pairs, with its interval; raises ValueError where pairs differ."""
    if [row["pair"] for row in rows] != [row["pair"] for row in others]:
        raise ValueError("these rows are of other pairs; test both models on the same corpus")
    found = {}
    for name in _metrics_in(rows):
        mine, theirs = (np.array([row[name] for row in part]) for part in (rows, others))
        mean, low, high = paired_bootstrap(mine, theirs)
        found[name] = {"mean": mean, "low": low, "high": high}
    return found


def _metrics_in(rows: Sequence[Row]) -> list[str]:
    return [name for name in METRICS if all(name in row for row in rows)]
