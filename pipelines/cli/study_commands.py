"""The command `fathom study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..display.terminal import counted, say, shown
from .options import Device, Json, Scheduler, kindly, print_json, say_notes

if TYPE_CHECKING:
    from ..study.folder import StudyFolder
    from ..study.missing import Missing
    from ..study.run import Outcome
    from ..study.run_study import StudyResult


OwnModels = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="Test your own model, too: LABEL=FILE.py:FACTORY[,WEIGHTS], which runs that file, or LABEL=NAME of a "
        "network of `fathom models` or of a training's folder. Repeatable.",
    ),
]


def study_command(
    study: Annotated[str, typer.Argument(help="A TOML file, or the name of a ready study.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made, and for the report.")],
    scale: Annotated[
        str, typer.Option(help="laptop, gpu, paper, or smoke: seconds, to see that all runs; its numbers mean nothing.")
    ] = "laptop",
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the stages, what is missing, and the time on this machine; make none.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="Make only stages of this pattern, such as 'test/*', and the stages they need.")
    ] = None,
    models: OwnModels = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of stages that run at a time.")] = 1,
    scheduler: Scheduler = "sync",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Run a study: build, train, test and report. The same command goes on with a stopped study."""
    from ..cluster import ClusterSpec
    from ..models.named_models import labelled_models, runs_code, try_own
    from ..study.run_study import run_study, study_folder

    done = _Told()
    with kindly():
        own = labelled_models(models or [])
        say_notes(runs_code(list(own.values())))
        try_own(own.values())
        folder = study_folder(study, out, scale, only, own)
        absent = _tell_missing(folder)
        if plan:
            _show_plan(folder, device)
            sys.exit(bool(absent.sentences))
        if absent.everything:
            say("nothing was made: every corpus of this study needs data that are missing", err=True)
            sys.exit(1)
        where = ClusterSpec("local" if workers > 1 and scheduler == "sync" else scheduler, workers=workers)
        result = run_study(study, out, scale, only=only, own=own, cluster=where, device=device, tell=done)
    if as_json:
        print_json({"report": str(result.report), "stages": done.count, "failed": result.failed})
    else:
        _tell_findings(result)
        say(str(result.report))
    if result.failed:
        raise typer.Exit(1)


def _tell_findings(result: StudyResult) -> None:
    for found in result.findings:
        interval = "" if found["mean"] is None else " ({mean:.3g} [{low:.3g}, {high:.3g}])".format(**found)
        say(f"{found['verdict']}: {found['finding']}{interval}")


class _Told:
    """Prints and counts the outcomes of stages."""

    count = 0

    def __call__(self, outcome: Outcome, stages: int) -> None:
        self.count += 1
        note = f" {outcome.message}" if outcome.message else ""
        say(f"[{self.count}/{stages}] {outcome.stage}: {outcome.state}{note}", err=True)


def _tell_missing(folder: StudyFolder) -> Missing:
    """Say which sources are missing, and return them."""
    from ..study.missing import missing

    absent = missing(folder)
    for sentence in absent.sentences:
        say(f"missing: {sentence}", err=True)
    return absent


def _show_plan(folder: StudyFolder, device: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ..study.rates import measured_rates
    from ..study.timing import Timings

    table, left = Table(box=None), 0.0
    unknown = [name for name in Timings(folder).without_like if not folder.has(folder.stages[name])]
    measured = measured_rates(folder, unknown, device)
    timings = Timings(folder, measured)
    for title in ("stage", "state", "time", "needs"):
        table.add_column(title, overflow="fold", no_wrap=title != "needs")  # names are copied to --only: never broken
    for name, stage in folder.stages.items():
        there = folder.has(stage)
        seconds = timings.taken(name) if there else timings.expected(name)
        left += 0 if there else seconds
        row = (name, "there" if there else "to do", _told(seconds, there), ", ".join(stage.needs))
        table.add_row(*(Text(shown(cell)) for cell in row))
    console = Console()
    console.width = max(console.width, max(map(len, folder.stages), default=0) + 60)
    console.print(table)
    say(f"{_told(left, False)} to go, one stage at a time")
    if measured:
        say("estimated from pairs, steps and tests that were timed on this machine now, a second of each kind")
    if len(measured) < len(unknown):
        say(f"{counted(len(unknown) - len(measured), 'stage')} could not be timed here; their time is a rough guess")


def _told(seconds: float, measured: bool) -> str:
    if measured and seconds == 0:
        return ""
    told = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return told if measured else f"about {told}"
