"""A training's first steps, which leave nothing behind: whether it runs, and how long it would take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ..data.datasets import PairDataset
from .memory import memory_explained
from .own_model import OwnModel
from .process_group import ProcessGroup, local_device
from .run import Run
from .settings import Training

ENOUGH = 1.0  # seconds after which a measurement ends


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


def seconds_of(step: Callable[[], None]) -> float:
    """Seconds of a step: the median within `ENOUGH` seconds after a first one, or the first if that takes longer.

    The first step is slower, because it loads code and reserves memory; on a GPU, later ones record graphs.
    """
    started = time.perf_counter()
    step()
    first = time.perf_counter() - started
    if first > 2 * ENOUGH:
        return first
    times: list[float] = []
    while not times or sum(times) < ENOUGH:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def dry_run(settings: Training, model: nn.Module | OwnModel | None = None, *, device: str | None = None) -> DryRun:
    """Make steps of a training for a second, and forget them; nothing is written.

    Parameters and exceptions are those of `train`; a network of one's own is changed in place.
    """
    own, chosen = OwnModel.of(model) if isinstance(model, nn.Module) else model, local_device(device)
    corpora, validation = ([PairDataset(path) for path in paths] for paths in settings.data.paths)
    with memory_explained():
        run = Run(settings, corpora, validation, Path(), "", ProcessGroup.join(chosen), chosen, own)
        batches = run.loader.endless()
        run.model.train()

        def step() -> None:
            run.advance(next(batches))
            run.state.step += 1
            list(run.told(every=True))  # waits for the device

        seconds = seconds_of(step)
    parameters = sum(p.numel() for p in run.model.parameters())
    return DryRun(sum(map(len, corpora)), parameters, run.steps, seconds, str(chosen))
