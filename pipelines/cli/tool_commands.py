"""The commands `fathom ready`, `fathom models`, `fathom doctor` and `fathom schema`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..display.terminal import say, shown

if TYPE_CHECKING:
    from pydantic import BaseModel


def ready_command() -> None:
    """List the ready recipes, trainings and studies, and the folders that each needs; paths are below this folder."""
    from ..ready.names import RECIPES, TRAININGS
    from ..ready.wanted import told, wanted_by_recipe, wanted_by_training
    from ..study.ready_studies import ready_studies

    needs = {
        "recipes, for fathom build": {f.stem: told([wanted_by_recipe(f)]) for f in sorted(RECIPES.glob("*.toml"))},
        "trainings, for fathom train": {f.stem: told(wanted_by_training(f)) for f in sorted(TRAININGS.glob("*.toml"))},
        "studies, for fathom study": {name: told(paths) for name, paths in ready_studies().items()},
    }
    for title, entries in needs.items():
        say(title)
        for name, text in entries.items():
            say(f"  {name:28} {text}")
    say("other places: --set source.path=... (recipes), --set data.corpora=... (trainings), links (studies)")


def models_command() -> None:
    """List the trained networks that come with the package, and the baselines; names for test and reconstruct."""
    from recon.models.catalogue import BASELINES, SAID
    from recon.training.model_files import CARD

    from ..ready.names import ready_networks

    say("networks, for research and not for diagnosis")
    found = ready_networks()
    if not found:
        say("  none in this version; `fathom study photos-1` trains one from photographs")
    for name, folder in found.items():
        card = json.loads((folder / CARD).read_text())
        kind, count = card["model"]["kind"], f"{card['parameters']:,} parameters"
        say(f"  {name:28} {kind}, {count}; what it was trained on, and what it can do: {folder / 'README.md'}")
    say("baselines, without training")
    for name in BASELINES:
        say(f"  {SAID[name]}")


def doctor_command() -> None:
    """Show versions, import clashes, cores, disk and GPU. The exit code is 1 if something is wrong."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from .doctor import doctor

    facts, problems = doctor(Path.cwd())
    table = Table(show_header=False, box=None)
    for name, value in facts:
        table.add_row(name, Text(shown(value)))
    Console().print(table)
    for problem in problems:
        say(f"problem: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


class Settings(StrEnum):
    """The files of settings that have a schema."""

    RECIPE = "recipe"
    TRAINING = "training"
    STUDY = "study"


def schema_command(
    settings: Annotated[Settings, typer.Argument(help="What the file describes.")] = Settings.RECIPE,
) -> None:
    """Print the JSON schema of a recipe, a training or a study: every key, and for completion in an editor."""
    from recon.training.settings import Training
    from synth.recipe import Recipe

    from ..study.settings import Study

    models: dict[Settings, type[BaseModel]] = {
        Settings.RECIPE: Recipe,
        Settings.TRAINING: Training,
        Settings.STUDY: Study,
    }
    say(json.dumps(models[settings].model_json_schema(), indent=2))
