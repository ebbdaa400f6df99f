"""The page and the card of a study that judges models: what they keep, what they invent, and where they break."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.data.datasets import PairDataset
from recon.evaluation.intervals import Interval
from recon.models.catalogue import named_baseline
from synth.storage.whole import write_whole
from synth.version import __version__

from ..display.html_page import Picture, page
from ..display.image_panels import WINDOW_SAID
from ..models.named_models import identity_of
from .findings import Finding, judge, matrix
from .first_pictures import lesion_pictures
from .folder import Row, StudyFolder
from .pictures_of_tests import noise_pictures, pair_pictures
from .settings import ExpectedSpec, MeasureSpec, Study

VERSION = 1  # of the card
PARTS = {
    "keeps": "What it keeps",
    "invents": "What it invents",
    "snr": "What happens at another SNR",
    "breaks": "Where it breaks",
}
SENTENCES = 3  # at most, of one part, in the answer to a question
PICTURES = ("heads", "bright-4")  # corpora whose pictures are shown, if the study has them


def write_referee(study: Study, scale: str, folder: StudyFolder) -> Path:
    """Write ``referee.json`` and ``referee.html`` of a study with measures; returns the path of the page.

    The card holds nothing that differs between two runs on the same corpora: content hashes, what the models are, and
    numbers.
    """
    rows = folder.rows()
    table = {m.name: {model: measured(m, model, rows) for model in study.tests.models} for m in study.measures}
    card = {
        "referee": VERSION,
        "fathom": __version__,
        "scale": scale,
        "corpora": _hashes(folder),
        "models": {
            model: {
                "what": _identity(folder, model),
                "measures": {m.name: _told(m, table[m.name][model]) for m in study.measures},
            }
            for model in study.tests.models
        },
    }
    write_whole(folder.path / "referee.json", (json.dumps(card, indent=2) + "\n").encode())
    html = page(
        "referee.html",
        _pictures(study, folder, rows),
        folded=pair_pictures(folder, PICTURES),
        window=WINDOW_SAID,
        study=study,
        scale=scale,
        alerts=folder.alerts,
        answers=answers(study, table, rows),
        parts=[
            (PARTS[p], [(m, table[m.name], _best(m, table[m.name])) for m in study.measures if m.part == p])
            for p in PARTS
        ],
        models=study.tests.models,
        what={model: _identity(folder, model) for model in study.tests.models},
        corpora=card["corpora"],
    )
    write_whole(folder.path / "referee.html", html)
    return folder.path / "referee.html"


def measured(measure: MeasureSpec, model: str, rows: Sequence[Row]) -> Interval | None:
    """A measure of a model; None where it was not tested, or its images lack what the metric needs."""
    if measure.minus is not None:
        return _of(_difference(measure, model, model, rows, measure.minus))
    return matrix(rows, [model], [measure.corpus], measure.metric)[0][0]


def answers(study: Study, table: dict[str, dict[str, Interval | None]], rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Questions that a reader has first, each with its answer."""
    first = study.measures[0]
    ranked = _ranked(first, table[first.name])
    if not ranked:
        return [("Which is best?", "No model has been tested yet.")]
    best = ranked[0]
    found = [("Which is best?", f"{best}. {first.says}: {_number(table[first.name][best])}.")]
    if len(ranked) > 1:
        second = ranked[1]
        gap = _of(_difference(first, best, second, rows))
        unit = "better than" if first.better == "less" else "above"
        if gap is not None:
            sure = gap.known and not gap.low <= 0 <= gap.high
            told = "Yes: the interval does not hold 0." if sure else "Undecided: the interval holds 0, or is not known."
            found.append(("By how much?", f"{_number(gap)} {unit} {second}, the second."))
            found.append(("Is it sure?", f"{told} It is over {gap.over}."))
    for part in ("invents", "snr"):
        question = {"invents": "What does it invent?", "snr": "What happens at another SNR?"}[part]
        lines = [(m, table[m.name].get(best)) for m in study.measures if m.part == part]
        numbers = [f"{m.says}: {_number(value)}" for m, value in lines if value][:SENTENCES]
        found.append((question, f"{best}: {'; '.join(numbers)}." if numbers else "Not measured."))
    return found


def _difference(
    measure: MeasureSpec, model: str, other: str, rows: Sequence[Row], other_corpus: str | None = None
) -> Finding:
    """The mean difference over the same pairs, with its interval."""
    expected = ExpectedSpec(
        finding=measure.says,
        model=model,
        other=other,
        corpus=measure.corpus,
        other_corpus=other_corpus,
        metric=measure.metric,
        least=0.0,
    )
    return judge(expected, rows)


def _of(found: Finding) -> Interval | None:
    if found.mean is None or not math.isfinite(found.mean):
        return None  # where an image equals its reference, PSNR is infinite
    low, high = (math.nan if end is None else end for end in (found.low, found.high))
    return Interval(found.mean, low, high, found.over)


def _ranked(measure: MeasureSpec, values: dict[str, Interval | None]) -> list[str]:
    """Models from the best to the worst; without those that were not tested."""
    there = [(value.mean, model) for model, value in values.items() if value is not None]
    return [model for _, model in sorted(there, reverse=measure.better != "less")]


def _best(measure: MeasureSpec, values: dict[str, Interval | None]) -> str:
    ranked = _ranked(measure, values) if measure.better else []
    return ranked[0] if ranked else ""


def _number(value: Interval | None) -> str:
    if value is None:
        return "not measured"
    return f"{value.mean:.3g} [{value.ends('.3g')}]" if math.isfinite(value.mean) else "exact"


def _told(measure: MeasureSpec, value: Interval | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"metric": measure.metric, "corpus": measure.corpus, "minus": measure.minus}
    if value is None or not math.isfinite(value.mean):  # JSON has no infinity
        return facts | {"mean": None if value is None else "infinite"}
    return facts | value.as_dict()


def _hashes(folder: StudyFolder) -> dict[str, str]:
    """The content hash of every corpus on which models are tested."""
    tested = {need for stage in folder.made("test").values() for need in stage.needs if need.startswith("build/")}
    return {name.removeprefix("build/"): PairDataset(folder.of(name)).content_hash for name in sorted(tested)}


def _identity(folder: StudyFolder, model: str) -> dict[str, Any]:
    """What a model is: a baseline by its name, or a network by the identity in the summary of its first test."""
    for stage in folder.made("test").values():
        if stage.model == model:
            with folder.alerting(f"what {model} is"):
                found = json.loads((folder.of(stage) / "summary.json").read_text())["models"][model]
                if "identity" in found:
                    return {**found["model"], "identity": found["identity"]}
                return facts_of(stage.settings) if isinstance(stage.settings, str) else {}
            return {}
    return {"name": model}


def facts_of(model: str) -> dict[str, Any]:
    """A baseline by its name; a network that was named on the command line by its folder's name and its weights."""
    if named_baseline(model) is not None:
        return {"name": model}
    return {"name": Path(model).name, "identity": identity_of(model)}


def _pictures(study: Study, folder: StudyFolder, rows: Sequence[Row]) -> list[Picture]:
    found: list[Picture] = []
    with folder.alerting("the error of lesions by their size"):
        found += lesion_pictures(study.tests.models, rows, folder.stages)
    return [*found, *noise_pictures(folder)]
