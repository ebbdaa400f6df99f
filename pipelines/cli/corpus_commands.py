"""The commands about corpora. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..display.terminal import counted, say
from .options import (
    Changes,
    CorpusPath,
    Insecure,
    Json,
    Scheduler,
    SchedulerFile,
    TlsCaFile,
    TlsCert,
    TlsKey,
    Wait,
    Workers,
    kindly,
    print_json,
    say_notes,
)

if TYPE_CHECKING:
    from synth.stages.sampling import SamplingSpec

    from ..corpus.build import Built

REASONS_SHOWN = 5  # of rejections
SHARED_SHOWN = 10  # names of sources that two corpora share


def build_command(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a ready recipe.")],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make, or to go on with.")],
    changes: Changes = None,
    workers: Workers = None,
    scheduler: Scheduler = "local",
    scheduler_file: SchedulerFile = None,
    insecure: Insecure = False,
    tls_ca_file: TlsCaFile = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    wait: Wait = 60,
    as_json: Json = False,
) -> None:
    """Build a corpus. The same command goes on with a stopped build and mends a damaged corpus."""
    from synth.recipe import load_recipe
    from synth.sources.scan_slices import ScansSpec

    from ..cluster import ClusterSpec
    from ..corpus.build import build
    from ..corpus.recipe_notes import recipe_notes
    from ..ready.names import named_recipe

    with kindly():
        loaded = load_recipe(named_recipe(recipe), changes or ())
        for reason in loaded.source.left_out() if isinstance(loaded.source, ScansSpec) else ():
            say(f"left out: {reason}", err=True)
        say_notes(notes := recipe_notes(loaded))  # before a build of hours, not after it
        where = ClusterSpec(scheduler, scheduler_file, workers, insecure, tls_ca_file, tls_cert, tls_key, wait)
        made = build(loaded, out, where)
    if made.hash_before not in (None, made.content_hash):
        say(
            "note: the mended pairs differ from the lost ones in the last digits, because another kind of processor or "
            f"other libraries made them; the content hash was {made.hash_before}",
            err=True,
        )
    if as_json:
        print_json(made.as_dict())
        return
    _print_built(made, loaded.sampling, told=notes)


def _print_built(made: Built, sampling: SamplingSpec, told: Sequence[str]) -> None:
    lines = getattr(sampling, "reference_lines", 0)
    say(
        f"{made.corpus}: {made.status}, {counted(made.pairs, 'pair')}, {made.rejected} rejected, "
        f"net acceleration {made.acceleration_net:.2f}{f' with {lines} reference lines' if lines else ''}"
    )
    for reason in made.reasons[:REASONS_SHOWN]:
        say(f"rejected: {reason}", err=True)
    if (more := len(made.reasons) - REASONS_SHOWN) > 0:
        say(f"rejected: {more} more; summary.json in {made.corpus} lists all", err=True)
    if made.built:
        say(f"{counted(made.built, 'pair')} in {made.seconds:.1f} s, {made.pairs_per_s:.1f} pairs/s")
    say(f"content hash {made.content_hash}")
    for note in made.notes:
        if note not in told:
            say(f"note: {note}")


def leakage_command(
    corpus: CorpusPath,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER...", help="Corpora to compare CORPUS with.")],
    as_json: Json = False,
) -> None:
    """List the pictures or slices from which both corpora were made. The exit code is 1 if there are any."""
    from ..corpus.leakage import shared_sources

    with kindly():
        found = {other: shared_sources(corpus, other) for other in others}
    if as_json:
        print_json({str(other): names for other, names in found.items()})
    for other, names in () if as_json else found.items():
        shown = "".join(f"\n  {name}" for name in names[:SHARED_SHOWN])
        say(f"{other} shares {counted(len(names), 'source')} with {corpus}{shown}")
        if (more := len(names) - SHARED_SHOWN) > 0:
            say(f"  {more} more; --json lists all")
    if any(found.values()):
        raise typer.Exit(1)


def verify_command(
    corpus: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The folder that `fathom build` or `fathom train` made.")
    ],
    replay: Annotated[int, typer.Option(min=0, help="Make this many pairs again and compare them.")] = 0,
    measured: Annotated[
        int, typer.Option("--measure", min=0, help="Measure the noise of this many pairs from their arrays.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Check that a corpus, or a finished training, is complete and unchanged. The exit code is 1 if it is not."""
    from ..corpus.verify import verify
    from ..models.verify_training import is_training

    with kindly():
        found = None if is_training(corpus) else verify(corpus, replay, measured)
    if found is None:
        _verify_training(corpus, as_json=as_json)
        return
    if as_json:
        print_json(found.as_dict())
    else:
        for problem in found.problems:
            say(f"damaged: {problem}", err=True)
        mend = f"{counted(len(found.problems), 'problem')}; run the same `fathom build` to mend damaged shards"
        say(f"{corpus}: {counted(found.pairs, 'pair')}, {'intact' if found.intact else mend}")
        if found.replayed:
            say(
                f"{counted(found.replayed, 'pair')} made again: {found.identical} identical, "
                f"{found.close} equal in single precision"
            )
        if found.unmeasured:
            say(f"note: the noise was not measured: {found.unmeasured}")
        if found.measured:
            most = f"{100 * found.largest_error:.2g} %"
            say(f"{counted(found.measured, 'pair')} measured: sigma differs by at most {most}")
        if len(found.makers) > 1:
            for versions, shards in found.makers.items():
                say(f"note: {shards} shards were made with {versions}")
        _tell_not_covered(found.not_covered)
        say(f"content hash {found.content_hash}")
    if not found.intact:
        raise typer.Exit(1)


