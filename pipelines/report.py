"""The report of a study: one HTML file that needs nothing else, with its numbers beside it as CSV and JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from recon.evaluate import PROBES
from recon.journal import lines_of
from recon.trained import versions
from synth.recipe import Recipe
from synth.store import write_whole

from .findings import Finding, judge, matrix, moved
from .picture import png
from .study import Stage, Study
from .study_run import Outcome, Row, rows_of_study
from .table import write_table

PICTURES = 8  # at most, so that the file stays small
SHOWN: tuple[str, ...] = ("ssim_windowed_slice_range", "psnr_magnitude_slice_max", "nrmse_complex", "aliasing_energy")
SHOWN += ("data_consistency", *PROBES)
LESS_IS_BETTER = ("nrmse_complex", "aliasing_energy", "false_lesions", "noise_gain", "noise_kurtosis", "noise_spread")


def write_report(study: Study, scale: str, stages: dict[str, Stage], outcomes: Sequence[Outcome], out: Path) -> Path:
    """Write ``rows.csv``, ``findings.json`` and ``report.html``; returns the path of the last."""
    rows = rows_of_study(stages, out)
    findings = [judge(expected, rows) for expected in study.expected]
    write_table(rows, out / "rows.csv")
    write_whole(out / "findings.json", (json.dumps([f.as_dict() for f in findings], indent=2) + "\n").encode())
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    told = {outcome.stage: outcome for outcome in outcomes}
    cards = _cards(stages, out)
    html = environment.get_template("report.html").render(
        study=study,
        scale=scale,
        answers=answers(study, rows, findings),
        alerts=[f"{o.stage}: {o.state}. {o.message}" for o in outcomes if o.state in ("failed", "left out")],
        findings=findings,
        tables=[t for t in (_table(study, rows, metric) for metric in SHOWN) if t["rows"]],
        pictures=_pictures(rows, stages, out),
        stages=[
            {"name": name, "folder": stage.folder, "state": told[name].state, "seconds": f"{told[name].seconds:.1f}"}
            for name, stage in stages.items()
        ],
        moves=_moves(stages, out),
        lams=[(name, card["lam"]) for name, card in cards.items() if card["lam"]],
        versions=", ".join(f"{name} {version}" for name, version in versions().items()),
    )
    write_whole(out / "report.html", html.encode())
    return out / "report.html"


def answers(study: Study, rows: Sequence[Row], findings: Sequence[Finding]) -> list[str]:
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
    pairs = len({(row["corpus"], row["pair"]) for row in rows})
    lines.append(f"{len(rows)} rows, {pairs} test pairs, {len({row['model'] for row in rows})} models.")
    return lines


def _table(study: Study, rows: Sequence[Row], metric: str) -> dict[str, Any]:
    corpora = [c for c in study.tests.corpora if any(row["corpus"] == c and metric in row for row in rows)]
    if not corpora:
        return {"metric": metric, "corpora": [], "rows": []}
    values = matrix(rows, study.tests.models, corpora, metric)
    means = np.array([[np.nan if cell is None else cell["mean"] for cell in line] for line in values])
    low, high = np.nanmin(means, axis=0), np.nanmax(means, axis=0)
    shades = 0.05 + 0.35 * (means - low) / np.where(high > low, high - low, 1)
    if metric in LESS_IS_BETTER:
        shades = 0.45 - shades  # darker is better
    if metric == "data_consistency":
        shades = np.full(means.shape, 0.05)  # 1 is best, and both sides of it are worse
    made = [
        (model, [{"value": cell, "shade": f"{shade:.2f}"} for cell, shade in zip(line, tones, strict=True)])
        for model, line, tones in zip(study.tests.models, values, shades, strict=True)
    ]
    return {"metric": metric, "corpora": corpora, "rows": made}


def _moves(stages: dict[str, Stage], out: Path) -> list[tuple[str, dict[str, float]]]:
    found = []
    for name, stage in stages.items():
        start = next((stages[n] for n in stage.needs if n.startswith("train/")), None)
        if stage.kind == "train" and start is not None and stage.done(out):
            found.append((f"{start.name} to {name}", moved(out / start.folder, out / stage.folder)))
    return found


def _cards(stages: dict[str, Stage], out: Path) -> dict[str, dict[str, Any]]:
    trained = {name: stage for name, stage in stages.items() if stage.kind == "train" and stage.done(out)}
    return {name: json.loads((out / s.folder / "model.json").read_text()) for name, s in trained.items()}


def _pictures(rows: Sequence[Row], stages: dict[str, Stage], out: Path) -> list[dict[str, str]]:
    curves = _curves({n: out / s.folder for n, s in stages.items() if s.kind == "train" and s.done(out)})
    found = [("Loss while training, averaged over the last fiftieth of the steps", curves)] if curves else []
    lesions = _lesions(rows, stages)
    found += [("Lesions: how much of their contrast came back, and how often one appeared", lesions)] if lesions else []
    found += [(f"{kind}: means over its number", _sweep(rows, kind, models)) for kind, models in sweeps(rows).items()]
    shown: set[tuple[str, str]] = set()
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
        if stage.replicas and stage.done(out):
            title = f"{stage.model} on {stage.corpus}: local noise of the first pair, over a fully sampled image's"
            found.append((title, (out / stage.folder / "noise.png").read_bytes()))
    return [{"caption": caption, "data": base64.b64encode(data).decode()} for caption, data in found]


def sweeps(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Baselines that were tested with at least three numbers, by kind: ``regularised-sense:0.5``, ``:1``, ..."""
    kinds: dict[str, list[str]] = {}
    for model in dict.fromkeys(row["model"] for row in rows):
        if ":" in model:
            kinds.setdefault(model.partition(":")[0], []).append(model)
    return {kind: sorted(m, key=lambda n: float(n.partition(":")[2])) for kind, m in kinds.items() if len(m) >= 3}


