"""The app: every command, listed once, in the groups that the help shows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from synth.version import __version__

from ..display.terminal import say
from . import (
    corpus_commands,
    manifest_commands,
    model_commands,
    publish_commands,
    reconstruct_command,
    scan_commands,
    study_commands,
    tool_commands,
)
from .options import show_tracebacks
from .parsing import Command, WholeHelp

COMMANDS: dict[str, dict[str, Any]] = {
    "Corpora": {
        "build": corpus_commands.build_command,
        "verify": corpus_commands.verify_command,
        "inspect": corpus_commands.inspect_command,
        "iterate": corpus_commands.iterate_command,
        "leakage": corpus_commands.leakage_command,
        "export": corpus_commands.export_command,
        "import": corpus_commands.import_command,
        "publish": publish_commands.publish_command,
        "rebuild": publish_commands.rebuild_command,
    },
    "Scans": {
        "calibrate": scan_commands.calibrate_command,
        "coils": scan_commands.coils_command,
    },
    "Networks": {
        "train": model_commands.train_command,
        "test": model_commands.evaluate_command,
        "reconstruct": reconstruct_command.reconstruct_command,
        "study": study_commands.study_command,
        "models": tool_commands.models_command,
    },
    "Public data sets": {"manifest": manifest_commands.manifest_app},
    "Tools": {
        "ready": tool_commands.ready_command,
        "doctor": tool_commands.doctor_command,
        "schema": tool_commands.schema_command,
    },
}


class Groups(WholeHelp):
    """Lists commands under the headings of `COMMANDS`."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the part of the help that lists the commands."""
        for title, commands in COMMANDS.items():
            self.write_commands(formatter, title, commands)


app = typer.Typer(
    cls=Groups,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _commands in COMMANDS.values():
    for _name, _command in _commands.items():
        if isinstance(_command, typer.Typer):
            for _registered in _command.registered_commands:
                _registered.cls = Command
            app.add_typer(_command, name=_name)
        else:
            app.command(_name, cls=Command)(_command)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"fathom {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Make training pairs for learned MR image reconstruction; train and test networks on them."""
    show_tracebacks(debug)