def _verify_training(folder: Path, *, as_json: bool) -> None:
    from ..models.verify_training import verify_training

    with kindly():
        found = verify_training(folder)
    if as_json:
        print_json(found)
    else:
        for problem in found["problems"]:
            say(f"damaged: {problem}", err=True)
        _tell_not_covered(found["not_covered"])
        say(f"{folder}: a training, {'intact' if found['intact'] else 'damaged'}")
    if not found["intact"]:
        raise typer.Exit(1)


def _tell_not_covered(files: dict[str, str]) -> None:
    for name, reason in files.items():
        say(f"not covered: {name}: {reason}")


def inspect_command(
    corpus: CorpusPath,
    out: Annotated[Path, typer.Option("--out", help="Folder for the summary, the contact sheet and the report.")],
) -> None:
    """Write a summary, a contact sheet and a report of a corpus."""
    from ..corpus.inspect import inspect

    with kindly():
        for file in inspect(corpus, out):
            say(str(file))


def iterate_command(
    corpus: CorpusPath,
    batch_size: Annotated[int, typer.Option(min=1, help="Pairs per batch.")] = 4,
    as_json: Json = False,
) -> None:
    """Read every pair once, as a training does, and show what a batch holds and how fast pairs are read."""
    from ..corpus.iterate import iterate

    with kindly():
        found = iterate(corpus, batch_size)
    if as_json:
        print_json(found)
        return
    for name, shape in found["batch"].items():
        say(f"{name:14} {shape}")
    say(f"{counted(found['pairs'], 'pair')} in {found['batches']} batches, {found['pairs_per_s']:.0f} pairs/s")


def export_command(
    corpus: CorpusPath,
    to: Annotated[str, typer.Option("--to", help="The format of the files: fastmri, mrd or cfl.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make.")],
) -> None:
    """Write a corpus as files of another toolbox: one file for each pair (four for cfl)."""
    from synth.writers import WRITERS

    from ..corpus.export import export

    with kindly():
        if to not in WRITERS:
            raise ValueError(f"--to {to}: write one of {', '.join(WRITERS)}")
        say(f"{out}: {counted(export(corpus, to, out), 'pair')}")


def import_command(
    folder: Annotated[Path, typer.Argument(metavar="EXPORT", help="The folder that `fathom export` made.")],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make.")],
) -> None:
    """Make a corpus from an export. Its pairs are the same as before the export, bit for bit."""
    from ..corpus.export import import_corpus

    with kindly():
        say(f"{out}: content hash {import_corpus(folder, out)}")
