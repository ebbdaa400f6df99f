"""The report of a study: one HTML file that needs nothing else, with its numbers beside it as CSV and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from recon.evaluation.optimum import Optimum
from recon.evaluation.rows import PROBES
from recon.training.model_files import change_of_parameters, versions
from synth.storage.whole import write_whole

from ..corpus.leakage import shared, sources_of
from ..display.csv_table import write_table
from ..display.html_page import page
from .comparison_figures import figures
from .curves import drawings
from .findings import Finding, judge, matrix
from .folder import Row, alerting, cards_of_study, rows_of_study
from .run import Outcome
from .settings import Study, TableSpec
from .stages import Stage
from .sweeps import optima, sweep_drawing, sweeps

PICTURES = 8  # at most, so that the file stays small
SHOWN: tuple[str, ...] = ("ssim_windowed_slice_range", "psnr_magnitude_slice_max", "nrmse_complex", "aliasing_energy")
SHOWN += ("data_consistency", *PROBES)
LESS_IS_BETTER = ("nrmse_complex", "aliasing_energy", "false_lesions", "noise_spread")
UNSHADED = (
    "data_consistency",
    "noise_gain",
    "noise_kurtosis",
    "noise_centre",
)  # 1 or 2 is right, or neither end is better


def write_report(
    study: Study,
    scale: str,
    stages: dict[str, Stage],
    outcomes: Sequence[Outcome],
    out: Path,
    device: str | None = None,
) -> Path:
    """Write ``rows.csv``, ``findings.json`` and ``report.html``; returns the path of the last."""
    alerts = [f"{o.stage}: {o.state}. {o.message}" for o in outcomes if o.state in ("failed", "left out")]
    rows = rows_of_study(stages, out, alerts)
    findings = [judge(expected, rows) for expected in study.expected]
    write_table(rows, out / "rows.csv")
    write_whole(out / "findings.json", (json.dumps([f.as_dict() for f in findings], indent=2) + "\n").encode())
    told = {outcome.stage: outcome for outcome in outcomes}
    cards, moves = cards_of_study(stages, out, alerts), _moves(stages, out, alerts)
    best = optima(rows, stages, out, alerts)
    write_whole(out / "optima.json", (json.dumps([o.as_dict() for o in best], indent=2) + "\n").encode())
    drawn = figures(study.figures, rows, stages, out, device, alerts)
    dotted = "; dotted, the lam that is predicted" if any(optimum.predicted for optimum in best) else ""
    curves = [(f"{kind}: means over its number{dotted}", sweep_drawing(rows, kind, best)) for kind in sweeps(rows)]
    pictures = [*drawn, *curves, *_pictures(rows, stages, out, alerts)]
    alerts += _leaks(stages, out, alerts)
    html = page(
        "report.html",
        pictures,
        study=study,
        scale=scale,
        answers=answers(study, rows, findings, moves, best),
        alerts=alerts,
        findings=findings,
        tables=[t for t in (_table(study, rows, metric) for metric in SHOWN) if t["rows"]],
        papers=[{"title": t.title, "metric": t.metric, "cells": _beside(t, rows)} for t in study.tables],
        stages=[
            {"name": name, "folder": stage.folder, "state": told[name].state, "seconds": f"{told[name].seconds:.1f}"}
            for name, stage in stages.items()
        ],
        moves=moves,
        optima=best,
        lams=[
            (name + said, card[key])
            for name, card in cards.items()
            for key, said in (("lam", ""), ("powers", ": power of the SNR"))
            if card.get(key)
        ],
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
    )
    write_whole(out / "report.html", html)
    return out / "report.html"


def answers(
    study: Study,
    rows: Sequence[Row],
    findings: Sequence[Finding],
    moves: Sequence[tuple[str, dict[str, float]]],
    peaks: Sequence[Optimum] = (),
) -> list[str]:
    """Sentences with numbers, made from the rows."""
    if not rows:
        return ["No test has been made yet."]
    lines = []
    for corpus in study.tests.corpora[:3]:
        (column,) = np.transpose(np.array(matrix(rows, study.tests.models, [corpus], SHOWN[0]), dtype=object))
        there = [(cell["mean"], model) for cell, model in zip(column, study.tests.models, strict=True) if cell]
        if there:
            (best, first), (worst, last) = max(there), min(there)
            lines.append(f"On {corpus}, {first} comes closest (SSIM {best:.3f}) and {last} least ({worst:.3f}).")
    counted = {
        verdict: sum(f.verdict == verdict for f in findings) for verdict in dict.fromkeys(f.verdict for f in findings)
    }
    if findings:
        told = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
        lines.append(f"Of {len(findings)} expectations: {told}.")
    for optimum in peaks:
        if optimum.metric == "psnr_magnitude_slice_max" and optimum.interior and optimum.predicted is not None:
            told = f"{optimum.best:.2f} [{optimum.low:.2f}, {optimum.high:.2f}], predicted {optimum.predicted:.2f}"
            lines.append(f"On {optimum.corpus}, the best lam of {optimum.kind} by PSNR is {told}.")
    for name, kinds in moves:
        told = ", ".join(f"{kind} by {100 * value:.1f} %" for kind, value in kinds.items())
        lines.append(f"From {name} training moved {told}.")
    pairs = len({(row["corpus"], row["pair"]) for row in rows})
    lines.append(f"{len(rows)} rows, {pairs} test pairs, {len({row['model'] for row in rows})} models.")
    return lines


def _table(study: Study, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    there = [row for row in rows if metric in row]
    corpora = [c for c in study.tests.corpora if any(row["corpus"] == c for row in there)]
    models = [m for m in study.tests.models if any(row["model"] == m for row in there)]
    if not there:
        return {"metric": metric, "corpora": [], "rows": []}
    values = matrix(there, models, corpora, metric)
    means = np.array([[np.nan if cell is None else cell["mean"] for cell in line] for line in values])
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
    """A paper's cells, each with ours."""
    ours = [matrix(rows, [cell.model], [cell.on], table.metric)[0][0] for cell in table.cells]
    return [{**cell.model_dump(), "ours": value} for cell, value in zip(table.cells, ours, strict=True)]


