"""What the ready studies need."""

from __future__ import annotations

from ..ready.names import STUDIES, named_recipe
from ..ready.wanted import wanted_by_recipe
from .settings import load_study


def ready_studies(scale: str = "laptop") -> dict[str, list[str]]:
    """The sources of every ready study's corpora at a scale, by the study's name; raises SettingsError."""
    found = {}
    for file in sorted(STUDIES.glob("*.toml")):
        study = load_study(file)
        changes = study.scales[scale].recipes if scale in study.scales else ()
        corpora = study.corpora.values()
        found[file.stem] = [wanted_by_recipe(named_recipe(c.recipe), [*c.set, *changes]) for c in corpora]
    return found
