"""The folder of a study: what has been made, and what it says; damaged files cost their own part of a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synth.storage.whole import write_whole

from .stages import Stage

Row = dict[str, Any]


@contextmanager
def alerting(what: str, alerts: list[str]) -> Iterator[None]:
    """Add to `alerts` why something cannot be shown: files of a study may be damaged in any way."""
    try:
        yield
    except (ValueError, OSError, RuntimeError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
        alerts.append(f"{what} cannot be shown ({type(error).__name__}: {error}); what is removed is made again")


def cards_of_study(stages: dict[str, Stage], out: Path, alerts: list[str]) -> dict[str, dict[str, Any]]:
    """The card of every network that has been trained, by its stage."""
    found: dict[str, dict[str, Any]] = {}
    for name, stage in stages.items():
        if stage.kind == "train" and stage.done(out):
            with alerting(f"the card in {stage.folder}", alerts):
                found[name] = dict(json.loads((out / stage.folder / "model.json").read_text()))
    return found


def rows_of_study(stages: dict[str, Stage], out: Path, alerts: list[str]) -> list[Row]:
    """The rows of every test that is there: model, seed, corpus, pair and its metrics."""
    found: list[Row] = []
    for stage in stages.values():
        if stage.kind == "test" and stage.done(out):
            with alerting(stage.folder, alerts):
                found += _rows_of(stage, out / stage.folder)
    return found


def _rows_of(stage: Stage, folder: Path) -> list[Row]:
    whose = {"model": stage.model, "seed": stage.seed, "corpus": stage.corpus}
    found: list[Row] = []
    with (folder / "rows.csv").open(newline="") as text:
        for row in csv.DictReader(text, strict=True):
            numbers = {key: float(value) for key, value in row.items() if key not in ("model", "pair") and value}
            found.append({**whose, "pair": int(row["pair"]), **numbers})
    pairs = json.loads((folder / "summary.json").read_text())["corpus"]["pairs"]
    if len(found) != pairs:
        raise ValueError(f"rows of {len(found)} pairs, not of {pairs}")
    return found


def claim(out: Path, name: str) -> None:
    """Take a folder for a study; raises ValueError where it holds something else."""
    note = out / "study.json"
    if note.exists():
        try:
            whose = json.loads(note.read_text())["study"]
        except (ValueError, KeyError, TypeError):
            remedy = f'if {out} is this study\'s, write {{"study": "{name}"}} into it; else choose another --out'
            raise ValueError(f"{note} does not say whose folder this is; {remedy}") from None
        if whose != name:
            raise ValueError(f"{out} holds another study; choose another --out")
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} exists and is no study's folder; choose another --out")
    else:
        write_whole(note, json.dumps({"study": name}).encode())
