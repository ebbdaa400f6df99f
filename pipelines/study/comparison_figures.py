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
from recon.evaluation.rows import image_of, source_columns
from recon.models.catalogue import Reconstruction
from recon.training.process_group import local_device
from synth.storage.whole import write_whole

from ..display.html_page import Picture
from ..display.image_panels import WINDOW_SAID, draw_rows, panels_of, plain_numbers, png
from ..display.progress import Meter
from ..models.evaluate import told_of
from ..models.named_models import model_named
from .findings import by_pair
from .folder import Row, StudyFolder
from .lesion_parts import draw_lesion
from .settings import FigureSpec
from .stages import Stage

VERSION = "4"  # of the drawings: raise it where they change
SHOWN = {
    "images": "The pair on which the first model has its median SSIM; only the first of several seeds is shown. The "
    f"frame is where the summed error of all models inside the object is largest. {WINDOW_SAID}",
    "conditioning": f"The first {PAIRS} pairs",
    "lesions": "A lesion of the pair on which the first model has its median lesion error. Below each image is what "
    "the lesion alone changed: the image less that of the same data without the lesion, to the lesion's height",
}


def figures(
    specs: Sequence[FigureSpec],
    rows: Sequence[Row],
    folder: StudyFolder,
    device: str | None,
) -> list[Picture]:
    """Captions and PNGs of a study's figures, as far as their tests have been made."""
    wanted = [(spec, corpus, _tests(spec, corpus, folder)) for spec in specs for corpus in spec.corpora]
    wanted = [(spec, corpus, tests) for spec, corpus, tests in wanted if tests]
    found: list[Picture] = []
    with Meter("draw", len(wanted), unit="figures") as meter:
        for spec in specs:
            drawn = {}
            for corpus, tests in [(corpus, tests) for other, corpus, tests in wanted if other is spec]:
                with folder.alerting(f"figure '{spec.title}' on {corpus}"):
                    drawn[corpus] = _kept(spec, tests, rows, folder, device)
                meter.advance(1)
            if spec.kind == "lesions" and drawn:
                found.append((f"{spec.title}. {SHOWN[spec.kind]}", list(drawn.values())))
            else:
                found += [(f"{spec.title}: {corpus}. {SHOWN[spec.kind]}", data) for corpus, data in drawn.items()]
    return found


def _kept(
    spec: FigureSpec, tests: Sequence[Stage], rows: Sequence[Row], folder: StudyFolder, device: str | None
) -> bytes:
    """The figure of the tests of a corpus, drawn where it is not kept yet."""
    parts = (VERSION, spec.kind, *(stage.key for stage in tests))
    file = folder.path / "figures" / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]}.png"
    if not file.exists() or not file.stat().st_size:
        chosen, first = local_device(device), tests[0]
        pairs = PairDataset(folder.of(f"build/{first.corpus}"))
        models = {test.model: model_named(_source(test, folder), device)[0] for test in tests}
        if spec.kind == "images":
            _side_by_side(models, pairs, _scores(tests, rows), chosen, file)
        elif spec.kind == "lesions":
            errors = by_pair(rows, first.model, first.corpus, "lesion_error")
            draw_lesion(models, pairs, PairDataset(folder.of(first.without)), errors, chosen, file)
        else:
            write_whole(file, _conditioning(by_conditioning(models, pairs, chosen)))
    return file.read_bytes()


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
    images = {f"{name}: SSIM {scores[name][median]:.3f}": image_of(m, item, device) for name, m in models.items()}
    source = pairs.sources.get(median)
    heading = told_of({"pair": median, **source_columns(source)})
    lines = panels_of(target, images, mask=np.broadcast_to(item["mask"][0].numpy(), target.shape))
    draw_rows([heading, *lines], file)


def _conditioning(found: Conditioned) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.loglog(found.g, found.noise, "--", color="0.6", label="noise of unregularised SENSE, sqrt(R) g")
    for name, errors in found.errors.items():
        axes.loglog(found.g, errors, marker=".", label=name)
    plain_numbers(axes)
    axes.set_xlabel("g-factor without regularisation (medians of eighths of the voxels)")
    axes.set_ylabel("rms error over the noise\nof a fully sampled image", fontsize=8)
    axes.legend(fontsize=7)
    return png(figure, 110)
