"""The report of a study: one HTML file that needs no other file, and its numbers beside it as CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.evaluation.optimum import Optimum
from recon.evaluation.rows import ALIASING, PROBES
from recon.evaluation.units import units_of
from recon.training.model_files import change_of_parameters
from synth.storage.whole import write_whole
from synth.version import versions

from ..corpus.leakage import shared, sources_of
from ..display.csv_table import write_table
from ..display.html_page import page
from .answers import Results, answers
from .comparison_figures import figures
from .curves import drawings
from .findings import judge, matrix
from .folder import Row, StudyFolder
from .run import Outcome
from .settings import Study, TableSpec
from .sweeps import optima, sweep_drawing, sweeps

PICTURES = 8  # at most, so that the file stays small
SHOWN: tuple[str, ...] = ("ssim_windowed_slice_range", "psnr_magnitude_slice_max", "nrmse_complex", *ALIASING)
SHOWN += ("data_consistency", *PROBES)
LESS_IS_BETTER: tuple[str, ...] = ("nrmse_complex", "aliasing_nmse", "noise_spread")
LESS_IS_BETTER += ("lesion_error", "false_lesions", "false_bright", "false_dark")
UNSHADED = (
    "aliasing_energy",  # a share: it is small, too, where the rest of the error is large
    "data_consistency",
    "contrast_recovery",
    "noise_gain",
    "noise_kurtosis",
    "noise_centre",
)  # the ideal is 1 or 2, or neither direction is better


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
    pictures = [*figures(study.figures, rows, folder, device), *_sweeps(rows, results.optima), *_pictures(rows, folder)]
    lams, leaks = _lams(folder.cards()), _leaks(folder)
    told = {outcome.stage: outcome for outcome in outcomes}
    html = page(
        "report.html",
        pictures,
        study=study,
        scale=scale,
        answers=answers(results),
        alerts=[*folder.alerts, *leaks],
        findings=findings,
        tables=[t for t in (_table(study, rows, metric) for metric in SHOWN) if t["rows"]],
        papers=[{"title": t.title, "metric": t.metric, "cells": _beside(t, rows)} for t in study.tables],
        stages=[
            {"name": name, "folder": stage.folder, "state": told[name].state, "seconds": f"{told[name].seconds:.1f}"}
            for name, stage in folder.stages.items()
        ],
        moves=results.moves,
        optima=results.optima,
        intervals=_intervals(study, rows),
        lams=lams,
        versions=", ".join(f"{name} {version}" for name, version in versions("torch", "zarr", "numpy").items()),
    )
    write_whole(folder.path / "report.html", html)
    return folder.path / "report.html"


def _intervals(study: Study, rows: Sequence[Row]) -> list[str]:
    """A sentence for each corpus that says what its intervals are over."""
    found = []
    for corpus in study.tests.corpora:
        named = {row["pair"]: row for row in rows if row["corpus"] == corpus}
        if named:
            found.append(f"On {corpus}, intervals are over {units_of(list(named.values())).over}.")
    return found


def _write_json(path: Path, parts: list[dict[str, Any]]) -> None:
    write_whole(path, (json.dumps(parts, indent=2) + "\n").encode())


def _sweeps(rows: Sequence[Row], best: Sequence[Optimum]) -> list[tuple[str, bytes]]:
    """Captions and drawings of baselines that were tested with several numbers."""
    dotted = "; dotted lines mark the predicted lam" if any(optimum.predicted for optimum in best) else ""
    return [(f"{kind}: mean metrics by its number{dotted}", sweep_drawing(rows, kind, best)) for kind in sweeps(rows)]


def _lams(cards: dict[str, dict[str, Any]]) -> list[tuple[str, list[float]]]:
    """Lam of every step of each trained network, and the power of the SNR with which it grows, if it does."""
    return [
        (name + said, card[key])
        for name, card in cards.items()
        for key, said in (("lam", ""), ("powers", ": power of the SNR"))
        if card.get(key)
    ]


def _table(study: Study, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    there = [row for row in rows if metric in row]
    corpora = [c for c in study.tests.corpora if any(row["corpus"] == c for row in there)]
    models = [m for m in study.tests.models if any(row["model"] == m for row in there)]
    if not there:
        return {"metric": metric, "corpora": [], "rows": []}
    values = matrix(there, models, corpora, metric)
    means = np.array([[np.nan if cell is None else cell.mean for cell in line] for line in values])
    means[np.isinf(means)] = np.nan  # the PSNR of an exact image has no shade
    low, high = np.nanmin(means, axis=0), np.nanmax(means, axis=0)
    shades = 0.05 + 0.35 * (means - low) / np.where(high > low, high - low, 1)
    if metric in LESS_IS_BETTER:
        shades = 0.45 - shades  # darker is better
    if metric in UNSHADED:
        shades = np.full(means.shape, 0.05)
    made = [
        (model, [{"value": cell, "shade": f"{shade:.2f}"} for cell, shade in zip(line, tones, strict=True)])
        for model, line, tones in zip(models, values, shades, strict=True)
    ]
    return {"metric": metric, "corpora": corpora, "rows": made}


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


def _pictures(rows: Sequence[Row], folder: StudyFolder) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    with folder.alerting("curves, lesions and filters"):
        found += drawings(rows, folder)
    tests, shown = folder.made("test").values(), set[tuple[str, ...]]()
    for stage in tests:
        file, whose = folder.of(stage) / "images.png", (stage.model, stage.corpus)
        if file.exists() and whose not in shown and len(shown) < PICTURES:  # only the first of several seeds
            shown.add(whose)
            title = f"{stage.model} on {stage.corpus}: the pairs on which it is worst, median and best"
            found.append((title, file.read_bytes()))
    for stage in tests:
        if stage.replicas and (stage.model, stage.corpus, "noise") not in shown:
            shown.add((stage.model, stage.corpus, "noise"))
            title = f"{stage.model} on {stage.corpus}: local noise of the first pair over that of a fully sampled image"
            with folder.alerting(f"noise in {stage.folder}"):
                found.append((title, (folder.of(stage) / "noise.png").read_bytes()))
    return found
