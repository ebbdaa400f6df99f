"""A trained network by its folder, or a baseline by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recon.errors import CheckpointError
from recon.models.catalogue import BASELINES, Reconstruction, named_baseline
from recon.training.model_files import load_model
from recon.training.process_group import local_device


def model_named(name: str, device: str | None) -> tuple[Reconstruction, dict[str, Any]]:
    """A trained network by its folder or file, or a baseline by name; raises CheckpointError with the known names."""
    baseline = named_baseline(name)
    if baseline is not None:
        return baseline, {}
    if not Path(name).exists():
        known = ", ".join(BASELINES)
        raise CheckpointError(f"{name}: no such folder, and no baseline of that name; the baselines are {known}")
    return load_model(name, local_device(device))
