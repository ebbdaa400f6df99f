"""A study's figures: what its models make of the same pair, side by side; and where their errors are.

They take the trained networks themselves, so each is drawn once and kept under a hash of the tests that it rests on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recon.gfactor import block_g
from recon.loader import PairDataset
from recon.models import Reconstruction
from recon.world import local_device
from synth.storage.whole import write_whole

from .alerts import alerting
from .evaluation import image_of, model_named
from .findings import by_pair
from .picture import compared, draw_rows, png
from .progress import Meter
from .study import FigureSpec, Stage
from .study_run import Row

VERSION = "2"  # of the drawings: raise it where they change
PAIRS = 8  # of a corpus, whose errors are sorted by conditioning
BINS = 8
SHOWN = {
    "images": "The pair on which the first model's SSIM is its median, and of several seeds the first; framed, and "
    "enlarged below, is where all errors together are largest",
    "conditioning": f"The first {PAIRS} pairs",
}


def figures(
    specs: Sequence[FigureSpec],
    rows: Sequence[Row],
    stages: dict[str, Stage],
    out: Path,
    device: str | None,
    alerts: list[str],
) -> list[tuple[str, bytes]]:
    """Captions and PNGs of a study's figures, as far as their tests have been made."""
    wanted = [(spec, corpus, _tests(spec, corpus, stages, out)) for spec in specs for corpus in spec.corpora]
    wanted = [(spec, corpus, tests) for spec, corpus, tests in wanted if tests]
    found = []
    with Meter("draw", len(wanted), unit="figures") as meter:
        for spec, corpus, tests in wanted:
            parts = (VERSION, spec.kind, *(stage.key for stage in tests))
            file = out / "figures" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.png"
            with alerting(f"figure '{spec.title}' on {corpus}", alerts):
                if not file.exists() or not file.stat().st_size:
                    place = local_device(device)
                    pairs = PairDataset(out / stages[f"build/{corpus}"].folder)
                    models = {test.model: model_named(_source(test, stages, out), device)[0] for test in tests}
                    if spec.kind == "images":
                        _side_by_side(models, pairs, _scores(tests, rows), place, file)
                    else:
                        write_whole(file, _conditioning(by_conditioning(models, pairs, place)))
                found.append((f"{spec.title}: {corpus}. {SHOWN[spec.kind]}", file.read_bytes()))
            meter.advance(1)
    return found


def _tests(spec: FigureSpec, corpus: str, stages: dict[str, Stage], out: Path) -> list[Stage]:
    """Of each of its models the first seed's test on a corpus, where it has been made."""
    made = [s for s in stages.values() if s.kind == "test" and s.corpus == corpus and s.done(out)]
    firsts = [next((s for s in made if s.model == model), None) for model in spec.models]
    return [stage for stage in firsts if stage is not None]


def _source(test: Stage, stages: dict[str, Stage], out: Path) -> str:
    """The folder of a tested network, or the name of a baseline."""
    source = str(test.settings)
    return str(out / stages[source].folder) if source in stages else source


def _scores(tests: Sequence[Stage], rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """SSIM by model and pair, of the seeds that are shown."""
    shown = {(test.model, test.seed) for test in tests}
    rows = [row for row in rows if (row["model"], row["seed"]) in shown]
    return {test.model: by_pair(rows, test.model, test.corpus, "ssim_windowed_slice_range") for test in tests}


def _side_by_side(
    models: dict[str, Reconstruction],
    pairs: PairDataset,
    scores: dict[str, dict[int, float]],
    place: torch.device,
    file: Path,
) -> None:
    first = next(iter(scores.values()))
    median = sorted(first, key=lambda pair: first[pair])[len(first) // 2]
    item = pairs[pairs.pair_ids.index(median)]
    target = item["target"].numpy()
    images = {f"{name}, SSIM {scores[name][median]:.3f}": image_of(m, item, place) for name, m in models.items()}
    draw_rows(compared(target, images, np.broadcast_to(item["mask"][0].numpy(), target.shape)), file)


@dataclass(frozen=True)
class Conditioned:
    """Rms errors over sqrt(2) sigma, a fully sampled image's noise, in eighths of the voxels by their g-factor."""

    g: list[float]  # median of each eighth
    noise: list[float]  # what unregularised SENSE has: rms of sqrt(R) g
    errors: dict[str, list[float]]  # by model


def by_conditioning(models: dict[str, Reconstruction], pairs: PairDataset, place: torch.device) -> Conditioned:
    """Errors of models where SENSE is well and badly conditioned; raises ValueError where that cannot be compared."""
    recipe = pairs.recipe
    if recipe.noise.covariance != "white" or recipe.target.reference != "clean":
        raise ValueError("errors are compared with white noise and a clean reference; this corpus has another")
    levels: list[NDArray[np.floating]] = []
    noise: list[NDArray[np.floating]] = []
    errors: dict[str, list[NDArray[np.floating]]] = {name: [] for name in models}
    for position in range(min(PAIRS, len(pairs))):
        item = pairs[position]
        target, sigma = item["target"].numpy(), float(item["sigma"])
        if not sigma > 0:
            raise ValueError("errors are compared with noise, and this corpus has none")
        g = block_g(item["sens_maps"].numpy(), item["mask"][0].numpy())
        levels.append(g[g > 0])
        noise.append(float(item["acceleration"]) ** 0.5 * g[g > 0])
        for name, model in models.items():
            errors[name].append(np.abs(image_of(model, item, place) - target)[g > 0] / (2**0.5 * sigma))
    order = np.argsort(np.concatenate(levels), kind="stable")
    eighths = np.array_split(order, BINS)

    def rms(parts: list[NDArray[np.floating]]) -> list[float]:
        squares = np.concatenate(parts) ** 2
        return [float(squares[eighth].mean() ** 0.5) for eighth in eighths]

    middles = [float(np.median(np.concatenate(levels)[eighth])) for eighth in eighths]
    return Conditioned(middles, rms(noise), {name: rms(parts) for name, parts in errors.items()})


def _conditioning(found: Conditioned) -> bytes:
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.loglog(found.g, found.noise, "--", color="0.6", label="noise of unregularised SENSE, sqrt(R) g")
    for name, errors in found.errors.items():
        axes.loglog(found.g, errors, marker=".", label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    axes.set_xlabel("g-factor without regularisation (medians of eighths of the voxels)")
    axes.set_ylabel("rms error over the noise\nof a fully sampled image", fontsize=8)
    axes.legend(fontsize=7)
    return png(figure, 110)
