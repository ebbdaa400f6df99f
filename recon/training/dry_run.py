"""A training's first steps, which leave nothing behind: whether it runs, and how long it would take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..data.datasets import PairDataset
from .memory import memory_explained
from .own_model import OwnModel
from .process_group import ProcessGroup, local_device
from .run import Run
from .settings import Training

STEPS = 3  # timed after a first one, in which libraries choose their kernels


@dataclass(frozen=True)
class DryRun:
    """What a training would use and take."""

    pairs: int
    parameters: int
    steps: int
    seconds_of_a_step: float
    device: str

    @property
    def seconds(self) -> float:
        """Of all steps, without validations and checkpoints."""
        return self.steps * self.seconds_of_a_step


def dry_run(settings: Training, model: nn.Module | OwnModel | None = None, *, device: str | None = None) -> DryRun:
    """Make four steps of a training and forget them; nothing is written.

    Parameters and exceptions are those of `train`; a network of one's own is changed in place.
    """
    own, chosen = OwnModel.of(model) if isinstance(model, nn.Module) else model, local_device(device)
    corpora, validation = ([PairDataset(path) for path in paths] for paths in settings.data.paths)
    with memory_explained():
        run = Run(settings, corpora, validation, Path(), "", ProcessGroup.join(chosen), chosen, own)
        batches = run.loader.endless()
        run.model.train()
        started = time.perf_counter()
        for k in range(1 + STEPS):
            run.advance(next(batches))
            run.state.step += 1
            list(run.told(every=True))  # waits for the device
            started = time.perf_counter() if k == 0 else started
    seconds = (time.perf_counter() - started) / STEPS
    parameters = sum(p.numel() for p in run.model.parameters())
    return DryRun(sum(map(len, corpora)), parameters, run.steps, seconds, str(chosen))
