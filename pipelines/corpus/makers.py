"""Who makes the shards of a corpus: the code and the packages of every process must make the same bits."""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import lru_cache
from typing import Any

from synth.corpus.ledger import Entries
from synth.errors import SourceRejectedError
from synth.plan import Plan
from synth.version import code_sha256, versions

from ..errors import BuildError

DECISIVE = ("numpy", "scipy", "pillow", "zarr")  # packages that decide the bits of a pair
CODE = "synth_sha256"


@lru_cache
def maker() -> dict[str, str]:
    """The versions of this process, and the sha256 of the code that makes pairs."""
    return {**versions(*DECISIVE), CODE: code_sha256()}


def refuse_another_worker(entry: dict[str, Any]) -> None:
    """Raise BuildError if a worker of other versions than this process's made a shard."""
    if entry["versions"] != maker():
        raise BuildError(
            f"a worker has {_differences(entry['versions'], maker())}; give all workers the packages and the code of "
            "this process, and run the same command again to go on"
        )


def refuse_other_makers(plan: Plan, entries: Entries, remade: Collection[str], where: str) -> set[str]:
    """Make a finished pair of every other maker again; raise BuildError where it differs.

    Parameters
    ----------
    plan, entries
        The plan and the ledger of a corpus that goes on.
    remade
        The tasks that will be made again in any case.
    where
        The corpus's name in messages.

    Returns
    -------
    Tasks with maps by makers of which no pair is there to compare; they are to be made again, too.
    """
    kept = [name for name in entries if name not in remade]
    pairs: dict[str, dict[str, Any]] = {}
    for entry in (entries[name] for name in kept if "/pairs/" in name):
        for row in entry["rows"]:
            if row["numbers"]:
                pairs.setdefault(_key(entry), row)
    mine = json.dumps(maker(), sort_keys=True)
    for other, row in pairs.items():
        if other != mine:
            _refuse_another_pair(plan, row, json.loads(other), where)
    return {name for name in kept if "/maps/" in name and _key(entries[name]) not in {mine, *pairs}}


def _key(entry: dict[str, Any]) -> str:
    return json.dumps(entry.get("versions", {}), sort_keys=True)


def _refuse_another_pair(plan: Plan, row: dict[str, Any], other: dict[str, str], where: str) -> None:
    index, began = row["index"], f"{where} was begun with {_differences(other, maker())}"
    try:
        pair = plan.pair(index)
    except (SourceRejectedError, OSError) as error:
        raise BuildError(f"{began}, and pair {index} cannot be made again to compare its bits: {error}") from None
    refuse_a_changed_source(row, pair.source_sha256)
    if pair.digest() != row["digest"]:
        raise BuildError(
            f"{began}, which makes other bits: pair {index} differs when it is made again; go on with what it was "
            "begun with, or build a new corpus under another name"
        )


def refuse_a_changed_source(row: dict[str, Any], sha256: str) -> None:
    """Raise BuildError where the source of a pair is not the one that it was made from."""
    if row["source_sha256"] and sha256 and row["source_sha256"] != sha256:
        raise BuildError(
            f"{row['file']} has changed since pair {row['index']} was made from it; put the old file back and run "
            "the same command again, or build a new corpus under another name"
        )


def _differences(other: dict[str, str], mine: dict[str, str]) -> str:
    """What differs, for a sentence."""
    found = [
        f"{name} {other.get(name, 'unknown')} in place of {mine.get(name, 'none')}"
        for name in sorted(other.keys() | mine.keys())
        if other.get(name) != mine.get(name) and name != CODE
    ]
    if other.get(CODE) != mine[CODE]:
        found.append("other code of `synth`" if CODE in other else "code of `synth` that was not recorded")
    return ", ".join(found)
