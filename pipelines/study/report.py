"""The report of a study: one HTML file that needs no other file, and its numbers beside it as CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recon.evaluation.definitions import defined
from recon.evaluation.optimum import Optimum
from recon.evaluation.rows import ALIASING, LESIONS, NOISE
from recon.evaluation.units import units_of
from recon.training.model_files import change_of_parameters
from synth.storage.whole import write_whole
from synth.version import versions

from ..corpus.leakage import shared, sources_of
from ..display.csv_table import write_table
from ..display.html_page import Picture, page
from ..display.image_panels import WINDOW_SAID
from ..display.metric_table import MetricTable, metric_table
from .answers import Results, answers
from .comparison_figures import figures
from .curves import drawings
from .findings import judge, matrix
from .first_pictures import first_pictures, lesion_pictures, recipes_of, snr_pictures
from .folder import Row, StudyFolder
from .pictures_of_tests import noise_pictures, pair_pictures
from .questions import five_questions, main_metric
from .run import Outcome
from .settings import Study, TableSpec
from .sweeps import optima, sweep_drawings, sweeps

SHOWN: tuple[str, ...] = ("psnr_magnitude_slice_max", "ssim_windowed_slice_range", "nrmse_complex", *LESIONS)
SHOWN += (*reversed(ALIASING), "data_consistency", *NOISE, "noise_sd", "null_share", "halves_agreement")


def write_report(
    study: Study, scale: str, folder: StudyFolder, outcomes: Sequence[Outcome], device: str | None = None
) -> Path:
    """Write ``rows.csv``, ``findings.json``, ``optima.json`` and ``report.html``; returns the path of the last."""
    folder.alerts.extend(f"{o.stage}: {o.state}. {o.message}" for o in outcomes if o.state in ("failed", "left out"))
    rows = folder.rows()
    findings = [judge(expected, rows) for expected in study.expected]
    results = Results(study, rows, findings, _moves(folder), optima(rows, folder))
    write_table(rows, folder.path / "rows.csv")
    _write_json(folder.path / "findings.json", [finding.as_dict() for finding in findings])
    _write_json(folder.path / "optima.json", [optimum.as_dict() for optimum in results.optima])
    first, pictures = _pictures(study, rows, folder, results.optima, device)
    lams, leaks = _lams(folder.cards()), _leaks(folder)
    known = {n: Outcome(n, "there" if folder.has(stage) else "not made") for n, stage in folder.stages.items()}
    told = known | {outcome.stage: outcome for outcome in outcomes}
    html = page(
        "report.html",
        pictures,
        first,
        pair_pictures(folder),
        window=WINDOW_SAID,
        study=study,
        scale=scale,
        answers=answers(results),
        alerts=[*folder.alerts, *leaks],
        five=five_questions(study, rows, recipes_of(folder)) if rows else [],
        findings=[(finding, defined(finding.metric)) for finding in findings],
        table=_table(study, rows),
        papers=[{"title": t.title, "name": defined(t.metric).title, "cells": _beside(t, rows)} for t in study.tables],
        stages=[
            {"name": name, "folder": stage.folder, "state": told[name].state, "seconds": f"{told[name].seconds:.1f}"}
            for name, stage in folder.stages.items()
        ],
        moves=results.moves,
        optima=[(optimum, defined(optimum.metric).title) for optimum in results.optima],
        intervals=_intervals(study, rows),
        lams=lams,
        versions=", ".join(f"{name} {version}" for name, version in versions("torch", "zarr", "numpy").items()),
    )
    write_whole(folder.path / "report.html", html)
    return folder.path / "report.html"


def _intervals(study: Study, rows: Sequence[Row]) -> list[str]:
    """Sentences that say what the intervals of each corpus are over."""
    found: dict[str, list[str]] = {}
    for corpus in study.tests.corpora:
        named = {row["pair"]: row for row in rows if row["corpus"] == corpus}
        if named:
            found.setdefault(units_of(list(named.values())).over, []).append(corpus)
    return [f"On {', '.join(corpora)}, intervals are over {over}." for over, corpora in found.items()]


def _write_json(path: Path, parts: list[dict[str, Any]]) -> None:
    write_whole(path, (json.dumps(parts, indent=2) + "\n").encode())


def _sweeps(rows: Sequence[Row], best: Sequence[Optimum]) -> list[Picture]:
    """Captions and drawings of baselines that were tested with several numbers."""
    dotted = "; dotted lines mark the predicted lam" if any(optimum.predicted for optimum in best) else ""
    return [(f"{kind}: mean metrics by its number{dotted}", sweep_drawings(rows, kind, best)) for kind in sweeps(rows)]


def _lams(cards: dict[str, dict[str, Any]]) -> list[tuple[str, list[float]]]:
    """Lam of every step of each trained network, and the power of the SNR with which it grows, if it does."""
    return [
        (name + said, card[key])
        for name, card in cards.items()
        for key, said in (("lam", ""), ("powers", ": power of the SNR"))
        if card.get(key)
    ]


def _table(study: Study, rows: Sequence[Row]) -> MetricTable:
    """The table of all models on all corpora; what the study's question is about stands first."""
    models, corpora = study.tests.models, study.tests.corpora
    shown = list(dict.fromkeys([main_metric(study, rows), *SHOWN])) if rows else []
    cells = {metric: matrix(rows, models, corpora, metric) for metric in shown}
    values = {
        corpus: {model: {metric: cells[metric][k][n] for metric in shown} for k, model in enumerate(models)}
        for n, corpus in enumerate(corpora)
    }
    return metric_table(values, shown)


