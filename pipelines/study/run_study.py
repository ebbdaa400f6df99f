"""A whole study in one call: its stages are made, then its report."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synth.settings.toml import within
from synth.storage.place import local_path
from synth.storage.whole import read_document

from ..cluster import IN_PROCESS, ClusterSpec
from ..ready.names import named_study
from .folder import StudyFolder
from .referee import write_referee
from .report import write_report
from .run import Outcome, run
from .settings import load_study
from .stages import stages_of, with_needs


@dataclass(frozen=True)
class StudyResult:
    """The result of a study.

    Attributes
    ----------
    report
        The HTML report, or the page of a study with measures; ``rows.csv``, ``findings.json`` and ``optima.json`` lie
        beside it.
    outcomes
        The outcome of each stage.
    """

    report: Path
    outcomes: list[Outcome]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the study expected, each with its verdict and the measured mean with its 95 % interval."""
        found: list[dict[str, Any]] = json.loads(read_document(self.report.parent / "findings.json"))
        return found

    @property
    def failed(self) -> list[str]:
        """Names of stages that could not be made, or were left out because they need such a stage."""
        return [outcome.stage for outcome in self.outcomes if outcome.state in ("failed", "left out")]


def study_folder(
    study: str, out: str | Path, scale: str, only: str | None = None, own: Mapping[str, str] | None = None
) -> StudyFolder:
    """The stages of a study and the folder where they lie or will lie; raises SettingsError."""
    loaded = load_study(path := named_study(study))
    with within(str(path)):
        stages = stages_of(loaded, scale, own)
    return StudyFolder(local_path(out), with_needs(stages, only))


def run_study(
    study: str,
    out: str | Path,
    scale: str = "laptop",
    *,
    only: str | None = None,
    own: Mapping[str, str] | None = None,
    cluster: ClusterSpec = IN_PROCESS,
    device: str | None = None,
    tell: Callable[[Outcome, int], None] = lambda *_: None,
) -> StudyResult:
    """Make every stage of a study that is not there yet, and write the report.

    If a stage fails, the stages that need it are left out; the others go on. Called again, a study goes on where it was
    stopped.

    Parameters
    ----------
    study
        The name of a ready study, or the path of a TOML file.
    out
        Folder for everything that is made; it must be new, or hold this study already.
    scale
        One of the study's scales: laptop, smoke (seconds, to see that everything runs), gpu or paper.
    only
        A pattern of stage names, such as ``test/*``; the stages that they need are made, too.
    own
        Models of one's own by their labels, such as ``{"mine": "net.py:make"}``, which are tested beside the study's.
        Their files are run.
    cluster
        Where stages run, and how many at a time.
    device
        ``cpu``, ``cuda`` or ``cuda:1``; by default the GPU where there is one.
    tell
        Called after each stage with its outcome and the number of all stages.

    Raises
    ------
    ModelError
        A file of one's own cannot be used.
    SettingsError
        The study, or a recipe or training that it names, cannot be used.
    ValueError
        `out` holds something else.
    ClusterError
        The cluster cannot be reached, or was lost.
    """
    loaded = load_study(named_study(study))
    tests = loaded.tests.model_copy(update={"models": (*loaded.tests.models, *(own or {}))})
    folder = study_folder(study, out, scale, only, own)
    folder.claim(loaded.name)
    outcomes: list[Outcome] = []
    for outcome in run(folder, cluster, device):
        outcomes.append(outcome)
        tell(outcome, len(folder.stages))
    shown = loaded.model_copy(update={"tests": tests})
    whole = study_folder(study, out, scale, own=own)  # what earlier calls have made is told, too
    report = write_report(shown, scale, whole, outcomes, device)
    if shown.measures:
        report = write_referee(shown, scale, whole)
    return StudyResult(report, outcomes)
