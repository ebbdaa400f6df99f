"""What a training's folder was begun with, and whether settings go on with it: the same, or the same for longer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synth.settings.spec import differing_keys
from synth.storage.lease import FOLDER as CLAIM
from synth.storage.objects import ObjectPlace
from synth.storage.place import Place, names_in_folder, remove
from synth.storage.whole import read_document, refuse_shortage, write_whole

from ..errors import TrainingError
from ..models.unrolled_sense import EARLIER, UnrolledSpec
from .checkpoint import load_tensors, save_tensors
from .model_files import CARD, NOTE, WEIGHTS, kept_name, note_document
from .settings import WITHOUT_EFFECT, AdamSpec, Training

CHECKPOINT = "checkpoint.safetensors"
OURS = (NOTE, "metrics.jsonl", "tensorboard", "best.safetensors", CHECKPOINT)  # and what is being written of them
LENGTH = ("steps", "epochs")
PATHS = {"start", "data.corpora", "data.validation"}
FREE = {*PATHS, *(f"training.{name}" for name in WITHOUT_EFFECT)}


def as_begun(out: Place, settings: Training, corpora: Sequence[str], validation: Sequence[str]) -> Training:
    """The settings, with the number of conjugate gradients of a training that an earlier version began without one."""
    model = settings.model
    if not _begun(out) or not isinstance(model, UnrolledSpec) or model.cg_iterations is not None:
        return settings
    earlier = settings.model_copy(update={"model": model.model_copy(update={"cg_iterations": EARLIER})})
    begun = _note_of(out)
    lengths = earlier, _with_length_of(earlier, begun)
    return earlier if begun["identity"] in [one.identity(corpora, validation) for one in lengths] else settings


def take(out: Place, settings: Training, corpora: Sequence[str], validation: Sequence[str], own: str) -> None:
    """Begin this training in a folder, or find it there; raises TrainingError if another training or something else is.

    A training whose rates do not depend on its length goes on when it is made longer: its checkpoint is then one of the
    longer training, and its finished model is kept under another name (`kept_name`).
    """
    identity, note = settings.identity(corpora, validation, own=own), out / NOTE
    if not _begun(out):  # a training that made no checkpoint must not block one with better settings
        ours = {*OURS, CLAIM} if isinstance(out, ObjectPlace) else {*OURS}
        if out.exists() and not (out.is_dir() and {n.removesuffix(".partial") for n in names_in_folder(out)} <= ours):
            raise TrainingError(f"{out} exists and is not the folder of a training; choose another --out")
        write_whole(note, note_document(identity, settings.model_dump(mode="json")))
        return
    begun = _note_of(out)
    if begun["identity"] == identity:
        return
    shorter = _with_length_of(settings, begun)
    identify = partial(Training.identity, corpora=corpora, validation=validation, own=own)
    if identify(shorter) != begun["identity"]:
        raise TrainingError(
            f"{out} holds another training, which differs in {_told(settings, begun, identify)}; choose another --out"
        )
    _refuse_another_length(out, settings, shorter)
    checkpoint = out / CHECKPOINT
    if not checkpoint.exists():
        raise TrainingError(
            f"{out} cannot go on, because it has no {checkpoint.name}; restore it, or choose another --out, and give "
            f"start = '{out}' to begin from its weights"
        )
    tensors, facts = load_tensors(checkpoint)
    made, length, place = facts["state"]["step"], settings.training, facts["loader"]
    if made > (length.steps or made) or (place["epoch"], place["given"]) > (length.epochs or place["epoch"] + 1, 0):
        raise TrainingError(
            f"{out} has made {made} steps already, more than {_length(settings)} allows; give more "
            f"(--set training.{'epochs' if length.epochs else 'steps'}=N), or choose another --out"
        )
    save_tensors(checkpoint, tensors, {**facts, "identity": identity})
    if (out / WEIGHTS).exists():
        weights, card = load_tensors(out / WEIGHTS)
        save_tensors(out / kept_name(card.get("steps", "before")), weights, card)
    for name in (WEIGHTS, CARD):
        remove(out / name)
    write_whole(note, note_document(identity, settings.model_dump(mode="json")))


def _with_length_of(settings: Training, begun: dict[str, Any]) -> Training:
    """The settings with the length of those that a folder was begun with."""
    length = begun["settings"].get("training", {})
    update = {name: length[name] if type(length.get(name)) is int else None for name in LENGTH}
    return settings.model_copy(update={"training": settings.training.model_copy(update=update)})


def _refuse_another_length(out: Place, settings: Training, begun: Training) -> None:
    """Raise TrainingError where rates depend on the length."""
    how = settings.optimiser
    if isinstance(how, AdamSpec) and how.schedule != "constant":
        raise TrainingError(
            f"{out} was begun with {_length(begun)}, and its rates fall towards the last step (optimiser.schedule = "
            f"'{how.schedule}'), so that with {_length(settings)} it would be another training; choose another --out, "
            f"and give start = '{out}' (--start {out}) to begin from its weights"
        )


def _length(settings: Training) -> str:
    return ", ".join(f"training.{n} = {m}" for n in LENGTH if (m := getattr(settings.training, n)) is not None)


def _told(settings: Training, begun: dict[str, Any], identify: Callable[[Training], str]) -> str:
    """The keys in which settings differ from those in a folder's note, but for what changes no weight.

    Paths are among them only where the corpora or starting weights themselves may be others; `identify` gives the
    identity of settings with the corpora that are given now.
    """
    differing = set(differing_keys(begun["settings"], settings.model_dump(mode="json")))
    keys = sorted(differing - FREE)
    try:
        earlier = Training.model_validate_json(json.dumps(begun["settings"]))
        only_keys = identify(earlier.model_copy(update={"start": settings.start})) == begun["identity"]
    except ValidationError:  # an earlier version wrote the note
        only_keys = True
    if keys and only_keys:
        return ", ".join(keys)
    return ", ".join([*keys, *(sorted(differing & PATHS) or ["a corpus, the starting weights or the network"])])


def has_results(out: Path) -> bool:
    """Whether a training in this folder has made a step that was written."""
    log = out / "metrics.jsonl"
    return _begun(out) or (log.exists() and log.stat().st_size > 0)


def _begun(out: Place) -> bool:
    return any((out / name).exists() for name in (CHECKPOINT, WEIGHTS))


def _note_of(out: Place) -> dict[str, Any]:
    note = out / NOTE
    try:
        found = json.loads(read_document(note))
        return {"identity": str(found["identity"]), "settings": dict(found["settings"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        refuse_shortage(error)
        raise TrainingError(f"{note} is damaged ({type(error).__name__}); choose another --out") from None
