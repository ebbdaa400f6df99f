"""The folder of a study: the stages that have been made, and their results.

If a file is damaged, the report lacks only the part that this file holds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from recon.evaluation.rows import SOURCE, source_columns
from synth.corpus.sources import Source, sources_of
from synth.storage.whole import write_whole

from .stages import Stage

Row = dict[str, Any]
MARKS = {"build": "zarr.json", "train": "model.safetensors", "test": "summary.json"}  # marks of a stage that is made


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
                    f'if {self.path} is the folder of this study, write {{"study": "{study}"}} into the file; else '
                    "choose another --out"
                )
                raise ValueError(f"{note} does not say whose folder this is; {remedy}") from None
            if whose != study:
                raise ValueError(f"{self.path} holds another study; choose another --out")
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} exists and is not the folder of a study; choose another --out")
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
        """Where the stages lie that a stage needs, by name."""
        return {name: self.of(name) for name in stage.needs}

    def start_of(self, training: Stage) -> Stage | None:
        """The training from which `training` starts, if it has been made."""
        started = [self.stages[name] for name in training.needs if name.startswith("train/")]
        return next((stage for stage in started if self.has(stage)), None)

    @contextmanager
    def alerting(self, what: str) -> Iterator[None]:
        """Add to `alerts` why something cannot be shown: files of a study may be damaged in any way."""
        try:
            yield
        except (ValueError, OSError, RuntimeError, ArithmeticError, LookupError, TypeError, AttributeError) as error:
            self.alerts.append(
                f"{what} cannot be shown ({type(error).__name__}: {error}); remove what is damaged, and run the study "
                "again to make it anew"
            )

    def cards(self) -> dict[str, dict[str, Any]]:
        """The card of every network that has been trained, by its stage."""
        found: dict[str, dict[str, Any]] = {}
        for name, stage in self.made("train").items():
            with self.alerting(f"the card in {stage.folder}"):
                found[name] = dict(json.loads((self.of(stage) / "model.json").read_text()))
        return found

    def rows(self) -> list[Row]:
        """The rows of every test that has been made: model, seed, corpus, pair, its source and its metrics.

        Rows of earlier versions name no source; the corpus names it then.
        """
        found: list[Row] = []
        sources: dict[str, dict[int, Source]] = {}
        for stage in self.made("test").values():
            rows: list[Row] = []
            with self.alerting(stage.folder):
                rows = _rows_of(stage, self.of(stage))
            if not all("source" in row for row in rows) and stage.corpus not in sources:
                sources[stage.corpus] = {}
                with self.alerting(f"the sources of {stage.corpus}"):
                    sources[stage.corpus] = sources_of(self.of(f"build/{stage.corpus}"))
            known = sources.get(stage.corpus, {})
            found += [row if "source" in row else row | source_columns(known.get(row["pair"])) for row in rows]
        return found


def _rows_of(stage: Stage, folder: Path) -> list[Row]:
    whose = {"model": stage.model, "seed": stage.seed, "corpus": stage.corpus}
    found: list[Row] = []
    with (folder / "rows.csv").open(newline="") as text:
        for row in csv.DictReader(text, strict=True):
            texts = {key: row[key] for key in SOURCE if row.get(key)}
            known = {"model", "pair", *SOURCE}
            numbers = {key: float(value) for key, value in row.items() if key not in known and value}
            found.append({**whose, "pair": int(row["pair"]), **texts, **numbers})
    pairs = json.loads((folder / "summary.json").read_text())["corpus"]["pairs"]
    if len(found) != pairs:
        raise ValueError(f"rows.csv has rows of {len(found)} pairs, not of {pairs}")
    return found
