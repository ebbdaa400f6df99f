"""The command `fathom`. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from synth.layout import CorpusError
from synth.noise_profile import PLACES
from synth.recipe import Recipe, RecipeError, load_recipe
from synth.shard import ShardError
from synth.sources import ScansSpec
from synth.writers import WRITERS

from . import __version__
from .build import BuildError, build
from .calibrate import calibrate_scans, write_report
from .cluster import ClusterError, ClusterSpec
from .command import stopped
from .doctor import doctor
from .export import export, import_corpus
from .harvest import harvest
from .inspect import inspect
from .iterate import iterate
from .verify import verify

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
RECIPES = Path(__file__).parent / "recipes"
_debug = False

Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON at the end.")]
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
def _kindly() -> Iterator[None]:
    """Turn what a user can mend into one message and exit code 1."""
    try:
        yield
    except (RecipeError, CorpusError, ShardError, BuildError, ClusterError, OSError, ValueError, MemoryError) as error:
        if _debug:
            traceback.print_exc()
        typer.echo(f"error: {_message(error)}", err=True)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        stopped()


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror.lower()}; choose a place that can be read and written"
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); use fewer --workers, a smaller target.matrix or fewer coils"
    return str(error)


def _print_json(result: dict[str, Any]) -> None:
    typer.echo(json.dumps(result))


def named_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of a ready recipe; raises RecipeError with the names that there are."""
    path, ready = Path(name), RECIPES / f"{name}.toml"
    if path.suffix == ".toml" or path.exists():
        return path
    if ready.exists():
        return ready
    names = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
    raise RecipeError(f"{name}: no such file, and no ready recipe of that name; there are {names}")


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
    with _kindly():
        made = build(
            load_recipe(named_recipe(recipe), changes or ()),
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
        _print_json(made.as_dict())
        return
    typer.echo(
        f"{made.corpus}: {made.status}, {made.pairs} pairs, {made.rejected} rejected, "
        f"net acceleration {made.acceleration_net:.2f}"
    )
    if made.built:
        typer.echo(f"{made.built} pairs in {made.seconds:.1f} s, {made.pairs_per_s:.1f} pairs/s")
    typer.echo(f"content hash {made.content_hash}")


@app.command("verify")
def verify_command(
    corpus: CorpusPath,
    replay: Annotated[int, typer.Option(min=0, help="Make this many pairs again and compare.")] = 0,
    as_json: Json = False,
) -> None:
    """Check that a corpus is whole and unchanged; exit code 1 if it is not."""
    with _kindly():
        found = verify(corpus, replay)
    if as_json:
        _print_json(found.as_dict())
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
        typer.echo(f"content hash {found.content_hash}")
    if not found.intact:
        raise typer.Exit(1)


@app.command("inspect")
def inspect_command(
    corpus: CorpusPath,
    out: Annotated[Path, typer.Option("--out", help="Folder for the summary and the contact sheet.")],
) -> None:
    """Write a summary and a contact sheet of a corpus."""
    with _kindly():
        for file in inspect(corpus, out):
            typer.echo(str(file))


@app.command("iterate")
def iterate_command(
    corpus: CorpusPath, batch_size: Annotated[int, typer.Option(min=1)] = 4, as_json: Json = False
) -> None:
    """Read every pair once, as training would; show what a batch holds and how fast it comes."""
    with _kindly():
        found = iterate(corpus, batch_size)
    if as_json:
        _print_json(found)
        return
    for name, shape in found["batch"].items():
        typer.echo(f"{name:14} {shape}")
    typer.echo(f"{found['pairs']} pairs in {found['batches']} batches, {found['pairs_per_s']:.0f} pairs/s")


ScansPath = Annotated[Path, typer.Argument(metavar="SCANS", help="A scan, or a folder of scans.")]
Variable = Annotated[str | None, typer.Option(help="Name of the array in .mat, .npz and .h5 files.")]
Axes = Annotated[str | None, typer.Option(help="Its axes in order, such as 'y x slice coil' or 'sample coil'.")]


@app.command("calibrate")
def calibrate_command(
    scans: ScansPath,
    out: Annotated[Path, typer.Option("--out", help="The noise profile to write (JSON).")],
    report: Annotated[Path | None, typer.Option(help="Folder for a table of SNRs and a picture.")] = None,
    noise: Annotated[Path | None, typer.Option(help="A separate noise scan.")] = None,
    place: Annotated[str | None, typer.Option(help="noise scan, background or k-space edge.")] = None,
    variable: Variable = None,
    axes: Axes = None,
    as_json: Json = False,
) -> None:
    """Learn the noise of scans: sigma, covariance between coils, and the SNR of every slice."""
    with _kindly():
        if place not in (None, *PLACES):
            raise ValueError(f"--place {place}: write one of {', '.join(PLACES)}")
        if out.exists():
            raise FileExistsError(f"{out} is there already; choose another --out")
        spec = ScansSpec(kind="scans", path=str(scans), variable=variable, axes=axes)
        found = calibrate_scans(spec, noise, place)
        found.profile.save(out)
        written = write_report(found, report) if report else []
    for reason in found.refused:
        typer.echo(f"left out: {reason}", err=True)
    if as_json:
        _print_json(found.as_dict())
        return
    profile = found.profile
    typer.echo(
        f"{out}: {profile.coils} coils, sigma {profile.mean_sigma:.4g} ({profile.sigma.min():.4g} ... "
        f"{profile.sigma.max():.4g}) from the {profile.place}, {profile.samples} samples"
    )
    for note in profile.notes:
        typer.echo(f"note: {note}")
    for name in ("rms", "knoll", "knoll-rms", "image"):
        values = [row[name] for row in found.rows]
        if values:
            typer.echo(f"SNR ({name}) {min(values):.4g} ... {max(values):.4g} over {len(values)} slices")
    for file in written:
        typer.echo(str(file))


@app.command("coils")
def coils_command(
    scans: ScansPath,
    out: Annotated[Path, typer.Option("--out", help="The library to make.")],
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default one per core.")] = None,
    scheduler: Annotated[str, typer.Option(help="local, sync (this process), tcp://... or tls://...")] = "local",
    variable: Variable = None,
    axes: Axes = None,
    as_json: Json = False,
) -> None:
    """Harvest coil maps from scans to a library for `[coils] kind = "library"`."""
    with _kindly():
        spec = ScansSpec(kind="scans", path=str(scans), variable=variable, axes=axes)
        made = harvest(spec, out, ClusterSpec(scheduler, None, workers))
    if as_json:
        _print_json(made)
        return
    for reason in made["rejected"]:
        typer.echo(f"left out: {reason}", err=True)
    shapes = sorted({tuple(s["shape"]) for s in made["sets"]})
    typer.echo(f"{out}: {made['status']}, {len(made['sets'])} sets of coil y x {', '.join(map(str, shapes))}")


@app.command("export")
def export_command(
    corpus: CorpusPath,
    to: Annotated[str, typer.Option("--to", help="fastmri, mrd or cfl.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
) -> None:
    """Write a corpus in the files of another toolbox: a file (cfl: four) for each pair."""
    with _kindly():
        if to not in WRITERS:
            raise ValueError(f"--to {to}: write one of {', '.join(WRITERS)}")
        typer.echo(f"{out}: {export(corpus, to, out)} pairs")


@app.command("import")
def import_command(
    folder: Annotated[Path, typer.Argument(metavar="EXPORT", help="The folder that `fathom export` made.")],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make.")],
) -> None:
    """Make a corpus again from an export: the same pairs, bit for bit."""
    with _kindly():
        typer.echo(f"{out}: content hash {import_corpus(folder, out)}")


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
