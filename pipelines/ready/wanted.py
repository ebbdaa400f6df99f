"""Which folders and files ready recipes, trainings and studies take their data from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from synth.recipe import Recipe
from synth.settings.toml import load_settings, read_toml

PACKAGED = "photographs of scikit-image"  # nothing must be there


def wanted_by_recipe(file: Path, changes: Iterable[str] = ()) -> str:
    """The path of a recipe's source as the recipe writes it, or `PACKAGED`; raises SettingsError."""
    return load_settings(Recipe, file, changes).source.path or PACKAGED


def wanted_by_training(file: Path) -> list[str]:
    """The corpora of a training, as it writes them; raises SettingsError."""
    data = read_toml(file, "training")[0].get("data", {})
    return [str(path) for name in ("corpora", "validation") for path in data.get(name, [])]


def told(paths: Iterable[str]) -> str:
    """Each path once, in order, and whether it is missing in this folder."""
    once = dict.fromkeys(paths)
    return ", ".join(path if path == PACKAGED or Path(path).exists() else f"{path} (missing here)" for path in once)
