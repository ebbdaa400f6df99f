"""Check whether the files of a finished training are unchanged."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from recon.training.check import check_training
from recon.training.model_files import NOTE, WEIGHTS
from synth.errors import CorpusError
from synth.storage.corpus_files import building_path
from synth.storage.place import Place


def is_training(folder: Place) -> bool:
    """Whether a folder is a training's, and not a corpus; raises CorpusError where it is neither."""
    if any((folder / name).exists() for name in ("zarr.json", "recipe.json")) or _is_unfinished(folder):
        return False
    if not any((folder / name).exists() for name in (NOTE, WEIGHTS)):
        state = "is neither a corpus of Fathom's nor a finished training" if folder.exists() else "does not exist"
        raise CorpusError(f"{folder} {state}; give the folder that `fathom build` or `fathom train` made")
    return True


def _is_unfinished(folder: Place) -> bool:
    """Whether a corpus of this name is being built, or was stopped."""
    return isinstance(folder, Path) and bool(folder.name) and building_path(folder).exists()


def verify_training(folder: Place) -> dict[str, Any]:
    """Whether a training is intact, its problems, and the files that no check covers; raises CheckpointError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files without a checksum are among those that are not covered
        problems, not_covered = check_training(folder)
    return {"training": str(folder), "intact": not problems, "problems": problems, "not_covered": not_covered}
