"""The results of a study in sentences with numbers, with which the report begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon.evaluation.optimum import Optimum

from .findings import Finding, matrix
from .folder import Row
from .settings import Study

CORPORA = 3  # the most corpora that have a sentence


@dataclass(frozen=True)
class Results:
    """The results from which a study's sentences are made."""

    study: Study
    rows: Sequence[Row]
    findings: Sequence[Finding]
    moves: Sequence[tuple[str, dict[str, float]]]  # by how much fine-tuning moved each kind of parameter
    optima: Sequence[Optimum] = ()


def lesions(results: Results) -> list[str]:
    """Which model shows lesions with the least and the most error, and which shows the fewest and most false ones."""
    ends = _least_and_most(results, "lesion_error")
    lines = []
    if ends is not None:
        least, most = ends
        meaning = "0: right, 1: lost, inverted or doubled"
        lines.append(f"Lesions are shown with the least error ({meaning}) by {least}, and with the most by {most}.")
    ends = _least_and_most(results, "false_lesions")
    if ends is not None:
        lines.append(f"False lesions (share of places without one) are fewest with {ends[0]}, and most with {ends[1]}.")
    return lines


def noise(results: Results) -> list[str]:
    """Which model lets through the least and the most noise, and whose noise is the most and the least even.

    The zero-filled image is left out: it keeps its aliases, so that nothing amplifies its noise.
    """
    said = {
        "noise_gain": "Noise (1: that of a fully sampled image) is lowest with {}, and highest with {}.",
        "noise_spread": "Noise is most even (1: the same everywhere) with {}, and least even with {}.",
    }
    ends = {metric: _least_and_most(results, metric, without=("zero-filled",)) for metric in said}
    lines = [said[metric].format(*found) for metric, found in ends.items() if found is not None]
    left_out = "zero-filled" in results.study.tests.models and bool(lines)
    return (
        lines
        + ["The zero-filled image is left out there: it keeps its aliases, so that nothing amplifies noise."] * left_out
    )


def _least_and_most(results: Results, metric: str, without: Sequence[str] = ()) -> tuple[str, str] | None:
    """The models with the least and the greatest mean of a metric over all corpora that have it, with their values."""
    corpora = [c for c in results.study.tests.corpora if any(r["corpus"] == c and metric in r for r in results.rows)]
    models = [model for model in results.study.tests.models if model not in without]
    cells = dict(zip(models, matrix(results.rows, models, corpora, metric), strict=True))
    means = {model: [cell.mean for cell in line if cell] for model, line in cells.items()}
    whole = {model: values for model, values in means.items() if len(values) == len(corpora) > 0}
    if len(whole) < 2:
        return None
    order = sorted(whole, key=lambda model: float(np.mean(whole[model])))
    told = {
        model: ", ".join(f"{value:.2g} on {corpus}" for value, corpus in zip(whole[model], corpora, strict=True))
        for model in (order[0], order[-1])
    }
    return tuple(f"{model} ({values})" for model, values in told.items())  # type: ignore[return-value]


def best_and_worst(results: Results) -> list[str]:
    """The model that comes closest to the reference on each corpus, and the one that is farthest from it."""
    models, lines = results.study.tests.models, []
    for corpus in results.study.tests.corpora[:CORPORA]:
        cells = np.array(matrix(results.rows, models, [corpus], "ssim_windowed_slice_range"), dtype=object)[:, 0]
        there = [(cell.mean, model) for cell, model in zip(cells, models, strict=True) if cell]
        if there:
            (best, first), (worst, last) = max(there), min(there)
            nearest, farthest = f"{first} comes closest (SSIM {best:.3f})", f"{last} is farthest ({worst:.3f})"
            lines.append(f"On {corpus}, {nearest} and {farthest}.")
    return lines


def expectations(results: Results) -> list[str]:
    """How many expectations have each verdict."""
    counted = Counter(finding.verdict for finding in results.findings)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    many = "s" if len(results.findings) > 1 else ""
    return [f"Of {len(results.findings)} expectation{many}: {told}."] if counted else []


def optima(results: Results) -> list[str]:
    """The best lam, and the predicted one (`recon.evaluation.optimum.predicted_lam`)."""
    return [
        f"On {o.corpus}, the best lam of {o.kind} by PSNR is {o.best:.2f} ({o.ends('.2f')}); it would be "
        f"{o.predicted:.2f} if the image were white outside of the reference lines."
        for o in results.optima
        if o.metric == "psnr_magnitude_slice_max" and o.interior and o.predicted is not None
    ]


def moves(results: Results) -> list[str]:
    """By how much fine-tuning moved each kind of parameter."""
    lines = []
    for name, kinds in results.moves:
        told = ", ".join(f"{kind} by {100 * value:.1f} %" for kind, value in kinds.items())
        lines.append(f"From {name}, training changed {told}.")
    return lines


def counts(results: Results) -> list[str]:
    """How much was tested."""
    rows = results.rows
    pairs, models = len({(row["corpus"], row["pair"]) for row in rows}), len({row["model"] for row in rows})
    return [f"{len(rows)} rows, {pairs} test pairs, {models} models."]


ANSWERS = (lesions, noise, expectations, best_and_worst, optima, moves, counts)


def answers(results: Results) -> list[str]:
    """Every sentence, in the order of `ANSWERS`."""
    if not results.rows:
        return ["No test has been made yet."]
    return [line for answer in ANSWERS for line in answer(results)]
