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

Row = dict[str, Any]
Image = NDArray[np.complex64]
METRICS = tuple(metric.__name__ for metric in SLICE_METRICS)


def reconstructions(
    model: Reconstruction, pairs: PairDataset, batch_size: int = 4, device: torch.device | str | None = None
) -> Iterator[tuple[dict[str, Tensor], Image]]:
    """Batches, bucket by bucket, on the CPU and without their k-space, each with its images [batch y x]."""
    loader = make_loader(pairs, batch_size, shuffle=False, device=device)
    for batch in loader:
        with torch.no_grad():
            images = model(batch).cpu().numpy()
        left = {name: value.cpu() for name, value in batch.items() if name not in ("masked_kspace", "sens_maps")}
        yield left, images


def rows_of(batch: dict[str, Tensor], images: Image, pairs: PairDataset) -> list[Row]:
    """A row per pair: which it is, its SNR and acceleration, and every metric of `recon.metrics`.

    Of regularly undersampled pairs also ``aliasing_energy``: the share of the error that looks like aliases.
    """
    rows: list[Row] = []
    sampling = pairs.recipe.sampling
    for k, image in enumerate(images):
        reference = batch["target"][k].numpy()
        row: Row = {
            "pair": int(batch["pair_id"][k]),
            "acceleration_net": float(batch["acceleration"][k]),
            "sigma": float(batch["sigma"][k]),
            **slice_metrics(image, reference),
        }
        shifts = _alias_shifts(sampling, reference.shape)
        if shifts:
            row["aliasing_energy"] = aliasing_energy(image, reference, shifts)
        rows.append(row)
    return rows


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
    return [name for name in (*METRICS, "aliasing_energy") if all(name in row for row in rows)]
