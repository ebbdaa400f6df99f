"""Checks of a finished training's folder: whether its files are as the training left them."""

from __future__ import annotations

import json
from typing import Any

from synth.storage.arrays import sha256_of_file
from synth.storage.place import Place, names_in_folder
from synth.storage.whole import holds, read_document, refuse_shortage

from ..errors import CheckpointError
from .checkpoint import has_sum, load_tensors
from .model_files import CARD, NOTE, PUBLISHED, WEIGHTS, card_document, note_document

LOGS = ("metrics.jsonl", "tensorboard")
TENSORS = ("best.safetensors", "checkpoint.safetensors")  # beside the weights; a finished training does without them


def check_training(folder: Place) -> tuple[list[str], dict[str, str]]:
    """What is damaged, one sentence each; and the files that no check covers, with the reason.

    Raises CheckpointError where the folder holds no finished training.
    """
    if not (folder / NOTE).exists() and not (folder / WEIGHTS).exists():
        raise CheckpointError(f"{folder} is not the folder of a training; give the one that `fathom train` made")
    if not (folder / WEIGHTS).exists():
        raise CheckpointError(
            f"{folder} has no {WEIGHTS}: its training has not ended; run the same `fathom train` again to go on"
        )
    problems: list[str] = []
    others = names_in_folder(folder) - {WEIGHTS, CARD, NOTE, *TENSORS}
    not_covered = dict.fromkeys(sorted(others), "is not part of the training") | dict.fromkeys(LOGS, "is a log")
    not_covered |= dict.fromkeys(TENSORS, "is not there; a finished training does without it")
    card: dict[str, Any] = {}
    for name in (WEIGHTS, *TENSORS):
        if not (folder / name).exists():
            continue
        not_covered.pop(name, None)
        try:
            facts = load_tensors(folder / name)[1]
        except CheckpointError as error:
            problems.append(str(error))
            continue
        card = facts if name == WEIGHTS else card
        if card and not _is_of_this_training(name, facts, card):
            problems.append(f"{folder / name} belongs elsewhere; restore it")
        if not has_sum(folder / name):
            not_covered[name] = "an earlier version of Fathom wrote it, without a checksum"
    if card and not holds(folder / CARD, card_document(card)):
        problems.append(f"{folder / CARD} does not say what is in {WEIGHTS}; restore it")
    is_published = (folder / PUBLISHED).exists() and not (folder / NOTE).exists()
    note = folder / (PUBLISHED if is_published else NOTE)
    not_covered.pop(note.name, None)
    if card and not (_is_record(note, folder, card) if is_published else _agrees(note, card)):
        problems.append(f"{note} does not say what is in {WEIGHTS}; restore it")
    return problems, not_covered


def _is_of_this_training(name: str, facts: dict[str, Any], card: dict[str, Any]) -> bool:
    """Whether the facts in a file of tensors are those of its kind, and of the same training as the card."""
    if name == "best.safetensors":
        return facts.keys() == {"step"}
    kind = "model" if name == WEIGHTS else "state"
    return kind in facts and "identity" in facts and facts["identity"] == card.get("identity")


def _agrees(note: Place, card: dict[str, Any]) -> bool:
    """Whether the note of a training's beginning, which an earlier version may have written, agrees with its card."""
    try:
        data = read_document(note)
        said = json.loads(data)
        written = note_document(said["identity"], said["settings"]) == data
        return written and said["identity"] == card["identity"] and _lies_in(said["settings"], card["settings"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        refuse_shortage(error)
        return False


def _is_record(record: Place, folder: Place, card: dict[str, Any]) -> bool:
    """Whether the record of a published training is that of its weights."""
    try:
        said = json.loads(read_document(record))
        return bool(
            said["weights"]["sha256"] == sha256_of_file(folder / WEIGHTS) and said["identity"] == card["identity"]
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        refuse_shortage(error)
        return False


def _lies_in(some: Any, more: Any) -> bool:
    """Whether every value in a document is in another, which may have further keys."""
    if isinstance(some, dict) and isinstance(more, dict):
        return all(key in more and _lies_in(value, more[key]) for key, value in some.items())
    return bool(some == more)
