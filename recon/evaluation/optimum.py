"""The number of a baseline (such as its lam) at which a metric is best, and the predicted lam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.datasets import PairDataset

DRAWS = 1000


@dataclass(frozen=True)
class Optimum:
    """The number at which a metric's mean over a corpus is largest, with its 95 % bootstrap interval over pairs."""

    kind: str
    corpus: str
    metric: str
    best: float
    low: float
    high: float
    interior: bool  # not at an end of the numbers that were tried
    predicted: float | None  # for lam: SNR / (2 sqrt(R)), mean over the pairs

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def optimum_of(
    kind: str, corpus: str, metric: str, numbers: Sequence[float], values: NDArray[np.float64], predicted: float | None
) -> Optimum:
    """The optimum of a metric [pair number], with its bootstrap interval over pairs."""
    curve = values.mean(axis=0)
    draw = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile([peak(numbers, values[chosen].mean(axis=0)) for chosen in draw], [0.025, 0.975])
    interior = 0 < int(curve.argmax()) < len(numbers) - 1
    return Optimum(kind, corpus, metric, peak(numbers, curve), float(low), float(high), interior, predicted)


def peak(numbers: Sequence[float], curve: NDArray[np.float64]) -> float:
    """The number where a curve is largest, by the parabola in log(number) through the best point and its neighbours."""
    k = int(curve.argmax())
    if not 0 < k < len(numbers) - 1:
        return float(numbers[k])
    a, b, _ = np.polyfit(np.log(numbers[k - 1 : k + 2]), curve[k - 1 : k + 2], 2)
    return float(np.exp(-b / (2 * a)))


def predicted_lam(corpus: Path) -> float | None:
    """SNR / (2 sqrt(R)), the best lam against a white prior (`recon.models.sense`), mean over pairs.

    SNR is the target's rms over the noise of a fully sampled image, sqrt(2) sigma. The result is None without noise,
    and for noisy references, because these favour an image that keeps the noise of the reference.
    """
    pairs = PairDataset(corpus, with_maps=False)
    if pairs.recipe.target.reference != "clean":
        return None
    found = []
    for position in range(len(pairs)):
        item = pairs[position]
        noise = 2 * float(item["sigma"]) ** 2 * float(item["acceleration_net"])
        if not noise > 0:
            return None
        found.append((float(item["target"].abs().square().mean()) / noise) ** 0.5 / 2)
    return float(np.mean(found)) if found else None
