"""Test models on a corpus: rows to CSV, means with intervals to JSON, and pictures with their errors."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recon.checkpoint import CheckpointError
from recon.evaluate import Row, differences, reconstructions, rows_of, summary_of
from recon.loader import PairDataset
from recon.models import BASELINES, Reconstruction, named_baseline
from recon.trained import load_model, strangeness
from recon.world import local_device
from synth.memory import keep_memory
from synth.store import write_whole

from .picture import draw_rows, panels_of
from .progress import Meter

SHOWN = 4  # pairs in the picture


@dataclass(frozen=True)
class Tested:
    """A model's name, its rows and summary, and images of the pairs that are drawn."""

    name: str
    rows: list[Row]
    images: dict[int, np.ndarray]
    notes: list[str]


def model_named(name: str, device: str | None) -> tuple[Reconstruction, dict[str, Any]]:
    """A trained network by its folder or file, or a baseline by name; raises CheckpointError with the names."""
    baseline = named_baseline(name)
    if baseline is not None:
        return baseline, {}
    if not Path(name).exists():
        raise CheckpointError(f"{name}: no such folder, and no baseline of that name; there are {', '.join(BASELINES)}")
    return load_model(name, local_device(device))


def evaluate(names: Sequence[str], corpus: Path, out: Path, device: str | None, batch_size: int) -> dict[str, Any]:
    """Test models on the pairs of a corpus; write ``rows.csv``, ``summary.json`` and ``images.png`` into `out`.

    The first model is compared with every other: mean difference over the same pairs, with its interval.
    """
    keep_memory()
    report = out / "summary.json"
    if out.exists() and any(out.iterdir()) and not report.exists():
        raise ValueError(f"{out} holds other files; choose another --out")
    pairs = PairDataset(corpus)
    if len(set(names)) < len(names):
        raise ValueError("a model is named twice")
    tested = [_test(name, pairs, device, batch_size) for name in names]
    first, *others = tested
    summary = {
        "corpus": {"path": corpus.name, "content_hash": pairs.content_hash, "pairs": len(pairs)},
        "models": {t.name: {"metrics": summary_of(t.rows), "notes": t.notes} for t in tested},
        "differences": {t.name: differences(first.rows, t.rows) for t in others},
    }
    write_whole(out / "rows.csv", _csv(tested).encode())
    _draw(tested, pairs, out / "images.png")
    write_whole(report, (json.dumps(summary, indent=2) + "\n").encode())
    return summary


def _test(name: str, pairs: PairDataset, device: str | None, batch_size: int) -> Tested:
    model, card = model_named(name, device)
    rows: list[Row] = []
    images: dict[int, np.ndarray] = {}
    shown = {int(k) for k in np.linspace(0, len(pairs) - 1, min(SHOWN, len(pairs)))}
    place = local_device(device) if card else "cpu"
    with Meter(f"test {name}", len(pairs)) as meter:
        for batch, made in reconstructions(model, pairs, batch_size, place):
            rows += rows_of(batch, made, pairs)
            start = len(rows) - len(made)
            images.update({k: made[k - start] for k in shown if start <= k < len(rows)})
            meter.advance(len(made))
    return Tested(name, sorted(rows, key=lambda row: row["pair"]), images, strangeness(card, [pairs]) if card else [])


def _csv(tested: Sequence[Tested]) -> str:
    text = io.StringIO()
    columns = ["model", *dict.fromkeys(name for t in tested for name in t.rows[0])]
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    for t in tested:
        writer.writerows({"model": t.name, **row} for row in t.rows)
    return text.getvalue()


def _draw(tested: Sequence[Tested], pairs: PairDataset, path: Path) -> None:
    rows = []
    for position in sorted(tested[0].images):
        item = pairs[position]
        titles = {}
        for t in tested:
            row = next(r for r in t.rows if r["pair"] == int(item["pair_id"]))
            titles[f"{t.name}, {row['psnr_magnitude_slice_max']:.1f} dB"] = t.images[position]
        rows.append(panels_of(item["target"].numpy(), titles))
    draw_rows(rows, path)
