"""What all commands share: the app itself, its options, and errors as one message."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines import __version__
from recon.errors import CheckpointError, TrainingError
from recon.training.memory import is_out_of_memory
from synth.errors import CorpusError, ShardError

from .build import BuildError
from .cluster import ClusterError
from .command import stopped

EXPECTED = (CorpusError, ShardError, BuildError, ClusterError, CheckpointError, TrainingError)  # settings: ValueError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
_debug = False

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON at the end.")]
Variable = Annotated[str | None, typer.Option(help="Name of the array in .mat, .npz and .h5 files.")]
Axes = Annotated[str | None, typer.Option(help="Its axes in order, such as 'y x slice coil' or 'sample coil'.")]
CorpusPath = Annotated[Path, typer.Argument(metavar="CORPUS", help="The folder that `fathom build` made.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fathom {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Make training pairs for learned MR image reconstruction, and check them."""
    global _debug  # noqa: PLW0603 (a flag of the process, set once by its command line)
    _debug = debug


@contextmanager
def kindly() -> Iterator[None]:
    """Turn what a user can mend into one message and exit code 1."""
    try:
        yield
    except (*EXPECTED, OSError, ValueError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and not is_out_of_memory(error):
            raise
        if _debug:
            traceback.print_exc()
        typer.echo(f"error: {_message(error)}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        stopped()


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}; choose a place that can be read and written"
    if not isinstance(error, EXPECTED) and is_out_of_memory(error):
        first = (str(error).splitlines() or [""])[0][:200]
        return f"out of memory ({first}); use fewer --workers, a smaller --batch-size, matrix or number of coils"
    return str(error)


def print_json(result: dict[str, Any]) -> None:
    """Print a result as one line."""
    typer.echo(json.dumps(result))
