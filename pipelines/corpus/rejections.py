"""Sources that were rejected during a build, which ends where there are more than the recipe allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from synth.corpus.ledger import Ledger
from synth.plan import Plan
from synth.sources.scan_slices import ScansSpec

from ..errors import BuildError

REASONS_SHOWN = 5


def reasons_of(summary: dict[str, Any]) -> tuple[str, ...]:
    """Each reason of a rejection in a corpus's summary once; pairs of the same source have the same."""
    return tuple(dict.fromkeys(rejection["reason"] for rejection in summary["rejected"]))


def reasons_told(reasons: Sequence[str], plan: Plan) -> str:
    """The first reasons of rejections, and what was found of the scans, which may be the cause of them."""
    source = plan.recipe.source
    notes = source.notes() if isinstance(source, ScansSpec) else []
    return "\n".join(f"  {line}" for line in [*reasons[:REASONS_SHOWN], *notes[:REASONS_SHOWN]])


class Rejections:
    """Sources that were rejected so far: how many, the shards in which they were, and the first reasons."""

    def __init__(self, ledger: Ledger, plan: Plan) -> None:
        self._ledger, self._plan, self._count = ledger, plan, 0
        self._tasks: list[str] = []
        self._reasons: list[str] = []

    def add(self, entry: dict[str, Any]) -> None:
        """Count those of a shard."""
        self._count += len(entry["rejected"])
        self._tasks += [entry["task"]] if entry["rejected"] else []
        reasons = dict.fromkeys((*self._reasons, *(r["reason"] for r in entry["rejected"])))  # once for each source
        self._reasons = list(reasons)[:REASONS_SHOWN]

    def stop_at_too_many(self) -> None:
        """Raise BuildError where there are more than the recipe allows."""
        share, pairs = self._plan.recipe.source.max_rejected, len(self._plan)
        if self._count <= share * pairs:
            return
        for task in self._tasks:  # their sources may be mended before the next try
            self._ledger.void(task)
        raise BuildError(
            f"{self._count} of {pairs} pairs were rejected, more than source.max_rejected = {share:g} allows:\n"
            f"{reasons_told(self._reasons, self._plan)}\n"
            "the build stopped here, and others may follow; mend or remove them, or raise --set source.max_rejected, "
            "and run the same command again"
        )
