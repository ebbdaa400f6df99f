"""Check whether the files of a finished training are unchanged."""

from __future__ import annotations

import warnings
from typing import Any

from recon.training.check import check_training
from recon.training.model_files import NOTE, WEIGHTS
from synth.storage.place import Place


def is_training(folder: Place) -> bool:
    """Whether a folder is a training's."""
    return not (folder / "zarr.json").exists() and any((folder / name).exists() for name in (NOTE, WEIGHTS))


def verify_training(folder: Place) -> dict[str, Any]:
    """Whether a training is intact, its problems, and the files that no check covers; raises CheckpointError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files without a checksum are among those that are not covered
        problems, not_covered = check_training(folder)
    return {"training": str(folder), "intact": not problems, "problems": problems, "not_covered": not_covered}
