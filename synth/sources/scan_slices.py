"""``[source] kind = "scans"``: files of k-space whose slices are the items, each with its own coils and size."""

from __future__ import annotations

import re
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from ..errors import ScanError, SourceRejectedError, SourceUnreadableError, StoreError
from ..scans.open import open_scan
from ..scans.readers import READERS
from ..scans.scan import Kspace, Scan
from ..settings.spec import Range, Spec
from ..storage.arrays import Stamp, stamp
from ..storage.copies import Copy, told_of
from ..storage.listing import files_below, is_list, names_in
from ..storage.objects import ObjectPlace, together
from ..storage.place import Place, place_of
from .crimes import SourceFinding

ITEM = re.compile(r"^(?P<file>.*)#(?P<slice>\d+)@(?P<coils>\d+)x(?P<y>\d+)x(?P<x>\d+)$", re.DOTALL)


@dataclass(frozen=True)
class ScanItem:
    """One slice of one file, written as in ``a.npy#0@6x96x80``: file, slice, coils, y, x.

    A plan thus knows the shape of a slice without opening the file.
    """

    file: str  # relative to the source's folder
    slice: int
    coils: int
    matrix: tuple[int, int]

    def __str__(self) -> str:
        """The text of this item in a corpus's list of sources."""
        return f"{self.file}#{self.slice}@{self.coils}x{self.matrix[0]}x{self.matrix[1]}"

    @classmethod
    def parse(cls, text: str) -> ScanItem:
        """Read what ``str`` wrote; raises ValueError."""
        found = ITEM.match(text)
        if found is None:
            raise ValueError(f"{text!r} does not name a slice of a scan as file#slice@COILSxYxX does")
        coils, y, x = (int(found[name]) for name in ("coils", "y", "x"))
        return cls(found["file"], int(found["slice"]), coils, (y, x))


class ScansSpec(Spec):
    """``kind = "scans"``: a file; a folder of scans with all subfolders, in the order of their paths; or a list.

    A list is a .txt file with one path per line, relative to the list's folder; lines that begin with # are ignored.
    All of these may lie in an object store, where a path's ending says what it is: ``path = "s3://bucket/scans"``.
    """

    kind: Literal["scans"] = Field(description="scans: k-space, whose slices become pairs")
    path: str = Field(
        min_length=1,
        description="a scan, a folder of scans with all subfolders, or a .txt file that lists one path per line",
    )
    variable: str | None = Field(
        default=None, description="name of the array that is k-space, for .npz, .mat and .h5 files that do not say it"
    )
    axes: str | None = Field(
        default=None, description="the array's axes in order, such as 'y x slice coil', for files that do not say them"
    )
    manifest: str | None = Field(default=None, description="name of the public data set, for the corpus's card")
    slices: Range | None = Field(
        default=None, description="part of each scan's slices, as fractions: [0.25, 0.75] leaves out both ends"
    )
    every: int | None = Field(default=None, ge=1, description="n: only every n-th of all these slices")
    refuse: tuple[SourceFinding, ...] = Field(
        default=(), description="findings that reject a slice, such as 'zero-filled'"
    )
    accept: tuple[Literal["undersampled"], ...] | None = Field(  # None: it was added later, and hashes leave None out
        default=None, description="'undersampled': take slices with missing samples, whose references have aliases"
    )
    max_rejected: float = Field(default=0.05, ge=0, le=1, description="share of slices that may be unusable")

    @field_validator("slices")
    @classmethod
    def _rising(cls, slices: Range | None) -> Range | None:
        if slices is not None and not 0 <= slices[0] < slices[1] <= 1:
            raise ValueError("must be two fractions, the lower one first, within 0 and 1")
        return slices

    @model_validator(mode="after")
    def _refused_or_accepted(self) -> ScansSpec:
        if both := set(self.refuse) & set(self.accept or ()):
            raise ValueError(f"'{both.pop()}' is both in refuse and in accept; leave it out of one")
        return self

    @property
    def folder(self) -> Place:
        """Where the files are."""
        path = place_of(self.path)
        return path.parent if _is_one(path) else path

    def list_scans(self) -> list[str]:
        """Paths of the scans below `folder`, sorted; raises FileNotFoundError where there is none."""
        path = place_of(self.path)
        if _is_one(path):
            return names_in(path) if is_list(path) else [path.name]
        if not path.is_dir():
            near = [path.name + end for end in READERS if (path.parent / (path.name + end)).exists()]
            meant = f"did you mean {near[0]}?" if near else "give a scan or a folder of scans"
            raise FileNotFoundError(f"source.path {path} does not exist; {meant}")
        files = files_below(path, is_scan)
        if not files:
            raise FileNotFoundError(
                f"source.path {path} holds no scan ({' '.join(sorted(READERS))}); give one that does"
            )
        return files

    def list_files(self) -> list[str]:
        """All slices of all scans as items; raises FileNotFoundError where there is none."""
        items, reasons, *_ = self._survey()
        if not items:
            told = "\n  ".join(reasons[:10]) or "there are only noise scans"
            raise FileNotFoundError(f"source.path {self.path} holds no scan with images:\n  {told}")
        return list(items)[:: self.every]

    def left_out(self) -> list[str]:
        """Reasons why files that are not scans are left out, one sentence each."""
        return list(self._survey()[1])

    def notes(self) -> list[str]:
        """What was guessed of its scans, left out of them or found amiss, as `told_once` gives it."""
        _, _, names, notes = self._survey()
        return told_once(names, notes)

    def _survey(self) -> Survey:
        names, folder = self.list_scans(), self.folder
        asked = [partial(stamp, str(folder / name)) for name in names]
        stamps = together(asked) if isinstance(folder, ObjectPlace) else [ask() for ask in asked]
        return _surveyed(self, tuple(zip(names, stamps, strict=True)))

    def open(self, name: str) -> Scan:
        """Open one of the scans; raises ScanError, or SourceUnreadableError where it is gone."""
        path = self.folder / name
        opened = _opened_copy if isinstance(path, ObjectPlace) else _opened
        try:
            return opened(str(path), stamp(str(path)), self.variable, self.axes)
        except StoreError:
            raise
        except OSError as error:
            raise SourceUnreadableError(f"{path}: cannot be read ({error.strerror}); put it back") from None

    def read(self, item: str) -> tuple[Kspace, Scan, int]:
        """K-space [coil y x] of an item, its scan and slice; raises SourceRejectedError where it cannot be used."""
        wanted = ScanItem.parse(item)
        try:
            scan = self.open(wanted.file)
            kspace = scan[wanted.slice]
        except ScanError as error:
            raise SourceRejectedError(str(error)) from None
        if kspace.shape != (wanted.coils, *wanted.matrix):
            raise SourceRejectedError(
                f"{scan.path}: its slice is now [coil y x] = {kspace.shape}, it was {item}; put the old file back"
            )
        return kspace, scan, wanted.slice


