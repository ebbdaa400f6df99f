"""Leakage: sources that two corpora share, so that a network would be tested on what it was trained on."""

from __future__ import annotations

import re
from pathlib import Path

from synth.corpus.ledger import Ledger
from synth.corpus.reader import open_corpus

Sources = dict[tuple[str, str], str]
SLICE = re.compile(r"#(\d+)(@[\dx]+)?$")  # a slice of a volume or a scan; names of photographs lack it


def shared_sources(first: Path, second: Path) -> list[str]:
    """Names, in the first corpus, of the pictures and slices from which both were made; raises CorpusError.

    Two sources are the same if their files are equal byte for byte, whatever the files' folders and names, and if they
    are the same slice of that file.
    """
    return shared(sources_of(first), sources_of(second))


def shared(first: Sources, second: Sources) -> list[str]:
    """Names, in `first`, of the sources that are in both."""
    return sorted(name for key, name in first.items() if key in second)


def sources_of(path: Path) -> Sources:
    """Names of a corpus's sources by the file's sha256 and the slice; raises CorpusError."""
    corpus, found = open_corpus(path), {}
    for index, sha256 in Ledger(path).sources().items():
        name = corpus.plan.file_of(index)
        found_slice = SLICE.search(name)
        found[sha256, found_slice.group(1) if found_slice else ""] = name
    return found
