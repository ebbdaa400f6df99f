"""Baselines that were tested with several numbers: their curves, and where they are best, beside what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.loader import PairDataset

from .alerts import alerting
from .findings import by_pair
from .picture import png
from .study import Stage
from .study_run import Row

METRICS = ("psnr_magnitude_slice_max", "ssim_windowed_slice_range")
DRAWS = 1000
ENOUGH = 3  # numbers make a curve


@dataclass(frozen=True)
class Optimum:
    """Where the mean of a metric over a corpus is largest, with its 95 % bootstrap interval over pairs."""

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


def sweeps(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Baselines that were tested with several numbers, by kind: ``regularised-sense:0.5``, ``:1``, ..."""
    kinds: dict[str, list[str]] = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        if ":" in model:
            kinds.setdefault(model.partition(":")[0], []).append(model)
    return {kind: sorted(m, key=_number) for kind, m in kinds.items() if len(m) >= ENOUGH}


def _number(model: str) -> float:
    return float(model.partition(":")[2])


def optima(rows: Sequence[Row], stages: dict[str, Stage], out: Path, alerts: list[str]) -> list[Optimum]:
    """The best number of every sweep on every corpus on which all of it was tested."""
    found = []
    for kind, models in sweeps(rows).items():
        for corpus in dict.fromkeys(row["corpus"] for row in rows):
            for metric in METRICS:
                values = _values(rows, models, corpus, metric)
                if values is not None:
                    predicted = None
                    if (kind, metric) == ("regularised-sense", "psnr_magnitude_slice_max"):
                        with alerting(f"the lam that is predicted for {corpus}", alerts):
                            predicted = predicted_lam(out / stages[f"build/{corpus}"].folder)
                    found.append(_optimum(kind, corpus, metric, [_number(m) for m in models], values, predicted))
    return found


def _values(rows: Sequence[Row], models: Sequence[str], corpus: str, metric: str) -> NDArray[np.float64] | None:
    """The metric [pair model]; None where a model has no rows."""
    columns = [by_pair(rows, model, corpus, metric) for model in models]
    common = sorted(set.intersection(*(set(column) for column in columns)))
    return np.array([[column[pair] for column in columns] for pair in common]) if common else None


def _optimum(
    kind: str, corpus: str, metric: str, numbers: Sequence[float], values: NDArray[np.float64], predicted: float | None
) -> Optimum:
    curve = values.mean(axis=0)
    draw = np.random.default_rng(0).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile([peak(numbers, values[chosen].mean(axis=0)) for chosen in draw], [0.025, 0.975])
    interior = 0 < int(curve.argmax()) < len(numbers) - 1
    return Optimum(kind, corpus, metric, peak(numbers, curve), float(low), float(high), interior, predicted)


def peak(numbers: Sequence[float], curve: NDArray[np.float64]) -> float:
    """Where a curve over the logarithms of `numbers` is largest, by the parabola through its best three points."""
    k = int(curve.argmax())
    if not 0 < k < len(numbers) - 1:
        return float(numbers[k])
    a, b, _ = np.polyfit(np.log(numbers[k - 1 : k + 2]), curve[k - 1 : k + 2], 2)
    return float(np.exp(-b / (2 * a)))


def predicted_lam(corpus: Path) -> float | None:
    """SNR / (2 sqrt(R)), the best lam against a white prior (`recon.sense`), mean over pairs.

    SNR is the target's rms over the noise of a fully sampled image, sqrt(2) sigma. None without noise, and for noisy
    references, which reward an image that keeps their noise.
    """
    pairs = PairDataset(corpus, with_maps=False)
    if pairs.recipe.target.reference != "clean":
        return None
    found = []
    for position in range(len(pairs)):
        item = pairs[position]
        noise = 2 * float(item["sigma"]) ** 2 * float(item["acceleration"])
        if not noise > 0:
            return None
        found.append((float(item["target"].abs().square().mean()) / noise) ** 0.5 / 2)
    return float(np.mean(found)) if found else None


def sweep_drawing(rows: Sequence[Row], kind: str, best: Sequence[Optimum]) -> bytes:
    """PSNR and SSIM over a baseline's numbers (Nickel's Figure 3), a curve per corpus; dotted lines are predicted."""
    from matplotlib.figure import Figure

    models = sweeps(rows)[kind]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, metric in zip(figure.subplots(1, len(METRICS)), METRICS, strict=True):
        for corpus in dict.fromkeys(row["corpus"] for row in rows):
            values = _values(rows, models, corpus, metric)
            if values is None:
                continue
            (line,) = axes.semilogx([_number(m) for m in models], values.mean(axis=0), marker=".", label=corpus)
            for optimum in best:
                if (optimum.corpus, optimum.metric) == (corpus, metric) and optimum.predicted is not None:
                    axes.axvline(optimum.predicted, color=line.get_color(), linestyle=":", linewidth=1)
        axes.set_xlabel(kind)
        axes.set_ylabel(metric, fontsize=8)
        axes.legend(fontsize=7)
    return png(figure, 110)
