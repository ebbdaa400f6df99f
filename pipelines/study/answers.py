"""What came of a study, in sentences with numbers: the report begins with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon.evaluation.optimum import Optimum

from .findings import Finding, matrix
from .folder import Row
from .settings import Study

CORPORA = 3  # that sentences are made of, at most


@dataclass(frozen=True)
class Results:
    """All that a study's sentences are made of."""

    study: Study
    rows: Sequence[Row]
    findings: Sequence[Finding]
    moves: Sequence[tuple[str, dict[str, float]]]  # by how much fine-tuning moved each kind of parameter
    optima: Sequence[Optimum] = ()


def best_and_worst(results: Results) -> list[str]:
    """Which model comes closest to the reference on a corpus, and which least."""
    models, lines = results.study.tests.models, []
    for corpus in results.study.tests.corpora[:CORPORA]:
        cells = np.array(matrix(results.rows, models, [corpus], "ssim_windowed_slice_range"), dtype=object)[:, 0]
        there = [(cell["mean"], model) for cell, model in zip(cells, models, strict=True) if cell]
        if there:
            (best, first), (worst, last) = max(there), min(there)
            lines.append(f"On {corpus}, {first} comes closest (SSIM {best:.3f}) and {last} least ({worst:.3f}).")
    return lines


def expectations(results: Results) -> list[str]:
    """How many expectations came to which verdict."""
    counted = Counter(finding.verdict for finding in results.findings)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    return [f"Of {len(results.findings)} expectations: {told}."] if counted else []


def optima(results: Results) -> list[str]:
    """Where lam is best, beside where it is predicted."""
    return [
        f"On {o.corpus}, the best lam of {o.kind} by PSNR is {o.best:.2f} [{o.low:.2f}, {o.high:.2f}], "
        f"predicted {o.predicted:.2f}."
        for o in results.optima
        if o.metric == "psnr_magnitude_slice_max" and o.interior and o.predicted is not None
    ]


def moves(results: Results) -> list[str]:
    """By how much fine-tuning moved each kind of parameter."""
    lines = []
    for name, kinds in results.moves:
        told = ", ".join(f"{kind} by {100 * value:.1f} %" for kind, value in kinds.items())
        lines.append(f"From {name} training moved {told}.")
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
