"""The pictures at the top of a report, which show its answer: curves over the lesions' size, and over the SNR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recon.evaluation.definitions import defined
from synth.recipe import Recipe

from ..display.html_page import Picture
from ..display.image_panels import plain_numbers, png
from .findings import matrix
from .folder import Row, StudyFolder
from .questions import PSNR, SSIM, by_snr, main_metric
from .settings import Study
from .stages import Stage
from .sweeps import sweeps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES = 10  # in one picture; more cannot be told apart
PANELS = ("contrast_recovery", "lesion_error", "false_lesions")
RIGHT = {"contrast_recovery": 1.0, "lesion_error": 0.0, "false_lesions": 0.0}  # where a line marks what is right
SIZE = (3.0, 2.7)  # inches of a panel: as wide as a phone at `DPI`; three and their legend fit a desk's width
DPI = 110
MARKS = "os^Dv*PX<>"
APART = 0.012  # of the axis, between the points of two models: intervals stand side by side


def first_pictures(study: Study, rows: Sequence[Row], folder: StudyFolder) -> list[Picture]:
    """Captions and panels: lesions over their size, or the study's metric over the SNR where there are no lesions."""
    lesions = lesion_pictures(study.tests.models, rows, folder.stages)
    if lesions:
        return lesions[:1]
    return snr_pictures(study, rows, recipes_of(folder))


def recipes_of(folder: StudyFolder) -> dict[str, Recipe]:
    """The recipe of every corpus of the study, by its name."""
    built = {name: stage.settings for name, stage in folder.stages.items() if stage.kind == "build"}
    return {name.removeprefix("build/"): recipe for name, recipe in built.items() if isinstance(recipe, Recipe)}


def lesion_pictures(models: Sequence[str], rows: Sequence[Row], stages: dict[str, Stage]) -> list[Picture]:
    """Recovery, error and invention of lesions over their diameter, a curve per model: one for each corpus without."""
    groups: dict[str, dict[str, float]] = {}  # corpus without lesions, and sign -> corpus with lesions -> diameter
    for stage in stages.values():
        recipe = stages[stage.needs[0]].settings if stage.without else None
        if isinstance(recipe, Recipe) and recipe.target.lesions is not None:
            sign = "dark" if recipe.target.lesions.contrast < 0 else "bright"
            name = f"{sign} lesions in {stage.without.removeprefix('build/')}"
            groups.setdefault(name, {})[stage.corpus] = recipe.target.lesions.diameter
    found: list[Picture] = []
    for name, sizes in groups.items():
        corpora = dict(sorted(sizes.items(), key=lambda entry: entry[1]))
        if len(corpora) < 2 or not rows:
            continue
        shown = _shown(models, rows, "lesion_error", list(corpora))
        axis = "diameter of the lesions, pixels"
        parts = [_panel(rows, shown, metric, corpora, axis) for metric in PANELS]
        caption = f"{name[0].upper() + name[1:]} by their size, with 95 % intervals. Grey lines mark what is right."
        found.append((caption + _left_out(models, shown), [*parts, _legend(shown)]))
    return found


def snr_pictures(study: Study, rows: Sequence[Row], recipes: Mapping[str, Recipe]) -> list[Picture]:
    """The study's metric and PSNR or SSIM over the SNR, a curve per model, where tests differ in the SNR alone."""
    metrics = list(dict.fromkeys([main_metric(study, rows), PSNR, SSIM]))[:2] if rows else []
    tested = {row["corpus"] for row in rows}
    for corpora in by_snr([c for c in study.tests.corpora if c in tested], recipes):
        shown = _shown(study.tests.models, rows, metrics[0], list(corpora))
        parts = [_panel(rows, shown, metric, corpora, "SNR of the test", log=True) for metric in metrics]
        caption = f"{' and '.join(defined(m).name for m in metrics)} by the SNR of the test, with 95 % intervals."
        return [
            (
                f"{caption} Corpora: {', '.join(corpora)}.{_left_out(study.tests.models, shown)}",
                [*parts, _legend(shown)],
            )
        ]
    return []


