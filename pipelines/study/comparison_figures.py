"""A study's figures: images of its models for the same pair, side by side, and errors by g-factor.

A figure needs the trained networks, so it is drawn once and kept under a hash of the tests that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from recon.data.datasets import PairDataset
from recon.evaluation.conditioning import PAIRS, Conditioned, by_conditioning
from recon.evaluation.metrics import over_sets
from recon.evaluation.rows import image_of
from recon.models.catalogue import Reconstruction
from recon.training.process_group import local_device
from synth.storage.whole import write_whole

from ..display.image_panels import compared, draw_rows, plain_numbers, png
from ..display.progress import Meter
from ..models.named_models import model_named
from .findings import by_pair
from .folder import Row, StudyFolder
from .settings import FigureSpec
from .stages import Stage

VERSION = "3"  # of the drawings: raise it where they change
SHOWN = {
    "images": "The pair on which the first model has its median SSIM; only the first of several seeds is shown. The "
    "frame, enlarged below, is where the summed error of all models is largest",
    "conditioning": f"The first {PAIRS} pairs",
}


def figures(
    specs: Sequence[FigureSpec],
    rows: Sequence[Row],
    folder: StudyFolder,
    device: str | None,
) -> list[tuple[str, bytes]]:
    """Captions and PNGs of a study's figures, as far as their tests have been made."""
    wanted = [(spec, corpus, _tests(spec, corpus, folder)) for spec in specs for corpus in spec.corpora]
    wanted = [(spec, corpus, tests) for spec, corpus, tests in wanted if tests]
    found = []
    with Meter("draw", len(wanted), unit="figures") as meter:
        for spec, corpus, tests in wanted:
            parts = (VERSION, spec.kind, *(stage.key for stage in tests))
            file = folder.path / "figures" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.png"
            with folder.alerting(f"figure '{spec.title}' on {corpus}"):
                if not file.exists() or not file.stat().st_size:
                    chosen = local_device(device)
                    pairs = PairDataset(folder.of(f"build/{corpus}"))
                    models = {test.model: model_named(_source(test, folder), device)[0] for test in tests}
                    if spec.kind == "images":
                        _side_by_side(models, pairs, _scores(tests, rows), chosen, file)
                    else:
                        write_whole(file, _conditioning(by_conditioning(models, pairs, chosen)))
                found.append((f"{spec.title}: {corpus}. {SHOWN[spec.kind]}", file.read_bytes()))
            meter.advance(1)
    return found


def _tests(spec: FigureSpec, corpus: str, folder: StudyFolder) -> list[Stage]:
    """The tests of the figure's models on a corpus, as far as they have been made; the first seed of each model."""
    made = [stage for stage in folder.made("test").values() if stage.corpus == corpus]
    firsts = [next((s for s in made if s.model == model), None) for model in spec.models]
    return [stage for stage in firsts if stage is not None]


def _source(test: Stage, folder: StudyFolder) -> str:
    """The folder of a tested network, or the name of a baseline."""
    source = str(test.settings)
    return str(folder.of(source)) if source in folder.stages else source


def _scores(tests: Sequence[Stage], rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """SSIM by model and pair, of the seeds that are shown."""
    shown = {(test.model, test.seed) for test in tests}
    rows = [row for row in rows if (row["model"], row["seed"]) in shown]
    return {test.model: by_pair(rows, test.model, test.corpus, "ssim_windowed_slice_range") for test in tests}


def _side_by_side(
    models: dict[str, Reconstruction],
    pairs: PairDataset,
    scores: dict[str, dict[int, float]],
    device: torch.device,
    file: Path,
) -> None:
    first = next(iter(scores.values()))
    median = sorted(first, key=lambda pair: first[pair])[len(first) // 2]
    item = pairs[pairs.pair_ids.index(median)]
    target = over_sets(item["target"].numpy())
    images = {f"{name}, SSIM {scores[name][median]:.3f}": image_of(m, item, device) for name, m in models.items()}
    draw_rows(compared(target, images, np.broadcast_to(item["mask"][0].numpy(), target.shape)), file)


def _conditioning(found: Conditioned) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.loglog(found.g, found.noise, "--", color="0.6", label="noise of unregularised SENSE, sqrt(R) g")
    for name, errors in found.errors.items():
        axes.loglog(found.g, errors, marker=".", label=name)
    plain_numbers(axes)
    axes.set_xlabel("g-factor without regularisation (medians of eighths of the voxels)")
    axes.set_ylabel("rms error over the noise\nof a fully sampled image", fontsize=8)
    axes.legend(fontsize=7)
    return png(figure, 110)