def _beside(table: TableSpec, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The cells of a paper's table, each with our result."""
    ours = [matrix(rows, [cell.model], [cell.on], table.metric)[0][0] for cell in table.cells]
    return [{**cell.model_dump(), "ours": value} for cell, value in zip(table.cells, ours, strict=True)]


def _leaks(folder: StudyFolder) -> list[str]:
    """Alerts on sources of a test on which a network was trained."""
    needed = {
        kind: {n for stage in folder.stages.values() if stage.kind == kind for n in stage.needs}
        for kind in ("train", "test")
    }
    sources = {}
    for name, stage in folder.made("build").items():
        with folder.alerting(f"leakage of {name}"):
            sources[name] = sources_of(folder.of(stage))
    found = {
        (test, train): shared(sources[test], sources[train])
        for test in sources.keys() & needed["test"]
        for train in sources.keys() & needed["train"] - {test}
    }
    return [
        f"leakage: {len(names)} sources of {test} are in {train}, too, such as {names[0]}"
        for (test, train), names in sorted(found.items())
        if names
    ]


def _moves(folder: StudyFolder) -> list[tuple[str, dict[str, float]]]:
    """How far fine-tuning moved each kind of parameter."""
    found = []
    for name, stage in folder.made("train").items():
        start = folder.start_of(stage)
        if start is not None:
            with folder.alerting(f"the change of parameters from {start.folder} to {stage.folder}"):
                found.append((f"{start.name} to {name}", change_of_parameters(folder.of(start), folder.of(stage))))
    return found


def _pictures(
    study: Study, rows: Sequence[Row], folder: StudyFolder, best: Sequence[Optimum], device: str | None
) -> tuple[list[Picture], list[Picture]]:
    """The pictures that show the answer, and all others."""
    lesions = [spec for spec in study.figures if spec.kind == "lesions"]
    first: list[Picture] = []
    more: list[Picture] = []
    trained: Sequence[Picture] = []
    with folder.alerting("curves over lesions and SNR"):
        first = first_pictures(study, rows, folder)
        more = [
            *lesion_pictures(study.tests.models, rows, folder.stages),
            *snr_pictures(study, rows, recipes_of(folder)),
        ]
    first += figures(lesions, rows, folder, device)
    others = figures([spec for spec in study.figures if spec.kind != "lesions"], rows, folder, device)
    told = {caption for caption, _ in first}
    more = [picture for picture in more if picture[0] not in told]
    with folder.alerting("curves and filters"):
        trained = drawings(folder)
    if not first:
        first, others = others[:1], others[1:]
    return first, [*more, *others, *noise_pictures(folder), *_sweeps(rows, best), *trained]
