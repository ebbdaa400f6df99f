"""The command `fathom study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, Json, Scheduler, kindly, print_json

if TYPE_CHECKING:
    from ..study.folder import StudyFolder


def study_command(
    study: Annotated[str, typer.Argument(help="A TOML file, or the name of a ready study.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that is made, and the report.")],
    scale: Annotated[str, typer.Option(help="smoke, laptop, gpu or paper, as the study has them.")] = "smoke",
    plan: Annotated[bool, typer.Option("--plan", help="Show the stages and their state; make nothing.")] = False,
    only: Annotated[
        str | None, typer.Option(help="A pattern of stage names, such as 'test/*'; with what they need.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Stages at a time.")] = 1,
    scheduler: Scheduler = "sync",
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Run a study: build, train, test, report; run again, it goes on where it was stopped."""
    from ..cluster import ClusterSpec
    from ..ready.names import named_study
    from ..study.folder import StudyFolder
    from ..study.report import write_report
    from ..study.run import Outcome, run
    from ..study.settings import load_study
    from ..study.stages import stages_of, with_needs

    with kindly():
        loaded = load_study(named_study(study))
        stages = stages_of(loaded, scale)
        folder = StudyFolder(out, with_needs(stages, only))
        if plan:
            _show_plan(folder)
            return
        folder.claim(loaded.name)
        outcomes: list[Outcome] = []
        where = "local" if workers > 1 and scheduler == "sync" else scheduler
        for outcome in run(folder, ClusterSpec(where, workers=workers), device):
            outcomes.append(outcome)
            note = f" {outcome.message}" if outcome.message else ""
            typer.echo(f"[{len(outcomes)}/{len(folder.stages)}] {outcome.stage}: {outcome.state}{note}", err=True)
        report = write_report(loaded, scale, folder, outcomes, device)
    failed = [o.stage for o in outcomes if o.state in ("failed", "left out")]
    if as_json:
        print_json({"report": str(report), "stages": len(folder.stages), "failed": failed})
    else:
        typer.echo(str(report))
    if failed:
        raise typer.Exit(1)


def _show_plan(folder: StudyFolder) -> None:
    from rich.console import Console
    from rich.table import Table

    from ..study.timing import Timings

    table, timings, left = Table(box=None), Timings(folder), 0.0
    for title in ("stage", "state", "time", "needs"):
        table.add_column(title, overflow="fold")
    for name, stage in folder.stages.items():
        there = folder.has(stage)
        seconds = timings.taken(name) if there else timings.expected(name)
        left += 0 if there else seconds
        table.add_row(name, "there" if there else "to do", _told(seconds, there), ", ".join(stage.needs))
    Console().print(table)
    typer.echo(f"{_told(left, False)} to go, one stage at a time")


def _told(seconds: float, measured: bool) -> str:
    if measured and seconds == 0:
        return ""
    told = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    return told if measured else f"about {told}"
