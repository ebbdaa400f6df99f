"""How the commands read their arguments, and what is said of arguments that no command takes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from typer.core import TyperCommand, TyperGroup

from synth.settings.nearest import nearest
from synth.settings.toml import key_named
from synth.settings.wording import WORDS, in_plain_words
from synth.storage.place import local_path, place_of

from ..display.terminal import shown
from .options import kindly, say_notes

EXTRA = "; a text with spaces goes in quotes, a change is --set KEY=VALUE, and results go to --out NAME"
KEYS = {"build": ("synth.recipe", "Recipe"), "train": ("recon.training.settings", "Training")}  # what --set changes
# Parameters that name what is read, also in an object store.
ANYWHERE = ("corpus", "others", "without", "made", "published", "sources")
WRITTEN_ANYWHERE = ("build", "train", "publish", "rebuild")  # commands whose --out may lie there


@contextmanager
def usage_shown() -> Iterator[None]:
    """Put errors of usage, which typer shows itself, into plain words, and write out their control characters."""
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message") and hasattr(error, "message"):
            error.message = shown(_told(error))
        raise


def _told(error: Any) -> str:
    """The message of an error of usage, with its remedy."""
    told = str(error.message)
    if told.startswith("Got unexpected extra argument"):
        return told + EXTRA
    if hasattr(error, "possibilities") and hasattr(error, "option_name"):
        error.possibilities = None  # typer would name any option of some likeness
        return told + _meant(error.option_name, error.ctx)
    if isinstance(error.__cause__, ValidationError):
        problem = error.__cause__.errors()[0]
        if problem["type"] in WORDS:
            return f"'{problem['input']}'; it {in_plain_words(problem)}"
    return told.removeprefix("Value error, ")


def _meant(option: str, ctx: Any) -> str:
    """The option, or the key of --set, that an unknown option may mean."""
    words = option.lstrip("-").replace("-", "_")
    if ctx.command.name in KEYS:
        module, name = KEYS[ctx.command.name]
        if key := key_named(getattr(importlib.import_module(module), name), words):
            return f"; a key is changed with --set {key}=VALUE"
    known = [opt[2:] for param in ctx.command.params for opt in param.opts if opt.startswith("--")]
    near = [name for name in known if name.startswith(option.lstrip("-"))] or [nearest(option.lstrip("-"), known)]
    if not near[0]:
        return f"; `{ctx.command_path} -h` lists the options"
    return f"; did you mean {' or '.join(f'--{name}' for name in near)}?"


class WholeHelp(TyperGroup):
    """Lists commands with the whole first paragraph of their help, which typer would cut."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the arguments before the command's name."""
        with usage_shown():
            return super().make_context(*args, **extra)

    def resolve_command(self, *args: Any) -> Any:
        """Find the command."""
        with usage_shown():
            return super().resolve_command(*args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the part of the help that lists the commands."""
        self.write_commands(formatter, "Commands", list(self.commands))

    def write_commands(self, formatter: Any, title: str, names: Iterable[str]) -> None:
        """Write a list of commands under a title."""
        with formatter.section(title):
            formatter.write_dl([(name, (self.commands[name].help or "").split("\n\n")[0]) for name in names])


class Command(TyperCommand):
    """A command whose paths are local, but for what may lie in an object store; ``file:///folder`` becomes a path."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the command's arguments."""
        with usage_shown():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with kindly():
            say_notes(_set_twice(ctx.params.get("changes")))
            anywhere = (*ANYWHERE, "out") if self.name in WRITTEN_ANYWHERE else ANYWHERE
            ctx.params = {name: _placed(value, name in anywhere) for name, value in ctx.params.items()}
        return super().invoke(ctx)


def _set_twice(changes: Iterable[str] | None) -> Iterator[str]:
    """A sentence for each --set whose key is set again, as commands made by programs do: the last one counts."""
    first: dict[str, str] = {}
    for change in changes or ():
        key = change.partition("=")[0].strip()
        if key in first:
            yield f"--set {first[key]} has no effect: --set {change} comes after it"
        first[key] = change


def _placed(value: Any, anywhere: bool) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_placed(v, anywhere) for v in value)
    if not isinstance(value, Path):
        return value
    return place_of(value) if anywhere else local_path(value)
