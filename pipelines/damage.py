"""What is wrong with a corpus, by the name of what is wrong."""

from __future__ import annotations

from pathlib import Path

from synth.corpus import check_shard, wrong_numbers
from synth.layout import tasks_of
from synth.plan import Plan
from synth.store import finished, wrong_documents

from .progress import Meter


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
    return found