def _shown(models: Sequence[str], rows: Sequence[Row], metric: str, corpora: Sequence[str]) -> list[str]:
    """The models of which there are curves: of a baseline that was tested with several numbers, the best alone; no
    more than `CURVES`, the best.
    """
    tested = {row["model"] for row in rows if row["corpus"] in corpora}
    sign, dropped = (-1 if defined(metric).better == "less" else 1), set[str]()
    for kind in sweeps(rows).values():
        means = {
            model: sum(cell.mean for cell in line if cell)
            for model, line in zip(kind, matrix(rows, kind, corpora, metric), strict=True)
            if all(line)
        }
        if means:
            dropped |= {*kind} - {max(means, key=lambda model: sign * means[model])}
    kept = [model for model in models if model in tested and model not in dropped]
    if len(kept) <= CURVES:
        return kept
    cells = dict(zip(kept, matrix(rows, kept, corpora, metric), strict=True))
    whole = {model: sum(cell.mean for cell in line if cell) for model, line in cells.items() if all(line)}
    best = sorted(whole, key=lambda model: -sign * whole[model])[:CURVES]
    return [model for model in kept if model in best]


def _left_out(models: Sequence[str], shown: Sequence[str]) -> str:
    if len(shown) == CURVES < len(models):
        return f" The best {CURVES} of {len(models)} models."
    kinds = {m.partition(":")[0] for m in models if m not in shown} & {m.partition(":")[0] for m in shown}
    return f" Of {' and '.join(sorted(kinds))}, only the best number is shown." if kinds else ""


def _panel(
    rows: Sequence[Row], models: Sequence[str], metric: str, at: Mapping[str, float], label: str, log: bool = False
) -> bytes:
    """One metric over the number at which each corpus lies."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    low, high = min(at.values()), max(at.values())
    for k, cells in enumerate(matrix(rows, models, list(at), metric)):
        there = [(x, cell) for x, cell in zip(at.values(), cells, strict=True) if cell]
        shift = APART * (k - (len(models) - 1) / 2)
        places = [x * (high / low) ** shift if log else x + shift * (high - low) for x, _ in there]
        means = [cell.mean for _, cell in there]
        spans = [[(cell.high - cell.mean) if cell.known else 0.0 for _, cell in there]] * 2
        axes.errorbar(places, means, spans, capsize=2, elinewidth=0.8, linewidth=1.2, markersize=4, **_style(k))
    if metric in RIGHT:
        axes.axhline(RIGHT[metric], color="0.6", linewidth=0.8, zorder=0)
    if log:
        axes.set_xscale("log")
    plain_numbers(axes)
    axes.set_xticks(list(at.values()), [f"{x:g}" for x in at.values()])
    axes.set_xticks([], minor=True)
    _labelled(axes, label, metric)
    return png(figure, DPI)


def _labelled(axes: Axes, label: str, metric: str) -> None:
    axes.set_xlabel(label, fontsize=9)
    better = {"more": " (more is better)", "less": " (less is better)", "": ""}[defined(metric).better]
    axes.set_title(defined(metric).title + better, fontsize=10)
    axes.tick_params(labelsize=8)


def _style(k: int) -> dict[str, Any]:
    return {"color": f"C{k % 10}", "marker": MARKS[k % len(MARKS)], "linestyle": "-" if k < 10 else "--"}


def _legend(models: Sequence[str]) -> bytes:
    """The models' colours and marks, as a panel of its own: beside the others, or below them on a phone."""
    from matplotlib.figure import Figure

    width = min(SIZE[0], 0.5 + 0.075 * max(len(model) for model in models))
    figure = Figure(figsize=(width, 0.2 + 0.21 * len(models)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for k, model in enumerate(models):
        axes.plot([], [], markersize=5, label=model, **_style(k))
    axes.legend(loc="center left", fontsize=9, frameon=False)
    return png(figure, DPI)
