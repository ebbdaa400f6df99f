"""Find the files that a published corpus needs, in given folders, by their content: names do not matter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from synth.corpus.sources import file_of
from synth.errors import FathomError
from synth.recipe import file_hash
from synth.storage.arrays import sha256_of_file
from synth.storage.listing import files_below
from synth.storage.place import Place
from synth.storage.whole import refuse_shortage

from ..display.progress import Meter
from ..errors import BuildError
from .record import NamedSource, Record


def find_files(record: Record, sources: Sequence[NamedSource], folders: Sequence[Place]) -> dict[str, Place]:
    """The place of every file that is needed, by its sha256 or content hash.

    Files with the published names are read first, then all others until every file is found. Raises BuildError, which
    names every file that is missing or differs.
    """
    names = {file_of(source.name): source.sha256 for source in sources}
    if record.recipe.get("source", {}).get("kind") == "heads":
        names = {}  # they are computed
    wanted = {*names.values(), *record.files.values()}
    found: dict[str, Place] = {}
    places = _places(folders)
    known = {Path(name).name for name in names}
    ordered = sorted(places, key=lambda place: place.name not in known)
    with Meter(f"find the sources of {record.name}", len(ordered), unit="files") as meter:
        for place in ordered:
            if wanted <= found.keys():
                break
            found.setdefault(_hash_of(place), place)
            meter.advance(1)
    lacking = {name: sha256 for name, sha256 in names.items() if sha256 not in found}
    problems = [_told(name, sha256, folders) for name, sha256 in sorted(lacking.items())]
    problems += [
        f"{key}: no file, corpus or library has the hash {sha256}"
        for key, sha256 in record.files.items()
        if sha256 not in found
    ]
    if problems:
        where = ", ".join(map(str, folders)) or "no folder (--sources)"
        raise BuildError(
            f"{record.name}: {len(problems)} of {len(names) + len(record.files)} files that it is made from are "
            f"missing or differ in {where}; nothing was built:\n" + "\n".join(f"  {problem}" for problem in problems)
        )
    return found


def _places(folders: Sequence[Place]) -> list[Place]:
    """All files below folders; a folder whose name ends in .zarr (a corpus, a library of maps) counts as one."""
    found: dict[Place, None] = {}
    for folder in folders:
        if not folder.exists():
            raise BuildError(f"--sources {folder} does not exist; give the folder of the sources")
        place = folder.absolute() if isinstance(folder, Path) else folder
        if folder.suffix == ".zarr" or folder.is_file():
            found[place] = None
            continue
        for name in files_below(folder, lambda _: True):
            parts = PurePosixPath(name).parts
            inside = next((k for k, part in enumerate(parts) if part.endswith(".zarr")), len(parts) - 1)
            found[place / "/".join(parts[: inside + 1])] = None
    return list(found)


def _hash_of(place: Place) -> str:
    """sha256 of a file, or the content hash of a corpus or a library; empty where it cannot be read."""
    try:
        return file_hash(place) if place.suffix == ".zarr" else sha256_of_file(place)
    except (OSError, ValueError, FathomError) as error:
        refuse_shortage(error)
        return ""


def _told(name: str, sha256: str, folders: Sequence[Place]) -> str:
    """What is the matter with a source that was not found."""
    for folder in folders:
        if (folder / name).is_file():
            other = _hash_of(folder / name)
            state = f"has the sha256 {other}" if other else "cannot be read; it needs the sha256"
            return f"{name}: {folder / name} {state}{' instead of' if other else ''} {sha256}"
    return f"{name}: no file has the sha256 {sha256}"
