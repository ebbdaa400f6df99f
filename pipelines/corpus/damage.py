"""The damage of a corpus, by the name of the damaged part."""

from __future__ import annotations

import json
from pathlib import Path

from synth.corpus.check import CorpusCheck
from synth.corpus.ledger import content_hash
from synth.corpus.tasks import tasks_of
from synth.plan import Plan
from synth.storage.corpus_files import stored_attributes

from ..display.progress import Meter
from .summary import summarise


def find_damage(root: Path, plan: Plan, *, complete: bool = True) -> dict[str, str]:
    """Damaged shards, metadata and numbers, each with a sentence; of an unfinished corpus, only finished shards."""
    check = CorpusCheck.of(root, plan)
    found = {key: f"{key} is damaged or missing" for key in check.documents()} if complete else {}
    tasks = [task for task in tasks_of(plan) if complete or task.name in check.entries]
    with Meter(f"check {root.name}", sum(task.pairs for task in tasks)) as meter:
        for task in tasks:
            problem = check.shard(task)
            meter.advance(task.pairs)
            if problem:
                found[task.name] = problem
    if complete and not found:
        found = {problem: problem for problem in check.numbers()}
    if complete and not found:
        found = _wrong_summary(check)
    return found


def _wrong_summary(check: CorpusCheck) -> dict[str, str]:
    """The files, of the two that hold the summary, whose summary does not agree with the ledger."""
    expected = {**summarise(check.plan, check.entries), "content_hash": content_hash(check.entries)}
    found = {}
    try:
        file = json.loads((check.root / "summary.json").read_bytes())
        attributes = stored_attributes(check.root)
        group = {**attributes["summary"], "content_hash": attributes["content_hash"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        file = group = {}
    for name, stored in (("summary.json", file), ("zarr.json", group)):
        if any(stored.get(key) != value for key, value in expected.items()):
            found[name] = f"{name} does not agree with the ledger"
    return found
