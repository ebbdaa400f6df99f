"""Means over pairs, and differences between models, each with a bootstrap interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .rows import METRICS, Row


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean over pairs with its 95 % bootstrap interval."""
    mean, low, high = paired_bootstrap(np.asarray(values), np.zeros(len(values)))
    return {"mean": mean, "low": low, "high": high}


def summary_of(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean and interval of every metric."""
    return {name: interval([row[name] for row in rows]) for name in metrics_in(rows)}


def differences(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean of rows - others over the same pairs, with its interval; raises ValueError where pairs differ."""
    if [row["pair"] for row in rows] != [row["pair"] for row in others]:
        raise ValueError("the rows of the two models are of different pairs; test both models on the same corpus")
    found = {}
    for name in metrics_in([*rows, *others]):
        mine, theirs = (np.array([row[name] for row in part]) for part in (rows, others))
        mean, low, high = paired_bootstrap(mine, theirs)
        found[name] = {"mean": mean, "low": low, "high": high}
    return found


def metrics_in(rows: Sequence[Row]) -> list[str]:
    """The metrics that every row has."""
    return [name for name in METRICS if all(name in row for row in rows)]


def paired_bootstrap(
    first: NDArray[np.floating], second: NDArray[np.floating], draws: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of first - second over the same slices, and its confidence interval (Efron's percentiles)."""
    with np.errstate(invalid="ignore"):
        difference = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if not np.isfinite(difference).all():  # the PSNR of an exact image is infinite
        mean = float(difference.mean())
        return mean, mean, mean
    draw = np.random.default_rng(seed)
    chunks = [min(100, draws - done) for done in range(0, draws, 100)]  # all at once would be 160 kB per pair
    means = np.concatenate(
        [difference[draw.integers(len(difference), size=(n, len(difference)))].mean(axis=1) for n in chunks]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(difference.mean()), float(low), float(high)
