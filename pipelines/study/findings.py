"""Means with intervals by model and corpus from a study's rows, and the verdicts on its expectations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recon.evaluation.intervals import Interval, interval, within
from recon.evaluation.units import Units, units_of

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
    verdict: str  # held, not held, undecided, each perhaps with "(within 4 sources)"; or missing
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    over: str = ""  # what the interval is over, such as "20 sources and 3 seeds"

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


@dataclass(frozen=True)
class _Scores:
    """A metric by seed and pair, and a row of each pair, which names its source."""

    by_seed: dict[str, dict[int, float]]
    rows: dict[int, Row]

    @classmethod
    def of(cls, rows: Sequence[Row], model: str, corpus: str, metric: str) -> _Scores:
        by_seed: dict[str, dict[int, float]] = defaultdict(dict)
        there: dict[int, Row] = {}
        for row in rows:
            if row["model"] == model and row["corpus"] == corpus and metric in row:
                by_seed[row["seed"]][row["pair"]] = row[metric]
                there[row["pair"]] = row
        return cls(dict(by_seed), there)

    @property
    def pairs(self) -> set[int]:
        """The pairs that all seeds have."""
        return set.intersection(*(set(values) for values in self.by_seed.values())) if self.by_seed else set()

    def table(self, pairs: Sequence[int]) -> NDArray[np.float64]:
        """Values [seed pair]."""
        return np.array([[values[pair] for pair in pairs] for values in self.by_seed.values()])

    def units(self, pairs: Sequence[int]) -> Units:
        return units_of([self.rows[pair] for pair in pairs])


def matrix(
    rows: Sequence[Row], models: Sequence[str], corpora: Sequence[str], metric: str
) -> list[list[Interval | None]]:
    """Mean and interval of a metric [model corpus]; None where there are no rows."""
    return [[_cell(_Scores.of(rows, model, corpus, metric), metric) for corpus in corpora] for model in models]


def _cell(scores: _Scores, metric: str) -> Interval | None:
    pairs = sorted(scores.pairs)
    return within(interval(scores.table(pairs), scores.units(pairs)), metric) if pairs else None


def judge(expected: ExpectedSpec, rows: Sequence[Row]) -> Finding:
    """Compare two models over the same pairs.

    The verdict is ``held`` if the whole interval lies inside the bounds, ``not held`` if it lies outside, ``undecided``
    if it contains a bound or is not known, and ``missing`` without pairs. If the interval is only for other pairs of
    few sources, so is the verdict: ``held (within 4 sources)``.
    """
    corpus, other_corpus = expected.corpus, expected.other_corpus or expected.corpus
    mine = _Scores.of(rows, expected.model, corpus, expected.metric)
    theirs = _Scores.of(rows, expected.other, other_corpus, expected.metric)
    common = sorted(mine.pairs & theirs.pairs)
    facts = (expected.finding, expected.metric, expected.model, expected.other, corpus, expected.least, expected.most)
    if not common:
        return Finding(*facts, verdict="missing")
    units, first, second = mine.units(common), mine.table(common), theirs.table(common)
    same_networks = expected.model == expected.other and mine.by_seed.keys() == theirs.by_seed.keys()
    with np.errstate(invalid="ignore"):  # a perfect image has an infinite PSNR
        found = interval(first - second, units) if same_networks else interval(first, units, second)
    within = f" ({units.within})" if units.within else ""
    told = found.as_dict()
    return Finding(*facts, verdict=_verdict(expected, found) + within, **told, pairs=len(common))


def _verdict(expected: ExpectedSpec, found: Interval) -> str:
    least = -np.inf if expected.least is None else expected.least
    most = np.inf if expected.most is None else expected.most
    if not found.known:
        return "undecided"
    if least <= found.low and found.high <= most:
        return "held"
    return "not held" if found.high < least or found.low > most else "undecided"
