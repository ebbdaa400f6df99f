"""The commands `fathom manifest ...`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..display.terminal import counted, say
from .options import kindly
from .parsing import WholeHelp

manifest_app = typer.Typer(
    cls=WholeHelp, help="Describe public data sets, and check whether a folder holds one.", no_args_is_help=True
)


@manifest_app.command("list")
def manifest_list() -> None:
    """List the public data sets that Fathom knows."""
    from ..public_data import manifests

    for name in manifests.names():
        say(f"{name:18} {manifests.load(name).title}")


@manifest_app.command("show")
def manifest_show(name: Annotated[str, typer.Argument(help="A name of `fathom manifest list`.")]) -> None:
    """Show what a data set holds, its terms of use, and how to get it."""
    from ..public_data import manifests

    with kindly():
        manifest = manifests.load(name)
        for key in ("title", "home", "licence", "citation", "get"):
            say(f"{key:9} {getattr(manifest, key)}")
        for key, value in manifest.content:
            say(f"{key:9} {value}")
        for split, about in manifest.splits.items():
            say(f"split     {split}: {about.items or 'unknown'} {about.unit}, split by {about.split_by}")
        for file in manifest.files:
            say(f"file      {file.name}: {file.sha256 or file.md5 or 'unpinned'}")


@manifest_app.command("check")
def manifest_check(
    name: Annotated[str, typer.Argument(help="A name of `fathom manifest list`.")],
    path: Annotated[Path, typer.Argument(help="Folder of the downloaded data set.")],
) -> None:
    """Compare a folder with a manifest: checksums, counts, leakage between splits. The exit code is 1 if it differs."""
    from ..public_data import manifests

    with kindly():
        found = manifests.check(manifests.load(name), path)
    for fact in found.facts:
        say(fact)
    for problem in found.problems:
        say(f"problem: {problem}", err=True)
    if found.problems:
        raise typer.Exit(1)


@manifest_app.command("split")
def manifest_split(
    path: Annotated[Path, typer.Argument(help="A folder of photographs or scans.")],
    parts: Annotated[str, typer.Option(help="Names and shares of the parts.")] = "train=0.8,val=0.1,test=0.1",
    by: Annotated[
        str,
        typer.Option(help="What a subject is: file, folder, patient (by headers), or a regular expression."),
    ] = "file",
    seed: Annotated[int, typer.Option(min=0, help="The seed that decides which subject goes into which part.")] = 0,
) -> None:
    """Divide a folder's files into lists, such as train.txt, that share no subject. A list can be a source.path."""
    from ..public_data.manifests import leaks
    from ..public_data.splits import parse_parts, split, subjects_of, write_lists

    with kindly():
        subjects = subjects_of(path, by)
        made = split(subjects, parse_parts(parts), seed)
        lists = write_lists(path, made, f"fathom manifest split --parts {parts} --by {by} --seed {seed}")
        problems = leaks({name: [path / file for file in files] for name, files in made.items()})
    for name, files in zip(lists, made.values(), strict=True):
        say(f"{name}: {counted(len(files), 'file')}")
    say(f"{len(subjects)} subjects")
    for problem in problems:
        say(f"problem: {problem}", err=True)
    if problems:
        raise typer.Exit(1)


@manifest_app.command("croissant")
def manifest_croissant(name: Annotated[str, typer.Argument(help="A name of `fathom manifest list`.")]) -> None:
    """Print a data set's Croissant document."""
    from ..public_data import manifests

    with kindly():
        say(json.dumps(manifests.croissant(manifests.load(name)), indent=2))
