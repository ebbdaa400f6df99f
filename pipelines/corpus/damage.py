"""What is wrong with a corpus, by the name of what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from synth.corpus.check import check_shard, wrong_documents, wrong_numbers
from synth.corpus.ledger import Entries, content_hash
from synth.corpus.tasks import finished, tasks_of
from synth.plan import Plan
from synth.storage.corpus_files import stored_attributes

from ..display.progress import Meter
from .summary import summarise


def find_damage(root: Path, plan: Plan, *, complete: bool = True) -> dict[str, str]:
    """Damaged shards, metadata and numbers, each with a sentence; of a build that goes on, only finished shards."""
    entries = finished(root, plan)
    found = {key: f"{key}: is damaged or gone" for key in wrong_documents(root, plan)} if complete else {}
    tasks = [task for task in tasks_of(plan) if complete or task.name in entries]
    with Meter(f"check {root.name}", sum(task.pairs for task in tasks)) as meter:
        for task in tasks:
            problem = check_shard(root, plan, task, entries.get(task.name))
            meter.advance(task.pairs)
            if problem:
                found[task.name] = problem
    if complete and not found:
        for bucket in plan.buckets:
            found |= {problem: problem for problem in wrong_numbers(root, bucket.name, entries)}
    if complete and not found:
        found = _wrong_summary(root, plan, entries)
    return found


def _wrong_summary(root: Path, plan: Plan, entries: Entries) -> dict[str, str]:
    """Whether the summary, in both of its places, is that of the ledger."""
    expected = {**summarise(plan, entries), "content_hash": content_hash(entries)}
    found = {}
    try:
        file = json.loads((root / "summary.json").read_bytes())
        attributes = stored_attributes(root)
        group = {**attributes["summary"], "content_hash": attributes["content_hash"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        file = group = {}
    for name, stored in (("summary.json", file), ("zarr.json", group)):
        if any(stored.get(key) != value for key, value in expected.items()):
            found[name] = f"{name}: is not what the ledger says"
    return found
