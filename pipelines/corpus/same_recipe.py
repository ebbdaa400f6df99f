"""Whether a recipe is the one that a corpus was begun with, and what differs if it is not."""

from __future__ import annotations

from synth.corpus.check import CorpusCheck
from synth.plan import Plan
from synth.recipe import Recipe
from synth.settings.spec import differing_keys
from synth.storage.place import Place

from ..errors import CorpusExistsError


def _same_files(recipe: Recipe, stored: Plan) -> bool:
    folder = recipe.source.folder
    moved = folder != stored.recipe.source.folder
    return not moved or (folder.is_dir() and tuple(recipe.source.list_files()) == stored.files)


def is_same(recipe: Recipe, stored: Plan, plan: Plan | None = None) -> bool:
    """Whether a recipe, or its `plan`, makes the pairs of a stored plan, from the same files."""
    if plan is not None and (plan.files, plan.stages) != (stored.files, stored.stages):
        return False
    if recipe.source.kind != stored.recipe.source.kind:  # the names of one kind's sources mean nothing to the other
        return False
    return Plan.of(recipe, stored.files).recipe.hash() == stored.recipe.hash() and _same_files(recipe, stored)


def refuse_another(recipe: Recipe, stored: Plan, where: Place, plan: Plan | None = None) -> None:
    """Raise CorpusExistsError where a corpus is of another recipe (it names the keys that differ) or other sources."""
    if is_same(recipe, stored, plan):
        if problem := CorpusCheck.of(where, stored).sources():
            raise CorpusExistsError(f"{where}: {problem}; restore sources.json, or choose another --out")
        return
    comparable = recipe.source.kind == stored.recipe.source.kind
    resolved = Plan.of(recipe, stored.files).recipe if comparable else recipe
    old, new = stored.recipe.model_dump(mode="json"), resolved.model_dump(mode="json")
    free = {
        "shard_pairs",
        "source.max_rejected",
        *(("source.path",) if comparable and _same_files(recipe, stored) else ()),
    }
    changed = (
        ", ".join(sorted(set(differing_keys(old, new)) - free))
        or "a file that the recipe names, or the names of the sources"
    )
    raise CorpusExistsError(
        f"{where} was made from another recipe (differs in {changed}); nothing was changed: "
        "choose another --out, or move the old corpus away"
    )
