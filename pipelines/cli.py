"""The command `fathom`. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from synth.recipe import Recipe, load_recipe
from synth.sources.scan_slices import ScansSpec

from .build import build
from .cluster import ClusterSpec
from .doctor import doctor
from .inspect import inspect
from .iterate import iterate
from .leakage import shared_sources
from .names import named_recipe
from .terminal import CorpusPath, Json, app, kindly, print_json
from .verify import verify


@app.command("build")
def build_command(
    recipe: Annotated[str, typer.Argument(help="A TOML file, or the name of a ready recipe.")],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make; it must not be another's.")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default one per core.")] = None,
    scheduler: Annotated[str, typer.Option(help="local, sync (this process), tcp://... or tls://...")] = "local",
    scheduler_file: Annotated[str | None, typer.Option(help="A Dask scheduler file.")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow plain tcp beyond this machine.")] = False,
    as_json: Json = False,
) -> None:
    """Build a corpus; run again, it goes on where it was stopped, and mends what is damaged."""
    with kindly():
        loaded = load_recipe(named_recipe(recipe), changes or ())
        for reason in loaded.source.left_out() if isinstance(loaded.source, ScansSpec) else ():
            typer.echo(f"left out: {reason}", err=True)
        made = build(
            loaded,
            out,
            ClusterSpec(scheduler, scheduler_file, workers, insecure),
        )
    if made.hash_before not in (None, made.content_hash):
        typer.echo(
            "note: what was mended differs from what was lost in the last digits, because another kind of processor or "
            f"other libraries made it; the content hash was {made.hash_before}",
            err=True,
        )
    if as_json:
        print_json(made.as_dict())
        return
    typer.echo(
        f"{made.corpus}: {made.status}, {made.pairs} pairs, {made.rejected} rejected, "
        f"net acceleration {made.acceleration_net:.2f}"
    )
    if made.built:
        typer.echo(f"{made.built} pairs in {made.seconds:.1f} s, {made.pairs_per_s:.1f} pairs/s")
    typer.echo(f"content hash {made.content_hash}")
    for note in made.notes:
        typer.echo(f"note: {note}")


@app.command("leakage")
def leakage_command(
    corpus: CorpusPath,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER...", help="Corpora to compare it with.")],
) -> None:
    """Tell from which pictures or slices two corpora were both made; exit code 1 if there are any."""
    with kindly():
        found = {other: shared_sources(corpus, other) for other in others}
    for other, names in found.items():
        typer.echo(f"{len(names)} sources of {corpus} are in {other}, too" + "".join(f"\n  {n}" for n in names[:10]))
    if any(found.values()):
        raise typer.Exit(1)


@app.command("verify")
def verify_command(
    corpus: CorpusPath,
    replay: Annotated[int, typer.Option(min=0, help="Make this many pairs again and compare.")] = 0,
    measured: Annotated[
        int, typer.Option("--measure", min=0, help="Measure the noise of this many pairs back from their arrays.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Check that a corpus is whole and unchanged; exit code 1 if it is not."""
    with kindly():
        found = verify(corpus, replay, measured)
    if as_json:
        print_json(found.as_dict())
    else:
        for problem in found.problems:
            typer.echo(f"damaged: {problem}", err=True)
        state = (
            "intact"
            if found.intact
            else f"{len(found.problems)} problems; the same `fathom build` mends damaged shards"
        )
        typer.echo(f"{corpus}: {found.pairs} pairs, {state}")
        if found.replayed:
            typer.echo(
                f"{found.replayed} pairs made again: {found.identical} identical, "
                f"{found.close} equal in single precision"
            )
        if found.measured:
            typer.echo(f"{found.measured} pairs measured: sigma is {100 * found.largest_error:.2g} % off at most")
        typer.echo(f"content hash {found.content_hash}")
    if not found.intact:
        raise typer.Exit(1)


@app.command("inspect")
def inspect_command(
    corpus: CorpusPath,
    out: Annotated[Path, typer.Option("--out", help="Folder for the summary and the contact sheet.")],
) -> None:
    """Write a summary and a contact sheet of a corpus."""
    with kindly():
        for file in inspect(corpus, out):
            typer.echo(str(file))


@app.command("iterate")
def iterate_command(
    corpus: CorpusPath, batch_size: Annotated[int, typer.Option(min=1)] = 4, as_json: Json = False
) -> None:
    """Read every pair once, as training would; show what a batch holds and how fast it comes."""
    with kindly():
        found = iterate(corpus, batch_size)
    if as_json:
        print_json(found)
        return
    for name, shape in found["batch"].items():
        typer.echo(f"{name:14} {shape}")
    typer.echo(f"{found['pairs']} pairs in {found['batches']} batches, {found['pairs_per_s']:.0f} pairs/s")


@app.command("doctor")
def doctor_command() -> None:
    """Show versions, import clashes, cores, disk and GPU; exit code 1 if something is wrong."""
    facts, problems = doctor(Path.cwd())
    table = Table(show_header=False, box=None)
    for name, value in facts:
        table.add_row(name, value)
    Console().print(table)
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


@app.command("schema")
def schema_command() -> None:
    """Print the JSON schema of a recipe, for completion in an editor."""
    typer.echo(json.dumps(Recipe.model_json_schema(), indent=2))
