"""The report's drawings of trainings: losses over steps, and what fine-tuning did to a network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recon.models.rbf import RbfTable
from recon.models.variational import VariationalSpec
from recon.training.checkpoint import load_tensors
from recon.training.metrics_log import lines_of
from recon.training.model_files import weights_file
from recon.training.settings import Training

from ..display.image_panels import plain_numbers, png
from .folder import StudyFolder

FILTERS = 8  # of a network that are shown


def drawings(folder: StudyFolder) -> list[tuple[str, bytes]]:
    """Captions and PNGs of all drawings for which there are results."""
    trained = folder.made("train")
    found = []
    if trained:
        caption = "Training loss (moving average over 2 % of the steps)"
        tuned = any(folder.start_of(stage) for stage in trained.values())
        found.append((caption + "; fine-tuning begins at a dotted line" * tuned, _curves(folder)))
    for name, stage in trained.items():
        start = folder.start_of(stage)
        spec = stage.settings.model if isinstance(stage.settings, Training) else None
        if start is not None and isinstance(spec, VariationalSpec):
            picture = _filters(folder.of(start), folder.of(stage), spec)
            found.append((f"{name}: the filters that fine-tuning moved most, before and after", picture))
    return found


def _curves(folder: StudyFolder) -> bytes:
    """Losses over steps, a panel per kind of loss; the curve of a fine-tuned network follows that of its start."""
    from matplotlib.figure import Figure

    trained, kinds = folder.made("train"), dict[str, list[str]]()
    for name, stage in trained.items():
        if isinstance(stage.settings, Training):
            kinds.setdefault(stage.settings.training.loss, []).append(name)
    figure = Figure(figsize=(8, 3.5 * len(kinds)), layout="constrained")
    for axes, (kind, names) in zip(figure.subplots(len(kinds), 1, squeeze=False)[:, 0], kinds.items(), strict=True):
        for k, name in enumerate(names):
            losses, before, start = _losses(folder.of(name)), 0, folder.start_of(trained[name])
            if not losses:
                continue
            while start is not None:
                before, start = before + len(_losses(folder.of(start))), folder.start_of(start)
            if before:
                axes.axvline(before, color="0.7", linestyle=":", linewidth=1)
            width = max(1, len(losses) // 50)
            smooth = np.convolve(losses, np.full(width, 1 / width), mode="valid")
            style = "-" if k < 10 else "--" if k < 20 else ":"
            steps = before + np.arange(len(smooth)) + width
            axes.plot(steps, smooth, style, label=name.removeprefix("train/"), linewidth=1)
        axes.set_xlabel("step")
        axes.set_ylabel(f"loss ({kind})")
        if kind != "decibel":
            axes.set_yscale("log")
        plain_numbers(axes)
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return png(figure, 110)


def _losses(training: Path) -> list[float]:
    return [line["loss"] for line in lines_of(training / "metrics.jsonl") if "loss" in line]


def _filters(before: Path, after: Path, spec: VariationalSpec) -> bytes:
    """Kernels (real part) and activations before (solid) and after (dashed) fine-tuning: Knoll 2019's Figure 10."""
    from matplotlib.figure import Figure

    first, last = (load_tensors(weights_file(folder))[0] for folder in (before, after))
    table, x = RbfTable(spec.nodes, spec.rbf), torch.linspace(-1, 1, 201)
    names = [f"stages.{k}.kernels" for k in range(spec.stages)]
    changes = torch.stack([(last[name] - first[name]).flatten(1).norm(dim=1) for name in names])  # [stage filter]
    order = changes.flatten().argsort(descending=True)[:FILTERS].tolist()
    figure = Figure(figsize=(1.2 * len(order), 4), layout="constrained")
    axes = figure.subplots(3, len(order), squeeze=False)
    for column, index in enumerate(order):
        stage, number = divmod(index, spec.filters)
        top = max(float(tensors[names[stage]][number, 0].abs().max()) for tensors in (first, last))
        for row, tensors in enumerate((first, last)):
            axes[row, column].imshow(tensors[names[stage]][number, 0].numpy(), cmap="gray", vmin=-top, vmax=top)
            axes[row, column].set_axis_off()
            phi = table.exact(x.view(1, 1, 1, -1), tensors[f"stages.{stage}.weights"][number : number + 1])
            axes[2, column].plot(x.numpy(), phi.flatten().numpy(), "-" if row == 0 else "--")
        axes[0, column].set_title(f"stage {stage + 1}, filter {number + 1}", fontsize=6)
        axes[2, column].tick_params(labelsize=5)
    return png(figure, 110)