def _sweep(rows: Sequence[Row], kind: str, models: Sequence[str]) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    numbers = [float(model.partition(":")[2]) for model in models]
    corpora = list(dict.fromkeys(row["corpus"] for row in rows))
    for axes, metric in zip(figure.subplots(1, 2), ("psnr_magnitude_slice_max", SHOWN[0]), strict=True):
        for corpus in corpora:
            values = [cell["mean"] if cell else np.nan for (cell,) in matrix(rows, models, [corpus], metric)]
            axes.semilogx(numbers, values, marker=".", label=corpus)
        axes.set_xlabel(kind)
        axes.set_ylabel(metric, fontsize=8)
        axes.legend(fontsize=7)
    return png(figure, 110)


def _lesions(rows: Sequence[Row], stages: dict[str, Stage]) -> bytes | None:
    """Recovery and false lesions of every model over the lesions' diameter, one pair of panels per corpus without."""
    from matplotlib.figure import Figure

    groups: dict[str, dict[str, float]] = {}  # corpus without -> corpus with -> diameter
    for stage in stages.values():
        recipe = stages[stage.needs[0]].settings if stage.without else None
        if isinstance(recipe, Recipe) and recipe.target.lesions is not None:
            groups.setdefault(stage.without, {})[stage.corpus] = recipe.target.lesions.diameter
    groups = {name: corpora for name, corpora in groups.items() if len(corpora) > 1}
    if not groups or not rows:
        return None
    figure = Figure(figsize=(8, 3.2 * len(groups)), layout="constrained")
    models = list(dict.fromkeys(row["model"] for row in rows))
    for line, (without, corpora) in zip(figure.subplots(len(groups), 2, squeeze=False), groups.items(), strict=True):
        for axes, metric in zip(line, ("contrast_recovery", "false_lesions"), strict=True):
            for model, cells in zip(models, matrix(rows, models, list(corpora), metric), strict=True):
                there = [(size, cell) for size, cell in zip(corpora.values(), cells, strict=True) if cell]
                if there:
                    means = [cell["mean"] for _, cell in there]
                    spans = [[abs(cell[end] - cell["mean"]) for _, cell in there] for end in ("low", "high")]
                    axes.errorbar([size for size, _ in there], means, spans, marker=".", capsize=2, label=model)
            axes.set_xlabel("diameter in pixels")
            axes.set_ylabel(f"{metric}, {without.removeprefix('build/')}", fontsize=8)
        line[0].axhline(1, color="0.7", linewidth=0.8)
        line[0].legend(fontsize=6)
    return png(figure, 110)


def _curves(folders: dict[str, Path]) -> bytes | None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, folder in folders.items():
        losses = np.array([line["loss"] for line in lines_of(folder / "metrics.jsonl") if "loss" in line])
        width = max(1, len(losses) // 50)
        smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
        axes.plot(np.arange(len(smooth)) + width, smooth, label=name.removeprefix("train/"), linewidth=1)
    if not folders:
        return None
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(fontsize=7)
    return png(figure, 110)
