"""How long the stages of a study took, and estimates for the stages that are still to be made."""

from __future__ import annotations

import json
from collections.abc import Mapping

from recon.training.settings import Training
from synth.recipe import Recipe

from .folder import StudyFolder
from .stages import Stage

# Seconds per pair, step and tested pair on one core, 8 coils of 128 x 128: for what cannot be measured here
RATES = {"build": 0.02, "train": 0.3, "test": 0.15}


class Timings:
    """The seconds of every stage that was made in a study's folder, kept in its ``seconds.jsonl``."""

    def __init__(self, folder: StudyFolder, measured: Mapping[str, float] | None = None) -> None:
        self._measured = measured or {}  # seconds per unit by the stage, from `rates`
        self._file, self._stages = folder.path / "seconds.jsonl", folder.stages
        self._seconds: dict[str, float] = {}
        for line in self._file.read_text(errors="replace").splitlines() if self._file.exists() else []:
            try:
                made = json.loads(line)
                self._seconds[str(made["key"])] = float(made["seconds"])
            except (ValueError, KeyError, TypeError):
                continue  # the line was cut short

    def note(self, name: str, seconds: float) -> None:
        """Record the seconds that a stage took."""
        key = self._stages[name].key
        self._seconds[key] = seconds
        whole = not self._file.exists() or self._file.read_bytes().endswith(b"\n")
        with self._file.open("a", encoding="utf-8") as file:
            file.write(
                ("" if whole else "\n") + json.dumps({"stage": name, "key": key, "seconds": round(seconds, 3)}) + "\n"
            )

    def taken(self, name: str) -> float:
        """The seconds that a stage took; 0 if not known."""
        return self._seconds.get(self._stages[name].key, 0.0)

    def expected(self, name: str) -> float:
        """The seconds that a stage is expected to take.

        The estimate comes from stages with the same kind of network, source or baseline; else from what was measured
        just now; else from all stages of the same kind; else from `RATES`.
        """
        stage = self._stages[name]
        seconds, units = self._spent(stage.kind, self._what(stage))
        if units:
            return self._units(name) * seconds / units
        if name in self._measured:
            return self._units(name) * self._measured[name]
        seconds, units = self._spent(stage.kind)
        return self._units(name) * (seconds / units if units else RATES[stage.kind])

    @property
    def without_like(self) -> list[str]:
        """The stages that are not timed, and neither is one with the same kind of network, source or baseline."""
        todo = {name: stage for name, stage in self._stages.items() if stage.key not in self._seconds}
        return [name for name, stage in todo.items() if not self._spent(stage.kind, self._what(stage))[1]]

    def _spent(self, kind: str, what: str | None = None) -> tuple[float, float]:
        """Seconds and units of the stages of a kind that were timed."""
        made = {
            name: stage
            for name, stage in self._stages.items()
            if stage.key in self._seconds and stage.kind == kind and what in (None, self._what(stage))
        }
        return sum(self._seconds[stage.key] for stage in made.values()), sum(self._units(name) for name in made)

    def _what(self, stage: Stage) -> str:
        if isinstance(stage.settings, Training):
            return stage.settings.model.kind if stage.settings.model else ""
        if isinstance(stage.settings, Recipe):
            return stage.settings.source.kind
        source = self._stages.get(stage.settings)
        return stage.settings.partition(":")[0] if source is None else self._what(source)

    def _units(self, name: str) -> float:
        """Pairs of a build, steps of a training, reconstructions of a test."""
        stage = self._stages[name]
        if isinstance(stage.settings, Recipe):
            return float(stage.settings.pairs or 100)
        if isinstance(stage.settings, Training):
            length = stage.settings.training
            if length.steps is not None:
                return float(length.steps)
            pairs = sum(self._units(need) for need in stage.needs if need.startswith("build/"))
            return (length.epochs or 1) * pairs / length.batch_size
        times = 1 + bool(stage.without) + stage.replicas
        return self._units(stage.needs[0]) * times
