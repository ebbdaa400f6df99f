"""The summary of a corpus, in numbers that people and programs can read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np

from synth.corpus.ledger import Entries, numbers_of
from synth.plan import Plan
from synth.sources.crimes import FINDINGS


def _count(entries: Entries, holds: Callable[[dict[str, Any]], bool]) -> int:
    """The number of pairs whose numbers meet a condition."""
    return sum(holds(row["numbers"]) for entry in entries.values() for row in entry["rows"] if row["numbers"])


def _is_below(numbers: dict[str, Any], plan: Plan) -> bool:
    """Whether the SNR of a scan's pair is below the SNR that the recipe asks for."""
    found = numbers.get(f"snr_{plan.recipe.noise.definition.replace('-', '_')}")
    return plan.recipe.noise.kind != "none" and found is not None and found < 0.99 * numbers["snr_wanted"]


def _findings(entries: Entries) -> dict[str, int]:
    """The number of sources with each finding of `synth.sources.crimes`."""
    rows = [row for entry in entries.values() for row in entry["rows"]]
    seen = {(row["file"], finding) for row in rows for finding in row.get("findings", ())}
    return {name: count for name in FINDINGS if (count := sum(finding == name for _, finding in seen))}


def _notes(entries: Entries) -> dict[str, int]:
    """The number of pairs with each note about their maps."""
    rows = [row for entry in entries.values() for row in entry["rows"]]
    return dict(sorted(Counter(note for row in rows for note in row.get("notes", ())).items()))


def summarise(plan: Plan, entries: Entries) -> dict[str, Any]:
    """Counts, rejections, fitting and the distribution of every scalar number, over all buckets."""
    tables = {bucket.name: numbers_of(bucket.name, entries, "pairs") for bucket in plan.buckets}
    rejected = [r for entry in entries.values() for r in entry["rejected"]]
    names = sorted({n for t in tables.values() for n, v in t.items() if v.ndim == 1} - {"index", "valid"})
    numbers, notes = {}, _notes(entries)
    for name in names:
        values = np.concatenate([t[name][t["valid"] == 1] for t in tables.values() if name in t])
        values = values[np.isfinite(values)]
        if values.size:
            stats = {"min": values.min(), "mean": values.mean(), "max": values.max()}
            numbers[name] = {key: float(value) for key, value in stats.items()}
    return {
        "pairs": int(sum(t["valid"].sum() for t in tables.values())),
        "buckets": {name: int(t["valid"].sum()) for name, t in tables.items()},
        "sources": len(plan.files),
        "rejected": rejected,
        "findings": _findings(entries),
        "noise_unknown": _count(entries, lambda n: "sigma" in n and n["sigma"] != n["sigma"]),
        "below_wanted_snr": _count(entries, lambda n: n.get("sigma_added") == 0 and _is_below(n, plan)),
        "fitted": {
            "fit": plan.recipe.target.fit,
            "turned": sum(int((t["fit_turned"] == 1).sum()) for t in tables.values() if "fit_turned" in t),
            "resized": sum(
                int((t["fit_resized"][t["valid"] == 1] != 1).sum()) for t in tables.values() if "fit_resized" in t
            ),
        },
        "numbers": numbers,
        **({"map_notes": notes} if notes else {}),
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
