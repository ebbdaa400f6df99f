"""The training loop. A training that was stopped goes on where it stopped."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import nn

from synth.errors import ClaimedError
from synth.given import refuse_other_type
from synth.process import keep_memory
from synth.storage.lease import claimed as claimed_place
from synth.storage.place import Place, place_of

from ..data.datasets import PairDataset
from ..errors import TrainingError
from .begun import as_begun, has_results, take
from .checkpoint import load_tensors
from .memory import memory_explained
from .metrics_log import MetricsLog
from .model_files import WEIGHTS
from .own_model import OwnModel
from .process_group import ProcessGroup, local_device
from .run import Run
from .settings import Training
from .stopping import Stopping

Tell = Callable[[int, int, float], None]  # step, steps, loss


def train(
    settings: Training,
    out: str | Place,
    model: nn.Module | OwnModel | None = None,
    *,
    device: str | None = None,
    tell: Tell = lambda *_: None,
) -> dict[str, Any]:
    """Train a network, and keep everything in one folder; a training that was stopped goes on where it stopped.

    On a CPU the same settings give the same weights to the last bit, however often the training was stopped. At Ctrl-C
    and SIGTERM, a training in one process ends its step and writes a checkpoint first; a second signal stops it at
    once. If ``torchrun`` starts several processes, they share each step, and `out` must be a folder that all of them
    see.

    Parameters
    ----------
    settings
        What to train, on what, and how.
    out
        The folder of the training, or an address ``s3://bucket/name`` (also ``gs://``, ``az://``); it must be new, or
        hold this training already.
    model
        A network of one's own, in place of the settings' `model`: any module that is called as
        ``model(batch) -> image`` [batch y x], complex or magnitude. It is trained in place. To go on with a training,
        give it the same network anew.
    device
        ``cpu``, ``cuda`` or ``cuda:1``; by default the GPU where there is one.
    tell
        Called after each step with step, steps and loss.

    Returns
    -------
    The model's card: settings, corpora with their hashes, parameters, lam, versions.

    Raises
    ------
    TrainingError
        `out` holds something else, another process is training in it, values are no longer finite, or no network is
        given.
    ModelError
        A network of one's own fails, or gives no images of the batch's shape.
    CheckpointError
        A checkpoint, or the model that the training starts from, is damaged or belongs to another network.
    CorpusError
        A corpus cannot be used.
    """
    refuse_other_type(settings, Training, "train takes a Training, which load_training reads")
    keep_memory()
    own = OwnModel.of(model) if isinstance(model, nn.Module) else model
    out, chosen = place_of(out), local_device(device)
    world = ProcessGroup.join(chosen)
    training, validating = settings.data.paths
    corpora = [PairDataset(path, redraw=settings.data.redraw) for path in training]
    for corpus in corpora:
        corpus.sources  # noqa: B018 (the card names them: a damaged ledger is said now, and not when all is done)
    validation = [PairDataset(path) for path in validating]
    hashes = [c.identity for c in corpora], [c.identity for c in validation]
    settings = as_begun(out, settings, *hashes) if own is None else settings.model_copy(update={"model": None})
    code = "" if own is None else own.identity
    identity = settings.identity(*hashes, own=code)
    with _claimed(out, world, lambda: take(out, settings, *hashes, code)) as check, memory_explained():
        if (out / WEIGHTS).exists():
            world.leave()
            return load_tensors(out / WEIGHTS)[1]
        run = Run(settings, corpora, validation, out, identity, world, chosen, own)
        first = run.resume().step
        kept = out if world.rank == 0 else None
        with (
            MetricsLog(kept, first, tensorboard=settings.training.tensorboard) as journal,
            Stopping(active=world.size == 1) as stopping,  # several processes would wait for the one that stops
        ):
            _steps(run, journal, tell if world.rank == 0 else lambda *_: None, stopping, check)
            journal.flush()
            check()
            card = run.finish(journal)
            journal.flush()  # with the validation of the last step
    world.leave()
    return card


def _steps(run: Run, journal: MetricsLog, tell: Tell, stopping: Stopping, check: Callable[[], None]) -> None:
    """Every step that is left, with validations and checkpoints; `check` raises once another process has taken over."""
    state, seconds = run.state, run.settings.training.checkpoint_seconds
    clock = saved = time.monotonic()
    run.model.train()
    if state.step == run.steps or run.patience_is_over():
        return
    for batch in run.loader.endless():
        run.advance(batch)
        state.step += 1
        now = time.monotonic()
        state.seconds, clock = state.seconds + now - clock, now  # loading and checkpoints count, too
        validated = run.validation_is_due()
        due = validated or now - saved >= seconds or stopping.asked is not None
        for step, loss in run.told(every=due or state.step == run.steps):  # what is saved was checked
            journal.write(step, loss=loss, seconds=round(state.seconds, 3))
            tell(step, run.steps, loss)
        if due:
            check()
        if validated:
            journal.write(state.step, validation=run.validate())
        if due:
            journal.flush()
            run.save()
            saved = time.monotonic()
            if stopping.asked is not None:
                stopping.stop()
        if state.step == run.steps or run.patience_is_over():
            return


@contextlib.contextmanager
def _claimed(out: Place, world: ProcessGroup, take: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Claim the folder and take it for this training; yield what raises once the claim is lost.

    Raises TrainingError where another process has claimed it.
    """
    if world.rank != 0:
        world.wait()
        yield lambda: None
        return
    try:
        with _locked(out) if isinstance(out, Path) else claimed_place(out, "fathom train") as lease:
            take()
            world.wait()
            yield lease.check if lease else lambda: None
    except ClaimedError as error:
        raise TrainingError(str(error)) from None


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Lock a folder, and make it first; raises ClaimedError if it is locked already.

    A folder that was made here and in which an error came before the first step is taken away again.
    """
    try:
        out.mkdir(parents=True)
        is_new = True
    except FileExistsError:
        is_new = False
    claim = os.open(out, os.O_RDONLY)  # the lock ends with this process, however that ends
    try:
        try:
            fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClaimedError(f"{out}: another `fathom train` is at work on it; wait for it to end") from None
        try:
            yield
        except Exception:
            if is_new and not has_results(out):
                shutil.rmtree(out, ignore_errors=True)
            raise
    finally:
        os.close(claim)
