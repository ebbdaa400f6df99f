"""What a folder of Fathom's is, by the files in it; used in messages about arguments of the wrong kind."""

from __future__ import annotations

from synth.storage.place import Place

KINDS = {  # a file that only such a folder holds
    "recipe.json": "a corpus",
    "settings.json": "the folder of a training",
    "training.json": "the folder of a training",
}


def kind_of(place: Place) -> str | None:
    """What a folder is, "a corpus" or "the folder of a training"; None for anything else."""
    return next((kind for file, kind in KINDS.items() if (place / file).exists()), None)
