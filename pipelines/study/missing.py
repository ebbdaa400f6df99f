"""The folders and files that a study needs and that are not there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from synth.recipe import Recipe
from synth.sources.scan_slices import ScansSpec

from .folder import StudyFolder

SHOWN = 2  # corpora that are named


@dataclass(frozen=True)
class Missing:
    """A sentence for each source that cannot be listed, and whether no corpus at all can be had without them."""

    sentences: list[str]
    everything: bool


def missing(folder: StudyFolder) -> Missing:
    """The sources that cannot be listed, with the corpora that wait for them and a remedy."""
    why: dict[str, list[str]] = {}
    paths: dict[str, str] = {}
    corpora = 0
    for name, stage in folder.stages.items():
        recipe = stage.settings
        corpora += isinstance(recipe, Recipe)
        if not isinstance(recipe, Recipe) or folder.has(stage):
            continue
        try:
            source = recipe.source
            source.list_scans() if isinstance(source, ScansSpec) else source.list_files()
        except (OSError, ValueError) as error:
            why.setdefault(str(error), []).append(name)
            paths[str(error)] = _short(str(recipe.source.path))
    sentences = [
        f"{paths[error]}, for {_those(names)}; put the data there, or a link to them ({error})"
        for error, names in why.items()
    ]
    return Missing(sentences, 0 < corpora == sum(map(len, why.values())))


def _those(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _short(path: str) -> str:
    """A path relative to this folder, as studies write it, if it lies below it."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path
