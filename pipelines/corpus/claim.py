"""One build at a time: a lock on a corpus's folder, or a claim in an object store."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from synth.corpus.remote_ledger import RemoteLedger
from synth.errors import ClaimedError, CorpusError
from synth.storage.corpus_files import stored_attributes, unlinked_building_path
from synth.storage.lease import FOLDER as CLAIM
from synth.storage.lease import claimed as claimed_place
from synth.storage.objects import ObjectPlace
from synth.storage.place import Place, place_of

from ..errors import BuildError, CorpusExistsError


def place_to_build(out: str | Place) -> Place:
    """The place of a corpus to build, as an absolute path; raises CorpusExistsError for a symbolic link."""
    place = place_of(out)
    if isinstance(place, ObjectPlace):
        return place
    place = Path(os.path.abspath(place))  # noqa: PTH100 (Path.resolve would follow a symbolic link at the end)
    if place.is_symlink():
        raise CorpusExistsError(f"{place} is a symbolic link; give the path that it leads to")
    return place


@contextlib.contextmanager
def claimed(out: Place) -> Iterator[tuple[Place, Callable[[], None]]]:
    """Claim a corpus for this process; yield where its files are, and what raises once the claim is lost.

    Raises BuildError where another build is at work on it.
    """
    if isinstance(out, Path):
        with _locked(out) as folder:
            yield folder, lambda: None
        return
    try:
        with claimed_place(out) as lease:
            yield out, lease.check
    except ClaimedError as error:
        raise BuildError(str(error)) from None


@contextlib.contextmanager
def _locked(out: Path) -> Iterator[Path]:
    """Lock and yield the corpus's folder, finished or not; the lock ends with this process, however that ends."""
    root = unlinked_building_path(out)
    folder = out if out.exists() else root
    if folder is root:
        root.mkdir(parents=True, exist_ok=True)
    claim = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not folder.exists() or folder.stat().st_ino != os.fstat(claim).st_ino:
            raise BlockingIOError  # another build has just finished and renamed it
        yield folder
    except BlockingIOError:
        raise BuildError(f"{folder}: another `fathom build` is at work on it; wait for it to end") from None
    finally:
        os.close(claim)
        if root.is_dir() and not any(root.iterdir()):  # the recipe was refused before anything was written
            root.rmdir()


def is_finished(out: Place, folder: Place) -> bool:
    """Whether a build has finished the corpus, which may be damaged; in an object store, its root group says so."""
    if isinstance(folder, Path):
        return folder == out
    with contextlib.suppress(CorpusError):
        return bool(stored_attributes(folder).get("complete"))
    return (folder / "ledger.jsonl").is_file() and (folder / "recipe.json").is_file()


def is_new(folder: Place) -> bool:
    """Whether nothing has been built in an unfinished corpus's place yet, not even its recipe."""
    if (folder / "recipe.json").exists():
        return False
    if isinstance(folder, Path):
        return True
    return all(name == "sources.json" or name.startswith(f"{CLAIM}/") for name, _ in folder.below())


def remove_traces(folder: Place) -> None:
    """Remove what a build that was killed at its very end has left in an object store."""
    if isinstance(folder, ObjectPlace):
        RemoteLedger(folder).sweep()
