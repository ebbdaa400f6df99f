"""A study's figures: what its models make of the same pair, side by side; and where their errors are.

They take the trained networks themselves, so each is drawn once and kept under a hash of the tests that it rests on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from recon.gfactor import block_g
from recon.loader import PairDataset
from recon.models import Reconstruction
from recon.world import local_device
from synth.store import write_whole

from .evaluation import image_of, model_named
from .findings import by_pair
from .picture import compared, draw_rows, png
from .progress import Meter
from .study import FigureSpec, Stage
from .study_run import Row

VERSION = "1"  # of the drawings: raise it where they change
PAIRS = 8  # of a corpus, whose errors are sorted by conditioning
BINS = 8


def figures(
    specs: Sequence[FigureSpec], rows: Sequence[Row], stages: dict[str, Stage], out: Path, device: str | None
) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Captions and PNGs of a study's figures, as far as their tests have been made; and why some could not be drawn."""
    wanted = [(spec, corpus, _tests(spec, corpus, stages, out)) for spec in specs for corpus in spec.corpora]
    wanted = [(spec, corpus, tests) for spec, corpus, tests in wanted if tests]
    place = local_device(device)
    found, alerts = [], []
    with Meter("draw", len(wanted), unit="figures") as meter:
        for spec, corpus, tests in wanted:
            parts = (VERSION, spec.kind, *(stage.key for stage in tests))
            file = out / "figures" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.png"
            try:
                if not file.exists():
                    pairs = PairDataset(out / stages[f"build/{corpus}"].folder)
                    models = {test.model: model_named(_source(test, stages, out), device)[0] for test in tests}
                    if spec.kind == "images":
                        _side_by_side(models, pairs, _scores(tests, rows), place, file)
                    else:
                        write_whole(file, _by_conditioning(models, pairs, place))
                found.append((f"{spec.title}: {corpus}", file.read_bytes()))
            except (ValueError, OSError, RuntimeError, ArithmeticError) as error:
                alerts.append(f"figure '{spec.title}' on {corpus} could not be drawn: {error}")
            meter.advance(1)
    return found, alerts


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


def _by_conditioning(models: dict[str, Reconstruction], pairs: PairDataset, place: torch.device) -> bytes:
    """Rms error of models, over a fully sampled image's noise, in voxels sorted by their unregularised g-factor."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import ScalarFormatter

    levels: list[NDArray[np.floating]] = []
    errors: dict[str, list[NDArray[np.floating]]] = {name: [] for name in models}
    rate = 1.0
    for position in range(min(PAIRS, len(pairs))):
        item = pairs[position]
        g = block_g(item["sens_maps"].numpy(), item["mask"][0].numpy())
        inside, target, sigma = g > 0, item["target"].numpy(), float(item["sigma"])
        rate = float(item["acceleration"])
        levels.append(g[inside])
        for name, model in models.items():
            error = np.abs(image_of(model, item, place) - target)[inside] / (2**0.5 * sigma)
            errors[name].append(error)
    g = np.concatenate(levels)
    edges = np.unique(np.quantile(g, np.linspace(0, 1, BINS + 1)))
    bins = np.clip(np.searchsorted(edges, g, side="right") - 1, 0, max(len(edges) - 2, 0))
    there = np.unique(bins)
    middles = [float(np.median(g[bins == k])) for k in there]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.loglog(middles, [rate**0.5 * m for m in middles], "--", color="0.6", label="noise of SENSE, sqrt(R) g")
    for name, parts in errors.items():
        squares = np.concatenate(parts) ** 2
        axes.loglog(middles, [float(squares[bins == k].mean() ** 0.5) for k in there], marker=".", label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(ScalarFormatter())
        axis.set_minor_formatter(ScalarFormatter())
    axes.set_xlabel("g-factor without regularisation (medians of eighths of the voxels)")
    axes.set_ylabel("rms error over the noise\nof a fully sampled image", fontsize=8)
    axes.legend(fontsize=7)
    return png(figure, 110)