def told_once(names: Sequence[str], notes: Iterable[tuple[str, str]]) -> list[str]:
    """Each note once, from pairs of a scan's name and a note; with the scan's name if there are several `names`."""
    by_note: dict[str, list[str]] = {}
    for name, note in notes:
        by_note.setdefault(note, []).append(name)
    if len(names) == 1:
        return list(by_note)
    more = {note: f" and {len(those) - 1} more" if len(those) > 1 else "" for note, those in by_note.items()}
    return [f"{those[0]}{more[note]}: {note}" for note, those in by_note.items()]


def is_scan(name: str) -> bool:
    """Whether a file's name is that of a scan."""
    return Path(name).suffix.lower() in READERS


def _is_one(path: Place) -> bool:
    """Whether a source's path is a scan or a list, not a folder."""
    if isinstance(path, ObjectPlace):
        return is_scan(path.name) or is_list(path)
    return path.is_file()


@lru_cache(maxsize=8)
def _opened(path: str, version: Stamp, variable: str | None, axes: str | None) -> Scan:
    return open_scan(path, variable=variable, axes=axes)


@lru_cache(maxsize=2)
def _opened_copy(path: str, version: Stamp, variable: str | None, axes: str | None) -> Scan:
    """A scan in an object store, whose copy lasts as long as the scan is used."""
    place = place_of(path)
    assert isinstance(place, ObjectPlace)
    copy = Copy(place)
    try:
        scan = open_scan(copy.path, variable=variable, axes=axes)
    except ScanError as error:
        raise ScanError(told_of(place, str(error))) from None
    weakref.finalize(scan, Copy.removed, copy)
    return scan


# Items; why other files are left out; names of the scans; and pairs of a name and a note.
Survey = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], tuple[tuple[str, str], ...]]


@lru_cache(maxsize=4)
def _surveyed(spec: ScansSpec, stamps: tuple[tuple[str, Stamp], ...]) -> Survey:
    """What a source holds; each file is opened once, as long as no file changes."""
    items, reasons, names, notes = [], [], [], []
    for name, _ in stamps:
        try:
            scan = spec.open(name)
        except ScanError as error:
            reasons.append(str(error))
        else:
            first, last = (round(share * len(scan)) for share in spec.slices or (0.0, 1.0))
            items += [str(ScanItem(name, k, scan.coils, scan.matrix)) for k in range(first, last)]
            names.append(name)
            notes += [(name, note) for note in scan.notes]
    return tuple(items), tuple(reasons), tuple(names), tuple(notes)
