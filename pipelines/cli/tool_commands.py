"""The commands `fathom doctor` and `fathom schema`."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def doctor_command() -> None:
    """Show versions, import clashes, cores, disk and GPU. The exit code is 1 if something is wrong."""
    from rich.console import Console
    from rich.table import Table

    from .doctor import doctor

    facts, problems = doctor(Path.cwd())
    table = Table(show_header=False, box=None)
    for name, value in facts:
        table.add_row(name, value)
    Console().print(table)
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


def schema_command() -> None:
    """Print the JSON schema of a recipe, for completion in an editor."""
    from synth.recipe import Recipe

    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))
