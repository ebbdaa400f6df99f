"""The commands that publish a corpus or a training, and build a published corpus again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synth.storage.place import size_of

from ..display.terminal import counted, say
from .options import (
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


def publish_command(
    made: Annotated[Path, typer.Argument(metavar="CORPUS", help="A corpus, or the folder of a finished training.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to make, or s3://bucket/name.")],
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the folder: cc-by-4.0, mit, ...; by default unknown.")
    ] = None,
) -> None:
    """Write what rebuilds a corpus (or a training's weights and card) into a folder that can be put online."""
    from ..corpus.publish import publish
    from ..models.publish_training import publish_training
    from ..models.verify_training import is_training

    with kindly():
        write = publish_training if is_training(made) else publish
        for name in write(made, out, licence):
            say(f"{out / name}: {size_of(out / name) / 1000:.1f} kB")
        if licence is None:
            say("note: the card says that the licence is unknown; --licence names it, with another --out")


def rebuild_command(
    published: Annotated[
        Path, typer.Argument(metavar="PUBLISHED", help="The folder, or s3://bucket/name, that `fathom publish` made.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make, or to go on with.")],
    sources: Annotated[
        list[Path] | None, typer.Option("--sources", help="A folder, or s3://bucket/name, of sources; may be repeated.")
    ] = None,
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
    """Build a published corpus from its sources, and compare it. The exit code is 1 if it differs."""
    from ..cluster import ClusterSpec
    from ..corpus.rebuild import rebuild

    with kindly():
        where = ClusterSpec(scheduler, scheduler_file, workers, insecure, tls_ca_file, tls_cert, tls_key, wait)
        found = rebuild(published, sources or (), out, where)
    if as_json:
        print_json(found.as_dict())
    else:
        say(f"{found.corpus}: {counted(found.pairs, 'pair')}, {found.verdict}")
        if found.compared:
            say(
                f"one pair of each of {found.compared} blocks of pairs was compared: its arrays differ by at most "
                f"{found.largest_difference:.2g}, relative to their norms"
            )
        say_notes(found.problems)
        say(f"content hash {found.content_hash}")
    if found.verdict == "differs":
        raise typer.Exit(1)
