"""The summary of a corpus, in numbers that people and programs can read."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from synth.corpus.columns import Columns, column_values
from synth.corpus.ledger import Entries
from synth.plan import Plan
from synth.sources.crimes import FINDINGS
from synth.storage.place import Place


class _Counts:
    """What is counted of the ledger's rows, which are read once."""

    def __init__(self, plan: Plan, entries: Entries) -> None:
        self._plan, self._findings = plan, np.zeros(len(plan.files), np.uint32)  # a bit per finding and source
        self.rejected: list[dict[str, Any]] = []
        self.unknown = self.below = 0
        notes: Counter[str] = Counter()
        for entry in entries.values():
            self.rejected += entry["rejected"]
            for row in entry["rows"]:
                notes.update(row.get("notes", ()))
                for finding in row.get("findings", ()):
                    self._findings[row["index"] % len(plan.files)] |= 1 << FINDINGS.index(finding)
                if row["numbers"]:
                    self._count(row["numbers"])
        self.notes = dict(sorted(notes.items()))

    def _count(self, numbers: dict[str, Any]) -> None:
        self.unknown += "sigma" in numbers and numbers["sigma"] != numbers["sigma"]
        self.below += numbers.get("sigma_added") == 0 and self._is_below(numbers)

    def _is_below(self, numbers: dict[str, Any]) -> bool:
        """Whether the SNR of a scan's pair is below the SNR that the recipe asks for."""
        noise = self._plan.recipe.noise
        found = numbers.get(f"snr_{noise.definition.replace('-', '_')}")
        return noise.kind != "none" and found is not None and found < 0.99 * numbers["snr_wanted"]

    @property
    def findings(self) -> dict[str, int]:
        """The number of sources with each finding of `synth.sources.crimes`."""
        counts = {name: int(np.count_nonzero(self._findings & (1 << k))) for k, name in enumerate(FINDINGS)}
        return {name: count for name, count in counts.items() if count}


def summarise(plan: Plan, entries: Entries, root: Place, columns: Columns) -> dict[str, Any]:
    """Counts, rejections, fitting and the distribution of every scalar number, over all buckets.

    The numbers are read from the arrays of the corpus in `root`, one at a time; `columns` says what these hold.
    """

    def values(bucket: str, name: str) -> NDArray[Any]:
        return column_values(root, f"{bucket}/{name}", columns[bucket][name])

    def of_valid(bucket: str, name: str) -> NDArray[Any]:
        return values(bucket, name)[valid[bucket]]

    valid = {bucket: values(bucket, "valid") == 1 for bucket in columns}
    counts = _Counts(plan, entries)
    names = sorted({n for named in columns.values() for n, c in named.items() if c.of_pairs and c.ndim == 1})
    numbers = {}
    for name in names:
        found = np.concatenate([of_valid(bucket, name) for bucket, named in columns.items() if name in named])
        found = found[np.isfinite(found)]
        if found.size:
            stats = {"min": found.min(), "mean": found.mean(), "max": found.max()}
            numbers[name] = {key: float(value) for key, value in stats.items()}
    turned = [values(bucket, "fit_turned") == 1 for bucket, named in columns.items() if "fit_turned" in named]
    resized = [of_valid(bucket, "fit_resized") != 1 for bucket, named in columns.items() if "fit_resized" in named]
    return {
        "pairs": sum(int(rows.sum()) for rows in valid.values()),
        "buckets": {bucket: int(rows.sum()) for bucket, rows in valid.items()},
        "sources": len(plan.files),
        "rejected": counts.rejected,
        "findings": counts.findings,
        "noise_unknown": counts.unknown,
        "below_wanted_snr": counts.below,
        "fitted": {
            "fit": plan.recipe.target.fit,
            "turned": sum(int(rows.sum()) for rows in turned),
            "resized": sum(int(rows.sum()) for rows in resized),
        },
        "numbers": numbers,
        **({"map_notes": counts.notes} if counts.notes else {}),
    }


def makers(entries: Entries) -> dict[str, int]:
    """The versions that made the shards, as text, with the number of shards of each."""
    return dict(Counter(json.dumps(entry.get("versions", {}), sort_keys=True) for entry in entries.values()))


def versions_of(entries: Entries) -> dict[str, str]:
    """Versions by package; where shards were made with several, all of them."""
    found: dict[str, list[str]] = {}
    for maker in sorted(makers(entries)):
        for package, version in json.loads(maker).items():
            found.setdefault(package, []).append(str(version))
    return {package: ", ".join(sorted(set(versions))) for package, versions in sorted(found.items())}


def lacking(summary: dict[str, Any]) -> list[str]:
    """What pairs of scans lack, one sentence each."""
    unknown, below = summary.get("noise_unknown", 0), summary.get("below_wanted_snr", 0)
    lines = []
    if unknown:
        lines.append(
            f"the noise of {unknown} pairs could not be learnt: their sigma and SNR are unknown, their coils are not "
            "whitened"
        )
    if below:
        lines.append(f"{below} pairs have a lower SNR than was asked for: their scans have no higher SNR")
    return lines + [f"{count} pairs: {note}" for note, count in summary.get("map_notes", {}).items()]
