"""The folders and files that a study needs and that are not there."""

from __future__ import annotations

from pathlib import Path

from synth.recipe import Recipe
from synth.sources.scan_slices import ScansSpec

from .folder import StudyFolder

SHOWN = 2  # corpora that are named


def missing(folder: StudyFolder) -> list[str]:
    """A sentence for each source that cannot be listed, with the corpora that wait for it and a remedy."""
    why: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    for name, stage in folder.stages.items():
        recipe = stage.settings
        if not isinstance(recipe, Recipe) or folder.has(stage):
            continue
        try:
            source = recipe.source
            source.list_scans() if isinstance(source, ScansSpec) else source.list_files()
        except (OSError, ValueError) as error:
            why.setdefault(str(error), []).append(name)
            paths[str(error)] = _short(str(recipe.source.path))
    return [
        f"{paths[error]}, for {_those(names)}; put the data there, or a link to them ({error})"
        for error, names in why.items()
    ]


def _those(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _short(path: str) -> str:
    """A path relative to this folder, as studies write it, if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
