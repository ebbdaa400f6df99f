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


def best_and_worst(results: Results) -> list[str]:
    """The model that comes closest to the reference on each corpus, and the one that is farthest from it."""
    models, lines = results.study.tests.models, []
    for corpus in results.study.tests.corpora[:CORPORA]:
        cells = np.array(matrix(results.rows, models, [corpus], "ssim_windowed_slice_range"), dtype=object)[:, 0]
        there = [(cell["mean"], model) for cell, model in zip(cells, models, strict=True) if cell]
        if there:
            (best, first), (worst, last) = max(there), min(there)
            nearest, farthest = f"{first} comes closest (SSIM {best:.3f})", f"{last} is farthest ({worst:.3f})"
            lines.append(f"On {corpus}, {nearest} and {farthest}.")
    return lines


def expectations(results: Results) -> list[str]:
    """How many expectations have each verdict."""
    counted = Counter(finding.verdict for finding in results.findings)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    return [f"Of {len(results.findings)} expectations: {told}."] if counted else []


def optima(results: Results) -> list[str]:
    """The best lam, and the predicted one."""
    return [
        f"On {o.corpus}, the best lam of {o.kind} by PSNR is {o.best:.2f} [{o.low:.2f}, {o.high:.2f}], "
        f"and the predicted one is {o.predicted:.2f}."
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


ANSWERS = (best_and_worst, expectations, optima, moves, counts)


def answers(results: Results) -> list[str]:
    """Every sentence, in the order of `ANSWERS`."""
    if not results.rows:
        return ["No test has been made yet."]
    return [line for answer in ANSWERS for line in answer(results)]
