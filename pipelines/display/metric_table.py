"""One wide table of metrics: a row for each model on each corpus, a column for each metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recon.evaluation.definitions import Definition, defined
from recon.evaluation.intervals import Interval

LIGHT, DARK = 0.05, 0.40  # opacity of the worst and the best model's shade
Values = Mapping[str, Interval | None]  # by the metric


@dataclass(frozen=True)
class Cell:
    """A mean as text, half the width of its interval, and how it compares with other models on the same corpus."""

    text: str
    half: str
    ends: str
    shade: str
    best: bool


@dataclass(frozen=True)
class Group:
    """The rows of a corpus: a model's name and its cells, None where it has no value."""

    corpus: str
    rows: list[tuple[str, list[Cell | None]]]


@dataclass(frozen=True)
class MetricTable:
    """The columns, which are metrics that any model has, and the rows of each corpus."""

    metrics: list[str]
    groups: list[Group]

    @property
    def columns(self) -> list[Definition]:
        """Name and definition of every column."""
        return [defined(metric) for metric in self.metrics]


def metric_table(values: Mapping[str, Mapping[str, Values]], metrics: Sequence[str]) -> MetricTable:
    """The table of values by corpus, model and metric; columns stand in the order of `metrics`.

    A shade compares the models of one corpus in one metric, since some corpora are harder than others. Metrics for
    which neither direction is better have none.
    """
    shown = [m for m in metrics if any(v.get(m) for models in values.values() for v in models.values())]
    groups = []
    for corpus, models in values.items():
        columns = [_column([found.get(metric) for found in models.values()], defined(metric)) for metric in shown]
        rows = [(model, [column[k] for column in columns]) for k, model in enumerate(models)]
        groups.append(Group(corpus, [(model, cells) for model, cells in rows if any(cells)]))
    return MetricTable(list(shown), [group for group in groups if group.rows])


def _column(values: Sequence[Interval | None], definition: Definition) -> list[Cell | None]:
    """The cells of all models on one corpus in one metric."""
    sign = {"more": 1, "less": -1, "": 0}[definition.better]
    means = [sign * v.mean for v in values if v is not None]
    low, high = min(means, default=0.0), max(means, default=0.0)
    finite = [mean for mean in means if math.isfinite(mean)]  # the PSNR of an exact image is infinite
    least, most = min(finite, default=0.0), max(finite, default=0.0)

    def cell(value: Interval | None) -> Cell | None:
        if value is None:
            return None
        mean = sign * value.mean
        share = (min(mean, most) - least) / (most - least) if most > least else 0.0
        text = f"{value.mean:{definition.how}}" if math.isfinite(value.mean) else "exact"
        half = f"±{value.high - value.mean:{definition.how}}" if value.known else "no interval"
        best = bool(sign) and high > low and mean == high
        return Cell(text, half, value.ends(definition.how), f"{LIGHT + (DARK - LIGHT) * share * bool(sign):.2f}", best)

    return [cell(value) for value in values]
