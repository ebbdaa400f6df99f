"""Training: one loop, read from top to bottom. A training that was stopped goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from synth.memory import keep_memory
from synth.store import write_whole

from .checkpoint import load_tensors
from .joined import joined
from .journal import Journal
from .loader import PairDataset
from .run import Run, TrainingError
from .trained import WEIGHTS
from .training import Training
from .world import World, local_device

Tell = Callable[[int, int, float], None]  # step, steps, loss


def train(settings: Training, out: Path, *, device: str | None = None, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Train as the settings say, with everything in the folder `out`; return the model's card.

    Raises TrainingError, CheckpointError, or CorpusError of a corpus that cannot be used. On a CPU the same settings
    give the same weights to the last bit, however often it was stopped; started by ``torchrun``, processes share each
    step.
    """
    keep_memory()
    place = local_device(device)
    world = World.join(place)
    corpora = [PairDataset(path) for path in settings.data.corpora]
    identity = settings.identity(joined(corpora).identity)
    _claim(out, settings, identity, world)
    if (out / WEIGHTS).exists():
        world.leave()
        return load_tensors(out / WEIGHTS)[1]
    run = Run(settings, corpora, out, identity, world, place)
    state = run.resume()
    length, saved = settings.training, time.monotonic()
    with Journal(out if world.rank == 0 else None, state.step, tensorboard=length.tensorboard) as journal:
        run.model.train()
        while state.step < run.steps and not run.patience_is_over():
            for batch in run.loader:
                started = time.monotonic()
                loss = run.advance(batch)
                state.step += 1
                state.seconds += time.monotonic() - started
                journal.write(state.step, loss=loss, seconds=round(state.seconds, 3))
                if world.rank == 0:
                    tell(state.step, run.steps, loss)
                if run.validation and run.validation_is_due():
                    journal.write(state.step, validation=run.validate())
                if time.monotonic() - saved >= length.checkpoint_seconds:
                    journal.flush()
                    run.save()
                    saved = time.monotonic()
                if state.step == run.steps or run.patience_is_over():
                    break
        card = run.finish()
    world.leave()
    return card


def _claim(out: Path, settings: Training, identity: str, world: World) -> None:
    """Take the folder for this training; raises TrainingError where it holds something else."""
    note = out / "settings.json"
    if world.rank == 0:
        if note.exists():
            if _identity_in(note) != identity:
                raise TrainingError(
                    f"{out} holds another training: its settings, corpora or starting weights differ; "
                    "choose another --out"
                )
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise TrainingError(f"{out} exists and is no training's folder; choose another --out")
        else:
            said = {"identity": identity, "settings": settings.model_dump(mode="json")}
            write_whole(note, (json.dumps(said, indent=2) + "\n").encode())
    world.wait()


def _identity_in(note: Path) -> str:
    try:
        return str(json.loads(note.read_text())["identity"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{note} is damaged ({type(error).__name__}); choose another --out") from None
