"""Means over pairs, and differences between models, each with a 95 % interval for other sources and other seeds.

**Sources.** Values x of N pairs belong to G units (`units`), unit g with n_g pairs and the share w_g = n_g / N. With
the units' sums of residuals u_g = sum (x - mean), the variance of the mean is estimated by

    V = sum_g u_g^2 / (1 - w_g) / N^2,

the cluster-robust variance in the form of Bell and McCaffrey (Survey Methodology 2002;28:169, "CR2") for a mean. Where
pairs are independent, E u_g^2 = s^2 n_g (1 - w_g), so that V has no bias; where all n_g are equal, V is the variance of
the units' means over G, whatever the variance between units. The interval is mean +- t sqrt(V), with Satterthwaite's
degrees of freedom (Biometrics Bulletin 1946;2:110) for independent pairs, (sum_g c_gg)^2 / sum_gh c_gh^2 with the
covariances c_gg = n_g and c_gh = -n_g n_h / N / sqrt((1 - w_g) (1 - w_h)) of the terms of V. These are G - 1 for
equal n_g, and fewer otherwise.

A percentile bootstrap of units is too narrow for few of them: its variance is (G - 1) / G of the right one, and it has
the quantiles of a normal distribution in place of t (Hesterberg, Am Stat 2015;69:371). `benchmarks/intervals.py`
measures how often each kind of interval covers the true mean.

**Seeds.** Networks that were trained with S seeds are all tested on the same pairs: seeds and sources are crossed, not
nested. With x = mean + a_s + b_g + c_sg, the mean over seeds and pairs has the variance
var(a) / S + var(b) / G + var(c) / (S G). V of the mean over seeds estimates the last two terms, and the variance of
the seeds' means over S estimates the first and the third one. Their sum counts var(c) / (S G) twice, so that it is
a little too large, never too small, and never negative, as is the hierarchical bootstrap that draws seeds and sources
apart (Owen, Ann Appl Stat 2007;1:386). Satterthwaite's formula joins the degrees of freedom. A bootstrap of two or
three seeds would be far too narrow: see the benchmark. The two models of a difference have seeds of their own; for one
model on two corpora, the difference is taken within each seed. With a single seed, the interval is for that network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

from .definitions import BOUNDS
from .rows import METRICS, Row
from .units import Units, units_of

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % interval, which is NaN where it is not known, and what the interval is over."""

    mean: float
    low: float
    high: float
    over: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an interval: a single unit has none."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def ends(self, how: str) -> str:
        """The ends as text, such as ``0.912 … 0.934``."""
        return f"{self.low:{how}} … {self.high:{how}}" if self.known else "no interval"

    def as_dict(self) -> dict[str, Any]:
        """For JSON: None for the ends of an interval that is not known."""
        ends = (self.low, self.high) if self.known else (None, None)
        return {"mean": self.mean, "low": ends[0], "high": ends[1], "over": self.over}


def interval(values: ArrayLike, units: Units, others: ArrayLike | None = None) -> Interval:
    """Mean of values [seed pair], or of the difference to the values [seed pair] of another model on the same pairs."""
    models = [np.atleast_2d(np.asarray(part, np.float64)) for part in (values, others) if part is not None]
    with np.errstate(invalid="ignore"):  # a perfect image has an infinite PSNR
        difference = models[0].mean(axis=0) - (models[1].mean(axis=0) if len(models) > 1 else 0.0)
        mean = float(difference.mean())
        terms = [_between_units(difference - mean, units.of)]
        terms += [(float(m.mean(axis=1).var(ddof=1)) / len(m), len(m) - 1.0) for m in models if len(m) > 1]
    variance = sum(part for part, _ in terms)
    if not math.isfinite(variance):
        return Interval(mean, math.nan, math.nan, _told(units, models))
    freedom = variance**2 / sum(part**2 / df for part, df in terms) if variance > 0 else 1.0
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, _told(units, models))


def _told(units: Units, models: Sequence[NDArray[np.float64]]) -> str:
    seeds = max(len(m) for m in models)
    return units.over + (f" and {seeds} seeds" if seeds > 1 else "")


def _between_units(residuals: NDArray[np.float64], of: NDArray[np.intp]) -> tuple[float, float]:
    """V and its degrees of freedom; NaN for a single unit."""
    counts = np.bincount(of).astype(np.float64)
    total = counts.sum()
    share = counts / total
    if len(counts) < 2:
        return math.nan, math.nan
    sums = np.bincount(of, weights=residuals)
    variance = float((sums**2 / (1 - share)).sum()) / total**2
    outer = counts * share / (1 - share)
    return variance, float(total**2 / ((counts**2).sum() + outer.sum() ** 2 - (outer**2).sum()))


def draws_of(units: Units, draws: int, seed: int = 0) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Bootstrap draws of units, for statistics that are no means: weights [draw pair], and an interval's quantiles.

    The quantiles are those of the expanded percentile interval (Hesterberg, Am Stat 2015;69:371): Phi(-+ sqrt(G / (G -
    1)) t), with t of G - 1 degrees of freedom, in place of 0.025 and 0.975. There must be at least two units.
    """
    count = units.count
    chosen = np.random.default_rng(seed).integers(count, size=(draws, count))
    weights = np.stack([np.bincount(line, minlength=count)[units.of] for line in chosen]).astype(np.float64)
    tail = float(ndtr(-math.sqrt(count / (count - 1)) * float(stdtrit(count - 1, (1 + LEVEL) / 2))))
    return weights / weights.sum(axis=1, keepdims=True), (tail, 1 - tail)


def within(found: Interval, metric: str) -> Interval:
    """The part of an interval in which values of the metric can lie: it covers their mean as often as the whole."""
    if metric not in BOUNDS or not found.known:
        return found
    least, most = BOUNDS[metric]
    return replace(found, low=max(found.low, least), high=min(found.high, most))


def summary_of(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Mean and interval of every metric."""
    units = units_of(rows)
    return {name: within(interval([row[name] for row in rows], units), name).as_dict() for name in metrics_in(rows)}


def differences(rows: Sequence[Row], others: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Mean of rows - others over the same pairs, with its interval; raises ValueError where pairs differ."""
    if [row["pair"] for row in rows] != [row["pair"] for row in others]:
        raise ValueError("the rows of the two models are of different pairs; test both models on the same corpus")
    units = units_of(rows)
    tables = {name: [[row[name] for row in part] for part in (rows, others)] for name in metrics_in([*rows, *others])}
    return {name: interval(mine, units, theirs).as_dict() for name, (mine, theirs) in tables.items()}


def metrics_in(rows: Sequence[Row]) -> list[str]:
    """The metrics that every row has."""
    return [name for name in METRICS if all(name in row for row in rows)]
