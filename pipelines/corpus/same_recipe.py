"""Whether a recipe is the one that a corpus was begun with, and what differs if it is not."""

from __future__ import annotations

from synth.corpus.check import CorpusCheck
from synth.plan import Plan
from synth.recipe import Recipe
from synth.settings.spec import differing_keys
from synth.sources.scan_slices import ScanItem, ScansSpec
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


def sources_told(plan: Plan) -> str:
    """Which sources pairs are from, as part of a sentence."""
    used, there = len(plan), len(plan.files)
    return f"the first {used} of {there} sources" if used < there else f"{there} sources"


def told_of_sources(recipe: Recipe, stored: Plan, *, listed: bool) -> list[str]:
    """What a build tells of its sources: how many pairs each makes, and how many it does not use.

    With `listed`, the source's list was made now. A corpus that was begun before keeps its list; where its source
    cannot be listed any more, nothing is told of it, as a finished corpus does not need it.
    """
    told = []
    if len(stored) > len(stored.files):
        share = f"{len(stored) / len(stored.files):.3g}"
        each = "the one source" if len(stored.files) == 1 else f"each of the {len(stored.files)} sources"
        one = f"--set pairs={len(stored.files)} makes one of each"
        told = [f"{each} makes {share} pairs, which show the same picture; {one}"]
    elif len(stored) < len(stored.files):
        told = [f"pairs are from {sources_told(stored)}, in the order of their paths"]
    part = getattr(recipe.source, "part", (0.0, 1.0))
    if recipe.source.kind == "images" and part != (0.0, 1.0):
        told.append(f"source.part = [{part[0]:g}, {part[1]:g}] leaves the other sources out")
    try:
        added = [] if listed else _added(recipe, stored)
    except (OSError, ValueError):
        return told
    if added:
        told += [
            f"{len(added)} of the sources that are there now, such as {added[0]}, are not in this corpus, whose list "
            "was made before; build under another name to use them"
        ]
    return told


def _added(recipe: Recipe, stored: Plan) -> list[str]:
    """Items of the source that a plan does not know; scans are opened only where there is one of a new name."""
    if isinstance(recipe.source, ScansSpec):
        known = {ScanItem.parse(item).file for item in stored.files}
        if known.issuperset(recipe.source.list_scans()):
            return []
    known = set(stored.files)
    return [item for item in recipe.source.list_files() if item not in known]
