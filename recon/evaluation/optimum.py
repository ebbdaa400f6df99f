"""The number of a baseline (such as its lam) at which a metric is best, and the predicted lam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.physics import centre_block, fft2c

from ..data.datasets import PairDataset
from .intervals import draws_of
from .units import Units

DRAWS = 1000


@dataclass(frozen=True)
class Optimum:
    """The number at which a metric's mean over a corpus is largest, with its 95 % bootstrap interval over `over`.

    The interval's ends are None where it is not known: a single unit has none.
    """

    kind: str
    corpus: str
    metric: str
    best: float
    low: float | None
    high: float | None
    interior: bool  # not at an end of the numbers that were tried
    predicted: float | None  # for lam: see `predicted_lam`
    over: str = ""  # the units of the interval, such as "20 sources"

    def ends(self, how: str) -> str:
        """The interval's ends as text, such as ``1.91 … 2.30``."""
        known = self.low is not None and self.high is not None
        return f"{self.low:{how}} … {self.high:{how}}" if known else "no interval"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def optimum_of(
    what: tuple[str, str, str],
    numbers: Sequence[float],
    values: NDArray[np.float64],
    units: Units,
    predicted: float | None,
) -> Optimum:
    """The optimum of a metric [pair number] with its interval; `what` is the kind, the corpus and the metric.

    The interval is an expanded percentile interval (`recon.evaluation.intervals.draws_of`) over the units.
    """
    curve = values.mean(axis=0)
    interior = 0 < int(curve.argmax()) < len(numbers) - 1
    if units.count < 2:
        return Optimum(*what, peak(numbers, curve), None, None, interior, predicted, units.over)
    weights, levels = draws_of(units, DRAWS)
    low, high = np.quantile([peak(numbers, drawn) for drawn in weights @ values], levels)
    return Optimum(*what, peak(numbers, curve), float(low), float(high), interior, predicted, units.over)


def peak(numbers: Sequence[float], curve: NDArray[np.float64]) -> float:
    """The number where a curve is largest, by the parabola in log(number) through the best point and its neighbours."""
    k = int(curve.argmax())
    if not 0 < k < len(numbers) - 1:
        return float(numbers[k])
    a, b, _ = np.polyfit(np.log(numbers[k - 1 : k + 2]), curve[k - 1 : k + 2], 2)
    return float(np.exp(-b / (2 * a)))


def predicted_lam(corpus: Path) -> float | None:
    """The best lam where the signal outside of the reference lines is white: SNR / (2 sqrt(R)), mean over pairs.

    `recon.models.sense` has the optimum for a white image of any SNR. The reference lines are sampled whole, so that
    the prior decides only about the frequencies outside of them. Images have much less energy there: SNR^2 is the mean
    of |target|^2 over those frequencies, divided by the noise of a fully sampled image, 2 sigma^2. Without reference
    lines, it is that of the image. As the energy falls further with frequency, the best lam differs from this one: it
    was 1.2 to 1.8 times as large on heads and photographs with 12 reference lines at R = 4 and 6, and 0.9 times
    without reference lines at R = 2 x 2.

    The result is None without noise, and for noisy references, because these favour an image that keeps the noise of
    the reference.
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
        spectrum = fft2c(item["target"].numpy().astype(np.complex128))
        lines, points = getattr(pairs.recipe.sampling, "reference_lines", 0), item["mask"].shape[-2] > 1
        outside = np.ones(spectrum.shape, bool)
        rows = centre_block(spectrum.shape[0], lines) if points else slice(None)
        outside[rows, centre_block(spectrum.shape[1], lines)] = False
        found.append((float(np.square(np.abs(spectrum[outside])).mean()) / noise) ** 0.5 / 2)
    return float(np.mean(found)) if found else None
