"""The questions that a reader has first, each with its answer in numbers from a study's rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recon.evaluation.definitions import defined
from recon.evaluation.intervals import Interval
from synth.recipe import Recipe

from .findings import Finding, judge, matrix
from .folder import Row
from .settings import ExpectedSpec, Study

ALL = "all"  # the corpus that stands for several
NAMED = 3  # corpora that are named in an answer
SSIM, PSNR = "ssim_windowed_slice_range", "psnr_magnitude_slice_max"


@dataclass(frozen=True)
class _Question:
    """What models are compared in: a metric, the corpora that have it, and the rows of those corpora as one."""

    metric: str
    corpora: list[str]
    rows: list[Row]
    models: list[str]  # from the best to the worst; those that were tested on all of the corpora

    @classmethod
    def of(cls, study: Study, rows: Sequence[Row], metric: str) -> _Question:
        corpora = [c for c in study.tests.corpora if any(r["corpus"] == c and metric in r for r in rows)]
        there = {(row["model"], row["corpus"]) for row in rows if metric in row}
        whole = [m for m in study.tests.models if all((m, corpus) in there for corpus in corpora)]
        joined = [
            {**row, "corpus": ALL, "pair": (row["corpus"], row["pair"])} for row in rows if row["corpus"] in corpora
        ]
        sign = -1 if defined(metric).better == "less" else 1
        means = {model: cell.mean for model in whole if (cell := matrix(joined, [model], [ALL], metric)[0][0])}
        return cls(metric, corpora, joined, sorted(means, key=lambda model: -sign * means[model]))

    def value(self, model: str) -> Interval | None:
        return matrix(self.rows, [model], [ALL], self.metric)[0][0]

    def gap(self, model: str, other: str) -> Finding:
        return _difference(self.rows, self.metric, (model, ALL), (other, ALL))


def five_questions(study: Study, rows: Sequence[Row], recipes: Mapping[str, Recipe]) -> list[tuple[str, str]]:
    """Which model is best, by how much, whether that is sure, what it invents, what becomes of it at another SNR.

    `recipes` are those of the corpora by their names. Models are compared in `main_metric`, over all corpora that have
    it; no answer is given where fewer than two models were tested.
    """
    asked = _Question.of(study, rows, main_metric(study, rows))
    if len(asked.models) < 2:
        return []
    best, second = asked.models[:2]
    name, direction = defined(asked.metric).name, {"more": "highest", "less": "lowest"}[defined(asked.metric).better]
    gap = asked.gap(best, second)
    by = [_by(asked.gap(best, other), other, asked.metric) for other in _others(asked.models)]
    return [
        (
            "Which is best?",
            f"{best}: {name} {defined(asked.metric).told(asked.value(best))}, "
            f"the {direction} of {len(asked.models)} models on {_listed(asked.corpora)}.",
        ),
        ("By how much?", f"{'; '.join(by)}."),
        ("Is it sure?", _sure(gap, best, second)),
        ("What does it invent?", _invents(study, rows, best)),
        ("What happens at another SNR?", _at_another_snr(study, rows, best, recipes)),
    ]


def main_metric(study: Study, rows: Sequence[Row]) -> str:
    """The metric that answers a study's question: the lesion error where it was measured, else the one that most of the
    study's expectations are about, else SSIM.
    """
    there = {key for row in rows for key in row}
    if "lesion_error" in there:
        return "lesion_error"
    counted = Counter(e.metric for e in study.expected if e.metric in there and defined(e.metric).better)
    return counted.most_common(1)[0][0] if counted else SSIM


def by_snr(corpora: Sequence[str], recipes: Mapping[str, Recipe]) -> list[dict[str, float]]:
    """Corpora that differ in their SNR alone: the SNR of each by its name, from the lowest; large groups first."""
    groups: dict[str, dict[str, float]] = {}
    for corpus in corpora:
        if corpus in recipes and recipes[corpus].noise.snr[0] == recipes[corpus].noise.snr[1]:
            data = json.loads(recipes[corpus].model_dump_json())
            snr = data["noise"].pop("snr")[0]
            groups.setdefault(json.dumps(data, sort_keys=True), {})[corpus] = snr
    several = [dict(sorted(g.items(), key=lambda e: e[1])) for g in groups.values() if len(set(g.values())) > 1]
    return sorted(several, key=lambda group: -len(group))


def _others(models: Sequence[str]) -> list[str]:
    """The second best, and the zero-filled image, from which every model starts."""
    return list(dict.fromkeys([models[1], *(m for m in models[1:] if m == "zero-filled")]))


def _by(gap: Finding, other: str, metric: str) -> str:
    """By how much the first model of a difference is better, with the interval: positive is better."""
    if gap.mean is None or not math.isfinite(gap.mean):
        return f"exactly the reference, unlike {other}"
    sign = -1 if defined(metric).better == "less" else 1
    low, high = (
        sorted((sign * gap.low, sign * gap.high)) if gap.low is not None and gap.high is not None else [math.nan] * 2
    )
    return f"{defined(metric).told(Interval(sign * gap.mean, low, high))} better than {other}"


def _decided(gap: Finding) -> bool:
    return gap.low is not None and gap.high is not None and (gap.low > 0 or gap.high < 0)


def _sure(gap: Finding, best: str, second: str) -> str:
    told = f"{best} is better than {second}" if _decided(gap) else f"{best} and {second} cannot be told apart"
    why = "the 95 % interval of their difference contains 0" if gap.low is not None else "there is no interval"
    return f"{f'Yes: {told}' if _decided(gap) else f'No: {told}, since {why}'}; over {gap.over}."


def _invents(study: Study, rows: Sequence[Row], best: str) -> str:
    for metric in ("false_lesions", "aliasing_nmse"):
        asked = _Question.of(study, rows, metric)
        if best in asked.models:
            parts = [f"{defined(m).name.lower()} {defined(m).told(cell)}" for m, cell in _parts(asked, best)]
            least = asked.models[0]
            versus = (
                f"the least of {len(asked.models)} models"
                if least == best
                else f"the least has {least}, {defined(metric).told(asked.value(least))}"
            )
            return f"{best}: {', '.join(parts)}; {versus}. {defined(metric).says}"
    return "Not measured: no test has lesions or regular undersampling."


def _parts(asked: _Question, best: str) -> list[tuple[str, Interval]]:
    metrics = [asked.metric, *(("false_bright", "false_dark") if asked.metric == "false_lesions" else ())]
    cells = [(metric, matrix(asked.rows, [best], [ALL], metric)[0][0]) for metric in metrics]
    return [(metric, cell) for metric, cell in cells if cell]


def _at_another_snr(study: Study, rows: Sequence[Row], best: str, recipes: Mapping[str, Recipe]) -> str:
    for metric in dict.fromkeys((main_metric(study, rows), PSNR)):
        tested = {row["corpus"] for row in rows if row["model"] == best and metric in row}
        for group in by_snr([c for c in study.tests.corpora if c in tested], recipes):
            (low, low_snr), *_, (high, high_snr) = group.items()
            change = _difference(rows, metric, (best, low), (best, high))
            if change.mean is None:
                continue
            how = defined(metric).how
            values = [f"{snr:g}: {_mean(rows, best, corpus, metric)}" for corpus, snr in group.items()]
            ends = f" [{change.low:+{how}} … {change.high:+{how}}]" if change.low is not None else ""
            told = f"{defined(metric).name} of {best} at SNR {', '.join(reversed(values))}."
            kept = _steadiest(study, rows, metric, (low, high))
            return f"{told} From SNR {high_snr:g} to {low_snr:g} it changes by {change.mean:+{how}}{ends}; {kept}."
    return "Not tested: no two tests differ in their SNR alone."


def _mean(rows: Sequence[Row], model: str, corpus: str, metric: str) -> str:
    cell = matrix(rows, [model], [corpus], metric)[0][0]
    return "–" if cell is None else f"{cell.mean:{defined(metric).how}}"


def _steadiest(study: Study, rows: Sequence[Row], metric: str, ends: tuple[str, str]) -> str:
    """Which model is best at the low SNR: one that changes little may be bad at both."""
    sign = -1 if defined(metric).better == "less" else 1
    cells = {m: matrix(rows, [m], [ends[0]], metric)[0][0] for m in study.tests.models}
    means = {model: cell.mean for model, cell in cells.items() if cell}
    first = max(means, key=lambda model: sign * means[model])
    return f"the best there is {first}, {means[first]:{defined(metric).how}}"


def _difference(rows: Sequence[Row], metric: str, mine: tuple[str, str], theirs: tuple[str, str]) -> Finding:
    """The mean of a model on a corpus less that of another, over the same pairs."""
    (model, corpus), (other, other_corpus) = mine, theirs
    asked = ExpectedSpec(
        finding="", model=model, other=other, corpus=corpus, other_corpus=other_corpus, metric=metric, least=0.0
    )
    return judge(asked, rows)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