def _leaks(stages: dict[str, Stage], out: Path, alerts: list[str]) -> list[str]:
    """Sources of a test that some network was trained on."""
    needed = {kind: {n for s in stages.values() if s.kind == kind for n in s.needs} for kind in ("train", "test")}
    sources = {}
    for name, stage in stages.items():
        if stage.kind == "build" and stage.done(out):
            with alerting(f"leakage of {name}", alerts):
                sources[name] = sources_of(out / stage.folder)
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


def _moves(stages: dict[str, Stage], out: Path, alerts: list[str]) -> list[tuple[str, dict[str, float]]]:
    found = []
    for name, stage in stages.items():
        start = next((stages[n] for n in stage.needs if n.startswith("train/")), None)
        if stage.kind == "train" and start is not None and stage.done(out) and start.done(out):
            with alerting(f"what moved from {start.folder} to {stage.folder}", alerts):
                found.append((f"{start.name} to {name}", change_of_parameters(out / start.folder, out / stage.folder)))
    return found


def _pictures(rows: Sequence[Row], stages: dict[str, Stage], out: Path, alerts: list[str]) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    with alerting("curves, lesions and filters", alerts):
        found += drawings(rows, stages, out)
    shown: set[tuple[str, ...]] = set()
    for stage in stages.values():
        file = out / stage.folder / "images.png"
        if stage.kind != "test" or not stage.done(out) or not file.exists():
            continue
        whose = stage.model, stage.corpus
        if whose not in shown and len(shown) < PICTURES:  # of several seeds the first
            shown.add(whose)
            title = f"{stage.model} on {stage.corpus}: the pairs on which it is worst, median and best"
            found.append((title, file.read_bytes()))
    for stage in stages.values():
        if stage.replicas and stage.done(out) and (stage.model, stage.corpus, "noise") not in shown:
            shown.add((stage.model, stage.corpus, "noise"))
            title = f"{stage.model} on {stage.corpus}: local noise of the first pair, over a fully sampled image's"
            with alerting(f"noise in {stage.folder}", alerts):
                found.append((title, (out / stage.folder / "noise.png").read_bytes()))
    return found
