"""The folder of a study: what has been made, and what it says; a damaged file costs its own part of a report."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from synth.storage.whole import write_whole

from .stages import Stage

Row = dict[str, Any]
MARKS = {"build": "zarr.json", "train": "model.safetensors", "test": "summary.json"}  # a stage that has it is made


@dataclass(frozen=True)
class StudyFolder:
    """The stages of a study, where each lies, and which have been made."""

    path: Path
    stages: dict[str, Stage]  # by name, each after what it needs
    alerts: list[str] = field(default_factory=list)  # what could not be shown, one sentence each

    def claim(self, study: str) -> None:
        """Take the folder for a study; raises ValueError where it holds something else."""
        note = self.path / "study.json"
        if note.exists():
            try:
                whose = json.loads(note.read_text())["study"]
            except (ValueError, KeyError, TypeError):
                remedy = (
                    f'if {self.path} is this study\'s, write {{"study": "{study}"}} into it; else choose another --out'
                )
                raise ValueError(f"{note} does not say whose folder this is; {remedy}") from None
            if whose != study:
                raise ValueError(f"{self.path} holds another study; choose another --out")
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} exists and is no study's folder; choose another --out")
        else:
            write_whole(note, json.dumps({"study": study}).encode())

    def of(self, stage: str | Stage) -> Path:
        """Where a stage lies, made or not."""
        return self.path / (self.stages[stage] if isinstance(stage, str) else stage).folder

    def has(self, stage: Stage) -> bool:
        """Whether a stage has been made."""
        return (self.of(stage) / MARKS[stage.kind]).exists()

    def made(self, kind: Literal["build", "train", "test"]) -> dict[str, Stage]:
        """The stages of a kind that have been made, by name."""
        return {name: stage for name, stage in self.stages.items() if stage.kind == kind and self.has(stage)}

    def needs_of(self, stage: Stage) -> dict[str, Path]:
        """Where that lies which a stage needs, by the names of stages."""
        return {name: self.of(name) for name in stage.needs}

    def start_of(self, training: Stage) -> Stage | None:
        """The training that one went on from, where it has been made."""
        started = [self.stages[name] for name in training.needs if name.startswith("train/")]
        return next((stage for stage in started if self.has(stage)), None)

    @contextmanager
    def alerting(self, what: str) -> Iterator[None]:
        """Add to `alerts` why something cannot be shown: files of a study may be damaged in any way."""
        try:
            yield
        except (ValueError, OSError, RuntimeError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
            self.alerts.append(
                f"{what} cannot be shown ({type(error).__name__}: {error}); what is removed is made again"
            )

    def cards(self) -> dict[str, dict[str, Any]]:
        """The card of every network that has been trained, by its stage."""
        found: dict[str, dict[str, Any]] = {}
        for name, stage in self.made("train").items():
            with self.alerting(f"the card in {stage.folder}"):
                found[name] = dict(json.loads((self.of(stage) / "model.json").read_text()))
        return found

    def rows(self) -> list[Row]:
        """The rows of every test that has been made: model, seed, corpus, pair and its metrics."""
        found: list[Row] = []
        for stage in self.made("test").values():
            with self.alerting(stage.folder):
                found += _rows_of(stage, self.of(stage))
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
