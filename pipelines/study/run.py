"""Run a study: every stage when what it needs is there, several at once, and the rows that come out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from recon.training.loop import train
from recon.training.settings import DataSpec, Training
from synth.errors import CorpusError
from synth.recipe import Recipe

from ..cluster import ClusterSpec, open_cluster
from ..corpus.build import build
from ..display.progress import steps_shown
from ..errors import BuildError, StageError
from ..models.evaluate import Probes, evaluate
from .stages import Stage
from .timing import Timings


@dataclass(frozen=True)
class Outcome:
    """What became of a stage: there already, made, failed, or left out because it needs one that failed."""

    stage: str
    state: str
    seconds: float = 0.0
    message: str = ""


def make(stage: Stage, out: Path, folders: dict[str, str], device: str | None) -> float:
    """Make one stage in this process; returns the seconds that it took. Raises StageError."""
    started = time.perf_counter()
    torch.set_num_threads(1)  # as on a cluster's workers: sums in another order would be other rows
    try:
        if isinstance(stage.settings, Recipe):
            build(stage.settings, out / stage.folder, ClusterSpec("sync"))
        elif isinstance(stage.settings, Training):
            corpora = tuple(str(out / folders[name]) for name in stage.needs if name.startswith("build/"))
            start = next((str(out / folders[name]) for name in stage.needs if name.startswith("train/")), None)
            settings = stage.settings.model_copy(update={"data": DataSpec(corpora=corpora), "start": start})
            with steps_shown(f"{stage.model}, seed {stage.seed}") as tell:
                card = train(settings, out / stage.folder, device=device, tell=tell)
            return max(float(card["seconds"]), time.perf_counter() - started)  # with what came before it was stopped
        else:
            corpus = out / folders[stage.needs[0]]
            model = str(out / folders[stage.settings]) if stage.settings in folders else stage.settings
            probes = Probes(out / folders[stage.without] if stage.without else None, stage.replicas)
            evaluate({stage.model: model}, corpus, out / stage.folder, device, probes=probes)
    except (ValueError, OSError, RuntimeError, ArithmeticError, MemoryError, CorpusError, BuildError) as error:
        raise StageError(f"{type(error).__name__}: {error}") from None
    return time.perf_counter() - started


def run(stages: dict[str, Stage], out: Path, cluster: ClusterSpec, device: str | None = None) -> Iterator[Outcome]:
    """Make all stages that are not there, in any order that their needs allow; yield what became of each.

    One that fails leaves out those that need it; the others go on.
    """
    out.mkdir(parents=True, exist_ok=True)
    folders = {name: stage.folder for name, stage in stages.items()}
    finished: dict[str, str] = {}
    timings = Timings(out, stages)
    for name, stage in stages.items():
        if stage.done(out):
            finished[name] = "there"
            yield Outcome(name, "there", timings.taken(name))
    if len(finished) == len(stages):
        return
    with open_cluster(cluster) as client:
        running: dict[Any, str] = {}
        while len(finished) + len(running) < len(stages) or running:
            for name in [n for n in stages if n not in finished and n not in running.values()]:
                needs = [finished.get(n) for n in stages[name].needs]
                if any(state in ("failed", "left out") for state in needs):
                    finished[name] = "left out"
                    yield Outcome(name, "left out", message="something that it needs failed")
                elif None not in needs:
                    if client is None:
                        outcome = _made(name, lambda s=stages[name]: make(s, out, folders, device), timings)
                        finished[name] = outcome.state
                        yield outcome
                    else:
                        arguments = (stages[name], out, folders, device)
                        running[client.submit(make, *arguments, pure=False, retries=0)] = name
            if running:
                import distributed

                future = next(iter(distributed.wait(list(running), return_when="FIRST_COMPLETED").done))
                outcome = _made(running.pop(future), future.result, timings)
                finished[outcome.stage] = outcome.state
                yield outcome


def _made(name: str, result: Any, timings: Timings) -> Outcome:
    try:
        seconds = result()
    except StageError as error:
        return Outcome(name, "failed", message=str(error))
    timings.note(name, seconds)
    return Outcome(name, "made", seconds)
