"""Baselines that were tested with several numbers: their curves, their best numbers, and the predicted lam."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recon.evaluation.definitions import defined
from recon.evaluation.optimum import Optimum, optimum_of, predicted_lam
from recon.evaluation.units import Units, units_of

from ..display.image_panels import plain_numbers, png
from .findings import by_pair
from .folder import Row, StudyFolder

PARAMETERS = {"cg-sense": "iterations", "regularised-sense": "lam", "wavelet": "lam"}
METRICS = ("psnr_magnitude_slice_max", "ssim_windowed_slice_range")
ENOUGH = 3  # the fewest numbers that make a curve


def sweeps(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Baselines that were tested with several numbers, by kind: ``regularised-sense:0.5``, ``:1``, ..."""
    kinds: dict[str, list[str]] = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        if ":" in model:
            kinds.setdefault(model.partition(":")[0], []).append(model)
    return {kind: sorted(m, key=_number) for kind, m in kinds.items() if len(m) >= ENOUGH}


def _number(model: str) -> float:
    return float(model.partition(":")[2])


def optima(rows: Sequence[Row], folder: StudyFolder) -> list[Optimum]:
    """The best number of every sweep on every corpus on which all of it was tested."""
    found = []
    for kind, models in sweeps(rows).items():
        for corpus in dict.fromkeys(row["corpus"] for row in rows):
            for metric in METRICS:
                values, units = _values(rows, models, corpus, metric)
                if units is not None:
                    predicted = None
                    if (kind, metric) == ("regularised-sense", "psnr_magnitude_slice_max"):
                        with folder.alerting(f"the predicted lam for {corpus}"):
                            predicted = predicted_lam(folder.of(f"build/{corpus}"))
                    numbers = [_number(m) for m in models]
                    found.append(optimum_of((kind, corpus, metric), numbers, values, units, predicted))
    return found


def _values(
    rows: Sequence[Row], models: Sequence[str], corpus: str, metric: str
) -> tuple[NDArray[np.float64], Units | None]:
    """The metric [pair model] and the units of the pairs; None where a model has no rows."""
    columns = [by_pair(rows, model, corpus, metric) for model in models]
    common = sorted(set.intersection(*(set(column) for column in columns)))
    named = {row["pair"]: row for row in rows if row["corpus"] == corpus}
    values = np.array([[column[pair] for column in columns] for pair in common])
    return values, units_of([named[pair] for pair in common]) if common else None


def sweep_drawings(rows: Sequence[Row], kind: str, best: Sequence[Optimum]) -> list[bytes]:
    """PSNR and SSIM over a baseline's numbers (Nickel's Figure 3), a curve per corpus; dotted: the predicted lam."""
    from matplotlib.figure import Figure

    models = sweeps(rows)[kind]
    numbers = [_number(m) for m in models]
    found = []
    for metric in METRICS:
        figure = Figure(figsize=(3.25, 3.2), layout="constrained")
        axes = figure.subplots()
        for corpus in dict.fromkeys(row["corpus"] for row in rows):
            values, units = _values(rows, models, corpus, metric)
            if units is None:
                continue
            (line,) = axes.semilogx(numbers, values.mean(axis=0), marker=".", label=corpus)
            for optimum in best:
                if (optimum.corpus, optimum.metric) == (corpus, metric) and optimum.predicted is not None:
                    axes.axvline(optimum.predicted, color=line.get_color(), linestyle=":", linewidth=1)
        plain_numbers(axes)
        axes.set_xlabel(f"{PARAMETERS.get(kind, 'number')} of {kind}")
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.set_title(defined(metric).title, fontsize=10)
        axes.legend(fontsize=7)
        found.append(png(figure, 110))
    return found
