"""Commands about data: noise and coils from scans, exports, public data sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from synth.calibration.noise_profile import PLACES
from synth.sources.scan_slices import ScansSpec
from synth.writers import WRITERS

from . import manifests
from .calibrate import calibrate_scans, report_files, write_report
from .cluster import ClusterSpec
from .export import export, import_corpus
from .harvest import harvest
from .splits import parse_parts, split, subjects_of, write_lists
from .terminal import Axes, CorpusPath, Json, Variable, app, kindly, print_json

manifest_app = typer.Typer(
    help="Public data sets: what they are, and whether a folder holds them.", no_args_is_help=True
)
app.add_typer(manifest_app, name="manifest")

ScansPath = Annotated[Path, typer.Argument(metavar="SCANS", help="A scan, or a folder of scans.")]


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
    with kindly():
        if place not in (None, *PLACES):
            raise ValueError(f"--place {place}: write one of {', '.join(PLACES)}")
        if out.exists():
            raise FileExistsError(f"{out} is there already; choose another --out")
        if report:
            report_files(report)
        spec = ScansSpec(kind="scans", path=str(scans), variable=variable, axes=axes)
        found = calibrate_scans(spec, noise, place)
        found.profile.save(out)
        written = write_report(found, report) if report else []
    for reason in found.refused:
        typer.echo(f"left out: {reason}", err=True)
    if as_json:
        print_json(found.as_dict())
        return
    profile = found.profile
    typer.echo(
        f"{out}: {profile.coils} coils, sigma {profile.mean_sigma:.4g} ({profile.sigma.min():.4g} ... "
        f"{profile.sigma.max():.4g}) from the {profile.place}, {profile.samples} samples"
    )
    for note in profile.notes:
        typer.echo(f"note: {note}")
    for name in ("rms", "knoll", "knoll-rms", "image"):
        values = [row[name] for row in found.rows if row["slice"] != "all"]
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
    with kindly():
        spec = ScansSpec(kind="scans", path=str(scans), variable=variable, axes=axes)
        made = harvest(spec, out, ClusterSpec(scheduler, None, workers))
    if as_json:
        print_json(made)
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
    with kindly():
        if to not in WRITERS:
            raise ValueError(f"--to {to}: write one of {', '.join(WRITERS)}")
        typer.echo(f"{out}: {export(corpus, to, out)} pairs")


@app.command("import")
def import_command(
    folder: Annotated[Path, typer.Argument(metavar="EXPORT", help="The folder that `fathom export` made.")],
    out: Annotated[Path, typer.Option("--out", help="The corpus to make.")],
) -> None:
    """Make a corpus again from an export: the same pairs, bit for bit."""
    with kindly():
        typer.echo(f"{out}: content hash {import_corpus(folder, out)}")


@manifest_app.command("list")
def manifest_list() -> None:
    """Name the public data sets that Fathom knows."""
    for name in manifests.names():
        typer.echo(f"{name:18} {manifests.load(name).title}")


@manifest_app.command("show")
def manifest_show(name: Annotated[str, typer.Argument()]) -> None:
    """Say what a data set is, its terms, and how to get it."""
    with kindly():
        manifest = manifests.load(name)
        for key in ("title", "home", "licence", "citation", "get"):
            typer.echo(f"{key:9} {getattr(manifest, key)}")
        for key, value in manifest.content:
            typer.echo(f"{key:9} {value}")
        for split, about in manifest.splits.items():
            typer.echo(f"split     {split}: {about.items or 'unknown'} {about.unit}, split by {about.split_by}")
        for file in manifest.files:
            typer.echo(f"file      {file.name}: {file.sha256 or file.md5 or 'unpinned'}")


@manifest_app.command("check")
def manifest_check(name: Annotated[str, typer.Argument()], path: Annotated[Path, typer.Argument()]) -> None:
    """Compare a folder with a manifest: checksums, counts, leakage between splits; exit code 1 if it differs."""
    with kindly():
        found = manifests.check(manifests.load(name), path)
    for fact in found.facts:
        typer.echo(fact)
    for problem in found.problems:
        typer.echo(f"problem: {problem}", err=True)
    if found.problems:
        raise typer.Exit(1)


@manifest_app.command("split")
def manifest_split(
    path: Annotated[Path, typer.Argument(help="A folder of photographs or scans.")],
    parts: Annotated[str, typer.Option(help="Names and shares.")] = "train=0.8,val=0.1,test=0.1",
    by: Annotated[str, typer.Option(help="file, folder, patient (by headers), or a regular expression.")] = "file",
    seed: Annotated[int, typer.Option(min=0, help="Draws which subject goes where.")] = 0,
) -> None:
    """Write lists of a folder's files, train.txt and so on, such that no subject is in two; a list is a source.path."""
    with kindly():
        subjects = subjects_of(path, by)
        made = split(subjects, parse_parts(parts), seed)
        lists = write_lists(path, made, f"fathom manifest split --parts {parts} --by {by} --seed {seed}")
        problems = manifests.leaks({name: [path / file for file in files] for name, files in made.items()})
    for name, files in zip(lists, made.values(), strict=True):
        typer.echo(f"{name}: {len(files)} files")
    typer.echo(f"{len(subjects)} subjects")
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


@manifest_app.command("croissant")
def manifest_croissant(name: Annotated[str, typer.Argument()]) -> None:
    """Print a data set's Croissant document."""
    with kindly():
        typer.echo(json.dumps(manifests.croissant(manifests.load(name)), indent=2))
