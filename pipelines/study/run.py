"""Run a study: every stage is made once the stages that it needs are there, several at a time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recon.training.loop import train
from recon.training.settings import DataSpec, Training
from synth.recipe import Recipe

from ..cluster import ClusterSpec, open_cluster
from ..corpus.build import build
from ..display.progress import steps_shown
from ..errors import StageError
from ..models.evaluate import Probes, evaluate
from ..running import first_done
from .folder import StudyFolder
from .stages import Stage
from .timing import Timings


@dataclass(frozen=True)
class Outcome:
    """The outcome of a stage: there already, made, failed, or left out because it needs a stage that failed."""

    stage: str
    state: str
    seconds: float = 0.0
    message: str = ""


def make(stage: Stage, out: Path, needs: dict[str, Path], device: str | None) -> float:
    """Make one stage in the folder `out`, from what it needs; returns the seconds that it took. Raises StageError."""
    started = time.perf_counter()
    torch.set_num_threads(1)  # as on a cluster's workers: another order of sums would give other rows
    try:
        if isinstance(stage.settings, Recipe):
            build(stage.settings, out, ClusterSpec("sync"))
        elif isinstance(stage.settings, Training):
            corpora = tuple(str(path) for name, path in needs.items() if name.startswith("build/"))
            start = next((str(path) for name, path in needs.items() if name.startswith("train/")), stage.settings.start)
            settings = stage.settings.model_copy(update={"data": DataSpec(corpora=corpora), "start": start})
            with steps_shown(f"{stage.model}, seed {stage.seed}") as tell:
                card = train(settings, out, device=device, tell=tell)
            return max(float(card["seconds"]), time.perf_counter() - started)  # with the time before a stop
        else:
            model = str(needs.get(stage.settings, stage.settings))
            without = needs[stage.without] if stage.without else None
            probes = Probes(without, stage.replicas, stage.disturbance, stage.noise_map)
            evaluate({stage.model: model}, needs[f"build/{stage.corpus}"], out, device, probes=probes)
    except (ValueError, OSError, RuntimeError, ArithmeticError, MemoryError) as error:
        raise StageError(f"{type(error).__name__}: {error}") from None
    return time.perf_counter() - started


def run(folder: StudyFolder, cluster: ClusterSpec, device: str | None = None) -> Iterator[Outcome]:
    """Make all stages that are not there, in any order that their needs allow; yield the outcome of each.

    If a stage fails, the stages that need it are left out; the others go on.
    """
    folder.path.mkdir(parents=True, exist_ok=True)
    timings, finished = Timings(folder), {}
    for name, stage in folder.stages.items():
        if folder.has(stage):
            finished[name] = "there"
            yield Outcome(name, "there", timings.taken(name))
    if len(finished) == len(folder.stages):
        return
    with open_cluster(cluster) as opened:
        client = opened.client
        running: dict[Any, str] = {}
        taken: dict[str, str | None] = {}  # the device of every stage that runs
        while len(finished) + len(running) < len(folder.stages) or running:
            for name in [n for n in folder.stages if n not in finished and n not in running.values()]:
                stage = folder.stages[name]
                where = least_used(device, taken.values())
                arguments = (stage, folder.of(stage), folder.needs_of(stage), where)
                needs = [finished.get(n) for n in stage.needs]
                if any(state in ("failed", "left out") for state in needs):
                    finished[name] = "left out"
                    yield Outcome(name, "left out", message="a stage that it needs failed")
                elif None not in needs and client is None:
                    outcome = _made(name, partial(make, *arguments), timings)
                    finished[name] = outcome.state
                    yield outcome
                elif None not in needs:
                    running[client.submit(make, *arguments, pure=False, retries=0)] = name
                    taken[name] = where
            if running:
                future = first_done(opened, list(running))
                outcome = _made(running.pop(future), future.result, timings)
                finished[outcome.stage] = outcome.state
                taken.pop(outcome.stage, None)
                yield outcome


def least_used(device: str | None, taken: Iterable[str | None]) -> str | None:
    """The device of a stage: the one asked for, or, where several GPUs are meant, the one with the fewest stages."""
    count = torch.cuda.device_count()
    if device not in (None, "cuda") or count < 2:
        return device
    used = Counter(taken)
    return min((f"cuda:{number}" for number in range(count)), key=lambda name: used[name])


def _made(name: str, result: Callable[[], float], timings: Timings) -> Outcome:
    try:
        seconds = result()
    except StageError as error:
        return Outcome(name, "failed", message=str(error))
    timings.note(name, seconds)
    return Outcome(name, "made", seconds)
