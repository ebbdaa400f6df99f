"""The damage of a corpus, by the name of the damaged part."""

from __future__ import annotations

from synth.corpus.check import CorpusCheck
from synth.corpus.documents import read_document
from synth.corpus.ledger import content_hash
from synth.corpus.tasks import tasks_of
from synth.plan import Plan
from synth.storage.place import Place

from ..display.progress import Meter
from .summary import summarise, versions_of


def find_damage(root: Place, plan: Plan, *, complete: bool = True) -> dict[str, str]:
    """Damaged shards, documents and numbers, each with a sentence; of an unfinished corpus, only finished shards."""
    return damage_in(CorpusCheck.of(root, plan), complete=complete)


def damage_in(check: CorpusCheck, *, complete: bool = True) -> dict[str, str]:
    """The same for a check that has read its ledger."""
    root, plan = check.root, check.plan
    found = {key: f"{key} is damaged or missing" for key in check.documents()} if complete else {}
    if problem := check.sources():
        found["sources.json"] = problem
    tasks = [task for task in tasks_of(plan) if complete or task.name in check.entries]
    with Meter(f"check {root.name}", sum(task.pairs for task in tasks)) as meter:
        for task in tasks:
            problem = check.shard(task)
            meter.advance(task.pairs)
            if problem:
                found[task.name] = problem.partition("; run `fathom verify`")[0]  # which is what asks
    for further in (_wrong_numbers, _wrong_summary, _unsealed) if complete else ():
        found = found or further(check)  # each needs that what was checked before it is right
    return found


def _wrong_numbers(check: CorpusCheck) -> dict[str, str]:
    wrong = check.numbers()
    found = {path: f"{path}: differs from the ledger" for path in wrong}
    for task in tasks_of(check.plan):  # the ledger's numbers of maps have no digest: which ones are right is not known
        if task.kind == "maps" and any(path.startswith(f"{task.bucket}/maps_") for path in wrong):
            found[task.name] = f"{task.name}: its numbers differ from the ledger"
    return found


def _wrong_summary(check: CorpusCheck) -> dict[str, str]:
    """The files, of the two that hold the summary, whose summary does not agree with the ledger."""
    content = content_hash(check.entries)
    expected = {**summarise(check.plan, check.entries, check.root, check.columns), "content_hash": content}
    group = check.attributes.get("summary"), check.attributes.get("content_hash")
    in_group = {**group[0], "content_hash": group[1]} if isinstance(group[0], dict) else {}
    if check.seal:
        in_group["sealed"] = check.seal
        expected["versions"] = versions_of(check.entries)
    in_file = read_document(check.root / "summary.json")
    in_file = in_file if isinstance(in_file, dict) else {}
    found = {}
    for name, stored in (("summary.json", in_file), ("zarr.json", in_group)):
        if any(stored.get(key) != value for key, value in expected.items()):
            found[name] = f"{name} does not agree with the ledger"
    if not found and in_file != in_group:
        found["summary.json"] = "summary.json and zarr.json do not hold the same summary"
    return found


def _unsealed(check: CorpusCheck) -> dict[str, str]:
    return {name: f"{name} is not as the build left it" for name in check.unsealed()}
