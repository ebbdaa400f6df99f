"""Options that commands share, and the code that shows an error as one message."""

from __future__ import annotations

import errno
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from synth.errors import FathomError
from synth.storage.whole import UncheckedWarning

from ..display.terminal import say
from .interrupt import stopped

_tracebacks = False
REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`) and run the same command again",
    errno.EMFILE: "raise the limit of open files, such as `ulimit -n 4096`, and run the same command again",
    errno.ENFILE: "end other programs, because the whole machine has too many files open",
    errno.ENOMEM: "use fewer --workers, or end other programs",
    errno.EIO: "check the disk, or the network that it is on",
}

OPTIONS = {  # words of messages about scans, and what they are at the command line
    "sampling.acceleration ": "--acceleration ",
    "sampling.reference_lines ": "--reference-lines ",
    "source.path ": "",
    "sample it, or lower `reference` to what is": "a library needs these samples, and `fathom reconstruct` fewer",
    "leave acceleration out": "leave --acceleration out",
    "name one as variable": "name one with --variable",
    "such as axes = '": "such as --axes '",
    "were guessed wrongly, name them": "were guessed wrongly, name them with --axes",
    "restore it, or give shape and axes": "restore it, or in Python give open_scan the shape and axes",
}

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON at the end.")]
Variable = Annotated[str | None, typer.Option(help="Name of the array in .mat, .npz and .h5 files.")]
Axes = Annotated[str | None, typer.Option(help="The array's axes in order, such as 'y x slice coil' or 'sample coil'.")]
Changes = Annotated[list[str] | None, typer.Option("--set", help="Change section.key=value; may be repeated.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Number of worker processes; by default one per core.")]
Scheduler = Annotated[str, typer.Option(help="Where to run: local, sync (this process), tcp://... or tls://...")]
SchedulerFile = Annotated[str | None, typer.Option(help="The file that a Dask scheduler wrote.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Allow plain tcp:// to another machine.")]
TlsCaFile = Annotated[str | None, typer.Option(help="For tls://: certificate of the authority (PEM).")]
TlsCert = Annotated[str | None, typer.Option(help="For tls://: certificate of this client (PEM).")]
TlsKey = Annotated[str | None, typer.Option(help="For tls://: key of that certificate (PEM).")]
Wait = Annotated[
    float, typer.Option("--wait", min=1, help="Seconds to wait for a worker, or for a scheduler that is gone.")
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:1; by default the GPU if there is one.")]
NoiseMap = Annotated[
    bool, typer.Option("--noise-map", help="Also measure each image's local noise, and where the data do not decide.")
]
ProbeCount = Annotated[
    int, typer.Option(min=4, help="Probes of a noise map; each takes as long as two or three images.")
]
CorpusPath = Annotated[
    Path, typer.Argument(metavar="CORPUS", help="The folder, or s3://bucket/name.zarr, that `fathom build` made.")
]


def show_tracebacks(wanted: bool) -> None:
    """Set whether errors are shown with their traceback; the command line calls this once."""
    global _tracebacks  # noqa: PLW0603 (a flag of the process)
    _tracebacks = wanted


@contextmanager
def kindly(worded: Callable[[str], str] = str) -> Iterator[None]:
    """Turn an error that a user can mend into one message and exit code 1, and Fathom's warnings into notes.

    `worded` puts the message into the command's own words, such as `in_options`.
    """
    show = warnings.showwarning

    def told(message: Warning | str, category: type[Warning], *where: Any) -> None:
        if issubclass(category, UncheckedWarning):
            say(f"note: {message}", err=True)
        else:
            show(message, category, *where)

    try:
        with warnings.catch_warnings():
            warnings.showwarning = told  # type: ignore[assignment]
            yield
    except (FathomError, OSError, ValueError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and not _is_out_of_memory(error):
            raise
        if _tracebacks:
            say(traceback.format_exc(), err=True)
        say(f"error: {worded(_message(error))}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        stopped()


def in_options(message: str) -> str:
    """A message about scans with the options of the command line in the place of Python's and a recipe's words."""
    for words, options in OPTIONS.items():
        message = message.replace(words, options)
    return message


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.errno and not isinstance(error, FathomError):
        where = f"{error.filename}: " if error.filename else ""
        remedy = REMEDIES.get(error.errno, "choose a place that can be read and written")
        return f"{where}{error.strerror.lower()}; {remedy}"
    if not isinstance(error, FathomError) and _is_out_of_memory(error):
        first = (str(error).splitlines() or [""])[0][:200]
        return f"out of memory ({first}); use fewer --workers, a smaller --batch-size, matrix or number of coils"
    return str(error)


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or "torch" not in sys.modules:  # torch is not loaded only to ask this
        return isinstance(error, MemoryError)
    from recon.training.memory import is_out_of_memory

    return is_out_of_memory(error)


def say_notes(notes: Iterable[str]) -> None:
    """Print notes to standard error, a line each."""
    for note in notes:
        say(f"note: {note}", err=True)


def print_json(result: dict[str, Any]) -> None:
    """Print a result as one line."""
    say(json.dumps(result))


def end_with(failed: dict[str, str]) -> None:
    """Say what failed after all else, where it is seen, and exit with 1 if anything did."""
    for name, why in failed.items():
        say(f"error: {why if name in why else f'{name}: {why}'}", err=True)
    if failed:
        raise typer.Exit(1)
