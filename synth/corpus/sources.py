"""The sources of a corpus's pairs: the file of each, its sha256, its slice, and its subject where one is known."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import ImageFileError, ScanError, StorageError
from ..plan import Plan
from ..sources.patients import patient_of
from ..storage.place import Place
from .reader import open_corpus

SLICE = re.compile(r"#(\d+)(@[\dx]+)?$")  # a slice of a volume or a scan; names of photographs lack it
# BIDS names a subject's folder and files with the entity sub-<label> (bids-specification.readthedocs.io, Entities)
BIDS = re.compile(r"(?:^|/)(sub-[A-Za-z0-9]+)(?=[/_])")


@dataclass(frozen=True)
class Source:
    """The picture or the slice of a file from which a pair was made.

    Attributes
    ----------
    name
        Path below the source's folder, with the slice: ``head.nii.gz#12``.
    sha256
        Of the file; empty where it is not known.
    subject
        ``sub-01`` from a path in BIDS order, or ``patient 1`` where the file's header names a patient; else empty.
    """

    name: str
    sha256: str = ""
    subject: str = ""

    @property
    def slice(self) -> int | None:
        """The slice's number in its file; None for a photograph."""
        return slice_of(self.name)


def slice_of(name: str) -> int | None:
    """The number of the slice in a source's name, or None."""
    found = SLICE.search(name)
    return None if found is None else int(found.group(1))


def file_of(name: str) -> str:
    """A source's name without its slice."""
    return SLICE.sub("", name)


def sources_of(path: str | Place) -> dict[int, Source]:
    """The source of every pair that a corpus's ledger names, by the pair's index; raises CorpusError."""
    corpus = open_corpus(path)
    return named_sources(corpus.plan, corpus.source_hashes())


def named_sources(plan: Plan, hashes: dict[int, str]) -> dict[int, Source]:
    """Sources by the index of the pair, for the pairs that `hashes` has, with their subjects.

    Patients are numbered in the order of their pairs; their identifiers are not kept. A file that is not in its place
    any more has no patient.
    """
    names = {index: plan.file_of(index) for index in sorted(hashes)}
    subjects: dict[str, str] = {}
    patients: dict[str, str] = {}
    for file in dict.fromkeys(file_of(name) for name in names.values()):
        label = BIDS.search(file)
        patient = None if label else _patient(plan, file)
        if label:
            subjects[file] = label.group(1)
        elif patient is not None:
            subjects[file] = patients.setdefault(patient, f"patient {len(patients) + 1}")
    return {index: Source(name, hashes[index], subjects.get(file_of(name), "")) for index, name in names.items()}


def _patient(plan: Plan, file: str) -> str | None:
    try:
        path = plan.recipe.source.folder / file
        return patient_of(path) if path.is_file() else None
    except (OSError, StorageError, ScanError, ImageFileError):
        return None  # the corpus is whole without its sources
