"""Checks of a finished training's folder: whether its files are as the training left them."""

from __future__ import annotations

import json
from typing import Any

from synth.storage.place import Place, names_in_folder
from synth.storage.whole import holds, read_document, refuse_shortage

from ..errors import CheckpointError
from .checkpoint import has_sum, load_tensors
from .model_files import CARD, NOTE, WEIGHTS, card_document, note_document

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
    if card and not _agrees(folder / NOTE, card):
        problems.append(f"{folder / NOTE} does not say what is in {WEIGHTS}; restore it")
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


def _lies_in(some: Any, more: Any) -> bool:
    """Whether every value in a document is in another, which may have further keys."""
    if isinstance(some, dict) and isinstance(more, dict):
        return all(key in more and _lies_in(value, more[key]) for key, value in some.items())
    return bool(some == more)
