"""Means with intervals by model and corpus from a study's rows, and the verdicts on its expectations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from recon.evaluation.intervals import interval, paired_bootstrap

from .settings import ExpectedSpec

Row = dict[str, Any]


@dataclass(frozen=True)
class Finding:
    """An expectation, the measured mean difference with its 95 % interval, and the verdict."""

    finding: str
    metric: str
    model: str
    other: str
    corpus: str
    least: float | None
    most: float | None
    verdict: str  # held, held on average, not held, missing
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def by_pair(rows: Sequence[Row], model: str, corpus: str, metric: str) -> dict[int, float]:
    """The metric of a model on each pair of a corpus, averaged over the model's seeds."""
    values: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if row["model"] == model and row["corpus"] == corpus and metric in row:
            values[row["pair"]].append(row[metric])
    return {pair: float(np.mean(v)) for pair, v in values.items()}


def matrix(
    rows: Sequence[Row], models: Sequence[str], corpora: Sequence[str], metric: str
) -> list[list[dict[str, float] | None]]:
    """Mean and interval of a metric [model corpus]; None where there are no rows."""
    found = []
    for model in models:
        values = [list(by_pair(rows, model, corpus, metric).values()) for corpus in corpora]
        found.append([interval(v) if v else None for v in values])
    return found


def judge(expected: ExpectedSpec, rows: Sequence[Row]) -> Finding:
    """Compare two models over the same pairs; the verdict is ``held`` if the whole interval lies inside the bounds.

    It is ``held on average`` if only the mean lies inside, ``not held`` if it does not, and ``missing`` without pairs.
    """
    corpus = expected.corpus
    mine = by_pair(rows, expected.model, corpus, expected.metric)
    theirs = by_pair(rows, expected.other, expected.other_corpus or corpus, expected.metric)
    common = sorted(mine.keys() & theirs.keys())
    facts = (expected.finding, expected.metric, expected.model, expected.other, corpus, expected.least, expected.most)
    if not common:
        return Finding(*facts, verdict="missing")
    first, second = (np.array([part[pair] for pair in common]) for part in (mine, theirs))
    mean, low, high = paired_bootstrap(first, second)
    least = -np.inf if expected.least is None else expected.least
    most = np.inf if expected.most is None else expected.most
    verdict = "not held"
    if least <= mean <= most:
        verdict = "held" if least <= low and high <= most else "held on average"
    return Finding(*facts, verdict=verdict, mean=mean, low=low, high=high, pairs=len(common))
